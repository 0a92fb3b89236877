//! `snapshot`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use hucha_sources::command::{Command, ErrorOutput};
use hucha_sources::database::several::Several;
use hucha_sources::stream::Stream;
use hucha_sources::tree::{FileTree, Presence, TreeOptions};
use hucha_store::clock::Timestamp;
use hucha_store::entry::Entry;
use hucha_store::member::Member;
use hucha_store::monitor::Monitor;
use hucha_store::repository::{InitOptions, Repository};
use hucha_store::snapshot::{
    Compare, Deltas, Outcome as Became, ParentChoice, SnapshotOptions, SnapshotReport, Unchanged,
    snapshot as take,
};
use hucha_store::source::{
    ContentError, Contents, Open, Piece, Problem, Profile, Sink, Source, SourceError, Stop, Streams,
};

use super::{Run, commas, find, init, now};
use crate::args::{FilterArgs, SnapshotArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::open::{Made, Place, look, make, open, open_with};
use crate::outside::{this_process, user_name};
use crate::render::json::{Snapshot, Taken};
use crate::render::progress::Progress;
use crate::render::{members, text};
use crate::settings::{Level, Settings};
use crate::sizes::parse_every;
use crate::sources::{self, Asked};
use crate::{lists, names, signals, times};

/// Takes a snapshot.
pub fn snapshot(run: &mut Run, args: &SnapshotArgs) -> Outcome {
    let now = now();
    let time = match &args.time {
        Some(typed) => times::parse(typed, now, &run.zone).map_err(Failure::usage)?,
        None => now,
    };
    let checkpoint = parse_every(&args.checkpoint_every).map_err(Failure::usage)?;
    let mut source = Watched(source(run, args, time)?);
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
        parent: parent(run, &repository, args)?,
        compare: compare(args),
        checkpoint,
        unchanged: match args.skip_if_unchanged {
            true => Unchanged::Skip,
            false => Unchanged::Commit,
        },
    };
    signals::watch(signals::TO_STOP);
    let progress = Progress::start(&run.settings);
    let report = take(&repository, &mut source, &options, &progress);
    let excluded = progress.counters().excluded.load(Ordering::Relaxed);
    drop(progress);
    tell(run, &report?, excluded)
}

/// What it is compared with.
fn parent(
    run: &Run,
    repository: &Repository,
    args: &SnapshotArgs,
) -> Result<ParentChoice, Failure> {
    match &args.parent {
        Some(typed) => {
            let name = names::parse_whole(typed, &run.zone)?;
            let found = find(repository, &name, &FilterArgs::default())?;
            Ok(ParentChoice::Given(Box::new(found)))
        }
        None if args.force => Ok(ParentChoice::None),
        None => Ok(ParentChoice::Newest),
    }
}

/// What is read.
fn source(run: &Run, args: &SnapshotArgs, time: Timestamp) -> Result<Box<dyn Source>, Failure> {
    if !args.sources.is_empty() {
        return several(run, args, time);
    }
    if let Some(name) = &args.command_name {
        if !args.paths.is_empty() || args.tree.has_lists() {
            return Err(Failure::usage("--command-name and paths are two snapshots"));
        }
        refuse_to_leave_out(args, "what a command prints")?;
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
        refuse_to_leave_out(args, "standard input")?;
        return Ok(Box::new(Stream::new(&args.stdin_name, stdin(), time)?));
    }
    let base = working_folder()?;
    paths.extend(lists::paths(&args.tree, &base)?);
    if paths.is_empty() {
        let failure = Failure::usage("nothing to take a snapshot of");
        return Err(failure.hint("give paths, `-` for standard input, --source, or --command-name"));
    }
    Ok(Box::new(FileTree::new(&paths, base, tree_options(args)?)?))
}

/// Databases, and files beside them.
fn several(run: &Run, args: &SnapshotArgs, time: Timestamp) -> Result<Box<dyn Source>, Failure> {
    if args.command_name.is_some() || args.paths.iter().any(|path| path == "-") {
        let failure = Failure::usage("a stream or command and --source are two snapshots");
        return Err(failure.hint("a command beside databases: [[source]] with command, in a file"));
    }
    let Asked { wanted, mut paths } = sources::asked(&args.sources)?;
    let base = working_folder()?;
    paths.extend(args.paths.iter().chain(&args.command).cloned());
    paths.extend(lists::paths(&args.tree, &base)?);
    let files = match paths.is_empty() {
        true => None,
        false => {
            let tree = FileTree::new(&paths, base, tree_options(args)?)?;
            let names = tree.stored_names();
            Some((Box::new(tree) as Box<dyn Source>, names))
        }
    };
    let context = sources::context(&run.settings, &run.zone, time, args.sources.stall_timeout);
    Ok(Box::new(Several::new(wanted, files, context, time)?))
}

fn working_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|e| Failure::failed(format_args!("the working folder cannot be used: {e}")))
}

/// A stream is stored whole: an option that leaves out files would be obeyed by nobody.
fn refuse_to_leave_out(args: &SnapshotArgs, source: &str) -> Result<(), Failure> {
    match args.tree.leaves_out() {
        None => Ok(()),
        Some(option) => Err(Failure::usage(format_args!(
            "{option} leaves out files, and {source} is stored whole"
        ))),
    }
}

