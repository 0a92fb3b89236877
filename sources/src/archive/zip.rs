//! zip, as a stream: sizes stand behind the contents, large files as zip64 has it. Names are text,
//! owners, attributes, devices and pipes are left out, other names of a file are files of their
//! own; times have seconds.

use std::io::{self, Write};

use hucha_store::entry::{Entry, Kind};
use hucha_store::target::{EntryWriter, FileBytes, Holes, Written};
use zip::write::{FileOptions, FullFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Larger files need the larger fields.
const MAX_SMALL: u64 = 0xffff_0000;
/// Extra field of times by which all programs of today go.
const EXTENDED_TIME: u16 = 0x5455;

/// Writes a zip file.
pub struct ZipFile<'a> {
    /// `None` when it is finished.
    zip: Option<ZipWriter<StreamWriter<&'a mut dyn Write>>>,
}

impl<'a> ZipFile<'a> {
    /// Writes into `out`.
    pub fn new(out: &'a mut dyn Write) -> ZipFile<'a> {
        ZipFile {
            zip: Some(ZipWriter::new_stream(out)),
        }
    }
}

impl Drop for ZipFile<'_> {
    fn drop(&mut self) {
        // Dropped as it is it would write the end of a file that is not complete.
        std::mem::forget(self.zip.take());
    }
}

impl EntryWriter for ZipFile<'_> {
    fn entry(
        &mut self,
        entry: &Entry,
        _: Option<&[u8]>,
        bytes: &dyn FileBytes,
    ) -> io::Result<Written> {
        let Some(zip) = &mut self.zip else {
            return Ok(Written::LeftOut);
        };
        let options = options(entry)?;
        let name = String::from_utf8_lossy(&entry.path);
        let mut is_text = std::str::from_utf8(&entry.path).is_ok();
        match &entry.kind {
            // The folder that is written itself has no name.
            Kind::Folder if entry.path.is_empty() => return Ok(Written::Whole),
            Kind::Folder => zip.add_directory(name.as_ref(), options)?,
            Kind::File => {
                zip.start_file(name.as_ref(), options)?;
                bytes.pour(Holes::Zeros, zip)?;
            }
            Kind::Link(to) => {
                is_text &= std::str::from_utf8(to).is_ok();
                zip.add_symlink(name.as_ref(), String::from_utf8_lossy(to), options)?;
            }
            _ => return Ok(Written::LeftOut),
        }
        Ok(match is_text {
            true => Written::Whole,
            false => Written::Renamed,
        })
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        match self.zip.take() {
            Some(zip) => zip.finish()?.into_inner().flush(),
            None => Ok(()),
        }
    }
}

fn options(entry: &Entry) -> io::Result<FullFileOptions<'static, 'static>> {
    let mut options: FullFileOptions<'static, 'static> = FileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(entry.meta.mode & 0o7777)
        .last_modified_time(DateTime::default())
        .large_file(entry.meta.size > MAX_SMALL);
    if let Ok(seconds) = i32::try_from(entry.meta.mtime.seconds) {
        let [a, b, c, d] = seconds.to_le_bytes();
        // One time follows: the last change.
        options.add_extra_field(EXTENDED_TIME, [1, a, b, c, d], false)?;
    }
    Ok(options)
}
