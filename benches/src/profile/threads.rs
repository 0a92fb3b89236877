//! How busy each thread of a command is, from what the kernel counts for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::compare::measure::Call;

/// How the tables are to be read.
pub const ABOUT: &str = "
Of each thread: for which share of the run it was on a core (*busy*), wanted one and had none
(*waits for a core*), and stood in a call to the disk (*in the disk*, by samples). For the rest of
the time it waited for other threads. Threads with less than a hundredth are summed up. The second
table, if `perf` is there, is of another run of the same: functions by their share of CPU time.
";

/// How often threads are looked at.
const EVERY: Duration = Duration::from_millis(4);

/// What is known of a thread so far.
#[derive(Debug, Default, Clone, PartialEq)]
struct Thread {
    name: String,
    /// Seconds on a core.
    busy: f64,
    /// Seconds it could have run and had no core.
    waiting: f64,
    /// Samples in all, and those in which it could not be interrupted.
    samples: usize,
    in_disk: usize,
}

/// Runs a command and answers a table of its threads.
///
/// # Errors
/// When it cannot be run or fails; what it printed stands in `log`.
pub fn watch(call: &Call, variables: &[(String, OsString)], log: &Path) -> io::Result<String> {
    let mut command = command(call, variables, log)?;
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let folder = format!("/proc/{}/task", child.id());
    let (ended, end) = mpsc::channel();
    // Nobody receives any more only when this function has failed already.
    std::thread::spawn(move || ended.send(child.wait()));
    let mut threads = BTreeMap::new();
    let status = loop {
        look(Path::new(&folder), &mut threads);
        match end.recv_timeout(EVERY) {
            Ok(status) => break status?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(gone) => return Err(io::Error::other(gone)),
        }
    };
    let wall = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err(io::Error::other(format!("{:?}: {status}", call.argv)));
    }
    Ok(table(wall, threads.into_values().collect()))
}

/// The command, quiet, its messages in the log.
///
/// # Errors
/// When the log cannot be opened.
pub fn command(call: &Call, variables: &[(String, OsString)], log: &Path) -> io::Result<Command> {
    let mut words = call.argv.iter();
    let mut command = Command::new(words.next().ok_or(io::ErrorKind::InvalidInput)?);
    command.args(words);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let messages = File::options().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(messages.try_clone()?)
        .stderr(messages);
    Ok(command)
}

/// Looks at all threads; those that have ended stay as they were seen last.
fn look(folder: &Path, threads: &mut BTreeMap<u64, Thread>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let read = |file: &str| fs::read_to_string(entry.path().join(file));
        if let (Some(number), Ok(stat), Ok(times)) = (number, read("stat"), read("schedstat")) {
            let thread = threads.entry(number).or_default();
            seen(thread, &stat, &times);
        }
    }
}

/// Takes over what `stat` and `schedstat` say: name and state; nanoseconds on a core and waiting.
fn seen(thread: &mut Thread, stat: &str, times: &str) {
    let name = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'));
    let Some((name, rest)) = name else { return };
    name.clone_into(&mut thread.name);
    thread.samples += 1;
    thread.in_disk += usize::from(rest.trim_start().starts_with('D'));
    let mut seconds = times.split_whitespace().flat_map(str::parse::<f64>);
    if let (Some(busy), Some(waiting)) = (seconds.next(), seconds.next()) {
        (thread.busy, thread.waiting) = (busy / 1e9, waiting / 1e9);
    }
}

fn table(wall: f64, threads: Vec<Thread>) -> String {
    let cpu: f64 = threads.iter().map(|t| t.busy).sum();
    let mut out = format!(
        "\n{wall:.2} s, {cpu:.2} s of CPU: {:.2} cores at work.\n\n\
         | thread | busy | waits for a core | in the disk |\n|---|---|---|---|\n",
        cpu / wall
    );
    let (main, small): (Vec<_>, Vec<_>) = threads.into_iter().partition(|t| t.busy >= wall / 100.0);
    let mut lines = main;
    if !small.is_empty() {
        let mut rest = Thread {
            name: format!("{} others", small.len()),
            ..Thread::default()
        };
        for thread in small {
            rest.busy += thread.busy;
            rest.waiting += thread.waiting;
            rest.samples += thread.samples;
            rest.in_disk += thread.in_disk;
        }
        lines.push(rest);
    }
    for t in lines {
        let share = |seconds: f64| 100.0 * seconds / wall;
        let lived = t.samples as f64 * EVERY.as_secs_f64();
        let disk = lived.min(wall) * t.in_disk as f64 / t.samples.max(1) as f64;
        let _ = writeln!(
            out,
            "| {} | {:.0} % | {:.0} % | {:.0} % |",
            t.name,
            share(t.busy),
            share(t.waiting),
            share(disk)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_read_from_what_the_kernel_writes() {
        let mut thread = Thread::default();
        seen(
            &mut thread,
            "7 (hucha (x) y) D 1 7",
            "1500000000 250000000 9",
        );
        seen(
            &mut thread,
            "7 (hucha (x) y) S 1 7",
            "2000000000 500000000 9",
        );
        let wanted = Thread {
            name: "hucha (x) y".to_owned(),
            busy: 2.0,
            waiting: 0.5,
            samples: 2,
            in_disk: 1,
        };
        assert_eq!(thread, wanted);
    }
}
