//! The binary `hucha`: parse, plan, call, render. Knows no format and decides nothing about
//! safety; `hucha-store` does.

mod args;
mod caches;
mod calendar;
mod commands;
mod errors;
mod lists;
mod names;
mod open;
mod outside;
mod policy;
mod render;
mod secrets;
mod settings;
mod signals;
mod sizes;
mod sources;
mod times;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::Parser;

use crate::errors::{Code, Failure, Outcome};

fn main() -> ExitCode {
    keep_panics();
    outside::settle_umask();
    let as_json = std::env::args_os()
        .take_while(|a| a != "--")
        .any(|a| a == "--json");
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(render::clap(&error, as_json) as u8),
    };
    signals::listen();
    let outcome = catch_unwind(AssertUnwindSafe(|| commands::run(cli)));
    let outcome = outcome.unwrap_or_else(|_| Err(bug()));
    ExitCode::from(finish(outcome, as_json) as u8)
}

fn finish(outcome: Outcome, as_json: bool) -> Code {
    // What was done in spite of a signal was done: a snapshot that is saved is told as such.
    match outcome {
        Err(failure) if signals::interrupted() => {
            let interrupted = Failure {
                // What is left of a restore, and where.
                hint: failure.hint.filter(|_| signals::undoes()),
                ..Failure::new(Code::Interrupted, "interrupted")
            };
            render::failure(&interrupted, as_json)
        }
        Ok(code) => code,
        Err(failure) => render::failure(&failure, as_json),
    }
}

/// The first panic that nobody caught, for [`bug`].
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Users get a sentence, not a backtrace; panics that the core catches are nobody's business.
fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let mut first = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        let line = info.to_string().replace('\n', " ");
        first.get_or_insert(line);
    }));
}

fn bug() -> Failure {
    let first = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
    let what = first.unwrap_or_default();
    Failure::failed(format_args!("internal error: {what}"))
        .hint("this is a bug in hucha: please report it; what is stored already is not affected")
}
