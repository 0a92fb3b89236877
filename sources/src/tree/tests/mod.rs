//! Trees on a real file system: a sink that keeps everything, a restore as the core does it.

mod ahead;
mod excludes;
mod names;
mod target;
mod typed;
mod walk;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hucha_store::entry::{Entry, Kind, path_order};
use hucha_store::source::{Open, Piece, Problem, Sink, Source, Stop};
use hucha_store::target::Target;

use super::{FileTree, FolderTarget, TargetOptions, TreeOptions};
use crate::pattern::Matcher;

/// A run of a file as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Run {
    Data(Vec<u8>),
    Hole(u64),
}

type Meddle = Box<dyn FnMut(&[u8], bool)>;

/// Keeps all that is pushed, and checks the order.
#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    runs: BTreeMap<Vec<u8>, Vec<Run>>,
    problems: Vec<(String, String)>,
    excluded: Vec<String>,
    /// First names of groups that are told to have ended.
    ended: Vec<Vec<u8>>,
    /// Does not open files.
    lazy: bool,
    /// Called with each path before its contents are opened, and after the first piece.
    meddle: Option<Meddle>,
}

impl Sink for Kept {
    fn group_ends(&mut self, first: &[u8]) {
        self.ended.push(first.to_vec());
    }

    fn entry(&mut self, entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
        assert_eq!(contents.is_some(), entry.kind == Kind::File);
        if let Some(last) = self.entries.last() {
            assert!(
                path_order(&last.path, &entry.path).is_lt(),
                "{last:?} before {entry:?}"
            );
        }
        let path = entry.path.clone();
        if let Some(meddle) = &mut self.meddle {
            meddle(&path, false);
        }
        if let Some(open) = contents.filter(|_| !self.lazy) {
            match open().and_then(|mut contents| {
                let (mut runs, mut first) = (Vec::new(), true);
                let mut buffer = vec![0; 5000];
                loop {
                    match contents.next(&mut buffer)? {
                        Piece::End => return Ok(runs),
                        Piece::Hole(len) => runs.push(Run::Hole(len)),
                        Piece::Data(n) => match runs.last_mut() {
                            Some(Run::Data(data)) => data.extend(&buffer[..n]),
                            _ => runs.push(Run::Data(buffer[..n].to_vec())),
                        },
                    }
                    if let (Some(meddle), true) = (&mut self.meddle, first) {
                        meddle(&path, true);
                    }
                    first = false;
                }
            }) {
                Ok(runs) => drop(self.runs.insert(path, runs)),
                Err(error) => {
                    let path = String::from_utf8_lossy(&path).into_owned();
                    self.problems.push((path, error.to_string()));
                    return Ok(());
                }
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    fn problem(&mut self, problem: Problem) {
        let path = String::from_utf8_lossy(&problem.path).into_owned();
        self.problems.push((path, problem.message));
    }

    fn excluded(&mut self, path: &[u8]) {
        self.excluded
            .push(String::from_utf8_lossy(path).into_owned());
    }
}

impl Kept {
    fn paths(&self) -> Vec<String> {
        self.entries
            .iter()
            .map(|e| String::from_utf8_lossy(&e.path).into_owned())
            .collect()
    }

    fn entry(&self, path: &str) -> &Entry {
        self.entries
            .iter()
            .find(|entry| entry.path == path.as_bytes())
            .expect(path)
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for run in &self.runs[path.as_bytes()] {
            match run {
                Run::Data(data) => bytes.extend(data),
                Run::Hole(len) => bytes.resize(bytes.len() + usize::try_from(*len).unwrap(), 0),
            }
        }
        bytes
    }
}

fn tree(base: &Path, typed: &[&str], exclude: &[&str]) -> FileTree {
    let options = TreeOptions {
        exclude: Matcher::new(exclude, &[]).unwrap(),
        ..TreeOptions::default()
    };
    tree_with(base, typed, options)
}

fn tree_with(base: &Path, typed: &[&str], options: TreeOptions) -> FileTree {
    let typed: Vec<OsString> = typed.iter().map(OsString::from).collect();
    FileTree::new(&typed, base.to_path_buf(), options).unwrap()
}

/// What a walk with options pushes.
fn walk_with(base: &Path, typed: &[&str], options: TreeOptions) -> Kept {
    let mut kept = Kept::default();
    tree_with(base, typed, options).push(&mut kept).unwrap();
    kept
}

/// What a walk pushes.
fn walk(base: &Path, typed: &[&str], exclude: &[&str]) -> Kept {
    let mut kept = Kept::default();
    tree(base, typed, exclude).push(&mut kept).unwrap();
    kept
}

/// Like [`walk`], without a single problem.
fn walk_clean(base: &Path, typed: &[&str]) -> Kept {
    let kept = walk(base, typed, &[]);
    assert_eq!(kept.problems, vec![]);
    kept
}

/// Writes everything that was kept, as a restore does; returns what was refused.
fn restore(kept: &Kept, root: &Path, options: TargetOptions) -> (FolderTarget, Vec<String>) {
    let target = FolderTarget::new(root, options).unwrap();
    let mut refused = Vec::new();
    for entry in &kept.entries {
        let first = entry.group.as_ref().filter(|group| **group != entry.path);
        if let Some(first) = first {
            target.link(entry, first).unwrap();
        } else if entry.kind == Kind::File {
            let file = target.create(entry).unwrap();
            let mut at = 0;
            for run in &kept.runs[&entry.path] {
                match run {
                    Run::Hole(len) => at += len,
                    Run::Data(data) => {
                        file.write_at(at, data).unwrap();
                        at += data.len() as u64;
                    }
                }
            }
            refused.extend(file.finish(entry).unwrap().refused);
        } else {
            refused.extend(target.make(entry).unwrap().refused);
        }
    }
    for entry in kept
        .entries
        .iter()
        .rev()
        .filter(|entry| entry.kind == Kind::Folder)
    {
        refused.extend(target.finish_folder(entry).unwrap().refused);
    }
    (target, refused)
}

/// Entries without what a restore cannot keep.
fn comparable(kept: &Kept) -> Vec<Entry> {
    let mut entries = kept.entries.clone();
    for entry in &mut entries {
        entry.meta.ctime = Default::default();
        entry.meta.inode = 0;
    }
    entries
}

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(path, name, value, flags).unwrap();
}

/// A name without its leading `/`, as it is stored.
fn stored(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes())
        .trim_start_matches('/')
        .to_owned()
}

/// A private folder by its real name.
fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(folder.path()).unwrap();
    (folder, real)
}

/// Runs something as a user without rights, if we are root; in a thread of its own, for only that
/// thread loses them.
fn as_nobody(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let gid = rustix::fs::Gid::from_raw(65534);
                let uid = rustix::fs::Uid::from_raw(65534);
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            }
            run();
        });
        thread.join().unwrap();
    });
}
