//! Chains of deltas: what a damaged base takes along, that nothing is found differently on several
//! threads, and that the work grows with what is stored, not with the length of chains.

use super::*;
use crate::check::bad::BadRecord;
use crate::testing::{MapSource, chained_nights};

/// Stores one chunk as a delta of others, under a session of its own: only what a segment knows
/// can be a base.
fn store(repository: &Repository, plain: &[u8], bases: &[ChunkId]) -> ChunkId {
    let session = Session::open(repository, SessionKind::Writer).unwrap();
    let writer = Writer::new(&session, session.view().unwrap());
    let mut lane = writer.lane(World::Content);
    let id = lane.store(plain, bases).unwrap().id;
    lane.flush().unwrap();
    writer.finish().unwrap();
    session.give_up();
    let found = repository.index().find(&repository.segments(), &id);
    assert_eq!(found.unwrap().unwrap().places[0].bases.len(), bases.len());
    id
}

/// The same bytes but for one.
fn changed(plain: &[u8], at: usize) -> Vec<u8> {
    let mut plain = plain.to_vec();
    plain[at] ^= 1;
    plain
}

/// Chunks, each but the first based on the one before.
fn chain(repository: &Repository, name: &str, len: usize) -> Vec<(ChunkId, Vec<u8>)> {
    let first = noise(9000, name);
    let mut all = vec![(store(repository, &first, &[]), first)];
    for i in 1..len {
        let (id, plain) = &all[i - 1];
        let next = changed(plain, i * 100);
        all.push((store(repository, &next, &[*id]), next));
    }
    all
}

fn source(files: &[(&str, &Vec<u8>)]) -> MapSource {
    let mut source = MapSource::default();
    for (name, plain) in files {
        source
            .files
            .insert(name.as_bytes().to_vec(), plain.to_vec());
    }
    source
}

#[test]
fn a_damaged_base_takes_along_what_needs_it_and_nothing_else() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    let a = chain(&repository, "a", 4);
    let b = chain(&repository, "b", 2);
    let files = [("deep", &a[3].1), ("near", &a[1].1), ("other", &b[1].1)];
    let first = take(&repository, &mut source(&files)).manifest.id;
    let files = [("base", &a[0].1), ("other", &b[1].1)];
    let second = take(&repository, &mut source(&files)).manifest.id;
    crate::testing::single_chunks(false);
    let key = |at: usize| pack_key(&pack_of(&repository, &a[at].0)).unwrap();
    let cases: [(usize, &[SnapshotId], &[&str]); 3] = [
        (0, &[first, second], &["base", "deep", "near"]),
        (1, &[first], &["deep", "near"]),
        (2, &[first], &["deep"]),
    ];
    for (at, snapshots, files) in cases {
        let key = key(at);
        let whole = memory.get(&key).unwrap();
        flip(&memory, &key, whole.len() / 2);
        for threads in [0, 3] {
            let report = run(&open(&memory, Encryption::None, threads), &data());
            let [damage] = report.damage.as_slice() else {
                panic!("{:?}", report.damage);
            };
            assert_eq!(damage.object, key.path());
            let mut named = damage.snapshots.clone();
            named.sort_by_key(|id| *id != first);
            assert_eq!(named, snapshots);
            let mut named = damage.files.clone();
            named.sort();
            let files: Vec<Vec<u8>> = files.iter().map(|f| f.as_bytes().to_vec()).collect();
            assert_eq!(named, files);
        }
        memory.replace(&key, whole);
    }
    // With the base elsewhere nothing is lost: the pack alone is told.
    crate::testing::single_chunks(true);
    let session = Session::open(&repository, SessionKind::Writer).unwrap();
    let writer = Writer::new(&session, session.view().unwrap());
    let mut lane = writer.lane(World::Content);
    let place = key(0);
    lane.put(a[0].0, &a[0].1, &[]).unwrap();
    lane.flush().unwrap();
    writer.finish().unwrap();
    session.give_up();
    crate::testing::single_chunks(false);
    flip(&memory, &place, 200);
    let report = run(&open(&memory, Encryption::None, 0), &data());
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert!(report.damage[0].snapshots.is_empty());
}

