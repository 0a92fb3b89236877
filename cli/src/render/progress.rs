//! Progress on stderr: one line that is redrawn on a terminal, plain lines otherwise (with `-v`).

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hucha_store::monitor::{Action, Counters, Event, Monitor};

use super::{draw, erase, notice, text};
use crate::settings::{Level, Settings};

/// Time between two pictures of the line.
const REDRAW: Duration = Duration::from_millis(200);
/// Time between two plain lines.
const PLAIN: Duration = Duration::from_secs(10);
/// Pictures over which the rate is taken: five seconds.
const SAMPLES: usize = 25;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Line,
    Plain,
    Nothing,
}

/// A monitor that tells people. It stops when dropped.
pub struct Progress {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    counters: Counters,
    state: Mutex<State>,
    style: Style,
    level: Level,
    json: bool,
    /// Nothing is changed, only told.
    dry_run: bool,
    /// Whether problems are told of when they are met.
    problems: bool,
    started: Instant,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    phase: String,
    path: Vec<u8>,
    expected: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Progress {
    /// Begins to show progress.
    pub fn start(settings: &Settings) -> Progress {
        Progress::begin(settings, !settings.json)
    }

    /// The same for a command that tells of problems itself, at its end.
    pub fn start_quietly(settings: &Settings) -> Progress {
        Progress::begin(settings, false)
    }

    fn begin(settings: &Settings, problems: bool) -> Progress {
        let style = match (std::io::stderr().is_terminal(), settings.level) {
            _ if settings.json => Style::Nothing,
            (_, Level::Quiet) => Style::Nothing,
            (true, _) => Style::Line,
            (false, Level::Normal) => Style::Nothing,
            (false, _) => Style::Plain,
        };
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            state: Mutex::default(),
            style,
            level: settings.level,
            json: settings.json,
            dry_run: settings.dry_run,
            problems,
            started: Instant::now(),
            ended: AtomicBool::new(false),
        });
        let ticker = (style != Style::Nothing).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.tick())
        });
        Progress { shared, ticker }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            // It does nothing that could fail.
            let _ = ticker.join();
        }
        erase();
    }
}

impl Monitor for Progress {
    fn event(&self, event: Event<'_>) {
        self.shared.event(event);
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase(phase) => {
                self.state().phase = phase.to_owned();
                if self.style == Style::Plain {
                    notice(phase);
                }
            }
            Event::Expect { bytes, .. } => self.state().expected = bytes,
            Event::Entry { path, action } => self.entry(path, action),
            Event::Problem { path, message } if self.problems => {
                notice(&format!(
                    "problem: {}: {}",
                    text::name(path),
                    text::lines(message)
                ));
            }
            Event::Note(note) if !self.json && self.level >= Level::Verbose => notice(note),
            _ => {}
        }
    }

    fn entry(&self, path: &[u8], action: Action) {
        if self.level >= Level::Entries && !self.json {
            let done = match (action, self.dry_run) {
                (Action::Stored, _) => "stored   ",
                (Action::Unchanged, _) => "unchanged",
                (Action::Restored, false) => "restored ",
                (Action::Restored, true) => "would write",
                (Action::Kept, _) => "kept     ",
                (Action::Skipped, _) => "skipped  ",
                (Action::Removed, false) => "removed  ",
                (Action::Removed, true) => "would remove",
                (Action::Excluded, _) => "excluded ",
            };
            notice(&format!("{done}  {}", text::name(path)));
        } else if self.style == Style::Line
            && let Ok(mut state) = self.state.try_lock()
        {
            state.path.clear();
            state.path.extend_from_slice(path);
        }
    }

    fn tick(&self) {
        let mut next = Instant::now() + PLAIN;
        loop {
            std::thread::park_timeout(REDRAW);
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let line = self.picture();
            if self.style == Style::Line {
                let room = width().saturating_sub(1);
                draw(&line.chars().take(room).collect::<String>());
            } else if Instant::now() >= next {
                next += PLAIN;
                notice(&line);
            }
        }
    }

    /// `1:05  reading  1,234 entries  2.3 GiB of 5.0 GiB  120.0 MiB/s  0:20 left  etc/passwd`.
    fn picture(&self) -> String {
        let bytes = self.counters.bytes.load(Ordering::Relaxed);
        let stored = self.counters.stored.load(Ordering::Relaxed);
        let entries = self.counters.entries.load(Ordering::Relaxed);
        // A check reads stored bytes only.
        let done = if bytes == 0 { stored } else { bytes };
        let mut state = self.state();
        let rate = state.rate(Instant::now(), done);
        let mut parts = vec![
            text::clock(self.started.elapsed().as_secs()),
            state.phase.clone(),
        ];
        if entries > 0 {
            parts.push(text::counted(entries, "entry", "entries"));
        }
        if done > 0 {
            parts.push(match state.expected {
                0 => text::size(done),
                expected => format!("{} of {}", text::size(done), text::size(expected)),
            });
            parts.push(format!("{}/s", text::size(rate)));
        }
        if let Some(left) = time_left(state.expected, done, rate) {
            parts.push(format!("{} left", text::clock(left)));
        }
        parts.push(text::name(&state.path));
        parts.retain(|p| !p.is_empty());
        parts.join("  ")
    }
}

impl State {
    /// Bytes a second over the last pictures.
    fn rate(&mut self, now: Instant, done: u64) -> u64 {
        self.samples.push_back((now, done));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        let Some((then, before)) = self.samples.front() else {
            return 0;
        };
        let seconds = now.duration_since(*then).as_secs_f64();
        if seconds > 0.0 {
            (done.saturating_sub(*before) as f64 / seconds) as u64
        } else {
            0
        }
    }
}

fn time_left(expected: u64, done: u64, rate: u64) -> Option<u64> {
    expected
        .saturating_sub(done)
        .checked_div(rate)
        .filter(|_| expected > done)
}

#[cfg(unix)]
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok()
        .map(|s| usize::from(s.ws_col))
        .filter(|w| *w > 0)
        .unwrap_or(80)
}

#[cfg(not(unix))]
fn width() -> usize {
    80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left() {
        let start = Instant::now();
        let mut state = State::default();
        assert_eq!(state.rate(start, 0), 0);
        assert_eq!(state.rate(start + Duration::from_secs(2), 200), 100);
        assert_eq!(time_left(1000, 200, 100), Some(8));
        assert_eq!(time_left(1000, 200, 0), None);
        assert_eq!(time_left(0, 200, 100), None);
    }
}
