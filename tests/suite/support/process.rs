//! A process with a time limit: what it printed, how it ended, how much memory it took.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Seconds that a call may take before it is killed and the test fails: in CI, and in full size.
const LIMIT: (u64, u64) = (300, 7200);
/// How often memory is looked at.
const GLANCE: Duration = Duration::from_millis(1);

/// A call of a program that is put together.
pub struct Call {
    command: Command,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl Call {
    /// A call of a command.
    pub fn new(mut command: Command) -> Call {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let limit = Duration::from_secs(super::size(LIMIT.0, LIMIT.1));
        Call {
            command,
            stdin: None,
            limit,
        }
    }

    /// Hands these bytes to its standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Call {
        self.command.stdin(Stdio::piped());
        self.stdin = Some(bytes.into());
        self
    }

    /// Leaves its standard input open, for [`Running::feed`].
    pub fn open_stdin(mut self) -> Call {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Call {
        self.command.args(args);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Call {
        self.command.arg(arg);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Call {
        self.command.env(name, value);
        self
    }

    /// Unsets an environment variable.
    pub fn without(mut self, name: &str) -> Call {
        self.command.env_remove(name);
        self
    }

    /// Runs it in another folder.
    pub fn within(mut self, folder: impl AsRef<std::path::Path>) -> Call {
        self.command.current_dir(folder);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let shown = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("{shown}: {e}"));
        let pidfd = pidfd_open(pid(&child), PidfdFlags::empty()).unwrap();
        let stdout = child.stdout.take().map(reader);
        let stderr = child.stderr.take().map(reader);
        let feeder = self.stdin.take().and_then(|bytes| {
            let mut pipe = child.stdin.take()?;
            // A process that ends early does not read on.
            Some(std::thread::spawn(move || drop(pipe.write_all(&bytes))))
        });
        let started = Instant::now();
        let limit = self.limit;
        Running {
            child,
            pidfd,
            stdout,
            stderr,
            feeder,
            started,
            limit,
            shown,
            peak: 0,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Ran {
        self.start().wait()
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).unwrap()
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A process that runs.
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    feeder: Option<JoinHandle<()>>,
    started: Instant,
    limit: Duration,
    shown: String,
    peak: u64,
}

impl Running {
    /// Waits until it has ended or a time is over; `true` when it has ended.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let step = Timespec::try_from(left.min(GLANCE)).unwrap();
            self.look_at_memory();
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&step)) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return true,
                Err(e) => panic!("poll: {e}"),
            }
        }
    }

    fn look_at_memory(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        self.peak = self.peak.max(number.unwrap_or(0));
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Writes to its standard input, which stays open.
    pub fn feed(&mut self, bytes: &[u8]) {
        let pipe = self.child.stdin.as_mut().unwrap();
        pipe.write_all(bytes).unwrap();
        pipe.flush().unwrap();
    }

    /// Waits for its end; kills it when it takes too long.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        drop(self.child.stdin.take());
        let ended = self.ends_within(self.limit);
        if !ended {
            self.signal(Signal::KILL);
        }
        let status = self.child.wait().unwrap();
        let took = self.started.elapsed();
        let join = |thread: Option<JoinHandle<Vec<u8>>>| match thread {
            Some(thread) => thread.join().unwrap(),
            None => Vec::new(),
        };
        let stdout = join(self.stdout);
        let stderr = String::from_utf8_lossy(&join(self.stderr)).into_owned();
        if let Some(feeder) = self.feeder {
            feeder.join().unwrap();
        }
        let shown = self.shown;
        assert!(ended, "{shown} took longer than {:?}: {stderr}", self.limit);
        for word in [
            "panicked",
            "internal error",
            "RUST_BACKTRACE",
            "stack backtrace",
        ] {
            assert!(!stderr.contains(word), "{shown} shows its inside: {stderr}");
        }
        Ran {
            status,
            stdout,
            stderr,
            took,
            peak: self.peak,
            shown,
        }
    }
}

/// A process that has ended.
pub struct Ran {
    status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it said beside.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    /// Its peak of memory, in KiB.
    pub peak: u64,
    shown: String,
}

impl Ran {
    /// Its exit code; `-signal` when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        let (shown, stderr, got) = (&self.shown, &self.stderr, self.code());
        let stdout = self.text();
        assert_eq!(got, code, "{shown} ended with {got}:\n{stdout}\n{stderr}");
        self
    }

    /// Fails unless it said this on stderr.
    #[track_caller]
    pub fn says(self, what: &str) -> Ran {
        let (shown, stderr) = (&self.shown, &self.stderr);
        assert!(
            stderr.contains(what),
            "{shown} does not say {what:?}: {stderr}"
        );
        self
    }

    /// Fails when it said anything on stderr.
    #[track_caller]
    pub fn quiet(self) -> Ran {
        assert_eq!(self.stderr, "", "{} says something", self.shown);
        self
    }

    /// What it printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it printed: one JSON object a line.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", self.shown))
        };
        self.text().lines().map(parse).collect()
    }

    /// The only JSON object that it printed.
    #[track_caller]
    pub fn object(&self) -> serde_json::Value {
        let mut all = self.json();
        assert_eq!(all.len(), 1, "{}: {}", self.shown, self.text());
        all.remove(0)
    }
}
