//! Walks typed paths in path order and hands on all that it meets. It follows no link but typed
//! ones, holds at most some tens of folders open however deep the tree is, and keeps in memory the
//! names of the folders that it stands in. It opens no file and makes no entries: see `hand`.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hucha_store::entry::{Kind, Xattr};
use hucha_store::snapshot::Compare;
use hucha_store::source::{Problem, Sink, Source, SourceError, Stop};
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::{Reader, Subject};
use super::excludes::Excludes;
use super::hand::{Found, Hand, Named, Taker, Thing, identity, size, wide};
use super::names::Names;
use super::owners::Owners;
use super::typed::{Node, Typed};
use super::{Missing, TreeError, TreeOptions, ahead};
use crate::ignore::{IgnoreFile, Verdict};

/// Folders of the present path that stay open. Below them a folder is closed when one of its
/// folders is entered, and opened again through `..` on the way back.
const HELD_OPEN: usize = 32;

/// Files, folders and all else below typed paths.
pub struct FileTree {
    typed: Typed,
    excludes: Excludes,
    compare: Compare,
    owners: Owners,
    is_ahead: bool,
    /// See [`Hand::late`]; tests set it.
    pub(super) late: Option<Duration>,
}

impl FileTree {
    /// Looks at what was typed, relative to the folder `base`. The rules for names: a path is
    /// stored as typed without a leading `/`; `.` and `/` store a folder's contents at the root;
    /// a path with `..` is stored under its absolute name; a typed link is stored as a link, with a
    /// trailing `/` as the folder that it leads to.
    ///
    /// # Errors
    /// When nothing typed is there, two places claim one name, or an option is malformed.
    pub fn new(
        typed: &[OsString],
        base: PathBuf,
        options: TreeOptions,
    ) -> Result<FileTree, TreeError> {
        let excludes = Excludes::new(&options)?;
        let typed = Typed::new(typed, &base)?;
        Ok(FileTree {
            typed,
            excludes,
            compare: options.compare,
            owners: Owners::default(),
            is_ahead: options.ahead,
            late: None,
        })
    }

    /// Under which names typed paths are stored; `""` is the root.
    pub fn stored_names(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        self.typed.root.names(b"", &mut found);
        found
    }

    /// Typed paths that are not there, while others are. [`Source::push`] reports them as problems
    /// too.
    pub fn missing(&self) -> &[Missing] {
        &self.typed.missing
    }
}

impl Source for FileTree {
    fn paths(&self) -> Vec<Vec<u8>> {
        self.typed.paths.clone()
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        for missing in &self.typed.missing {
            let path = missing.path.as_os_str().as_bytes().to_vec();
            sink.problem(Problem {
                path,
                message: missing.error.to_string(),
            });
        }
        let mut hand = Hand::new(sink, &self.owners, self.compare);
        hand.late = self.late.unwrap_or(hand.late);
        let (root, excludes) = (&self.typed.root, &self.excludes);
        let walk = |taker: &mut dyn Taker| Walk::new(taker, excludes).run(root);
        match self.is_ahead {
            true => ahead::run(&mut hand, &walk)?,
            false => walk(&mut hand)?,
        }
        Ok(())
    }
}

/// A folder that the walk stands in.
struct Frame<'a> {
    names: Names,
    next: usize,
    /// Typed things in it.
    node: Option<&'a Node>,
    /// Whether all of the folder is read, not only typed things in it.
    listed: bool,
    /// `None` when it is not `listed`, or closed for a while, or lost.
    folder: Option<Arc<OwnedFd>>,
    /// Device and inode.
    identity: (u64, u64),
    /// The device of the typed path that it belongs to.
    device: u64,
    /// It is where the folder above has it: what holds for that one's contents holds for its own.
    is_below: bool,
    /// Ignore files in it, those that count first in front.
    rules: Vec<IgnoreFile>,
    /// How long the present path is here.
    stored: usize,
    before: Before,
}

