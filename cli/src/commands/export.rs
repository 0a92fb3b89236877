//! `export`: a member as a plain file (or a folder of JSON files) for people and programs that
//! know nothing of hucha.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use hucha_sources::child::Stopper;
use hucha_sources::database::export::{Form, form, write};
use hucha_sources::database::{Stored, StoredMember};
use hucha_store::format::objects::Manifest;

use super::{Run, find};
use crate::args::MemberExportArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::render::text;
use crate::{signals, times};

/// Writes a member into a file or folder.
pub fn export(run: &mut Run, args: &MemberExportArgs) -> Outcome {
    let name = names::parse(&args.snapshot, &run.zone)?;
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    let member = super::database::member_name(&name, &manifest)?;
    let stopper = Stopper::default();
    signals::stop_with_us(stopper.clone());
    signals::watch(signals::TO_STOP);
    let stored = StoredMember::find(&repository, &manifest, &member, "file")?.until(&stopper);
    let form = form(&stored)?;
    let path = path(args, &stored, &form, &manifest);
    if run.settings.dry_run {
        run.out
            .summary(&format!("dry run: would write {}", path.display()))?;
        return Ok(Code::Done);
    }
    if path.try_exists().unwrap_or(true) {
        let failure = Failure::failed(format_args!("{} is there already", path.display()));
        return Err(failure.hint("give another name; nothing is ever replaced"));
    }
    let (bytes, lost) = match &form {
        Form::Folder => {
            if args.gzip {
                return Err(Failure::usage("a folder of files cannot be one gzip file"));
            }
            hucha_sources::database::export::folder(&stored, &path)?
        }
        Form::File { .. } => (file(&stored, &path, args.gzip)?, Vec::new()),
    };
    for what in &lost {
        run.out.remark(&format!("not in plain files: {what}"));
    }
    if run.out.json {
        let object = serde_json::json!({
            "id": manifest.id.to_string(),
            "member": member,
            "path": path.to_string_lossy(),
            "bytes": bytes,
        });
        run.out.object("exported", &object)?;
        return Ok(Code::Done);
    }
    let line = format!(
        "exported \"{member}\" to {}, {}",
        path.display(),
        text::size(bytes)
    );
    run.out.summary(&line)?;
    Ok(Code::Done)
}

/// Where it goes: the name that was given, or a name of its own in a folder that is there.
fn path(args: &MemberExportArgs, stored: &dyn Stored, form: &Form, manifest: &Manifest) -> PathBuf {
    if !args.target.is_dir() {
        return args.target.clone();
    }
    let last = stored.member().name.rsplit('/').next().unwrap_or_default();
    let zone = jiff::tz::Offset::from_seconds(i32::try_from(manifest.zone_offset).unwrap_or(0));
    let zone = zone.map_or(jiff::tz::TimeZone::UTC, jiff::tz::TimeZone::fixed);
    let stamp = times::stamp(manifest.time, &zone);
    let gz = if args.gzip { ".gz" } else { "" };
    let name = match form {
        Form::Folder => format!("{last}_backup_{stamp}"),
        Form::File { extension } => {
            let stem = last.strip_suffix(&format!(".{extension}")).unwrap_or(last);
            format!("{stem}_backup_{stamp}.{extension}{gz}")
        }
    };
    args.target.join(name)
}

/// Writes one file, under another name until it is whole.
fn file(stored: &dyn Stored, path: &Path, gzip: bool) -> Result<u64, Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = Part(path.with_file_name(name));
    let failed =
        |e: io::Error| Failure::failed(format_args!("{} cannot be written: {e}", path.display()));
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&part.0).map_err(failed)?;
    let mut out = BufWriter::new(file);
    if gzip {
        let mut encoder = GzEncoder::new(&mut out, Compression::default());
        write(stored, &mut encoder)?;
        encoder.finish().map_err(failed)?;
    } else {
        write(stored, &mut out)?;
    }
    out.flush().map_err(failed)?;
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    fs::hard_link(&part.0, path)
        .or_else(|_| fs::rename(&part.0, path))
        .map_err(failed)?;
    Ok(bytes)
}

/// Goes when it is not needed any more.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Renamed, or another name of the file: gone or not needed.
        let _ = fs::remove_file(&self.0);
    }
}
