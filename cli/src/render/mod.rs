//! Everything that is printed: results on stdout, the rest on stderr. The only place of the
//! program that writes to either.

pub mod json;
pub mod members;
pub mod progress;
pub mod table;
pub mod text;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::errors::{Code, Failure};
use crate::settings::{Level, Settings};

/// Whether a progress line stands on the terminal; held while anything goes to stderr.
static LINE: Mutex<bool> = Mutex::new(false);

fn line() -> MutexGuard<'static, bool> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line on stderr, in place of the progress line.
pub fn notice(text: &str) {
    let mut drawn = line();
    let erase = if std::mem::take(&mut *drawn) {
        ERASE
    } else {
        ""
    };
    // stderr may be closed; there is nobody to tell.
    let _ = writeln!(io::stderr(), "{erase}{text}");
}

const ERASE: &str = "\r\x1b[K";

/// Tells of something wrong that does not stop the run; with `--json` as an object.
pub fn warning(text: &str) {
    match AS_JSON.load(Ordering::Relaxed) {
        true => notice(&json::warning(text)),
        false => notice(&format!("problem: {text}")),
    }
}

/// Whether results are JSON, for those who have no [`Output`] at hand.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Replaces the progress line.
fn draw(text: &str) {
    let mut drawn = line();
    *drawn = true;
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{ERASE}{text}");
    let _ = stderr.flush();
}

/// Takes the progress line away.
pub fn erase() {
    let mut drawn = line();
    if std::mem::take(&mut *drawn) {
        let _ = write!(io::stderr(), "{ERASE}");
    }
}

/// Tells of a failure, and answers its exit code.
pub fn failure(failure: &Failure, as_json: bool) -> Code {
    if failure.quiet {
        erase();
    } else if as_json {
        notice(&json::failure(failure));
    } else {
        notice(&format!("error: {}", text::lines(&failure.message)));
        if let Some(hint) = &failure.hint {
            notice(&format!("hint: {}", text::lines(hint)));
        }
    }
    failure.code
}

/// What clap has to say: help and version on stdout, misuse on stderr.
pub fn clap(error: &clap::Error, as_json: bool) -> Code {
    if !error.use_stderr() {
        let _ = write!(io::stdout(), "{error}");
        return Code::Done;
    }
    if as_json {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let message = first.trim_start_matches("error: ").trim();
        let usage = Failure::usage(message).hint("see `hucha --help`");
        return failure(&usage, true);
    }
    let _ = write!(io::stderr(), "{error}");
    Code::Usage
}

/// Most remarks of one kind.
const MAX_REMARKS: usize = 20;

/// stdout, and how results look on it.
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
    /// Results as JSON.
    pub json: bool,
    level: Level,
}

impl Output {
    /// Takes stdout for the whole run.
    pub fn new(settings: &Settings) -> Output {
        AS_JSON.store(settings.json, Ordering::Relaxed);
        Output {
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            json: settings.json,
            level: settings.level,
        }
    }

    /// A line of a result.
    ///
    /// # Errors
    /// When stdout fails; a closed pipe is a silent failure of code 0.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// A line of JSON: an object of one of the types of docs/json.md.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn object(
        &mut self,
        kind: &'static str,
        object: &impl serde::Serialize,
    ) -> Result<(), Failure> {
        let line = json::Line::new(kind, object);
        let text = serde_json::to_string(&line).map_err(Failure::failed)?;
        self.line(&text)
    }

    /// A line that sums up what was done; not with `--quiet` or `--json`.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn summary(&mut self, text: &str) -> Result<(), Failure> {
        if self.level > Level::Quiet && !self.json {
            self.line(text)?;
        }
        Ok(())
    }

    /// Tells something beside the result; not with `--quiet` or `--json`.
    pub fn remark(&mut self, text: &str) {
        if self.level > Level::Quiet && !self.json {
            // In the order of what happened; a failure shows again when all is handed over.
            let _ = self.out.flush();
            notice(text);
        }
    }

    /// The first of many remarks of one kind, and how many there are more.
    pub fn remarks(&mut self, what: &str, lines: impl ExactSizeIterator<Item = String>) {
        let more = lines.len().saturating_sub(MAX_REMARKS) as u64;
        for line in lines.take(MAX_REMARKS) {
            self.remark(&format!("{what}: {line}"));
        }
        if more > 0 {
            self.remark(&format!("{what}: {} more", text::count(more)));
        }
    }

    /// The bytes of stdout, for `cat` and `archive`.
    pub fn raw(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}