#[test]
fn of_a_broken_chain_only_the_broken_chunk_is_at_fault() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    let chain = chain(&repository, "a", 5);
    crate::testing::single_chunks(false);
    let packs: Vec<PackId> = chain
        .iter()
        .map(|(id, _)| pack_of(&repository, id))
        .collect();
    flip(&memory, &pack_key(&packs[1]).unwrap(), 150);
    let repository = open(&memory, Encryption::None, 2);
    let mut listed: Vec<(PackId, u64)> = list_packs(&repository).unwrap().into_iter().collect();
    listed.sort_unstable();
    repository.update_index().unwrap();
    let monitor = Silent::default();
    let bad = read_packs(&repository, &listed, &monitor, &mut || true)
        .unwrap()
        .bad;
    let faulty = |id: &PackId| bad.packs.get(id).is_some_and(|bad| bad.what().is_some());
    let at_fault: Vec<bool> = packs.iter().map(faulty).collect();
    assert_eq!(at_fault, [false, true, false, false, false]);
    for id in &packs[2..] {
        assert!(bad.lacks_bases(id));
        let records = bad.packs[id].records.values();
        let slots = |r: &BadRecord| matches!(r, BadRecord::Slots(slots) if slots.len() == 1);
        assert_eq!(records.filter(|r| slots(r)).count(), 1);
    }
    let counters = monitor.counters();
    assert_eq!(
        counters.entries.load(Ordering::Relaxed),
        listed.len() as u64
    );
    let bytes: u64 = listed.iter().map(|(_, n)| n).sum();
    assert_eq!(counters.bytes.load(Ordering::Relaxed), bytes);
}

#[test]
fn chains_are_decoded_once_however_long_they_are() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    chained_nights(&repository, 8, 60);
    let mut plain = 0;
    let mut scan = |after: Option<ChunkId>| {
        let segments = repository.segments();
        let found = repository
            .index()
            .scan(&segments, after.as_ref(), 100)
            .unwrap();
        plain += found
            .iter()
            .map(|f| u64::from(f.places[0].plain))
            .sum::<u64>();
        found.last().map(|f| f.id)
    };
    let mut after = scan(None);
    while after.is_some() {
        after = scan(after);
    }
    for threads in [0, 2] {
        let repository = open(&memory, Encryption::None, threads);
        let mut listed: Vec<(PackId, u64)> = list_packs(&repository).unwrap().into_iter().collect();
        listed.sort_unstable();
        repository.update_index().unwrap();
        let monitor = Silent::default();
        read_packs(&repository, &listed, &monitor, &mut || true).unwrap();
        let decoded = monitor.counters().decoded.load(Ordering::Relaxed);
        assert!(decoded >= plain, "{decoded} of {plain}");
        // Where chains begin is decoded once more, and what two threads need at once.
        assert!(decoded <= plain * 3 / 2, "{decoded} of {plain}");
    }
}

#[test]
fn threads_find_what_one_finds() {
    let (whole, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    chained_nights(&repository, 4, 6);
    crate::testing::single_chunks(false);
    let mut packs: Vec<PackId> = list_packs(&repository).unwrap().into_keys().collect();
    packs.sort_unstable();
    let found = |memory: &Memory, threads: usize| {
        let report = run(&open(memory, Encryption::None, threads), &data());
        let read = (report.packs_read, report.bytes_read);
        (report.damage, report.more_damage, report.notes, read)
    };
    let mut damaged = 0;
    for seed in 0..25u64 {
        let memory = whole.fork();
        let random = noise(64, &seed.to_string());
        for harm in random.chunks(8).take(1 + seed as usize % 4) {
            let number = u64::from_le_bytes(harm.try_into().unwrap()) as usize;
            let key = pack_key(&packs[number % packs.len()]).unwrap();
            match number >> 32 & 3 {
                0 => drop(memory.remove(&key)),
                _ if memory.get(&key).is_ok() => flip(&memory, &key, number >> 40),
                _ => {}
            }
        }
        let alone = found(&memory, 0);
        assert_eq!(alone, found(&memory, 3), "seed {seed}");
        damaged += alone.0.len();
    }
    assert!(damaged > 25, "{damaged}");
}

#[test]
fn packs_are_read_as_long_as_it_may_go_on_on_any_number_of_threads() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    chained_nights(&repository, 2, 6);
    crate::testing::single_chunks(false);
    for threads in [0, 3] {
        let repository = open(&memory, Encryption::None, threads);
        let mut listed: Vec<(PackId, u64)> = list_packs(&repository).unwrap().into_iter().collect();
        listed.sort_unstable();
        repository.update_index().unwrap();
        for most in [0, 1, 5, listed.len() - 1, listed.len()] {
            let mut asked = 0;
            let mut go_on = || {
                asked += 1;
                asked <= most
            };
            let read = read_packs(&repository, &listed, &Silent::default(), &mut go_on);
            assert_eq!(read.unwrap().read, listed[..most]);
            assert_eq!(asked, listed.len().min(most + 1), "asked before each");
        }
    }
}
