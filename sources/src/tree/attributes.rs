//! Extended attributes of open files and of names in an open folder: reading, setting, removing.
//! A file system without them counts as one where there are none. ACLs are attributes like others.

use std::ffi::CStr;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use hucha_store::entry::Xattr;
use hucha_store::member::is_ours;
use rustix::fs;
use rustix::io::Errno;

/// Linux allows 64 KiB for a list and for a value; larger buffers are for others.
const FIRST_BUFFER: usize = 64 << 10;
const LARGEST_BUFFER: usize = 64 << 20;

/// What the attributes belong to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// An open file or folder.
    Open(BorrowedFd<'a>),
    /// A path that is followed.
    Followed(&'a [u8]),
    /// A name in an open folder, itself not followed.
    Named {
        folder: BorrowedFd<'a>,
        name: &'a CStr,
        /// Its path, where an open folder has none below `/proc`.
        path: &'a [u8],
    },
}

/// A subject in the form that the calls need.
enum Handle<'a> {
    Open(BorrowedFd<'a>),
    Followed(&'a [u8]),
    Plain(Vec<u8>),
}

impl<'a> Subject<'a> {
    fn handle(self) -> Handle<'a> {
        match self {
            Subject::Open(fd) => Handle::Open(fd),
            Subject::Followed(path) => Handle::Followed(path),
            #[cfg(target_os = "linux")]
            Subject::Named { folder, name, .. } => {
                let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
                path.extend_from_slice(name.to_bytes());
                Handle::Plain(path)
            }
            #[cfg(not(target_os = "linux"))]
            Subject::Named { path, .. } => Handle::Plain(path.to_vec()),
        }
    }
}

impl Handle<'_> {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Handle::Open(fd) => fs::flistxattr(fd, buffer),
            Handle::Followed(path) => fs::listxattr(*path, buffer),
            Handle::Plain(path) => fs::llistxattr(path.as_slice(), buffer),
        }
    }

    fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Handle::Open(fd) => fs::fgetxattr(fd, name, buffer),
            Handle::Followed(path) => fs::getxattr(*path, name, buffer),
            Handle::Plain(path) => fs::lgetxattr(path.as_slice(), name, buffer),
        }
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = fs::XattrFlags::empty();
        match self {
            Handle::Open(fd) => fs::fsetxattr(fd, name, value, flags),
            Handle::Followed(path) => fs::setxattr(*path, name, value, flags),
            Handle::Plain(path) => fs::lsetxattr(path.as_slice(), name, value, flags),
        }
    }

    fn remove(&self, name: &CStr) -> Result<(), Errno> {
        match self {
            Handle::Open(fd) => fs::fremovexattr(fd, name),
            Handle::Followed(path) => fs::removexattr(*path, name),
            Handle::Plain(path) => fs::lremovexattr(path.as_slice(), name),
        }
    }
}

/// Reads attributes, with buffers that are used again.
#[derive(Debug)]
pub(super) struct Reader {
    /// There is no `/proc`, as in a bare chroot: names are read by their paths. A link swapped in
    /// could then give a file the attributes of another one; writing never goes that way.
    by_path: bool,
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader {
            by_path: !std::path::Path::new("/proc/self/fd").exists(),
            list: vec![0; FIRST_BUFFER],
            value: vec![0; FIRST_BUFFER],
        }
    }

    /// All attributes in the order of their names, and a message for each that cannot be read.
    pub(super) fn read(&mut self, subject: Subject<'_>) -> (Vec<Xattr>, Vec<String>) {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let handle = match subject {
            Subject::Named { path, .. } if self.by_path => Handle::Plain(path.to_vec()),
            subject => subject.handle(),
        };
        let listed = match grown(&mut self.list, |buffer| handle.list(buffer)) {
            Ok(len) => self.list.get(..len).unwrap_or_default(),
            Err(error) => {
                if error != Errno::OPNOTSUPP {
                    problems.push(format!("extended attributes cannot be listed: {error}"));
                }
                return (found, problems);
            }
        };
        for name in names(listed) {
            match grown(&mut self.value, |buffer| handle.get(name, buffer)) {
                Ok(len) => found.push(Xattr {
                    name: name.to_bytes().to_vec(),
                    value: self.value.get(..len).unwrap_or_default().to_vec(),
                }),
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(error) => {
                    let name = name.to_string_lossy();
                    problems.push(format!("extended attribute {name} cannot be read: {error}"));
                }
            }
        }
        found.sort_unstable();
        (found, problems)
    }
}

fn names(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|c| *c == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}

fn grown(
    buffer: &mut Vec<u8>,
    mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    loop {
        match call(buffer) {
            Err(Errno::RANGE) if buffer.len() < LARGEST_BUFFER => {
                buffer.resize(buffer.len().max(1) * 2, 0);
            }
            other => return other,
        }
    }
}

/// Whether a subject's attributes are those of an entry, labels of the system apart.
pub(super) fn are(subject: Subject<'_>, wanted: &[Xattr]) -> bool {
    let (mut there, problems) = Reader::new().read(subject);
    there.retain(|xattr| !is_label(&xattr.name) || wanted.contains(xattr));
    problems.is_empty()
        && there
            .iter()
            .eq(wanted.iter().filter(|xattr| !is_ours(xattr)))
}

/// Whether the system gives the attribute by itself.
fn is_label(name: &[u8]) -> bool {
    name.starts_with(b"security.") && name != b"security.capability"
}

/// Makes a subject's attributes those of an entry: sets what differs, removes what is too much.
/// Returns a message for each that was refused. Labels that the system gives by itself
/// (`security.*` but capabilities) are never removed.
pub(super) fn replace(subject: Subject<'_>, wanted: &[Xattr]) -> Vec<String> {
    let handle = subject.handle();
    let mut list = vec![0; 1024];
    let listed = grown(&mut list, |buffer| handle.list(buffer)).unwrap_or(0);
    let mut refused = Vec::new();
    let mut value = Vec::new();
    let mut there: Vec<&CStr> = names(list.get(..listed).unwrap_or_default()).collect();
    there.retain(|name| {
        let bytes = name.to_bytes();
        if is_label(bytes) || wanted.iter().any(|xattr| xattr.name == bytes) {
            return true;
        }
        match handle.remove(name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => refused.push(format!(
                "extended attribute {} cannot be removed: {error}",
                name.to_string_lossy()
            )),
        }
        false
    });
    for xattr in wanted.iter().filter(|xattr| !is_ours(xattr)) {
        if let Some(name) = there.iter().find(|name| name.to_bytes() == xattr.name) {
            value.resize(xattr.value.len().max(1), 0);
            let len = handle.get(name, &mut value);
            if len.is_ok_and(|len| value.get(..len) == Some(&xattr.value[..])) {
                continue;
            }
        }
        if let Err(error) = handle.set(&xattr.name, &xattr.value) {
            let name = String::from_utf8_lossy(&xattr.name);
            refused.push(format!("extended attribute {name} cannot be set: {error}"));
        }
    }
    refused
}
