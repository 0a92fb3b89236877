//! Stored scripts and archives, fed to PostgreSQL's own programs. They stop at the first error.

use std::io::{Read, Write};

use super::place::Login;
use super::tools::Tools;
use crate::child::{Child, ChildError};
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::PrivateFolder;
use crate::database::{Context, Stored};

/// Most bytes of what the programs print; nobody reads it.
const MOST: usize = 64 << 20;

/// The programs, and where they connect.
pub(super) struct Programs<'a> {
    tools: &'a Tools,
    login: &'a Login,
    context: &'a Context,
    folder: PrivateFolder,
}

impl<'a> Programs<'a> {
    pub fn new(
        tools: &'a Tools,
        login: &'a Login,
        context: &'a Context,
    ) -> Result<Programs<'a>, DatabaseError> {
        Ok(Programs {
            tools,
            login,
            context,
            folder: context.scratch.folder()?,
        })
    }

    fn start(&self, name: &str, arguments: &[String]) -> Result<Child, DatabaseError> {
        let mut command = self.tools.command(name);
        self.login.tell(&mut command, &self.folder)?;
        command.args(arguments).arg("--no-password");
        // What it creates is not held up by our settings of sessions; messages stay short.
        command.env(
            "PGOPTIONS",
            "-c client_min_messages=warning -c statement_timeout=0",
        );
        let mut spec = self.context.spec(name, command);
        spec.is_fed = true;
        // An index of a large table takes its time, silently.
        spec.stall = None;
        Ok(Child::start(spec)?)
    }
}

/// Feeds a script to `psql`, without the blocks of the kinds that are left out.
pub(super) fn feed_script(
    programs: &Programs<'_>,
    stored: &dyn Stored,
    stream: &str,
    left_out: &[&str],
) -> Result<(), DatabaseError> {
    let arguments = [
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
    ];
    let arguments = arguments.map(str::to_owned);
    let child = programs.start("psql", &arguments)?;
    let restrict = format!("\\restrict {}\n", super::random_key());
    feed(child, stored, stream, &mut |bytes, input| {
        // Whatever a name in the script holds, it gives psql no commands of its own.
        let mut blocks = Blocks::new(left_out);
        let uses_variables = stream == "database.sql";
        if !uses_variables && programs.tools.can_restrict() {
            input.write_all(restrict.as_bytes())?;
        }
        let mut buffer = vec![0; 64 << 10];
        loop {
            match bytes.read(&mut buffer)? {
                0 => return blocks.end(input),
                n => blocks.pass(buffer.get(..n).unwrap_or_default(), input)?,
            }
        }
    })
}

/// Feeds an archive to `pg_restore`.
pub(super) fn feed_file(
    programs: &Programs<'_>,
    stored: &dyn Stored,
    stream: &str,
    arguments: &[String],
) -> Result<(), DatabaseError> {
    let mut arguments = arguments.to_vec();
    arguments.push(format!("--dbname={}", programs.login.database));
    let child = programs.start("pg_restore", &arguments)?;
    feed(child, stored, stream, &mut |bytes, input| {
        std::io::copy(bytes, input).map(|_| ())
    })
}

type Pour<'p> = &'p mut (
            dyn FnMut(&mut (dyn Read + Send), &mut (dyn Write + Send)) -> std::io::Result<()> + Send
        );

/// Feeds a stream to a program while what it prints is read.
fn feed(
    mut child: Child,
    stored: &dyn Stored,
    stream: &str,
    pour: Pour<'_>,
) -> Result<(), DatabaseError> {
    let mut input = child.input();
    let read = std::thread::scope(|scope| {
        let printed = scope.spawn(move || child.read_all(MOST));
        let mut broken = None;
        let fed = stored.read(stream, &mut |bytes| {
            if let Some(mut input) = input.take() {
                broken = pour(bytes, &mut input).err();
            }
            Ok(())
        });
        // Its input ends here, whatever came before.
        drop(input.take());
        let ended = match printed.join() {
            Ok(ended) => ended.map(|_| ()).map_err(|e| said(e, stream)),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        (fed, ended, broken)
    });
    // Why the program stopped tells more than that it could not be fed any more.
    let (fed, ended, broken) = read;
    ended?;
    fed?;
    match broken {
        None => Ok(()),
        Some(e) => {
            let what = format!("{stream} cannot be read: {e}");
            Err(DatabaseError::new(Cause::Incomplete, what))
        }
    }
}

/// What a program said when it failed.
fn said(error: ChildError, stream: &str) -> DatabaseError {
    let words = error.words().join("\n");
    let role = words
        .split_once("role \"")
        .and_then(|(_, rest)| rest.split_once("\" does not exist"))
        .map(|(role, _)| role.to_owned());
    let extension = words.contains("could not open extension control file")
        || (words.contains("extension \"") && words.contains("is not available"));
    let error = DatabaseError::from(error);
    if error.cause == Cause::Stopped {
        return error;
    }
    let error = error.of(stream);
    match role {
        Some(role) => error.hint(format!(
            "make the role first: CREATE ROLE \"{role}\"; all of them stand in globals.sql"
        )),
        None if extension => error.hint("install that extension on the server first"),
        None => error,
    }
}

/// Passes a script on, without blocks of some kinds. `pg_dump` puts a comment before each block:
/// `-- Name: sales; Type: TABLE; Schema: public; Owner: ana`.
struct Blocks<'a> {
    left_out: &'a [&'a str],
    line: Vec<u8>,
    is_passed: bool,
    /// The quote that a dollar-quoted text ends with: comments in it are none.
    quote: Option<Vec<u8>>,
}

