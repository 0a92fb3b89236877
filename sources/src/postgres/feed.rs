//! Stored scripts and archives, fed to `psql`, which stops at the first error. An archive becomes a
//! script by `pg_restore` on the way, so that what is chosen of either is chosen in one place.

use std::io::{Read, Write};

use super::dump::Filter;
use super::place::Login;
use super::script::{Choice, Passing};
use super::tools::Tools;
use crate::child::{Child, ChildError, Spec};
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::PrivateFolder;
use crate::database::{Context, ReadStream, Stored, hand_out};

/// Most bytes of what the programs print; nobody reads it.
const MOST: usize = 64 << 20;

/// The programs, and where they connect.
pub(super) struct Programs<'a> {
    tools: &'a Tools,
    login: &'a Login,
    context: &'a Context,
    /// The server's version: `150018`.
    version: u32,
    folder: PrivateFolder,
}

impl<'a> Programs<'a> {
    pub fn new(
        tools: &'a Tools,
        login: &'a Login,
        version: u32,
        context: &'a Context,
    ) -> Result<Programs<'a>, DatabaseError> {
        Ok(Programs {
            tools,
            login,
            context,
            version,
            folder: context.scratch.folder()?,
        })
    }

    fn psql(&self) -> Result<Child, DatabaseError> {
        let mut command = self.tools.command("psql");
        self.login.tell(&mut command, &self.folder)?;
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
            "--no-password",
        ]);
        // What it creates is not held up by our settings of sessions; messages stay short.
        command.env(
            "PGOPTIONS",
            "-c client_min_messages=warning -c statement_timeout=0",
        );
        Ok(Child::start(self.spec("psql", command))?)
    }

    fn spec(&self, name: &str, command: std::process::Command) -> Spec<'a> {
        let mut spec = self.context.spec(name, command);
        spec.is_fed = true;
        // An index of a large table takes its time, silently.
        spec.stall = None;
        spec
    }
}

/// What is fed, and what stands around it.
#[derive(Debug, Clone, Default)]
pub(super) struct Feeding<'a> {
    /// A stream of a member: a script, or an archive by its name, `.pgdump`.
    pub stream: &'a str,
    /// What is passed of it.
    pub choice: Choice<'a>,
    /// Statements before it.
    pub before: String,
    /// Statements behind it, once it was passed to its end: a transaction that these commit is
    /// rolled back when anything was missing.
    pub behind: String,
}

/// Feeds a script to `psql`. Answers whether it had large objects that were not chosen.
pub(super) fn feed(
    programs: &Programs<'_>,
    stored: &dyn Stored,
    feeding: Feeding<'_>,
) -> Result<bool, DatabaseError> {
    let stream = feeding.stream;
    let child = programs.psql()?;
    let mut passing = Passing::new(feeding.choice, programs.version);
    // Whatever a name in the script holds, it gives psql no commands of its own.
    let restrict = match programs.tools.can_restrict() {
        true => format!("\\restrict {}\n", super::random_key()),
        false => String::new(),
    };
    let mut pour = |bytes: &mut (dyn Read + Send), input: &mut (dyn Write + Send)| {
        input.write_all(restrict.as_bytes())?;
        input.write_all(feeding.before.as_bytes())?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match bytes.read(&mut buffer)? {
                0 => break,
                n => passing.pass(buffer.get(..n).unwrap_or_default(), input)?,
            }
        }
        passing.end(input)?;
        input.write_all(feeding.behind.as_bytes())
    };
    let mut read = |take: ReadStream<'_>| match stream.ends_with(".pgdump") {
        true => unpack(programs, stored, stream, take),
        false => stored.read(stream, take),
    };
    feed_program(child, stream, &mut read, &mut pour)?;
    Ok(passing.lost_large_objects)
}

/// Reads an archive as the script that `pg_restore` makes of it.
fn unpack(
    programs: &Programs<'_>,
    stored: &dyn Stored,
    stream: &str,
    take: ReadStream<'_>,
) -> Result<(), DatabaseError> {
    let mut command = programs.tools.command("pg_restore");
    command.arg("--file=-");
    command.env_remove("PGPASSWORD");
    let mut child = Child::start(programs.spec("pg_restore", command))?;
    let mut input = child.input();
    std::thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            stored.read(stream, &mut |bytes| {
                if let Some(mut input) = input.take() {
                    // Why it takes no more is told by how it ended.
                    let _ = std::io::copy(bytes, &mut input);
                }
                Ok(())
            })
        });
        let mut script = Unpacked {
            child,
            feeding: Some(feeding),
            filter: Filter::default(),
            ready: Vec::new(),
            given: 0,
            ended: false,
            failed: None,
        };
        let taken = take(&mut script);
        let (feeding, failed) = (script.feeding.take(), script.failed.take());
        // One that nobody reads any more is killed here, so that feeding it ends.
        drop(script);
        // What the repository says tells most, then what the program says of an archive.
        feeding.map_or(Ok(()), joined)?;
        match failed {
            Some(error) => Err(error.of(stream)),
            None => taken,
        }
    })
}

type Feeder<'s> = std::thread::ScopedJoinHandle<'s, Result<(), DatabaseError>>;

fn joined(feeding: Feeder<'_>) -> Result<(), DatabaseError> {
    match feeding.join() {
        Ok(fed) => fed,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A script as `pg_restore` prints it, without the lines that hold a random key.
struct Unpacked<'s> {
    child: Child,
    /// What feeds it, until that has ended.
    feeding: Option<Feeder<'s>>,
    filter: Filter,
    ready: Vec<u8>,
    given: usize,
    ended: bool,
    failed: Option<DatabaseError>,
}

impl Unpacked<'_> {
    fn fill(&mut self) -> Result<(), DatabaseError> {
        self.ready.clear();
        self.given = 0;
        let mut piece = vec![0; 64 << 10];
        match self.child.read(&mut piece)? {
            0 => {
                // An archive that was cut short is no whole script, whatever the program says.
                self.feeding.take().map_or(Ok(()), joined)?;
                self.ended = true;
                self.filter.end(&mut self.ready)
            }
            n => {
                self.filter
                    .pass(piece.get(..n).unwrap_or_default(), &mut self.ready);
                Ok(())
            }
        }
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.given == self.ready.len() && !self.ended {
            if let Err(error) = self.fill() {
                self.failed = Some(error);
                return Err(std::io::Error::other("pg_restore failed"));
            }
        }
        Ok(hand_out(&self.ready, &mut self.given, buffer))
    }
}

type Pour<'p> = &'p mut (
            dyn FnMut(&mut (dyn Read + Send), &mut (dyn Write + Send)) -> std::io::Result<()> + Send
        );

/// Feeds a stream to a program while what it prints is read.
fn feed_program(
    mut child: Child,
    stream: &str,
    read: &mut dyn FnMut(ReadStream<'_>) -> Result<(), DatabaseError>,
    pour: Pour<'_>,
) -> Result<(), DatabaseError> {
    let mut input = child.input();
    let ended = std::thread::scope(|scope| {
        let printed = scope.spawn(move || child.read_all(MOST));
        let mut broken = None;
        let fed = read(&mut |bytes| {
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
    let (fed, ended, broken) = ended;
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
