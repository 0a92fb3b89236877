//! Deltas: each is decoded once, with all that it is based on, whatever order the target asks for.

use super::*;
use crate::reader::Reader;
use crate::target::Holes;
use crate::testing::chained_nights;

/// A night of eight needs all those before it.
const NIGHTS: usize = 8;
const FILES: usize = 50;

#[test]
fn the_last_night_decodes_every_chunk_of_its_chains_once() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let taken = chained_nights(&repository, NIGHTS, FILES);
    for (night, (manifest, source)) in taken.iter().enumerate() {
        let plain: u64 = source.files.values().map(|f| f.len() as u64).sum();
        let chains = plain * (night as u64 + 1);
        for threads in [0, 3] {
            let repository = open(&memory, Encryption::None, threads);
            let target = MapTarget::default();
            let monitor = Silent::default();
            let options = RestoreOptions::default();
            let report = restore(&repository, manifest, &target, &options, &monitor).unwrap();
            assert!(
                *target.files.lock().unwrap() == source.files,
                "night {night}"
            );
            assert_eq!(report.fetched, plain);
            let decoded = monitor.counters().decoded.load(Ordering::Relaxed);
            assert_eq!(report.decoded, decoded);
            // What two threads need at once both decode; and there are pages.
            let most = chains + chains / 4 + 100_000;
            assert!((chains..=most).contains(&decoded), "{decoded} of {chains}");
        }
        let monitor = Silent::default();
        let reader = Reader::new(&repository).counting(monitor.counters());
        let tree = Tree::new(&reader, manifest.root);
        for (path, bytes) in &source.files {
            let entry = tree.find(path).unwrap().unwrap();
            let mut poured = Vec::new();
            let mut put = |part: &[u8]| {
                poured.extend_from_slice(part);
                Ok(())
            };
            pour(&tree, &entry, Holes::Zeros, &mut put).unwrap();
            assert!(poured == *bytes);
        }
        let decoded = monitor.counters().decoded.load(Ordering::Relaxed);
        let most = chains + chains / 4 + 100_000;
        assert!((chains..=most).contains(&decoded), "{decoded} of {chains}");
    }
}
