//! Something under a temporary name in a folder of the target.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use crate::owner::temporary_name;

/// Tries for a free temporary name: with 64 random bits a second one is never needed.
const TRIES: usize = 8;

/// Something under a temporary name; removed when dropped unplaced.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: Arc<OwnedFd>,
    name: CString,
    is_placed: bool,
}

impl Temporary {
    /// Makes something under a free name; `make` must refuse a name that is there.
    pub(super) fn make<T>(
        folder: &Arc<OwnedFd>,
        mut make: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<(Temporary, T), Errno> {
        let mut result = Err(Errno::EXIST);
        for _ in 0..TRIES {
            let name = CString::new(temporary_name()).unwrap_or_default();
            result = make(folder.as_fd(), &name).map(|made| {
                let folder = Arc::clone(folder);
                (
                    Temporary {
                        folder,
                        name,
                        is_placed: false,
                    },
                    made,
                )
            });
            if !matches!(result, Err(Errno::EXIST)) {
                break;
            }
        }
        result
    }

    pub(super) fn name(&self) -> &CStr {
        &self.name
    }

    /// Gives it its name, in place of whatever is there but a folder that is not empty.
    pub(super) fn place(mut self, name: &CStr) -> Result<(), Errno> {
        let folder = &self.folder;
        let rename = || fs::renameat(folder, &self.name, folder, name);
        let mut result = rename();
        if matches!(result, Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY)) {
            fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
            result = rename();
        }
        self.is_placed = result.is_ok();
        result
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed {
            // If it stays, a later restore into this folder removes it.
            let _ = fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}
