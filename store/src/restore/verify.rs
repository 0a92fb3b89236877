//! Comparing files of the target with the snapshot.

use std::collections::HashSet;
use std::io::Read;

use super::{MAX_TROUBLE, RestoreError, RestoreOptions, RestoreReport, Scope, Select};
use crate::entry::{Content, Entry, Extent, Kind, is_within};
use crate::error::AccessError;
use crate::reader::says_damage;
use crate::source::Problem;
use crate::target::Target;
use crate::tree::Tree;

/// Whether the target has the file with exactly these bytes.
pub(super) fn holds_already(
    tree: &Tree<'_, '_>,
    target: &dyn Target,
    entry: &Entry,
) -> Result<bool, AccessError> {
    let Some(mut existing) = target.existing(entry) else {
        return Ok(false);
    };
    if let Content::Inline(bytes) = &entry.content {
        let same = |part: &[u8]| part == bytes.as_slice();
        let size = bytes.len() as u64 == entry.meta.size;
        return Ok(size && reads(&mut *existing, same, bytes.len()));
    }
    let keys = tree.reader().repository().keys();
    let mut total = 0u64;
    for extent in tree.extents(&entry.content)? {
        let extent = extent?;
        total = total.saturating_add(extent.len());
        let same = match extent {
            Extent::Chunk { id, len } => reads(
                &mut *existing,
                |part| keys.chunk_id(part) == id,
                len as usize,
            ),
            Extent::Hole(len) => reads_zeros(&mut *existing, len),
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(total == entry.meta.size && existing.read(&mut [0]).is_ok_and(|n| n == 0))
}

fn reads(from: &mut dyn Read, is: impl Fn(&[u8]) -> bool, len: usize) -> bool {
    let mut part = vec![0; len];
    from.read_exact(&mut part).is_ok() && is(&part)
}

fn reads_zeros(from: &mut dyn Read, mut len: u64) -> bool {
    let mut part = vec![0; 64 << 10];
    while len > 0 {
        let n = len.min(part.len() as u64) as usize;
        let Some(part) = part.get_mut(..n) else {
            return false;
        };
        if from.read_exact(part).is_err() || part.iter().any(|b| *b != 0) {
            return false;
        }
        len -= n as u64;
    }
    true
}

/// Reads every restored file again. Pages that cannot be read were reported by the restore.
pub(super) fn verify(
    tree: &Tree<'_, '_>,
    target: &dyn Target,
    options: &RestoreOptions<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let scope = Scope::of(tree, &options.path)?;
    let told = report.damaged.iter().chain(&report.problems);
    let told: HashSet<Vec<u8>> = told.map(|p| p.path.clone()).collect();
    let mut walk = tree.walk(&scope.from)?;
    let mut trouble = 0;
    while trouble < MAX_TROUBLE {
        let mut entry = match walk.next_item() {
            Ok(Some((entry, _))) => entry,
            Ok(None) => break,
            Err(e) => {
                trouble += u32::from(!says_damage(&e));
                continue;
            }
        };
        if !is_within(&entry.path, &scope.from) {
            break;
        }
        let folder = entry.kind == Kind::Folder;
        let select = (options.select)(&entry.path, folder);
        while select == Select::Skip
            && folder
            && trouble < MAX_TROUBLE
            && let Err(e) = walk.skip_below(&entry.path)
        {
            trouble += u32::from(!says_damage(&e));
        }
        if select != Select::Take || entry.kind != Kind::File {
            continue;
        }
        entry.path = scope.shorten(&entry.path);
        let message = match holds_already(tree, target, &entry) {
            Ok(true) => {
                report.verified += 1;
                continue;
            }
            Ok(false) => "the restored file differs from the snapshot".to_owned(),
            Err(e) => format!("the restored file cannot be compared: {e}"),
        };
        if !told.contains(&entry.path) {
            let path = entry.path;
            report.problems.push(Problem { path, message });
        }
    }
    Ok(())
}