/// What is left out, patterns of files among it.
fn tree_options(all: &SnapshotArgs) -> Result<TreeOptions, Failure> {
    let args = &all.tree;
    let mut if_present: Vec<Presence> = args.exclude_if_present.iter().map(presence).collect();
    if args.exclude_caches {
        if_present.push(Presence::cachedir());
    }
    Ok(TreeOptions {
        exclude: lists::excluded(&args.exclude)?,
        larger_than: args.exclude_larger_than,
        one_file_system: args.one_file_system,
        if_present,
        ignore_files: args.ignore_file.clone(),
        compare: compare(all),
        ahead: true,
    })
}

/// What tells a change beside size and mtime.
fn compare(args: &SnapshotArgs) -> Compare {
    Compare {
        inode: !args.ignore_inode,
        ctime: !args.ignore_ctime,
    }
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
    for member in &manifest.members {
        for warning in &member.warnings {
            run.out
                .remark(&format!("warning: {}: {warning}", member.name));
        }
    }
    let dry_run = run.settings.dry_run;
    if run.out.json {
        run.out.object(
            "taken",
            &Taken {
                snapshot: Snapshot::new(manifest),
                parent: report.parent.map(|id| id.to_string()),
                resumed: report.resumed.map(|id| id.to_string()),
                read_bytes: report.read_bytes,
                new_chunks: report.stored.new_chunks,
                delta_chunks: report.stored.deltas.chunks,
                delta_bytes: report.stored.deltas.bytes,
                delta_stored_bytes: report.stored.deltas.encoded,
                dry_run,
                excluded,
                skipped: report.outcome == Became::Skipped,
                problems: report.problems.iter().map(Into::into).collect(),
            },
        )?;
    } else {
        summarize(run, report, excluded)?;
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

fn summarize(run: &mut Run, report: &SnapshotReport, excluded: u64) -> Result<(), Failure> {
    let manifest = &report.manifest;
    let deltas = match report.stored.deltas {
        Deltas { chunks: 0, .. } => String::new(),
        Deltas { bytes, encoded, .. } => {
            let (bytes, encoded) = (text::size(bytes), text::size(encoded));
            format!(" ({bytes} of it as {encoded} of deltas)")
        }
    };
    let sizes = format!(
        "{}, {}; {} new{deltas}, the repository {} by {}; {}",
        text::counted(manifest.files, "file", "files"),
        text::size(manifest.bytes),
        text::size(manifest.new_bytes),
        match report.outcome {
            Became::DryRun => "would grow",
            Became::Committed | Became::Skipped => "grew",
        },
        text::size(manifest.new_stored),
        text::duration(manifest.duration_ms),
    );
    run.out.summary(&sizes)?;
    for member in manifest.members.iter().filter(|m| m.failed.is_none()) {
        run.out.summary(&members::line(member))?;
    }
    if excluded > 0 && run.settings.level >= Level::Verbose {
        let excluded = text::count(excluded);
        run.out.summary(&format!("{excluded} left out as asked"))?;
    }
    if let Some(id) = report.resumed {
        let read = text::size(report.read_bytes);
        run.out.summary(&format!(
            "went on from partial snapshot {id:.8} of an interrupted run; {read} read"
        ))?;
    }
    run.out.summary(&match report.outcome {
        Became::DryRun => "dry run: nothing was stored".to_owned(),
        Became::Committed => format!("snapshot {:.8} saved", manifest.id),
        Became::Skipped => {
            let same = report.parent.map(|id| format!("{id:.8}"));
            let same = same.unwrap_or_default();
            format!("everything is as in snapshot {same}: nothing was saved")
        }
    })
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
        let Some(contents) = contents else {
            return self.0.entry(entry, None);
        };
        let mut open = || Ok(Box::new(WatchedContents(contents()?)) as Box<dyn Contents>);
        self.0.entry(entry, Some(&mut open))
    }

    fn has_attributes(&mut self, entry: &Entry) -> Result<bool, Stop> {
        self.0.has_attributes(entry)
    }

    // What reads them is stopped by its own stopper.
    fn streams(&mut self, streams: Streams<'_>) -> Result<Vec<(usize, String)>, Stop> {
        self.0.streams(streams)
    }

    fn keep(&mut self, group: usize, member: Member) -> Result<(), Stop> {
        self.0.keep(group, member)
    }

    fn lost(&mut self, member: Member) {
        self.0.lost(member);
    }

    fn group_ends(&mut self, first: &[u8]) {
        self.0.group_ends(first);
    }

    fn problem(&mut self, problem: Problem) {
        self.0.problem(problem);
    }

    fn excluded(&mut self, path: &[u8]) {
        self.0.excluded(path);
    }
}

/// Contents that end soon after a signal: a file may be large.
struct WatchedContents<'a>(Box<dyn Contents + 'a>);

impl Contents for WatchedContents<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        if signals::interrupted() {
            return Err(ContentError::Fatal("interrupted".into()));
        }
        self.0.next(buffer)
    }

    fn skip(&mut self, bytes: u64) -> Result<bool, ContentError> {
        self.0.skip(bytes)
    }
}

/// Standard input that waits for bytes no longer than until a signal comes.
#[cfg(unix)]
struct PatientInput(std::io::Stdin);

#[cfg(unix)]
impl std::io::Read for PatientInput {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        loop {
            if signals::interrupted() {
                return Err(std::io::Error::other("interrupted"));
            }
            let stdin = PollFd::new(&self.0, PollFlags::IN);
            match poll(&mut [stdin], Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                _ => return Ok(rustix::io::read(&self.0, buffer)?),
            }
        }
    }
}

#[cfg(unix)]
fn stdin() -> Box<dyn std::io::Read> {
    Box::new(PatientInput(std::io::stdin()))
}

#[cfg(not(unix))]
fn stdin() -> Box<dyn std::io::Read> {
    Box::new(std::io::stdin())
}
