//! Deltas: each is decoded once, with all that it is based on, whatever order the target asks for.

use super::*;
use crate::backend;
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

/// Kinds of files, so that frames of several kinds are filled at once.
const KINDS: [&str; 3] = ["c", "h", "txt"];
/// Of 13 KB each: more of them than a reader keeps.
const MANY: usize = 4200;

/// A quarter of many files changes each night: their bases stand together in frames of one pack,
/// and the deltas between in all others.
#[test]
fn frames_of_bases_are_read_about_once() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    for i in 0..MANY {
        let noise = noise(13_000, &i.to_string());
        let path = format!("{:02}/{i}.{}", i / 100, KINDS[i % KINDS.len()]);
        let text = noise.iter().map(|byte| b'a' + byte % 16).collect();
        source.files.insert(path.into_bytes(), text);
    }
    take(&repository, &mut source);
    let mut manifest = None;
    for night in 0..9 {
        for (i, text) in source.files.values_mut().enumerate() {
            let dice = blake3::hash(&[i, night].map(usize::to_le_bytes).concat());
            if dice.as_bytes()[0] < 64 {
                text[100 + night] = b'#';
            }
        }
        manifest = Some(take(&repository, &mut source).manifest);
    }
    let mut packs = 0;
    let mut add = |listed: backend::Listed| packs += listed.size;
    repository
        .backend()
        .list(backend::Area::Packs, &mut add)
        .unwrap();
    for threads in [0, 2] {
        let repository = open(&memory, Encryption::None, threads);
        let target = MapTarget::default();
        let monitor = Silent::default();
        let options = RestoreOptions::default();
        restore(
            &repository,
            &manifest.clone().unwrap(),
            &target,
            &options,
            &monitor,
        )
        .unwrap();
        assert!(*target.files.lock().unwrap() == source.files);
        let fetched = monitor.counters().stored.load(Ordering::Relaxed);
        // By place it would be eleven times all there is.
        assert!(fetched < packs * 4, "{fetched} of {packs}");
    }
}
