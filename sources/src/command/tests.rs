//! Commands: output, exit codes, signals, and what is left of a run that was stopped.

use std::ffi::{OsStr, OsString};

use hucha_store::clock::Timestamp;
use hucha_store::entry::Entry;
use hucha_store::source::{Open, Piece, Problem, Sink, Source, SourceError, Stop};

use super::{Command, ErrorOutput, Stopper};
use crate::host::process_is_alive;

type Call = Box<dyn FnMut(&[u8])>;

/// What the sink does with the contents.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    error: Option<String>,
    /// Called after every piece.
    after_piece: Option<Call>,
    /// Leaves the contents after so many bytes.
    enough: Option<usize>,
    /// Reports success whatever happened.
    forgetful: bool,
}

impl Sink for Taken {
    fn entry(&mut self, _: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
        let Some(open) = contents else { return Ok(()) };
        let mut buffer = vec![0; 100];
        let result = open().and_then(|mut contents| {
            while let Piece::Data(n) = contents.next(&mut buffer)? {
                self.bytes.extend(&buffer[..n]);
                if let Some(call) = &mut self.after_piece {
                    call(&self.bytes);
                }
                if self.enough.is_some_and(|enough| self.bytes.len() >= enough) {
                    break;
                }
            }
            Ok(())
        });
        self.error = result.err().map(|error| error.to_string());
        if self.error.is_some() && !self.forgetful {
            Err(Stop)
        } else {
            Ok(())
        }
    }

    fn problem(&mut self, problem: Problem) {
        panic!("{problem:?}");
    }

    fn excluded(&mut self, path: &[u8]) {
        panic!("{path:?}");
    }
}

fn command(argv: &[&str], errors: ErrorOutput) -> Command {
    let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
    Command::new(OsStr::new("out"), &argv, Timestamp::default(), errors).unwrap()
}

fn shell(script: &str) -> Command {
    command(&["sh", "-c", script], ErrorOutput::Keep)
}

fn run(command: &mut Command) -> Taken {
    let mut taken = Taken::default();
    let result = command.push(&mut taken);
    assert_eq!(result.is_err(), taken.error.is_some());
    taken
}

#[test]
fn output_of_a_command_that_succeeds() {
    let taken = run(&mut shell("printf '%0500d' 7; echo noise >&2"));
    assert_eq!((taken.bytes.len(), taken.error), (500, None));
    assert_eq!(taken.bytes[499], b'7');
}

#[test]
fn a_command_that_fails_is_fatal_and_says_how() {
    let taken = run(&mut shell("echo half; echo why >&2; exit 3"));
    assert_eq!(taken.bytes, b"half\n");
    assert_eq!(
        taken.error.unwrap(),
        "command \"sh\" exited with code 3\n  why"
    );

    let taken = run(&mut shell("kill -9 $$"));
    assert_eq!(
        taken.error.unwrap(),
        "command \"sh\" was killed by signal 9"
    );

    let taken = run(&mut command(&["/no/such/program"], ErrorOutput::Inherit));
    assert!(
        taken
            .error
            .unwrap()
            .starts_with("command \"/no/such/program\" cannot be started: ")
    );
}

#[test]
fn only_the_last_lines_are_kept() {
    let taken = run(&mut shell(
        "for i in $(seq 1 40); do echo line $i >&2; done; exit 1",
    ));
    let message = taken.error.unwrap();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 26);
    assert_eq!((lines[1], lines[25]), ("  line 16", "  line 40"));
}

#[test]
fn no_shell_reads_the_arguments() {
    let taken = run(&mut command(
        &["echo", "-n", "$HOME;*"],
        ErrorOutput::Inherit,
    ));
    assert_eq!(taken.bytes, b"$HOME;*");
}

#[test]
fn a_sink_that_forgets_the_error_or_stops_early_commits_nothing() {
    let mut taken = Taken {
        forgetful: true,
        ..Taken::default()
    };
    let result = shell("echo half; exit 3").push(&mut taken);
    let Err(SourceError::Failed(message)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(message, "command \"sh\" exited with code 3");

    let mut taken = Taken {
        enough: Some(1),
        ..Taken::default()
    };
    let result = shell("echo all; echo of; echo it").push(&mut taken);
    let Err(SourceError::Failed(message)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(message, "the command's output was not read to its end");
}

/// The two process ids that a script prints first: its own and that of a child in its group.
fn ids(bytes: &[u8]) -> Vec<(u32, u64)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let started = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .nth(19)
            .unwrap()
            .parse()
            .unwrap()
    };
    let pids = text.split_whitespace().map(|pid| pid.parse().unwrap());
    pids.map(|pid| (pid, started(pid))).collect()
}

/// A script with a child in its group.
const TWO_PROCESSES: &str = "sleep 1000 & echo $$ $!; wait";

fn assert_dead(ids: &[(u32, u64)]) {
    assert_eq!(ids.len(), 2);
    let begun = std::time::Instant::now();
    for (pid, started) in ids {
        // A killed grandchild is reaped by init; until then it counts as ended once it is dead.
        while process_is_alive(*pid, *started) != Some(false) {
            assert!(begun.elapsed().as_secs() < 20, "{pid} still runs");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_group_is_killed_when_the_reading_ends_early() {
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = std::rc::Rc::clone(&seen);
    let after_piece = move |bytes: &[u8]| *kept.borrow_mut() = ids(bytes);
    let after_piece: Option<Call> = Some(Box::new(after_piece));
    let mut taken = Taken {
        after_piece,
        enough: Some(1),
        ..Taken::default()
    };
    assert!(shell(TWO_PROCESSES).push(&mut taken).is_err());
    assert_dead(&seen.borrow());
}

#[test]
fn a_group_is_killed_by_its_stopper() {
    let mut command = shell(TWO_PROCESSES);
    let stopper: Stopper = command.stopper();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = std::rc::Rc::clone(&seen);
    let after_piece = move |bytes: &[u8]| {
        *kept.borrow_mut() = ids(bytes);
        let stopper = stopper.clone();
        std::thread::spawn(move || stopper.stop()).join().unwrap();
    };
    let mut taken = Taken {
        after_piece: Some(Box::new(after_piece)),
        ..Taken::default()
    };
    assert!(command.push(&mut taken).is_err());
    assert_eq!(taken.error.unwrap(), "command \"sh\" was stopped");
    assert_dead(&seen.borrow());

    let taken = run(&mut command);
    assert_eq!(
        taken.error.unwrap(),
        "command \"sh\" was stopped",
        "it does not start again"
    );
}

#[test]
fn a_command_that_fails_takes_its_group_along() {
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = std::rc::Rc::clone(&seen);
    let after_piece = move |bytes: &[u8]| *kept.borrow_mut() = ids(bytes);
    let after_piece: Option<Call> = Some(Box::new(after_piece));
    let mut taken = Taken {
        after_piece,
        ..Taken::default()
    };
    let script = "sleep 1000 >/dev/null 2>&1 & echo $$ $!; exit 4";
    assert!(shell(script).push(&mut taken).is_err());
    assert_eq!(taken.error.unwrap(), "command \"sh\" exited with code 4");
    assert_dead(&seen.borrow());
}

#[test]
fn nothing_to_run_or_no_name() {
    let new = |name: &str, argv: &[OsString]| {
        Command::new(
            OsStr::new(name),
            argv,
            Timestamp::default(),
            ErrorOutput::Keep,
        )
    };
    assert!(new("a", &[]).is_err());
    assert!(new("../a", &["true".into()]).is_err());
    assert!(new("a", &["true".into()]).is_ok());
}
