//! What hucha leaves in its folder for temporary files, and who may read it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{World, data};

/// The folder of temporary files.
pub fn folder(world: &World) -> PathBuf {
    world.path("cache/hucha/tmp")
}

/// All that is in it.
pub fn left(world: &World) -> Vec<PathBuf> {
    let folder = folder(world);
    if !folder.exists() {
        return Vec::new();
    }
    let all = data::walk(&folder).into_iter();
    all.filter(|path| *path != folder).collect()
}

/// Fails when anything is in it, or in the place for temporary files of everybody.
#[track_caller]
pub fn assert_nothing_left(world: &World) {
    let left = left(world);
    assert!(left.is_empty(), "temporary files are left: {left:?}");
    let others = data::files(&world.path("tmp"));
    assert!(others.is_empty(), "files are left: {others:?}");
}

/// Fails when anybody but its owner may use a file or folder. What goes meanwhile is no matter.
#[track_caller]
pub fn assert_private(paths: &[PathBuf]) {
    for path in paths {
        if let Some((mode, is_folder)) = mode(path) {
            assert_eq!(mode, if is_folder { 0o700 } else { 0o600 }, "{path:?}");
        }
    }
}

fn mode(path: &Path) -> Option<(u32, bool)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.permissions().mode() & 0o7777, meta.is_dir()))
}
