//! A small disk of its own, to be filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, unmounted when this goes.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one at a folder, which is made. `None` where mounting is refused; says loudly what is
    /// not tested then.
    pub fn mount(path: &Path, size: &str, what: &str) -> Option<Disk> {
        fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        let mounted = mount.arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("!!! SKIPPED, needs to mount a tmpfs: {what}");
            return None;
        }
        Some(Disk { path: path.into() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        drop(umount.arg("-l").arg(&self.path).status());
    }
}
