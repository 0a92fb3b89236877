//! Snapshots as files of other formats: tar and zip. Bytes depend on the entries alone, so one
//! snapshot always gives the same file. An output that was not finished has no end, and programs
//! that read it say so.

mod acl;
mod tar;
#[cfg(test)]
mod tests;
mod zip;

pub use tar::TarWriter;
pub use zip::ZipFile;
