//! Reading on where records are asked for one after the other: bases of neighbours in a file are
//! neighbours in an older pack, and a chain of eight leads through eight packs at once.
//!
//! What is asked for alone is read alone.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::Trouble;
use crate::error::AccessError;
use crate::id::PackId;

/// Stretches that are remembered, the last ones read.
const MAX_STRETCHES: usize = 32;
/// Least and most bytes that are read when it goes on.
const LEAST: u64 = 32 << 10;
const MOST: u64 = 256 << 10;
/// A record that begins so far behind the end of what was read before goes on with it.
const NEAR: u64 = 64 << 10;

/// What was read of packs lately.
#[derive(Default)]
pub(super) struct Ahead(Mutex<Vec<Stretch>>);

/// A range of a pack.
#[derive(Clone)]
struct Stretch {
    pack: PackId,
    start: u64,
    end: u64,
    /// Its bytes; none of one that is too large to keep.
    bytes: Option<Arc<Vec<u8>>>,
}

/// Bytes that were asked for, within those that were read.
pub(super) struct Piece {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Piece {
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl Ahead {
    /// A range of a pack; `fetch` reads from an offset on so many bytes.
    pub fn get(
        &self,
        pack: PackId,
        offset: u64,
        len: u64,
        fetch: &dyn Fn(u64, u64) -> Result<Vec<u8>, AccessError>,
    ) -> Result<Piece, AccessError> {
        let wish = match self.known(pack, offset, len) {
            Ok(piece) => return Ok(piece),
            Err(wish) => wish,
        };
        let read = match fetch(offset, wish) {
            // It was the pack's end, or something bad behind what is needed.
            Err(e) if wish > len && !is_absent(&e) => fetch(offset, len)?,
            other => other?,
        };
        let bytes = Arc::new(read);
        self.remember(Stretch {
            pack,
            start: offset,
            end: offset + bytes.len() as u64,
            bytes: Some(Arc::clone(&bytes)).filter(|b| b.len() as u64 <= MOST),
        });
        let range = 0..len as usize;
        Ok(Piece { bytes, range })
    }

    /// What is read already; else how many bytes to read.
    fn known(&self, pack: PackId, offset: u64, len: u64) -> Result<Piece, u64> {
        let end = offset + len;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |s: &Stretch| s.pack == pack && s.start <= offset && end <= s.end;
        if let Some(at) = all.iter().position(|s| holds(s) && s.bytes.is_some()) {
            let stretch = all.remove(at);
            let bytes = stretch.bytes.clone().unwrap_or_default();
            let start = (offset - stretch.start) as usize;
            all.push(stretch);
            let range = start..start + len as usize;
            return Ok(Piece { bytes, range });
        }
        let leads = |s: &Stretch| s.pack == pack && s.start < offset && offset <= s.end + NEAR;
        let Some(at) = all.iter().rposition(leads) else {
            return Err(len);
        };
        let last = all.remove(at);
        Err(((last.end - last.start) * 2).clamp(LEAST, MOST).max(len))
    }

    /// Forgets what was read around an offset of a pack.
    pub fn forget(&self, pack: PackId, offset: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|s| s.pack != pack || !(s.start..s.end).contains(&offset));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clear();
    }

    fn remember(&self, stretch: Stretch) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_STRETCHES {
            all.remove(0);
        }
        all.push(stretch);
    }
}

fn is_absent(error: &AccessError) -> bool {
    matches!(error, AccessError::Backend(e) if e.trouble == Trouble::Absent)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A pack of so many bytes, and what was fetched of it.
    struct Pack(u64, RefCell<Vec<(u64, u64)>>);

    impl Pack {
        fn get(&self, ahead: &Ahead, offset: u64, len: u64) -> Vec<u8> {
            let fetch = |offset: u64, len: u64| {
                self.1.borrow_mut().push((offset, len));
                match offset + len <= self.0 {
                    true => Ok((offset..offset + len).map(|i| i as u8).collect()),
                    false => Err(AccessError::damaged("", "it ends before")),
                }
            };
            let pack = PackId([self.0 as u8; 32]);
            let piece = ahead.get(pack, offset, len, &fetch).unwrap();
            let want: Vec<u8> = (offset..offset + len).map(|i| i as u8).collect();
            assert_eq!(piece.bytes(), want, "{offset} {len}");
            want
        }
    }

    #[test]
    fn what_goes_on_is_read_ahead_and_what_does_not_is_read_alone() {
        let ahead = Ahead::default();
        let packs = [1_000_000, 2_000_001].map(|n| Pack(n, RefCell::default()));
        for i in 0..190 {
            for pack in &packs {
                pack.get(&ahead, 40 + i * 5000, 5000);
            }
        }
        for pack in &packs {
            let fetched = pack.1.borrow();
            assert!(fetched.len() < 12, "{fetched:?}");
            assert_eq!(fetched[..2], [(40, 5000), (5040, LEAST)]);
        }
        let apart = Pack(50_000_003, RefCell::default());
        for i in (0..40u64).rev() {
            apart.get(&ahead, i * 1_000_000, 3000);
        }
        let alone = |(_, len): &(u64, u64)| *len == 3000;
        assert!(apart.1.borrow().len() == 40 && apart.1.borrow().iter().all(alone));
    }

    #[test]
    fn the_end_of_a_pack_is_read_and_large_records_are_not_kept() {
        let ahead = Ahead::default();
        let pack = Pack(100_000, RefCell::default());
        for at in (0..100_000).step_by(10_000) {
            pack.get(&ahead, at, 10_000);
        }
        let large = Pack(9_000_007, RefCell::default());
        for at in 0..8 {
            large.get(&ahead, at << 20, 1 << 20);
        }
        let all = ahead.0.lock().unwrap();
        let kept: usize = all.iter().flat_map(|s| &s.bytes).map(|b| b.len()).sum();
        assert!(kept <= 2 * MOST as usize, "{kept}");
    }
}
