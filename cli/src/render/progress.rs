//! Progress on stderr: one line that is redrawn on a terminal, plain lines otherwise (with `-v` or
//! `--progress`), objects with `--json --progress`.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hucha_store::monitor::{Action, Counters, Event, Monitor};

use super::{draw, erase, json, notice, text};
use crate::settings::{Level, Settings};

/// Time between two pictures of the line.
const REDRAW: Duration = Duration::from_millis(200);
/// Time between two plain lines.
const PLAIN: Duration = Duration::from_secs(10);
/// Time between two objects.
const OBJECT: Duration = Duration::from_secs(1);
/// Pictures over which the rate is taken: five seconds.
const SAMPLES: usize = 25;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A line that is redrawn.
    Line,
    /// Lines, one after the other.
    Plain,
    /// Objects: at the beginning of each phase, in between, and at the end.
    Objects,
    Nothing,
}

impl Style {
    fn of(settings: &Settings, is_terminal: bool) -> Style {
        match (settings.level, is_terminal) {
            _ if settings.json && settings.progress => Style::Objects,
            _ if settings.json => Style::Nothing,
            (Level::Quiet, _) => Style::Nothing,
            (_, true) => Style::Line,
            (Level::Normal, false) if !settings.progress => Style::Nothing,
            (_, false) => Style::Plain,
        }
    }

    /// Time between two times that it is told.
    fn interval(self) -> Duration {
        match self {
            Style::Line | Style::Nothing => REDRAW,
            Style::Plain => PLAIN,
            Style::Objects => OBJECT,
        }
    }
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
        let style = Style::of(settings, std::io::stderr().is_terminal());
        let started = Instant::now();
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            state: Mutex::new(State::begun(started)),
            style,
            level: settings.level,
            json: settings.json,
            dry_run: settings.dry_run,
            problems,
            started,
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
        if self.shared.style == Style::Objects {
            self.shared.tell();
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
                match self.style {
                    Style::Plain => notice(phase),
                    Style::Objects => self.tell(),
                    Style::Line | Style::Nothing => {}
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
        let mut next = Instant::now() + self.style.interval();
        loop {
            std::thread::park_timeout(REDRAW);
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let now = Instant::now();
            // Each one is a sample for the rate.
            let picture = self.picture(now);
            if now >= next || self.style == Style::Line {
                next += self.style.interval();
                self.show(&picture);
            }
        }
    }

    /// Tells how far it is, now.
    fn tell(&self) {
        self.show(&self.picture(Instant::now()));
    }

    fn show(&self, picture: &Picture) {
        match self.style {
            Style::Line => {
                let room = width().saturating_sub(1);
                draw(&picture.line().chars().take(room).collect::<String>());
            }
            Style::Plain => notice(&picture.line()),
            Style::Objects => notice(&picture.object()),
            Style::Nothing => {}
        }
    }

    fn picture(&self, now: Instant) -> Picture {
        let bytes = self.counters.bytes.load(Ordering::Relaxed);
        let stored = self.counters.stored.load(Ordering::Relaxed);
        // gc copies stored bytes only.
        let done = if bytes == 0 { stored } else { bytes };
        let mut state = self.state();
        let rate = state.rate(now, done);
        // An earlier snapshot may have been smaller: then nobody knows.
        let expected = Some(state.expected).filter(|expected| *expected >= done && *expected > 0);
        Picture {
            elapsed: now.duration_since(self.started),
            phase: state.phase.clone(),
            entries: self.counters.entries.load(Ordering::Relaxed),
            done,
            expected,
            rate,
            path: state.path.clone(),
        }
    }
}

/// How far it is at one moment.
struct Picture {
    elapsed: Duration,
    phase: String,
    entries: u64,
    done: u64,
    /// Unknown on a first run: then what was done is all there is to tell.
    expected: Option<u64>,
    rate: u64,
    path: Vec<u8>,
}

impl Picture {
    fn seconds_left(&self) -> Option<u64> {
        let left = self.expected?.saturating_sub(self.done);
        left.checked_div(self.rate).filter(|_| left > 0)
    }

