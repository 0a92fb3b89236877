//! The names in one folder, sorted, in one piece of memory: a million of them cost their bytes
//! and five more each. Names only, no metadata.

use std::ffi::CStr;
use std::os::fd::AsFd;

#[cfg(not(target_os = "linux"))]
use rustix::fs::Dir;
#[cfg(target_os = "linux")]
use rustix::fs::RawDir;
use rustix::io::Errno;

/// Bytes that the system fills with names in one call.
#[cfg(target_os = "linux")]
const BUFFER: usize = 32 << 10;

/// Sorted names, none twice.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names, each with its NUL.
    arena: Vec<u8>,
    /// Where each begins.
    starts: Vec<u32>,
}

impl Names {
    /// Reads a folder that was opened for this. When reading fails midway, what came before is kept
    /// beside the error.
    pub(super) fn read(folder: impl AsFd) -> (Names, Option<Errno>) {
        let mut names = Names::default();
        let error = names.fill(folder).err();
        names.sort();
        names.arena.shrink_to_fit();
        names.starts.shrink_to_fit();
        (names, error)
    }

    /// By calls of the system on the open folder itself: opening it once more would cost as much.
    #[cfg(target_os = "linux")]
    fn fill(&mut self, folder: impl AsFd) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.push(name)?;
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn fill(&mut self, folder: impl AsFd) -> Result<(), Errno> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.push(name)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &CStr) -> Result<(), Errno> {
        let start = u32::try_from(self.arena.len()).map_err(|_| Errno::OVERFLOW)?;
        self.arena.extend_from_slice(name.to_bytes_with_nul());
        self.starts.push(start);
        Ok(())
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.starts
            .sort_unstable_by(|a, b| at(arena, *a).cmp(at(arena, *b)));
    }

    /// Adds names that are not there yet.
    pub(super) fn add<'a>(&mut self, more: impl Iterator<Item = &'a CStr>) -> Result<(), Errno> {
        let new: Vec<&CStr> = more.filter(|name| !self.contains(name)).collect();
        for name in new {
            self.push(name)?;
        }
        self.sort();
        Ok(())
    }

    pub(super) fn contains(&self, name: &CStr) -> bool {
        self.starts
            .binary_search_by(|start| at(&self.arena, *start).cmp(name))
            .is_ok()
    }

    pub(super) fn get(&self, n: usize) -> Option<&CStr> {
        self.starts.get(n).map(|start| at(&self.arena, *start))
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.arena.capacity() + self.starts.capacity() * size_of::<u32>()
    }
}

fn at(arena: &[u8], start: u32) -> &CStr {
    let rest = usize::try_from(start)
        .ok()
        .and_then(|start| arena.get(start..));
    CStr::from_bytes_until_nul(rest.unwrap_or_default()).unwrap_or_default()
}