/// The present path as it was before a name was visited.
#[derive(Default)]
struct Before {
    /// How long `stored` was.
    stored: usize,
    /// How long `real` was.
    real: usize,
    /// What `real` was, when it went elsewhere.
    elsewhere: Option<Vec<u8>>,
}

/// A name in an open folder, to be visited.
struct Place<'a> {
    folder: Arc<OwnedFd>,
    name: &'a CStr,
    /// Whether a link is followed.
    follow: bool,
    /// It is where the frame's folder has it, so `..` leads back.
    is_below: bool,
}

struct Walk<'a> {
    taker: &'a mut dyn Taker,
    excludes: &'a Excludes,
    /// The present path in the snapshot, and on disk.
    stored: Vec<u8>,
    real: Vec<u8>,
    xattrs: Reader,
    stack: Vec<Frame<'a>>,
}

impl<'a> Walk<'a> {
    fn new(taker: &'a mut dyn Taker, excludes: &'a Excludes) -> Walk<'a> {
        Walk {
            taker,
            excludes,
            stored: Vec::new(),
            real: Vec::new(),
            xattrs: Reader::new(),
            stack: Vec::new(),
        }
    }

    fn run(&mut self, root: &'a Node) -> Result<(), Stop> {
        if root.whole {
            self.real = root.location.as_os_str().as_bytes().to_vec();
            self.typed_whole(root, Before::default())?;
        } else {
            self.enter_typed(root, (0, 0), Before::default());
        }
        while let Some(frame) = self.stack.last_mut() {
            let name = frame.names.get(frame.next).map(CStr::to_owned);
            frame.next += 1;
            match name {
                Some(name) => self.child(&name)?,
                None => self.leave(),
            }
        }
        Ok(())
    }

    /// Visits one name of the folder on top.
    fn child(&mut self, name: &CStr) -> Result<(), Stop> {
        let Some(frame) = self.stack.last() else {
            return Ok(());
        };
        let (node, folder) = (
            frame.node.and_then(|n| n.children.get(name)),
            frame.folder.clone(),
        );
        let mut before = Before {
            stored: self.stored.len(),
            real: self.real.len(),
            elsewhere: None,
        };
        join(&mut self.stored, name);
        join(&mut self.real, name);
        let is_below = node.is_none_or(|n| n.location.as_os_str().as_bytes() == self.real);
        match (node, folder) {
            (node, Some(folder)) if is_below => {
                let follow = node.is_some_and(|n| n.follow || !n.children.is_empty());
                self.visit(
                    Place {
                        folder,
                        name,
                        follow,
                        is_below,
                    },
                    node,
                    before,
                )
            }
            (Some(node), _) => {
                let mut left = node.location.as_os_str().as_bytes().to_vec();
                std::mem::swap(&mut self.real, &mut left);
                left.truncate(before.real);
                before.elsewhere = Some(left);
                match node.whole {
                    true => self.typed_whole(node, before),
                    false => self.typed_parent(node, before),
                }
            }
            (None, _) => {
                self.problem("its folder was moved while it was read");
                self.back(before);
                Ok(())
            }
        }
    }

    /// Visits a typed path through its own location.
    fn typed_whole(&mut self, node: &'a Node, before: Before) -> Result<(), Stop> {
        let location = node.location.as_path();
        let follow = node.follow || !node.children.is_empty();
        let (folder, name) = match (location.parent(), location.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => (location, OsStr::new(".")),
        };
        let name = CString::new(name.as_bytes()).unwrap_or_default();
        match open_place(folder) {
            Ok(folder) => {
                let place = Place {
                    folder,
                    name: &name,
                    follow,
                    is_below: false,
                };
                self.visit(place, Some(node), before)
            }
            Err(error) => {
                self.problem(&format!("cannot be reached: {error}"));
                self.back(before);
                Ok(())
            }
        }
    }

    /// Pushes a folder on the way to typed paths and goes on with these.
    fn typed_parent(&mut self, node: &'a Node, before: Before) -> Result<(), Stop> {
        match fs::statat(CWD, node.location.as_path(), AtFlags::empty()) {
            Ok(stat) => {
                let path = self.real.clone();
                let xattrs = self.read_xattrs(Subject::Followed(&path));
                self.push(stat, xattrs)?;
                self.enter_typed(node, identity(&stat), before);
            }
            Err(error) => {
                self.problem(&format!("cannot be read: {error}"));
                self.back(before);
            }
        }
        Ok(())
    }

    fn enter_typed(&mut self, node: &'a Node, identity: (u64, u64), before: Before) {
        let mut names = Names::default();
        if let Err(error) = names.add(node.children.keys().map(CString::as_c_str)) {
            self.problem(&error.to_string());
        }
        self.stack.push(Frame {
            names,
            next: 0,
            node: Some(node),
            listed: false,
            folder: None,
            identity,
            device: identity.0,
            is_below: false,
            rules: Vec::new(),
            stored: self.stored.len(),
            before,
        });
    }

    fn visit(
        &mut self,
        place: Place<'_>,
        node: Option<&'a Node>,
        before: Before,
    ) -> Result<(), Stop> {
        if self.excludes.by_path(&self.real) {
            self.leave_out(node);
            self.back(before);
            return Ok(());
        }
        let flags = if place.follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let stat = match fs::statat(&place.folder, place.name, flags) {
            Ok(stat) => stat,
            Err(error) => {
                self.problem(&gone(error));
                self.back(before);
                return Ok(());
            }
        };
        let home = match (node.is_some_and(|n| n.whole), self.stack.last()) {
            (false, Some(frame)) => frame.device,
            _ => wide(stat.st_dev),
        };
        if self.is_excluded(&place, &stat, home) {
            self.leave_out(node);
            self.back(before);
            return Ok(());
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.note_followed(&place, node);
                return self.folder(place, node, (stat, home), before);
            }
            FileType::RegularFile => Some(Kind::File),
            FileType::Symlink => self.link_target(&place).map(Kind::Link),
            FileType::Fifo => Some(Kind::Fifo),
            FileType::Socket => Some(Kind::Socket),
            FileType::CharacterDevice => Some(device(&stat, true)),
            FileType::BlockDevice => Some(device(&stat, false)),
            FileType::Unknown => {
                self.problem("is of a kind that nobody knows");
                None
            }
        };
        if let Some(kind) = kind {
            self.leaf(&place, kind, stat)?;
        }
        self.back(before);
        Ok(())
    }

    /// Whether something that no pattern excludes is left out for what it is, or by an ignore file.
    fn is_excluded(&self, place: &Place<'_>, stat: &Stat, device: u64) -> bool {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_folder = kind == FileType::Directory;
        let too_large = kind == FileType::RegularFile && self.excludes.by_size(size(stat));
        // A folder on which something is mounted is kept, without its contents.
        let elsewhere = self.excludes.one_file_system && !is_folder && wide(stat.st_dev) != device;
        let has_rules = place.is_below && self.excludes.has_rules();
        too_large || elsewhere || (has_rules && self.is_ignored(is_folder))
    }

    /// What the ignore files of the folders above say, the nearest first.
    fn is_ignored(&self, is_folder: bool) -> bool {
        for frame in self.stack.iter().rev() {
            let below = self.stored.get(frame.stored..).unwrap_or_default();
            let below = below.strip_prefix(b"/").unwrap_or(below);
            let mut verdicts = frame.rules.iter().map(|r| r.verdict(below, is_folder));
            if let Some(verdict) = verdicts.find_map(|verdict| verdict) {
                return verdict == Verdict::Excluded;
            }
            if !frame.is_below {
                break;
            }
        }
        false
    }

    /// Notes that the present path is left out.
    fn leave_out(&mut self, node: Option<&Node>) {
        if node.is_some() {
            self.problem("was typed, or leads to what was typed, but is excluded");
        }
        self.note(Found::Excluded(self.stored.clone()));
    }

    /// A link on the way to a typed path becomes a folder; if the link itself was to be stored as
    /// well, that is lost and said.
    fn note_followed(&mut self, place: &Place<'_>, node: Option<&Node>) {
        let wanted = node.is_some_and(|n| !n.follow && (n.whole || place.is_below));
        if !place.follow || !wanted {
            return;
        }
        let own = fs::statat(&place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW);
        if own.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
            self.problem("is a link, but stored as a folder: a path through it was typed");
        }
    }

    fn link_target(&mut self, place: &Place<'_>) -> Option<Vec<u8>> {
        match fs::readlinkat(&place.folder, place.name, Vec::new()) {
            Ok(target) => Some(target.into_bytes()),
            Err(error) => {
                self.problem(&gone(error));
                None
            }
        }
    }

    /// Hands on anything but a folder.
    fn leaf(&mut self, place: &Place<'_>, kind: Kind, stat: Stat) -> Result<(), Stop> {
        let place = Named {
            folder: Arc::clone(&place.folder),
            name: place.name.to_owned(),
            real: self.real.clone(),
        };
        self.taker.take(Found::Thing(Box::new(Thing {
            path: self.stored.clone(),
            kind,
            stat,
            xattrs: Vec::new(),
            place: Some(place),
        })))
    }

    /// Pushes a folder and stands in it.
    fn folder(
        &mut self,
        place: Place<'_>,
        node: Option<&'a Node>,
        (stat, device): (Stat, u64),
        before: Before,
    ) -> Result<(), Stop> {
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !place.follow);
        let opened = fs::openat(&place.folder, place.name, flags, Mode::empty());
        let opened = opened.and_then(|folder| fs::fstat(&folder).map(|stat| (folder, stat)));
        let (folder, stat) = match opened {
            Ok((folder, stat)) => (Some(Arc::new(folder)), stat),
            Err(error) => {
                self.problem(&gone(error));
                (None, stat)
            }
        };
        let xattrs = match &folder {
            Some(folder) => self.read_xattrs(Subject::Open(folder.as_fd())),
            None => Vec::new(),
        };
        self.push(stat, xattrs)?;
        let identity = identity(&stat);
        let is_mounted = self.excludes.one_file_system && identity.0 != device;
        let (mut names, rules) = match &folder {
            Some(folder) if !is_mounted => self.list(folder.as_fd(), node),
            _ => Default::default(),
        };
        if let Some(node) = node
            && let Err(error) = names.add(node.children.keys().map(CString::as_c_str))
        {
            self.problem(&error.to_string());
        }
        if place.is_below && !place.follow && self.stack.len() > HELD_OPEN {
            self.stack.last_mut().and_then(|frame| frame.folder.take());
        }
        self.stack.push(Frame {
            names,
            next: 0,
            node,
            listed: folder.is_some(),
            folder,
            identity,
            device,
            is_below: place.is_below,
            rules,
            stored: self.stored.len(),
            before,
        });
        Ok(())
    }

    /// What is to be visited in an open folder, and its ignore files.
    fn list(&mut self, folder: BorrowedFd<'_>, node: Option<&Node>) -> (Names, Vec<IgnoreFile>) {
        let (mut names, error) = Names::read(folder);
        if let Some(error) = error {
            self.problem(&format!("cannot be listed: {error}"));
        }
        let presences = self.excludes.presences(folder, &names);
        let rules = self.excludes.rules(folder, &names);
        let problems = presences.problems.iter().chain(&rules.problems);
        problems.for_each(|message| self.problem(message));
        if !presences.found.is_empty() {
            names = self.keep_only(&names, &presences.found, node);
        }
        if let Some(node) = node {
            self.note_hidden(&names, node);
        }
        (names, rules.found)
    }

    /// Leaves out all names but those given, and what was typed.
    fn keep_only(&mut self, names: &Names, kept: &[CString], node: Option<&Node>) -> Names {
        let mut left = Names::default();
        for name in (0..).map_while(|n| names.get(n)) {
            let is_typed = node.is_some_and(|n| n.children.contains_key(name));
            if is_typed || kept.iter().any(|one| one.as_c_str() == name) {
                continue;
            }
            let before = self.stored.len();
            join(&mut self.stored, name);
            self.note(Found::Excluded(self.stored.clone()));
            self.stored.truncate(before);
        }
        if let Err(error) = left.add(kept.iter().map(CString::as_c_str)) {
            self.problem(&error.to_string());
        }
        left
    }

    /// Reports names in this folder whose place in the snapshot is taken by a typed path from
    /// elsewhere.
    fn note_hidden(&mut self, names: &Names, node: &Node) {
        for (name, child) in node
            .children
            .iter()
            .filter(|(name, _)| names.contains(name))
        {
            let before = self.real.len();
            join(&mut self.real, name);
            if child.location.as_os_str().as_bytes() != self.real {
                self.problem(&format!("is left out: {:?} has its name", child.location));
            }
            self.real.truncate(before);
        }
    }

    /// Leaves the folder on top and opens the one above again where that was closed.
    fn leave(&mut self) {
        let Some(left) = self.stack.pop() else { return };
        self.back(left.before);
        let Some(above) = self.stack.last_mut() else {
            return;
        };
        if !above.listed || above.folder.is_some() {
            return;
        }
        let reopened = left.folder.and_then(|folder| {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | place_flags();
            let above = fs::openat(&folder, c"..", flags, Mode::empty()).ok()?;
            Some((identity(&fs::fstat(&above).ok()?), above))
        });
        match reopened {
            Some((identity, folder)) if identity == above.identity => {
                above.folder = Some(Arc::new(folder));
            }
            _ if above.next < above.names.len() => {
                above.next = above.names.len();
                self.problem("the rest of it is left out: it was moved while it was read");
            }
            _ => {}
        }
    }

    /// Hands on a folder.
    fn push(&mut self, stat: Stat, xattrs: Vec<Xattr>) -> Result<(), Stop> {
        self.taker.take(Found::Thing(Box::new(Thing {
            path: self.stored.clone(),
            kind: Kind::Folder,
            stat,
            xattrs,
            place: None,
        })))
    }

    fn read_xattrs(&mut self, subject: Subject<'_>) -> Vec<Xattr> {
        let (xattrs, problems) = self.xattrs.read(subject);
        problems.iter().for_each(|message| self.problem(message));
        xattrs
    }

    fn problem(&mut self, message: &str) {
        self.note(Found::Problem(Problem {
            path: self.real.clone(),
            message: message.to_owned(),
        }));
    }

    /// Hands on what is no entry. A walk that is to stop learns so by the next one.
    fn note(&mut self, found: Found) {
        let _ = self.taker.take(found);
    }

    fn back(&mut self, before: Before) {
        self.stored.truncate(before.stored);
        match before.elsewhere {
            Some(real) => self.real = real,
            None => self.real.truncate(before.real),
        }
    }
}

fn join(path: &mut Vec<u8>, name: &CStr) {
    if !path.is_empty() && path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
}

fn gone(error: Errno) -> String {
    match error {
        Errno::NOENT => "vanished while its folder was read".to_owned(),
        error => format!("cannot be read: {error}"),
    }
}

fn device(stat: &Stat, is_char: bool) -> Kind {
    let (major, minor) = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
    match is_char {
        true => Kind::CharDevice { major, minor },
        false => Kind::BlockDevice { major, minor },
    }
}

/// Opens a folder only to reach what is in it; needs no right to list it where the system can.
fn open_place(folder: &Path) -> Result<Arc<OwnedFd>, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | place_flags();
    fs::openat(CWD, folder, flags, Mode::empty()).map(Arc::new)
}

fn place_flags() -> OFlags {
    #[cfg(target_os = "linux")]
    return OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    return OFlags::RDONLY;
}
