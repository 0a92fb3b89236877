//! `cache`: the folders of local caches.

use std::path::Path;
use std::time::{Duration, SystemTime};

use hucha_store::clock::Timestamp;

use super::Run;
use crate::args::CacheCommand;
use crate::caches::{self, Cache};
use crate::errors::{Code, Failure, Outcome};
use crate::outside::timestamp;
use crate::render::table::{Heading, Table};
use crate::render::{json, text};
use crate::sizes::parse_seconds;
use crate::times;

/// Carries out one of the commands of `cache`.
pub fn cache(run: &mut Run, command: &CacheCommand) -> Outcome {
    match command {
        CacheCommand::List => list(run),
        CacheCommand::Clear { all: true, .. } => clear(run, None),
        CacheCommand::Clear { unused_for, .. } => {
            let seconds = parse_seconds(unused_for).map_err(Failure::usage)?;
            clear(run, Some(Duration::from_secs(seconds)))
        }
    }
}

fn all(run: &Run) -> Result<Vec<Cache>, Failure> {
    let Some(folder) = &run.settings.cache else {
        let failure = Failure::usage("there is no folder of caches");
        return Err(failure.hint("leave out --no-cache, or use --cache-dir FOLDER"));
    };
    caches::list(folder).map_err(|e| unusable(folder, &e))
}

fn unusable(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format_args!("{}: {error}", folder.display()))
}

fn last_used(cache: &Cache) -> Option<Timestamp> {
    cache.last_used.map(timestamp)
}

fn object(cache: &Cache) -> json::Cache {
    json::Cache {
        repository: cache.repository.clone(),
        location: cache.location.clone(),
        bytes: cache.bytes,
        last_used: last_used(cache).map(|time| times::rfc3339(time, 0)),
        in_use: cache.in_use,
    }
}

fn list(run: &mut Run) -> Outcome {
    let mut table = Table::new(&[
        Heading::Left("Repository"),
        Heading::Right("Size"),
        Heading::Left("Last use"),
        Heading::Left(""),
        Heading::Left("Place"),
    ]);
    for cache in all(run)? {
        if run.out.json {
            run.out.object("cache", &object(&cache))?;
            continue;
        }
        let place = cache.location.as_deref().unwrap_or_default();
        table.row(vec![
            cache.repository.chars().take(8).collect(),
            text::size(cache.bytes),
            last_used(&cache).map_or_else(String::new, |time| times::local(time, &run.zone)),
            (if cache.in_use { "in use" } else { "" }).to_owned(),
            text::name(place.as_bytes()),
        ]);
    }
    if !run.out.json && table.is_empty() {
        run.out.remark("no caches");
    } else if !run.out.json {
        table
            .lines()
            .iter()
            .try_for_each(|line| run.out.line(line))?;
    }
    Ok(Code::Done)
}

/// Removes what was not used for so long; `None`: whatever is not in use.
fn clear(run: &mut Run, unused_for: Option<Duration>) -> Outcome {
    let now = SystemTime::now();
    let is_old = |cache: &Cache| match (unused_for, cache.last_used) {
        (Some(limit), Some(used)) => now.duration_since(used).is_ok_and(|since| since >= limit),
        _ => true,
    };
    let mut old = all(run)?;
    old.retain(|cache| is_old(cache) && !cache.in_use);
    let (mut bytes, mut count, mut failed) = (0, 0, None);
    for cache in &old {
        let gone = match run.settings.dry_run {
            true => Ok(true),
            false => cache.remove(),
        };
        match gone {
            Ok(true) => {
                bytes += cache.bytes;
                count += 1;
                if run.out.json {
                    run.out.object("cleared-cache", &object(cache))?;
                }
            }
            Ok(false) => {}
            Err(error) => failed = Some(unusable(&cache.folder, &error)),
        }
    }
    let what = match run.settings.dry_run {
        true => "would remove",
        false => "removed",
    };
    let count = text::counted(count, "cache", "caches");
    run.out
        .summary(&format!("{what} {count}, {}", text::size(bytes)))?;
    failed.map_or(Ok(Code::Done), Err)
}
