//! `archive`.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use hucha_sources::archive::{TarWriter, ZipFile};
use hucha_store::format::objects::Manifest;
use hucha_store::repository::Repository;
use hucha_store::restore::{StreamError, StreamOptions, StreamReport, stream};
use hucha_store::target::EntryWriter;

use super::choice::Choice;
use super::{Run, find};
use crate::args::{ArchiveArgs, FormatArg};
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::render::progress::Progress;
use crate::render::{json, text};
use crate::settings::Settings;

/// Writes a snapshot, or a part of it, as a tar or zip file.
pub fn archive(run: &mut Run, args: &ArchiveArgs) -> Outcome {
    let name = names::parse(&args.snapshot, &run.zone)?;
    let choice = Choice::new(&args.choice, &name.path)?;
    let dry_run = run.settings.dry_run;
    if args.output.is_none() && !dry_run && io::stdout().is_terminal() {
        let failure = Failure::usage("an archive is nothing to be shown on a terminal");
        return Err(failure.hint("send it on: `hucha archive … | tar -t`, or use --output FILE"));
    }
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    let job = Job {
        repository: &repository,
        manifest: &manifest,
        options: StreamOptions {
            path: name.path.clone(),
            select: &|path, is_folder| choice.select(path, is_folder),
        },
        format: format(args),
    };
    let report = match &args.output {
        _ if dry_run => job.write(&run.settings, &mut io::sink())?,
        None => job.write(&run.settings, run.out.raw())?,
        Some(path) => into_file(path, |file| job.write(&run.settings, file))?,
    };
    tell(run, args, &report, &manifest)
}

fn format(args: &ArchiveArgs) -> FormatArg {
    let is_zip = |path: &PathBuf| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("zip"))
    };
    args.format
        .unwrap_or(match args.output.as_ref().is_some_and(is_zip) {
            true => FormatArg::Zip,
            false => FormatArg::Tar,
        })
}

/// What is written, and how.
struct Job<'a> {
    repository: &'a Repository,
    manifest: &'a Manifest,
    options: StreamOptions<'a>,
    format: FormatArg,
}

impl Job<'_> {
    fn write(&self, settings: &Settings, out: &mut dyn Write) -> Result<StreamReport, Failure> {
        let progress = Progress::start(settings);
        let to: Box<dyn EntryWriter + '_> = match self.format {
            FormatArg::Tar => Box::new(TarWriter::new(out)),
            FormatArg::Zip => Box::new(ZipFile::new(out)),
        };
        let done = stream(self.repository, self.manifest, &self.options, to, &progress);
        done.map_err(failed)
    }
}

fn failed(error: StreamError) -> Failure {
    match error {
        StreamError::Restore(error) => error.into(),
        StreamError::Output(error) => error.into(),
        StreamError::Access { path, source } => {
            let why = Failure::from(source);
            let hint = match why.code {
                Code::Damaged => Some("`hucha restore` gives back all that is whole".to_owned()),
                _ => why.hint,
            };
            let path = text::name(path.as_bytes());
            let message = format!("the archive ends before \"{path}\": {}", why.message);
            Failure {
                hint,
                ..Failure::new(why.code, message)
            }
        }
        error => Failure::failed(error),
    }
}

/// Writes a file under a name of its own first, 0600: under the one that was asked for it is
/// complete.
fn into_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<StreamReport, Failure>,
) -> Result<StreamReport, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let failed =
        |e: io::Error| Failure::failed(format_args!("cannot write \"{}\": {e}", path.display()));
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&new).map_err(failed)?;
    let mut file = BufWriter::with_capacity(1 << 17, file);
    let report = write(&mut file).and_then(|report| {
        let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)?;
        fs::rename(&new, path).map_err(failed)?;
        Ok(report)
    });
    if report.is_err() {
        // What there is of it is worth nothing.
        let _ = fs::remove_file(&new);
    }
    report
}

fn tell(run: &mut Run, args: &ArchiveArgs, report: &StreamReport, manifest: &Manifest) -> Outcome {
    let files = text::counted(report.files, "file", "files");
    let size = text::size(report.bytes);
    if !run.out.json {
        for (what, paths) in [
            ("left out, the format has no such thing", &report.left_out),
            ("renamed, the format has text only", &report.renamed),
        ] {
            run.out.remarks(what, paths.iter().map(|p| text::name(p)));
        }
        if report.sockets > 0 {
            let sockets = text::counted(report.sockets, "socket", "sockets");
            run.out.remark(&format!("{sockets} left out"));
        }
        // stdout may be the archive.
        run.out.remark(&format!("{files}, {size}"));
    } else if args.output.is_some() {
        let object = json::Archived::new(manifest, report, run.settings.dry_run);
        run.out.object("archived", &object)?;
    }
    match report.left_out.is_empty() && report.renamed.is_empty() {
        true => Ok(Code::Done),
        false => Ok(Code::Incomplete),
    }
}
