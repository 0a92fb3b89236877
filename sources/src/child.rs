//! Programs that are run: their output read, their input fed, their last words kept. No shell is
//! involved, and no secret of ours reaches them but what they are given on purpose.
//!
//! On Unix each leads a process group of its own, and the whole group is killed when the reading
//! ends early, when nothing comes for too long, or when a [`Stopper`] says so. A signal that ends
//! *this* process without unwinding reaches them only through whoever catches that signal and
//! calls [`Stopper::stop`]; a pipe that nobody holds any more ends those that write into it.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stream::read_some;

/// Lines of a program's standard error that are kept for the message.
const KEPT_LINES: usize = 25;

/// Bytes kept of one such line.
const KEPT_LINE: usize = 1000;

/// Longest wait for the rest of standard error after a program has ended and its group was killed:
/// a process that left the group may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longest pause between two looks whether a program has ended that closed its output.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Variables of ours that no program gets: what opens the repository.
const OURS: [&str; 2] = ["HUCHA_PASSWORD", "HUCHA_NEW_PASSWORD"];

/// What happens to a program's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorOutput {
    /// It goes where ours goes.
    #[default]
    Inherit,
    /// Its last 25 lines stand in the message when the program fails; else it is dropped.
    Keep,
}

/// How a program is run.
#[derive(Debug)]
pub struct Spec<'a> {
    /// What it is called in messages.
    pub name: String,
    /// Program, arguments and environment.
    pub command: std::process::Command,
    /// Whether it is fed by [`Child::input`]; else its input is empty.
    pub is_fed: bool,
    /// What becomes of its messages.
    pub errors: ErrorOutput,
    /// Nothing read for so long, or not ended so long after its last output: it hangs.
    pub stall: Option<Duration>,
    /// Who may stop it.
    pub stopper: &'a Stopper,
}

/// Why a program did not do what it was run for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChildError {
    /// It is not there, or may not be run.
    #[error("{name} cannot be started: {why}")]
    Start {
        /// The program.
        name: String,
        /// What the system said.
        why: String,
    },
    /// It was stopped by us, because that was asked for or something else failed.
    #[error("{name} was stopped")]
    Stopped {
        /// The program.
        name: String,
    },
    /// It ended, and not well, or its output could not be read.
    #[error("{name} {how}")]
    Failed {
        /// The program.
        name: String,
        /// `exited with code 1`.
        how: String,
        /// The last lines of its standard error.
        words: Vec<String>,
    },
}

impl ChildError {
    /// The last lines of the program's standard error.
    pub fn words(&self) -> &[String] {
        match self {
            ChildError::Failed { words, .. } => words,
            _ => &[],
        }
    }

    /// The message with those lines below it.
    pub fn with_words(&self) -> String {
        let mut message = self.to_string();
        for line in self.words() {
            message.push_str("\n  ");
            message.push_str(line);
        }
        message
    }
}

/// Kills programs and everything in their process groups; whoever reads them then fails. Clones
/// mean the same programs.
#[derive(Debug, Clone, Default)]
pub struct Stopper {
    state: Arc<Mutex<StopState>>,
}

#[derive(Debug, Default)]
struct StopState {
    stopped: bool,
    /// Children as long as their ids cannot belong to other processes.
    children: BTreeSet<u32>,
    /// What undoes the work after a stop.
    calm: Vec<Stopper>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stopper {
    /// Kills what runs; nothing more will start.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        for pid in &state.children {
            kill_group(*pid);
        }
    }

    /// For what takes back what was begun: it is not stopped by [`Stopper::stop`].
    pub fn calm(&self) -> Stopper {
        let calm = Stopper::default();
        lock(&self.state).calm.push(calm.clone());
        calm
    }

    /// Kills also what takes back.
    pub fn stop_all(&self) {
        self.stop();
        lock(&self.state).calm.iter().for_each(Stopper::stop_all);
    }

    /// Whether that was asked for.
    pub fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }
}

#[cfg(unix)]
fn kill_group(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails only when nothing is left to be killed.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_: u32) {}

