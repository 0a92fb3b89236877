//! Files that SQLite makes beside a database: they must be open to whom the database belongs, also
//! when another user looks at it. As root SQLite gives them to the owner itself.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

use super::stale::companion;
use crate::database::error::{Cause, DatabaseError};

/// Fails when what was made for us is closed to the database's owner, and cannot be opened to him.
pub(super) fn share(path: &Path) -> Result<(), DatabaseError> {
    let me = rustix::process::geteuid();
    let Ok(database) = fs::metadata(path) else {
        return Ok(());
    };
    if me.is_root() || database.uid() == me.as_raw() {
        return Ok(());
    }
    for end in ["-wal", "-shm"] {
        let file = companion(path, end);
        let ours = |meta: &Metadata| meta.uid() == me.as_raw();
        let Some(made) = file.symlink_metadata().ok().filter(ours) else {
            continue;
        };
        if made.gid() != database.gid() {
            // Where it is not done, that is seen below.
            let _ = std::os::unix::fs::lchown(&file, None, Some(database.gid()));
        }
        if file
            .symlink_metadata()
            .is_ok_and(|made| !is_open(&made, &database))
        {
            return Err(closed(path, &file, &database));
        }
    }
    Ok(())
}

/// Whether the owner of a database can open a file that is ours.
fn is_open(made: &Metadata, database: &Metadata) -> bool {
    let by_group = made.mode() & 0o060 == 0o060 && is_member(database.uid(), made.gid());
    by_group || made.mode() & 0o006 == 0o006
}

fn is_member(user: u32, group: u32) -> bool {
    let user = User::from_uid(Uid::from_raw(user)).ok().flatten();
    let Some(user) = user else {
        return false;
    };
    let in_list = || {
        let group = Group::from_gid(Gid::from_raw(group)).ok().flatten();
        group.is_some_and(|group| group.mem.contains(&user.name))
    };
    user.gid.as_raw() == group || in_list()
}

fn closed(path: &Path, file: &Path, database: &Metadata) -> DatabaseError {
    let user = User::from_uid(Uid::from_raw(database.uid())).ok().flatten();
    let owner = user.map_or_else(|| database.uid().to_string(), |user| user.name);
    let what = format!(
        "{} belongs to user {owner}, who could not open {}, which SQLite makes for us",
        path.display(),
        file.display()
    );
    DatabaseError::new(Cause::Denied, what).hint(format!(
        "run hucha as {owner} or root; or put {owner} into the group of the file, and let it write"
    ))
}