    /// `1:05  reading  1,234 entries  2.3 GiB of 5.0 GiB  120.0 MiB/s  0:20 left  etc/passwd`.
    fn line(&self) -> String {
        let mut parts = vec![text::clock(self.elapsed.as_secs()), self.phase.clone()];
        if self.entries > 0 {
            parts.push(text::counted(self.entries, "entry", "entries"));
        }
        if self.done > 0 {
            parts.push(match self.expected {
                None => text::size(self.done),
                Some(expected) => format!("{} of {}", text::size(self.done), text::size(expected)),
            });
            parts.push(format!("{}/s", text::size(self.rate)));
        }
        if let Some(left) = self.seconds_left() {
            parts.push(format!("{} left", text::clock(left)));
        }
        parts.push(text::name(&self.path));
        parts.retain(|p| !p.is_empty());
        parts.join("  ")
    }

    fn object(&self) -> String {
        json::progress(&json::Progress {
            phase: self.phase.clone(),
            elapsed_ms: u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            entries: self.entries,
            bytes: self.done,
            bytes_expected: self.expected,
            bytes_per_second: self.rate,
            seconds_left: self.seconds_left(),
        })
    }
}

impl State {
    fn begun(now: Instant) -> State {
        State {
            samples: [(now, 0)].into(),
            ..State::default()
        }
    }

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
    fn the_rate_is_that_of_the_last_pictures() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::begun(start);
        assert_eq!(state.rate(start, 0), 0);
        assert_eq!(state.rate(after(2), 200), 100);
        for second in 3..30 {
            state.rate(after(second), 1_000);
        }
        assert_eq!(state.rate(after(30), 1_000), 0);
    }

    fn picture(done: u64, expected: Option<u64>) -> Picture {
        Picture {
            elapsed: Duration::from_millis(65_400),
            phase: "reading".into(),
            entries: 1_234,
            done,
            expected,
            rate: 1 << 20,
            path: b"etc/passwd".to_vec(),
        }
    }

    #[test]
    fn a_line_tells_what_is_known() {
        let line = picture(5 << 20, Some(25 << 20)).line();
        let known = "5.0 MiB of 25.0 MiB  1.0 MiB/s  0:20 left";
        assert_eq!(
            line,
            format!("1:05  reading  1,234 entries  {known}  etc/passwd")
        );
        // The first run.
        let line = picture(5 << 20, None).line();
        let known = "1:05  reading  1,234 entries  5.0 MiB  1.0 MiB/s  etc/passwd";
        assert_eq!(line, known);
        let whole = picture(25 << 20, Some(25 << 20));
        assert_eq!(whole.seconds_left(), None);
    }

    #[test]
    fn an_object_tells_the_same() {
        let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let told = parse(picture(5 << 20, Some(25 << 20)).object());
        let expected = serde_json::json!({
            "schema": 1, "type": "progress", "phase": "reading", "elapsed_ms": 65_400,
            "entries": 1_234, "bytes": 5 << 20, "bytes_expected": 25 << 20,
            "bytes_per_second": 1 << 20, "seconds_left": 20,
        });
        assert_eq!(told, expected);
        let told = parse(picture(5 << 20, None).object());
        assert!(told["bytes_expected"].is_null() && told["seconds_left"].is_null());
    }

    #[test]
    fn where_it_is_shown() {
        let style = |typed: &[&str], is_terminal| {
            let typed = [&["hucha"], typed, &["gc"]].concat();
            let cli = <crate::args::Cli as clap::Parser>::try_parse_from(typed).unwrap();
            Style::of(&Settings::new(&cli.global, &|_| None).unwrap(), is_terminal)
        };
        for (typed, terminal, otherwise) in [
            (&[][..], Style::Line, Style::Nothing),
            (&["-v"], Style::Line, Style::Plain),
            (&["--progress"], Style::Line, Style::Plain),
            (&["-q"], Style::Nothing, Style::Nothing),
            (&["--json"], Style::Nothing, Style::Nothing),
            (&["--json", "--progress"], Style::Objects, Style::Objects),
        ] {
            assert_eq!(style(typed, true), terminal, "{typed:?}");
            assert_eq!(style(typed, false), otherwise, "{typed:?}");
        }
    }
}