/// A program that runs.
#[derive(Debug)]
pub struct Child {
    name: String,
    child: std::process::Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    last_words: Option<LastWords>,
    stopper: Stopper,
    stall: Option<Duration>,
    reaped: bool,
}

impl Child {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be started, or was stopped before.
    pub fn start(spec: Spec<'_>) -> Result<Child, ChildError> {
        let Spec {
            name,
            mut command,
            is_fed,
            errors,
            stall,
            stopper,
        } = spec;
        OURS.iter().for_each(|name| {
            command.env_remove(name);
        });
        command
            .stdin(if is_fed {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped());
        command.stderr(match errors {
            ErrorOutput::Inherit => Stdio::inherit(),
            ErrorOutput::Keep => Stdio::piped(),
        });
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);

        // Held while it starts: a stop comes before or after, not in between.
        let mut state = lock(&stopper.state);
        if state.stopped {
            return Err(ChildError::Stopped { name });
        }
        let start = |why: String| ChildError::Start {
            name: name.clone(),
            why,
        };
        let mut child = command.spawn().map_err(|e| start(e.to_string()))?;
        state.children.insert(child.id());
        drop(state);

        let output = child.stdout.take();
        Ok(Child {
            input: child.stdin.take(),
            last_words: child.stderr.take().map(LastWords::listen),
            output: output.ok_or_else(|| start("it has no output".into()))?,
            name,
            child,
            stopper: stopper.clone(),
            stall,
            reaped: false,
        })
    }

    /// Where to feed it, once; dropped, its input ends.
    pub fn input(&mut self) -> Option<impl Write + Send + 'static> {
        self.input.take()
    }

    /// Reads what it prints. Answers 0 only when it has ended well; must not be called after that.
    ///
    /// # Errors
    /// When it ended otherwise, was stopped, or nothing came for too long.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ChildError> {
        self.await_bytes()?;
        match read_some(&mut self.output, buffer) {
            Ok(0) => self.end().map(|()| 0),
            Ok(n) => Ok(n),
            Err(error) => Err(self.failed(format!("cannot be read: {error}"))),
        }
    }

    /// Reads all that it prints, at most so many bytes of it, until it has ended well.
    ///
    /// # Errors
    /// As of [`Child::read`], and when it prints more.
    pub fn read_all(mut self, most: usize) -> Result<Vec<u8>, ChildError> {
        let mut all = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(all),
                n => all.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            }
            if all.len() > most {
                return Err(self.failed(format!("printed more than {most} bytes")));
            }
        }
    }

    /// What it wrote to standard error so far, the last lines of it; after its end, all of them.
    pub fn words(&mut self) -> Vec<String> {
        match (&self.last_words, self.reaped) {
            (None, _) => Vec::new(),
            (Some(words), true) => words.hear(),
            (Some(words), false) => words.so_far(),
        }
    }

    fn failed(&mut self, how: String) -> ChildError {
        ChildError::Failed {
            name: self.name.clone(),
            how,
            words: self.words(),
        }
    }

    #[cfg(unix)]
    fn await_bytes(&mut self) -> Result<(), ChildError> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Some(stall) = self.stall else {
            return Ok(());
        };
        let since = Instant::now();
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 500_000_000,
        };
        loop {
            let output = PollFd::new(&self.output, PollFlags::IN);
            match poll(&mut [output], Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                _ => return Ok(()),
            }
            if since.elapsed() >= stall {
                // Its end was our doing: what counts is what it did not do.
                let _ = self.reap(true);
                let seconds = stall.as_secs();
                return Err(self.failed(format!("sent nothing for {seconds} s and was killed")));
            }
        }
    }

    #[cfg(not(unix))]
    fn await_bytes(&mut self) -> Result<(), ChildError> {
        let _ = (self.stall, Instant::now());
        Ok(())
    }

    /// Who can kill it from elsewhere.
    pub(crate) fn killer(&self) -> Killer {
        Killer {
            pid: self.child.id(),
            stopper: self.stopper.clone(),
        }
    }

    /// Waits, then tells whether the program succeeded.
    fn end(&mut self) -> Result<(), ChildError> {
        self.input = None;
        if let Some(stall) = self.stall
            && !ends_within(&self.child, stall)
        {
            // Its end was our doing: what counts is what it did not do.
            let _ = self.reap(true);
            let seconds = stall.as_secs();
            return Err(self.failed(format!(
                "closed its output, did not end within {seconds} s and was killed"
            )));
        }
        let status = self.reap(false);
        let name = self.name.clone();
        let how = match status {
            Ok(status) if status.success() && !self.stopper.is_stopped() => return Ok(()),
            Ok(_) if self.stopper.is_stopped() => return Err(ChildError::Stopped { name }),
            Ok(status) => describe(status),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        Err(self.failed(how))
    }

    /// Waits for the child, after killing it when `kill`. A failed one takes its group along.
    fn reap(&mut self, kill: bool) -> std::io::Result<ExitStatus> {
        let pid = self.child.id();
        if kill {
            drop(self.killer());
            #[cfg(not(unix))]
            self.child.kill()?;
        }
        self.input = None;
        let failed = await_end(&self.child);
        let mut state = lock(&self.stopper.state);
        if failed {
            kill_group(pid);
        }
        state.children.remove(&pid);
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // Nobody is left to be told.
            let _ = self.reap(true);
        }
    }
}

