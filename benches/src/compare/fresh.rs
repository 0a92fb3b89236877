//! Where tools restore to: a file system of its own each time. ext4 looks long for an inode where
//! many were freed just before, for minutes after somebody removed a tree, so that on the scratch
//! folder's own file system the time of a restore says more of what ran before it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::trial::{files, remove, succeed};

/// A folder to restore into.
pub struct Fresh {
    /// It is empty at first.
    pub folder: PathBuf,
    /// The file system's image, and where it is mounted; `None` without the right to mount.
    mounted: Option<(PathBuf, PathBuf)>,
}

impl Fresh {
    /// Makes one with room for some more than `bytes`.
    ///
    /// # Errors
    /// When the scratch folder cannot be written.
    pub fn new(scratch: &Path, bytes: u64) -> io::Result<Fresh> {
        let (image, mount) = (scratch.join("fresh.ext4"), scratch.join("fresh"));
        fs::create_dir_all(&mount)?;
        File::create(&image)?.set_len(2 * bytes + (1 << 30))?;
        let mut format = Command::new("mkfs.ext4");
        let mut attach = Command::new("mount");
        let made = succeed(format.args(["-q", "-F"]).arg(&image))
            .and_then(|()| succeed(attach.args(["-o", "loop"]).arg(&image).arg(&mount)));
        if let Err(error) = made {
            eprintln!("restores share a file system with everything else: {error}");
            fs::remove_file(&image)?;
            return Fresh::beside(scratch);
        }
        let folder = mount.join("restored");
        fs::create_dir(&folder)?;
        let mounted = Some((image, mount));
        Ok(Fresh { folder, mounted })
    }

    /// A folder on the scratch folder's file system.
    fn beside(scratch: &Path) -> io::Result<Fresh> {
        let targets = scratch.join("targets");
        fs::create_dir_all(&targets)?;
        let folder = targets.join(fs::read_dir(&targets)?.count().to_string());
        fs::create_dir(&folder)?;
        Ok(Fresh {
            folder,
            mounted: None,
        })
    }

    /// Gives the room back. What is not on a file system of its own stays as empty files, so that
    /// no inodes are freed.
    ///
    /// # Errors
    /// When something is still in use, or cannot be emptied.
    pub fn give_back(mut self) -> io::Result<()> {
        if self.mounted.is_some() {
            return self.unmount();
        }
        for (path, _) in files(&self.folder)? {
            File::options().write(true).open(path)?.set_len(0)?;
        }
        Ok(())
    }

    fn unmount(&mut self) -> io::Result<()> {
        let Some((image, mount)) = self.mounted.take() else {
            return Ok(());
        };
        succeed(Command::new("umount").arg(&mount))?;
        fs::remove_file(image)?;
        remove(&mount)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // After a failure: there is nobody to tell.
        let _ = self.unmount();
    }
}
