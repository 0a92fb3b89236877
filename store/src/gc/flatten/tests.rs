//! Which idle bases go and which stay, and what the chunks look like that were based on them.

use crate::backend::{Area, Backend, Memory};
use crate::browse::cat;
use crate::check::{CheckOptions, Level, check};
use crate::crypto::Encryption;
use crate::forget::forget;
use crate::format::objects::{Manifest, SessionKind};
use crate::gc::{GcOptions, GcReport, MaxUnused, gc};
use crate::id::ChunkId;
use crate::monitor::Silent;
use crate::notes::Notes;
use crate::record::World;
use crate::repository::Repository;
use crate::session::Session;
use crate::stats::stats;
use crate::testing::{MapSource, new_repository, noise, take};
use crate::view::View;
use crate::writer::Writer;

const LEN: usize = 20_000;

/// Stores a chunk against a base, and beside it one that no snapshot refers to.
fn store(repository: &Repository, plain: &[u8], bases: &[ChunkId]) -> ChunkId {
    let session = Session::open(repository, SessionKind::Writer).unwrap();
    let writer = Writer::new(&session, session.view().unwrap());
    let mut lane = writer.lane(World::Content);
    let id = lane.store(plain, bases).unwrap().id;
    lane.store(&noise(700, &id.to_string()), &[]).unwrap();
    lane.flush().unwrap();
    writer.finish().unwrap();
    session.give_up();
    id
}

/// One night after the other, each a delta of the one before of about `step` bytes.
fn nights(repository: &Repository, nights: usize, step: usize) -> Vec<(Manifest, Vec<u8>)> {
    let mut plain = noise(LEN, "first");
    let mut bases = Vec::new();
    let mut taken = Vec::new();
    for night in 0..nights {
        plain[night * step..][..step].copy_from_slice(&noise(step, &night.to_string()));
        bases = vec![store(repository, &plain, &bases)];
        let mut source = MapSource::default();
        source.files.insert(b"file".to_vec(), plain.clone());
        taken.push((take(repository, &mut source).manifest, plain.clone()));
    }
    taken
}

fn collect(repository: &Repository, dry_run: bool) -> GcReport {
    let options = GcOptions {
        dry_run,
        max_unused: MaxUnused::Bytes(0),
        force: true,
        ..GcOptions::default()
    };
    gc(repository, &options, &Silent::default()).unwrap()
}

/// Forgets all but some, collects, and looks at what is left: all of it is whole, and a second gc
/// has nothing to do.
fn keep(repository: &Repository, taken: &[(Manifest, Vec<u8>)], kept: &[usize]) {
    for (n, (manifest, _)) in taken.iter().enumerate() {
        if !kept.contains(&n) {
            assert!(forget(repository, manifest, &Notes::default()).unwrap());
        }
    }
    collect(repository, false);
    for n in kept {
        let (manifest, plain) = &taken[*n];
        let mut out = Vec::new();
        cat(repository, manifest, b"file", &mut out).unwrap();
        assert!(out == *plain, "night {n}");
    }
    let options = CheckOptions {
        level: Level::Data,
        dry_run: true,
        ..CheckOptions::default()
    };
    let report = check(repository, &options, &Silent::default()).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let again = collect(repository, true);
    assert_eq!(
        (again.planned_packs, again.bytes_unused),
        (0, 0),
        "{again:?}"
    );
}

fn pack_bytes(memory: &Memory) -> u64 {
    let mut bytes = 0;
    memory.list(Area::Packs, &mut |l| bytes += l.size).unwrap();
    bytes
}

/// The depth of a chunk that is usable.
fn depth(repository: &Repository, plain: &[u8]) -> u8 {
    let view = View::for_dry_run(repository).unwrap();
    let id = repository.keys().chunk_id(plain);
    view.usable(&id).unwrap().unwrap().place.depth
}

#[test]
fn what_only_the_last_night_needs_goes_where_that_saves_space() {
    for (kept, depths) in [(vec![5], vec![0]), (vec![4, 5], vec![0, 5])] {
        let (memory, repository) = new_repository(Encryption::None, 0);
        let taken = nights(&repository, 6, 2000);
        assert_eq!(depth(&repository, &taken[5].1), 5);
        keep(&repository, &taken, &kept);
        let now: Vec<u8> = kept
            .iter()
            .map(|n| depth(&repository, &taken[*n].1))
            .collect();
        // What is a delta of what was stored anew stays as it was.
        assert_eq!(now, depths);
        let bytes = pack_bytes(&memory);
        let most = LEN + 2100 * (kept.len() - 1) + 2500;
        assert!(
            bytes < most as u64,
            "{bytes}: the bases of others took more"
        );
        assert_eq!(stats(&repository).unwrap().pack_bytes, bytes);
    }
}

#[test]
fn what_costs_more_than_it_saves_stays() {
    // Five small deltas are less than a quarter of a plain chunk.
    let (_, repository) = new_repository(Encryption::None, 0);
    let taken = nights(&repository, 6, 100);
    keep(&repository, &taken, &[5]);
    assert_eq!(depth(&repository, &taken[5].1), 5);

    // Many chunks need one base.
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut plain = noise(LEN, "first");
    let base = store(&repository, &plain, &[]);
    let mut source = MapSource::default();
    for n in 0..6usize {
        plain[..3000].copy_from_slice(&noise(3000, &n.to_string()));
        store(&repository, &plain, &[base]);
        source.files.insert(vec![b'a' + n as u8], plain.clone());
    }
    source.files.insert(b"file".to_vec(), plain.clone());
    let taken = [(take(&repository, &mut source).manifest, plain)];
    keep(&repository, &taken, &[0]);
    for (path, bytes) in &source.files {
        let mut out = Vec::new();
        cat(&repository, &taken[0].0, path, &mut out).unwrap();
        assert!(out == *bytes);
        assert_eq!(depth(&repository, bytes), 1);
    }
    let bytes = pack_bytes(&memory);
    assert!(bytes < (LEN + 6 * 3100 + 3000) as u64, "{bytes}");
}

#[test]
fn between_what_stays_a_chunk_is_based_on_what_is_below() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let taken = nights(&repository, 9, 30);
    keep(&repository, &taken, &[4, 8]);
    assert_eq!(depth(&repository, &taken[4].1), 4);
    assert_eq!(depth(&repository, &taken[8].1), 5);
}

#[test]
fn chains_that_are_too_deep_are_cut_when_their_packs_are_copied() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let taken = nights(&repository, 9, 100);
    let repository = repository.with_max_depth(3);
    let all: Vec<usize> = (0..taken.len()).collect();
    keep(&repository, &taken, &all);
    for (n, (_, plain)) in taken.iter().enumerate() {
        assert_eq!(depth(&repository, plain), n.min(3) as u8, "night {n}");
    }
}
