//! Hands what a walk finds to the sink, in its order and in the calling thread: makes entries,
//! reads attributes that the sink does not know, opens contents, keeps groups of hard links. The
//! walk may be ahead, so what is about to be read is looked at once more when that is long ago.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hucha_store::clock::Timestamp;
use hucha_store::entry::{Content, Entry, Kind, Meta, Xattr};
use hucha_store::snapshot::Compare;
use hucha_store::source::{Contents, Problem, Sink, Stop};
use rustix::fs::{self, AtFlags, FileType, Stat};

use super::attributes::{Reader, Subject};
use super::contents::{Fate, FileContents, Known};
use super::owners::Owners;

/// What a walk meets.
pub(super) enum Found {
    Thing(Box<Thing>),
    Problem(Problem),
    /// A path that is left out as asked.
    Excluded(Vec<u8>),
}

/// A thing that becomes an entry.
pub(super) struct Thing {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) stat: Stat,
    /// A folder's attributes.
    pub(super) xattrs: Vec<Xattr>,
    /// Where it is; `None` for a folder, of which all is known.
    pub(super) place: Option<Named>,
}

/// A name in an open folder.
pub(super) struct Named {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: CString,
    /// Its path on disk.
    pub(super) real: Vec<u8>,
}

/// Takes what a walk meets, in order.
pub(super) trait Taker {
    /// Takes the next.
    fn take(&mut self, found: Found) -> Result<(), Stop>;
}

/// The hand that gives to a sink.
pub(super) struct Hand<'a> {
    sink: &'a mut dyn Sink,
    owners: &'a Owners,
    compare: Compare,
    xattrs: Reader,
    /// By device and inode: the first path, and how many links are still to come.
    groups: HashMap<(u64, u64), (Vec<u8>, u64)>,
    /// When the walk was where the hand is; `None` when it is there now.
    pub(super) walked: Option<Instant>,
    /// A file that the walk saw so long ago is looked at once more before it is read.
    pub(super) late: Duration,
}

impl<'a> Hand<'a> {
    pub(super) fn new(sink: &'a mut dyn Sink, owners: &'a Owners, compare: Compare) -> Hand<'a> {
        Hand {
            sink,
            owners,
            compare,
            xattrs: Reader::new(),
            groups: HashMap::new(),
            walked: None,
            late: Duration::from_secs(1),
        }
    }

    /// Pushes anything but a folder.
    fn leaf(&mut self, thing: Thing, place: &Named) -> Result<(), Stop> {
        let mut stat = thing.stat;
        let is_file = thing.kind == Kind::File;
        let mut entry = self.describe(thing);
        let (group, ends) = self.group_of(&stat, &entry.path);
        entry.group = group;
        let is_known = is_file && entry.group.is_none() && self.sink.has_attributes(&entry)?;
        if !is_known {
            if let Some(now) = self.look_again(place, &stat).filter(|_| is_file) {
                stat = now;
                entry.meta = self.meta(is_file, &stat);
            }
            entry.xattrs = self.read_xattrs(place);
        }
        if !is_file {
            self.sink.entry(entry, None)?;
            self.end_group(ends);
            return Ok(());
        }
        let fate = Rc::new(Fate::default());
        let known = Known {
            stat,
            compare: self.compare,
        };
        let mut open = || {
            let contents = FileContents::open(place.folder.as_fd(), &place.name, known, &fate)?;
            Ok(Box::new(contents) as Box<dyn Contents>)
        };
        self.sink.entry(entry, Some(&mut open))?;
        self.end_group(ends);
        if fate.changed.get() {
            self.problem(place, "changed while it was read");
        }
        if fate.failed.get() {
            // The next link becomes the first one.
            self.groups.remove(&identity(&stat));
        }
        Ok(())
    }

    /// The file at a place as it is now, when it is still the same and was seen long ago.
    fn look_again(&self, place: &Named, seen: &Stat) -> Option<Stat> {
        self.walked.filter(|at| at.elapsed() >= self.late)?;
        let now = fs::statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_same = identity(&now) == identity(seen) && now.st_nlink == seen.st_nlink;
        let is_file = FileType::from_raw_mode(now.st_mode) == FileType::RegularFile;
        (is_same && is_file).then_some(now)
    }

    fn read_xattrs(&mut self, place: &Named) -> Vec<Xattr> {
        let subject = Subject::Named {
            folder: place.folder.as_fd(),
            name: &place.name,
            path: &place.real,
        };
        let (xattrs, problems) = self.xattrs.read(subject);
        problems.iter().for_each(|text| self.problem(place, text));
        xattrs
    }

    fn problem(&mut self, place: &Named, message: &str) {
        self.sink.problem(Problem {
            path: place.real.clone(),
            message: message.to_owned(),
        });
    }

    fn end_group(&mut self, first: Option<Vec<u8>>) {
        if let Some(first) = first {
            self.sink.group_ends(&first);
        }
    }

    /// The first path of an inode with several links; and again when this is the last of them.
    fn group_of(&mut self, stat: &Stat, path: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let links = wide(stat.st_nlink);
        if links < 2 {
            return (None, None);
        }
        let key = identity(stat);
        let (first, left) = self
            .groups
            .entry(key)
            .or_insert_with(|| (path.to_vec(), links));
        *left -= 1;
        let (first, left) = (first.clone(), *left);
        if left > 0 {
            return (Some(first), None);
        }
        self.groups.remove(&key);
        (Some(first.clone()), Some(first))
    }

    fn describe(&self, thing: Thing) -> Entry {
        let meta = self.meta(thing.kind == Kind::File, &thing.stat);
        Entry {
            path: thing.path,
            kind: thing.kind,
            meta,
            content: Content::None,
            xattrs: thing.xattrs,
            group: None,
        }
    }

    fn meta(&self, is_file: bool, stat: &Stat) -> Meta {
        let mut meta = Meta {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.owners.user(stat.st_uid),
            group: self.owners.group(stat.st_gid),
            mtime: timestamp(stat.st_mtime, stat.st_mtime_nsec),
            ..Meta::default()
        };
        if is_file {
            meta.ctime = timestamp(stat.st_ctime, stat.st_ctime_nsec);
            meta.inode = wide(stat.st_ino);
            meta.size = size(stat);
        }
        meta
    }
}

impl Taker for Hand<'_> {
    fn take(&mut self, found: Found) -> Result<(), Stop> {
        match found {
            Found::Thing(mut thing) => match thing.place.take() {
                Some(place) => self.leaf(*thing, &place),
                None => {
                    let entry = self.describe(*thing);
                    self.sink.entry(entry, None)
                }
            },
            Found::Problem(problem) => {
                self.sink.problem(problem);
                Ok(())
            }
            Found::Excluded(path) => {
                self.sink.excluded(&path);
                Ok(())
            }
        }
    }
}

/// Device and inode.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (wide(stat.st_dev), wide(stat.st_ino))
}

/// A file's length.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn timestamp(seconds: i64, nanos: impl TryInto<u32>) -> Timestamp {
    let nanos = nanos.try_into().unwrap_or(0);
    Timestamp { seconds, nanos }
}

/// Numbers of a `Stat`, which are wider on some machines than on others.
pub(super) fn wide(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(0)
}
