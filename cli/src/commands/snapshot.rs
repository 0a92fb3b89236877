//! `snapshot`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use hucha_sources::command::{Command, ErrorOutput};
use hucha_sources::pattern::Case;
use hucha_sources::stream::Stream;
use hucha_sources::tree::{FileTree, Presence, TreeOptions};
use hucha_store::clock::Timestamp;
use hucha_store::entry::Entry;
use hucha_store::monitor::Monitor;
use hucha_store::repository::{InitOptions, Repository};
use hucha_store::snapshot::{ParentChoice, SnapshotOptions, SnapshotReport, snapshot as take};
use hucha_store::source::{Open, Problem, Profile, Sink, Source, SourceError, Stop};

use super::{Run, commas, init, now};
use crate::args::{SnapshotArgs, TreeArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::open::{Made, Place, look, make, open, open_with};
use crate::outside::{this_process, user_name};
use crate::render::json::{Snapshot, Taken};
use crate::render::progress::Progress;
use crate::render::text;
use crate::settings::{Level, Settings, variable};
use crate::{lists, signals, times};

/// Takes a snapshot.
pub fn snapshot(run: &mut Run, args: &SnapshotArgs) -> Outcome {
    let now = now();
    let time = match &args.time {
        Some(typed) => times::parse(typed, now, &run.zone).map_err(Failure::usage)?,
        None => now,
    };
    let mut source = Watched(source(args, time)?);
    let repository = open_or_make(&run.settings, args)?;
    let options = SnapshotOptions {
        time,
        zone_offset: times::offset_at(&run.zone, time),
        host: args.host.clone().unwrap_or_else(|| this_process().host),
        user: run.settings.user.clone().unwrap_or_else(user_name),
        tags: commas(&args.tags),
        label: args.label.clone(),
        program: concat!("hucha ", env!("CARGO_PKG_VERSION")).to_owned(),
        dry_run: run.settings.dry_run,
        parent: match args.force {
            true => ParentChoice::None,
            false => ParentChoice::Newest,
        },
        ..SnapshotOptions::default()
    };
    signals::watch();
    let progress = Progress::start(&run.settings);
    let report = take(&repository, &mut source, &options, &progress);
    let excluded = progress.counters().excluded.load(Ordering::Relaxed);
    drop(progress);
    tell(run, &report?, excluded)
}

/// What is read.
fn source(args: &SnapshotArgs, time: Timestamp) -> Result<Box<dyn Source>, Failure> {
    if let Some(name) = &args.command_name {
        if !args.paths.is_empty() {
            return Err(Failure::usage("--command-name and paths are two snapshots"));
        }
        let command = Command::new(name, &args.command, time, ErrorOutput::Inherit)?;
        signals::stop_with_us(command.stopper());
        return Ok(Box::new(command));
    }
    // What follows `--` without --command-name are paths that begin with a dash.
    let mut paths: Vec<OsString> = args.paths.iter().chain(&args.command).cloned().collect();
    let is_stream = args.paths.iter().any(|p| p == "-");
    if usize::from(is_stream) + lists::from_stdin(&args.tree) > 1 {
        return Err(Failure::usage("standard input can be read only once"));
    }
    if is_stream {
        if paths.len() > 1 || args.tree.has_lists() {
            return Err(Failure::usage("`-` and paths are two snapshots"));
        }
        let stdin = Box::new(std::io::stdin());
        return Ok(Box::new(Stream::new(&args.stdin_name, stdin, time)?));
    }
    let base = std::env::current_dir()
        .map_err(|e| Failure::failed(format_args!("the working folder cannot be used: {e}")))?;
    paths.extend(lists::paths(&args.tree, &base)?);
    if paths.is_empty() {
        let failure = Failure::usage("nothing to take a snapshot of");
        return Err(failure.hint("give paths, `-` for standard input, or --command-name"));
    }
    Ok(Box::new(FileTree::new(
        &paths,
        base,
        tree_options(&args.tree)?,
    )?))
}

/// What is left out, patterns of files among it.
fn tree_options(args: &TreeArgs) -> Result<TreeOptions, Failure> {
    let all = |typed: &[String], files: &[PathBuf], case| {
        let mut patterns = typed.to_vec();
        for file in files {
            patterns.extend(lists::patterns(file, case, &variable)?);
        }
        Ok::<_, Failure>(patterns)
    };
    let mut if_present: Vec<Presence> = args.exclude_if_present.iter().map(presence).collect();
    if args.exclude_caches {
        if_present.push(Presence::cachedir());
    }
    Ok(TreeOptions {
        exclude: all(&args.exclude, &args.exclude_file, Case::Differs)?,
        exclude_any_case: all(&args.iexclude, &args.iexclude_file, Case::Ignored)?,
        larger_than: args.exclude_larger_than,
        one_file_system: args.one_file_system,
        if_present,
        ignore_files: args.ignore_file.clone(),
    })
}

/// `NAME` or `NAME:HEADER`.
fn presence(typed: &OsString) -> Presence {
    let bytes = typed.as_encoded_bytes();
    let colon = bytes.iter().position(|c| *c == b':');
    let (name, header) = bytes.split_at(colon.unwrap_or(bytes.len()));
    // Where names are text, so is what was typed.
    let name = lists::os_name(name).unwrap_or_default();
    let header = header.get(1..).unwrap_or_default().to_vec();
    Presence { name, header }
}

/// With `--init`, makes the repository when there is none. When another process makes it at the
/// same moment, that one is used.
fn open_or_make(settings: &Settings, args: &SnapshotArgs) -> Result<Repository, Failure> {
    if !args.init || settings.dry_run {
        return open(settings);
    }
    if let Place::Taken(_) = look(settings)? {
        return open(settings);
    }
    let credential = init::new_credential(settings, args.encryption)?;
    let options = InitOptions {
        encryption: init::encryption(args.encryption),
        label: String::new(),
    };
    let (Made::Ours(backend) | Made::Others(backend)) = make(settings, &credential, &options)?;
    open_with(settings, &backend, &credential)
}

fn tell(run: &mut Run, report: &SnapshotReport, excluded: u64) -> Outcome {
    let manifest = &report.manifest;
    let dry_run = run.settings.dry_run;
    if run.out.json {
        run.out.object(
            "taken",
            &Taken {
                snapshot: Snapshot::new(manifest),
                parent: report.parent.map(|id| id.to_string()),
                dry_run,
                excluded,
                problems: report.problems.iter().map(Into::into).collect(),
            },
        )?;
    } else {
        let sizes = format!(
            "{}, {}; {} new, the repository {} by {}; {}",
            text::counted(manifest.files, "file", "files"),
            text::size(manifest.bytes),
            text::size(manifest.new_bytes),
            if dry_run { "would grow" } else { "grew" },
            text::size(manifest.new_stored),
            text::duration(manifest.duration_ms),
        );
        run.out.summary(&sizes)?;
        if excluded > 0 && run.settings.level >= Level::Verbose {
            let excluded = text::count(excluded);
            run.out.summary(&format!("{excluded} left out as asked"))?;
        }
        match dry_run {
            true => run.out.summary("dry run: nothing was stored")?,
            false => run
                .out
                .summary(&format!("snapshot {:.8} saved", manifest.id))?,
        }
    }
    if !manifest.incomplete {
        return Ok(Code::Done);
    }
    let problems = text::counted(manifest.problem_count, "problem", "problems");
    run.out.remark(&format!(
        "the snapshot is incomplete: {problems}, see above"
    ));
    Ok(Code::Incomplete)
}

/// A source that ends soon after a signal, so that the session is given up in order.
struct Watched(Box<dyn Source>);

impl Source for Watched {
    fn paths(&self) -> Vec<Vec<u8>> {
        self.0.paths()
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let pushed = self.0.push(&mut WatchedSink(sink));
        if signals::interrupted() {
            return Err(SourceError::Failed("interrupted".into()));
        }
        pushed
    }

    fn profile(&self) -> Profile {
        self.0.profile()
    }

    fn is_repeatable(&self) -> bool {
        self.0.is_repeatable()
    }
}

struct WatchedSink<'a>(&'a mut dyn Sink);

impl Sink for WatchedSink<'_> {
    fn entry(&mut self, entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
        if signals::interrupted() {
            return Err(Stop);
        }
        self.0.entry(entry, contents)
    }

    fn problem(&mut self, problem: Problem) {
        self.0.problem(problem);
    }

    fn excluded(&mut self, path: &[u8]) {
        self.0.excluded(path);
    }
}