/// Kills a program that runs, and everything in its process group, at the latest when dropped.
#[derive(Debug)]
pub(crate) struct Killer {
    pid: u32,
    stopper: Stopper,
}

impl Killer {
    /// Kills; nothing happens when the program has ended.
    pub(crate) fn kill(&self) {
        let state = lock(&self.stopper.state);
        if state.children.contains(&self.pid) {
            kill_group(self.pid);
        }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether the child ends so soon. It is left to be reaped.
#[cfg(unix)]
fn ends_within(child: &std::process::Child, limit: Duration) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let (since, mut pause) = (Instant::now(), Duration::from_micros(100));
    loop {
        match waitid(WaitId::Pid(Pid::from_child(child)), how) {
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Ok(Some(_)) | Err(_) => return true,
        }
        let left = limit.saturating_sub(since.elapsed());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(not(unix))]
fn ends_within(_: &std::process::Child, _: Duration) -> bool {
    true
}

/// Waits until the child has ended, leaving it to be reaped so that its id stays its own; tells
/// whether it failed.
#[cfg(unix)]
fn await_end(child: &std::process::Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let pid = Pid::from_child(child);
    loop {
        match waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some(status)) => return status.exit_status() != Some(0),
            Ok(None) | Err(_) => return true,
        }
    }
}

#[cfg(not(unix))]
fn await_end(_: &std::process::Child) -> bool {
    false
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("was killed by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("exited with code {code}"),
        None => format!("ended with {status}"),
    }
}

/// A program as it is called in messages.
pub(crate) fn called(program: &OsStr) -> String {
    format!("command {:?}", program.to_string_lossy())
}

/// The last lines of standard error, gathered by a thread so that the program never blocks.
#[derive(Debug)]
struct LastWords {
    lines: Arc<Mutex<VecDeque<String>>>,
    ended: Receiver<()>,
}

impl LastWords {
    fn listen(errors: ChildStderr) -> LastWords {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, ended) = channel();
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            gather(BufReader::new(errors), &kept);
            // The receiver may be gone already.
            let _ = sender.send(());
        });
        LastWords { lines, ended }
    }

    fn hear(&self) -> Vec<String> {
        // Whether all of it came or the time is up: what is there is told.
        let _ = self.ended.recv_timeout(LAST_WORDS);
        self.so_far()
    }

    fn so_far(&self) -> Vec<String> {
        lock(&self.lines).iter().cloned().collect()
    }
}

fn gather(mut errors: impl BufRead, kept: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let room = u64::try_from(KEPT_LINE).unwrap_or(u64::MAX);
        match errors.by_ref().take(room).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut lines = lock(kept);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
}