impl<'a> Blocks<'a> {
    fn new(left_out: &'a [&'a str]) -> Blocks<'a> {
        Blocks {
            left_out,
            line: Vec::new(),
            is_passed: true,
            quote: None,
        }
    }

    fn pass(&mut self, bytes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
        if self.left_out.is_empty() {
            return out.write_all(bytes);
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                self.take_line(out)?;
            }
        }
        Ok(())
    }

    fn take_line(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        let line = std::mem::take(&mut self.line);
        if self.quote.is_none()
            && let Some(kind) = kind_of(&line)
        {
            self.is_passed = !self.left_out.contains(&kind);
        }
        self.follow_quotes(&line);
        match self.is_passed {
            true => out.write_all(&line),
            false => Ok(()),
        }
    }

    /// Notes dollar quotes that begin or end in a line.
    fn follow_quotes(&mut self, line: &[u8]) {
        let mut rest = line;
        loop {
            match &self.quote {
                Some(quote) => {
                    let Some(at) = find(rest, quote) else { return };
                    rest = rest.get(at + quote.len()..).unwrap_or_default();
                    self.quote = None;
                }
                None => {
                    let Some(start) = rest.iter().position(|byte| *byte == b'$') else {
                        return;
                    };
                    let after = rest.get(start + 1..).unwrap_or_default();
                    let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                    let tag = after.iter().take_while(|byte| is_tag(byte)).count();
                    if after.get(tag) == Some(&b'$') {
                        let end = start + tag + 2;
                        self.quote = rest.get(start..end).map(<[u8]>::to_vec);
                        rest = rest.get(end..).unwrap_or_default();
                    } else {
                        rest = after;
                    }
                }
            }
        }
    }

    fn end(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.is_passed {
            out.write_all(&self.line)?;
        }
        out.flush()
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

/// The kind that a comment before a block tells.
fn kind_of(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    if !line.starts_with("-- Name: ") && !line.starts_with("-- Data for Name: ") {
        return None;
    }
    // A name may hold anything; what follows it stands last.
    let (_, after) = line.rsplit_once("; Type: ")?;
    after.split_once("; Schema: ").map(|(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(script: &str, left_out: &[&str], piece: usize) -> String {
        let (mut blocks, mut out) = (Blocks::new(left_out), Vec::new());
        for bytes in script.as_bytes().chunks(piece) {
            blocks.pass(bytes, &mut out).unwrap();
        }
        blocks.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn blocks_of_some_kinds_are_left_out() {
        let trigger =
            "-- Name: t a; Type: TRIGGER; Schema: public; Owner: -\n--\n\nCREATE TRIGGER;\n";
        let function = "-- Name: f(); Type: FUNCTION; Schema: public; Owner: -\n--\n\n\
                        CREATE FUNCTION AS $_$\n-- Name: x; Type: TRIGGER; Schema: a; Owner: -\n\
                        $1 $_$;\n";
        let index = "-- Name: i; Type: INDEX; Schema: public; Owner: -\n--\n\nCREATE INDEX;\n";
        let script = [function, trigger, index, trigger].concat();
        for piece in [1, 7, 1000] {
            let expected = [function, index].concat();
            assert_eq!(passed(&script, &["TRIGGER"], piece), expected);
            assert_eq!(passed(&script, &[], piece), script);
        }
    }
}
