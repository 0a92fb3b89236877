//! Ctrl-C and SIGTERM: exit code 130, commands that feed a snapshot killed, the terminal as it
//! was. What a killed process leaves in a repository is harmless; a snapshot gets a moment to give
//! its session up, a restore into a database more of it to take away what it made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hucha_sources::command::Stopper;

/// Somebody asked us to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The same, set by the signal's handler itself: Ctrl-C ends the program that feeds us as well, and
/// its end must not be taken for that of the data because our thread was slow.
static ARRIVED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Seconds that the run may take to undo what it began; 0: there is nothing to undo.
static GRACE: AtomicU64 = AtomicU64::new(0);
/// Commands that end with us.
static STOPPERS: Mutex<Vec<Stopper>> = Mutex::new(Vec::new());
/// Seconds for giving up a session, and for ending what a server does for it.
pub const TO_STOP: u64 = 10;
/// Seconds for taking away what was restored so far, or for ending an exchange.
pub const TO_UNDO: u64 = 120;

/// Whether a signal asked us to end.
pub fn interrupted() -> bool {
    let arrived = ARRIVED
        .get()
        .is_some_and(|flag| flag.load(Ordering::SeqCst));
    arrived || INTERRUPTED.load(Ordering::Relaxed)
}

/// From now on the run notices by itself that it was interrupted, and has so many seconds.
pub fn watch(grace: u64) {
    GRACE.store(grace, Ordering::Relaxed);
}

/// Whether the run undoes what it began.
pub fn undoes() -> bool {
    GRACE.load(Ordering::Relaxed) == TO_UNDO
}

/// Kills this command when we are asked to end.
pub fn stop_with_us(stopper: Stopper) {
    if let Ok(mut all) = STOPPERS.lock() {
        all.push(stopper);
    }
}

/// What is done about the first signal.
#[cfg(unix)]
fn end() {
    let again = INTERRUPTED.swap(true, Ordering::Relaxed);
    terminal::restore();
    if let Ok(all) = STOPPERS.lock() {
        all.iter().for_each(Stopper::stop);
    }
    let grace = GRACE.load(Ordering::Relaxed);
    if again || grace == 0 {
        leave();
    }
    if undoes() {
        crate::render::erase();
        crate::render::notice("stopping: what was begun is undone; once more leaves at once");
    }
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(grace));
        leave();
    });
}

#[cfg(unix)]
fn leave() -> ! {
    // What was to be undone is left as it stands, but nothing works on behind our back.
    if let Ok(all) = STOPPERS.lock() {
        all.iter().for_each(Stopper::stop_all);
    }
    crate::render::erase();
    crate::render::notice("interrupted");
    std::process::exit(crate::errors::Code::Interrupted as i32)
}

/// Begins to listen, on a thread of its own. Signals that were ignored when we were started stay
/// so (`nohup`, `&` in scripts).
#[cfg(unix)]
pub fn listen() {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let ignored = ignored();
    let wanted = [SIGINT, SIGTERM].into_iter();
    let wanted: Vec<_> = wanted.filter(|n| ignored >> (n - 1) & 1 == 0).collect();
    let arrived = ARRIVED.get_or_init(Arc::default);
    for signal in &wanted {
        let _ = signal_hook::flag::register(*signal, Arc::clone(arrived));
    }
    // Without it a signal ends us as it ends any program.
    let Ok(mut signals) = signal_hook::iterator::Signals::new(wanted) else {
        return;
    };
    std::thread::spawn(move || signals.forever().for_each(|_| end()));
}

/// The mask of ignored signals (proc_pid_status(5)); none where it cannot be told.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(not(unix))]
pub fn listen() {}

/// The terminal's settings while a password is typed without echo.
#[cfg(unix)]
pub mod terminal {
    use std::fs::File;
    use std::sync::Mutex;

    use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

    static BEFORE: Mutex<Option<(File, Termios)>> = Mutex::new(None);

    /// Keeps the settings before a prompt.
    pub fn remember() {
        let Ok(tty) = File::open("/dev/tty") else {
            return;
        };
        if let (Ok(settings), Ok(mut before)) = (tcgetattr(&tty), BEFORE.lock()) {
            *before = Some((tty, settings));
        }
    }

    /// Forgets them after the prompt.
    pub fn forget() {
        if let Ok(mut before) = BEFORE.lock() {
            *before = None;
        }
    }

    /// Puts them back when the prompt is cut short.
    pub fn restore() {
        if let Ok(before) = BEFORE.lock()
            && let Some((tty, settings)) = &*before
        {
            // We are leaving: nothing else can be done.
            let _ = tcsetattr(tty, OptionalActions::Now, settings);
        }
    }
}

/// Nothing to keep on this system.
#[cfg(not(unix))]
pub mod terminal {
    /// Keeps nothing.
    pub fn remember() {}
    /// Forgets nothing.
    pub fn forget() {}
}
