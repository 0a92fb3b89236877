//! Running a command and counting what it took: time, CPU, peak memory.
//!
//! The kernel counts peak memory for all children of a process together, so each command runs below
//! a process of its own: this program, called again as `hucha-benches measured`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// One command of a tool.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Where it runs.
    pub folder: Option<PathBuf>,
}

/// What a command took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// Seconds by the clock on the wall.
    pub seconds: f64,
    /// Seconds of CPU, user and system.
    pub cpu: f64,
    /// Peak resident memory in bytes.
    pub peak: u64,
}

impl Taken {
    /// Two commands, one after the other.
    pub fn then(self, next: Taken) -> Taken {
        Taken {
            seconds: self.seconds + next.seconds,
            cpu: self.cpu + next.cpu,
            peak: self.peak.max(next.peak),
        }
    }
}

/// Runs commands one after the other; the first that fails ends it.
///
/// # Errors
/// When one cannot be run or fails; what it printed stands in `log`.
pub fn run(calls: &[Call], variables: &[(String, OsString)], log: &Path) -> io::Result<Taken> {
    let mut taken = Taken::default();
    for call in calls {
        taken = taken.then(run_one(call, variables, log)?);
    }
    Ok(taken)
}

fn run_one(call: &Call, variables: &[(String, OsString)], log: &Path) -> io::Result<Taken> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("measured").args(&call.argv);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    if let Some(folder) = &call.folder {
        command.current_dir(folder);
    }
    let messages = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stderr(messages);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
    match (output.status.success(), figures.as_slice()) {
        (true, [seconds, cpu, peak]) => Ok(Taken {
            seconds: *seconds,
            cpu: *cpu,
            peak: *peak as u64,
        }),
        _ => Err(io::Error::other(format!(
            "{:?} failed, see {}",
            call.argv,
            log.display()
        ))),
    }
}

/// Runs one command, its output to stderr, and prints what it took.
pub fn measured(argv: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = argv.split_first() else {
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdout(io::stderr())
        .status();
    let seconds = begun.elapsed().as_secs_f64();
    match (status, getrusage(UsageWho::RUSAGE_CHILDREN)) {
        (Ok(status), Ok(usage)) if status.success() => {
            let cpu = [usage.user_time(), usage.system_time()]
                .map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6);
            // Linux counts in KiB.
            let peak = usage.max_rss() * 1024;
            println!("{seconds} {} {peak}", cpu.iter().sum::<f64>());
            ExitCode::SUCCESS
        }
        (status, _) => {
            eprintln!("{argv:?}: {status:?}");
            ExitCode::FAILURE
        }
    }
}
