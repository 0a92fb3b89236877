//! One suite for every implementation of [`Index`], and what only the file can get wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::load::{Gathered, PART_ROWS, ROW_BYTES};
use super::*;
use crate::format::segment::{SegmentPack, SegmentRow};

/// Bytes of an id, the same for equal numbers, scattered like hashes.
fn bytes(kind: &str, number: u64) -> [u8; 32] {
    *blake3::hash(format!("{kind} {number}").as_bytes()).as_bytes()
}

fn half(bytes: [u8; 32]) -> [u8; 16] {
    bytes[..16].try_into().unwrap()
}

fn chunk(number: u64) -> ChunkId {
    ChunkId(bytes("chunk", number))
}

pub(super) fn segment_id(number: u64) -> SegmentId {
    SegmentId(bytes("segment", number))
}

/// A row of `chunk(number)` in the segment's pack at position `pack`.
fn row(number: u64, pack: u32, bases: &[u64]) -> SegmentRow {
    let mut all = Bases::NONE;
    for base in bases {
        assert!(all.push(chunk(*base).as_base()));
    }
    let mixed = u32::from_le_bytes(bytes("row", number)[..4].try_into().unwrap());
    SegmentRow {
        id: chunk(number),
        pack,
        offset: mixed,
        stored: mixed % 1000,
        slot: mixed as u8,
        plain: mixed / 3,
        encoding: Encoding::from_number((number % 4) as u8).unwrap(),
        depth: bases.len() as u8,
        bases: all,
    }
}

fn segment(supersedes: &[u64], packs: &[u64], mut rows: Vec<SegmentRow>) -> Segment {
    rows.sort_by_key(|row| (row.id, row.pack));
    let pack = |number: &u64| SegmentPack {
        id: PackId(bytes("pack", *number)),
        session: Uuid(half(bytes("session", *number / 2))),
        tree: number % 2 == 1,
    };
    Segment {
        supersedes: supersedes.iter().map(|n| segment_id(*n)).collect(),
        packs: packs.iter().map(pack).collect(),
        rows,
    }
}

/// A segment of `count` chunks from `first` on, every third a delta, in pack `pack`.
pub(super) fn run_of(first: u64, count: u64, pack: u64) -> Segment {
    let rows = (first..first + count).map(|n| match n % 3 {
        0 => row(n, 0, &[n.saturating_sub(1), n + 7]),
        _ => row(n, 0, &[]),
    });
    segment(&[], &[pack], rows.collect())
}

fn options() -> RedbOptions {
    RedbOptions {
        cache_bytes: 4 << 20,
        key: [7; 32],
        wait: Duration::from_millis(30),
        identity: [9; 16],
    }
}

fn fresh(dir: &Path) -> RedbIndex {
    let opened = RedbIndex::open_or_new(dir, options()).unwrap();
    assert!(opened.fresh, "{:?}", opened.reason);
    opened.index
}

/// All that an index answers, by every way of asking.
fn everything(
    index: &dyn Index,
    chunks: u64,
) -> Result<impl PartialEq + std::fmt::Debug, IndexError> {
    let mut scanned = Vec::new();
    loop {
        let page = index.scan(scanned.last().map(|f: &Found| &f.id), 7)?;
        if page.is_empty() {
            break;
        }
        scanned.extend(page);
    }
    let ids = (0..chunks).map(chunk);
    let found: Result<Vec<_>, _> = ids.clone().map(|id| index.find(&id)).collect();
    let bases: Result<Vec<_>, _> = ids.map(|id| index.find_base(&id.as_base())).collect();
    let mut applied = index.applied()?;
    applied.sort_by_key(|a| a.id);
    Ok((scanned, found?, bases?, applied, index.packs()?))
}

fn assert_same(model: &MemoryIndex, index: &dyn Index, chunks: u64) {
    let (model, index) = (
        everything(model, chunks).unwrap(),
        everything(index, chunks).unwrap(),
    );
    assert_eq!(format!("{model:?}"), format!("{index:?}"));
}

fn check_basics(index: &dyn Index) {
    assert!(index.find(&chunk(0)).unwrap().is_none());
    assert!(index.find_some(&chunk(0)).unwrap().is_none());
    assert!(index.scan(None, 10).unwrap().is_empty());
    let first = segment(
        &[],
        &[5, 6],
        vec![row(1, 0, &[]), row(1, 1, &[2]), row(2, 0, &[])],
    );
    let second = segment(
        &[1],
        &[6, 4],
        vec![row(1, 0, &[]), row(1, 1, &[]), row(3, 1, &[1])],
    );
    let both = [(segment_id(1), &first), (segment_id(2), &second)];
    assert_eq!(index.apply(&both).unwrap(), Apply::Done);
    assert_eq!(index.apply(&both).unwrap(), Apply::Done);

    let found = index.find(&chunk(1)).unwrap().unwrap();
    let packs: Vec<u32> = found.places.iter().map(|place| place.pack.0).collect();
    assert_eq!(packs, [0, 1, 2]);
    assert_eq!(index.find_some(&chunk(1)).unwrap().as_ref(), Some(&found));
    assert!(index.find_some(&chunk(9)).unwrap().is_none());
    assert_eq!(
        found.places[1].bases.iter().next(),
        Some(chunk(2).as_base())
    );
    assert_eq!(
        index.find_base(&chunk(1).as_base()).unwrap(),
        std::slice::from_ref(&found)
    );
    assert!(index.find_base(&chunk(9).as_base()).unwrap().is_empty());
    let mut numbers: Vec<u32> = index
        .scan(None, 10)
        .unwrap()
        .iter()
        .map(|found| found.number.0)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(index.scan(None, 0).unwrap().len(), 0);
    assert_eq!(index.packs().unwrap()[1].id, PackId(bytes("pack", 6)));
    let applied = index.applied().unwrap();
    let second = applied
        .iter()
        .find(|applied| applied.id == segment_id(2))
        .unwrap();
    assert_eq!(second.supersedes, [segment_id(1)]);

    index.clear().unwrap();
    assert!(index.applied().unwrap().is_empty() && index.packs().unwrap().is_empty());
    assert!(index.find(&chunk(1)).unwrap().is_none());
    assert_eq!(index.apply(&both[1..]).unwrap(), Apply::Done);
    assert_eq!(index.find(&chunk(1)).unwrap().unwrap().places.len(), 2);
}

fn check_bad_segments(index: &dyn Index) {
    let mut bad = run_of(0, 5, 1);
    bad.rows[2].pack = 1;
    let mut disorder = run_of(0, 5, 1);
    disorder.rows.swap(1, 3);
    for bad in [&bad, &disorder] {
        let good = run_of(10, 5, 2);
        index
            .apply(&[(segment_id(1), &good), (segment_id(2), bad)])
            .unwrap_err();
        assert!(index.applied().unwrap().is_empty());
        assert!(index.scan(None, 1).unwrap().is_empty());
    }
    index.apply(&[(segment_id(1), &run_of(0, 5, 1))]).unwrap();
}

#[test]
fn basics() {
    let dir = tempfile::tempdir().unwrap();
    check_basics(&MemoryIndex::default());
    check_basics(&fresh(dir.path()));
}

#[test]
fn bad_segments_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    check_bad_segments(&MemoryIndex::default());
    check_bad_segments(&fresh(dir.path()));
}

#[test]
fn clones_in_memory_part() {
    let one = MemoryIndex::default();
    one.apply(&[(segment_id(1), &run_of(0, 3, 1))]).unwrap();
    let two = one.clone();
    two.apply(&[(segment_id(2), &run_of(3, 3, 2))]).unwrap();
    assert_eq!(one.scan(None, 9).unwrap().len(), 3);
    assert_eq!(two.scan(None, 9).unwrap().len(), 6);
}

const CHUNKS: u64 = 40;

fn any_segment() -> impl Strategy<Value = Segment> {
    let bases = prop::collection::vec(0..CHUNKS + 20, 0..=4);
    let row = (0..CHUNKS, any::<prop::sample::Index>(), bases);
    let packs = prop::collection::btree_set(0..12u64, 1..4);
    let rows = prop::collection::vec(row, 0..25);
    (prop::collection::vec(0..9u64, 0..3), packs, rows).prop_map(|(old, packs, rows)| {
        let packs: Vec<u64> = packs.into_iter().rev().collect();
        let rows = rows
            .iter()
            .map(|(n, at, bases)| row_in(*n, at.index(packs.len()), bases));
        segment(&old, &packs, rows.collect())
    })
}

fn row_in(number: u64, pack: usize, bases: &[u64]) -> SegmentRow {
    row(number, pack as u32, bases)
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<usize>),
    Clear,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(0..9usize, 1..5).prop_map(Step::Apply),
        1 => Just(Step::Clear),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn file_and_model_agree(
        segments in prop::collection::vec(any_segment(), 9),
        steps in prop::collection::vec(any_step(), 1..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let model = MemoryIndex::default();
        let mut file = Some(fresh(dir.path()));
        for step in steps {
            let index = file.as_ref().unwrap();
            match step {
                Step::Apply(which) => {
                    let batch: Vec<_> =
                        which.iter().map(|i| (segment_id(*i as u64), &segments[*i])).collect();
                    prop_assert_eq!(model.apply(&batch).unwrap(), Apply::Done);
                    prop_assert_eq!(index.apply(&batch).unwrap(), Apply::Done);
                }
                Step::Clear => {
                    let before = index.generation().unwrap();
                    model.clear().unwrap();
                    index.clear().unwrap();
                    prop_assert_ne!(index.generation().unwrap(), before);
                }
                Step::Reopen => {
                    let before = index.generation().unwrap();
                    drop(file.take());
                    let opened = RedbIndex::open_or_new(dir.path(), options()).unwrap();
                    prop_assert!(!opened.fresh);
                    prop_assert_eq!(opened.index.generation().unwrap(), before);
                    file = Some(opened.index);
                }
            }
            assert_same(&model, file.as_ref().unwrap(), CHUNKS);
        }
    }
}

#[test]
fn two_handles_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = MemoryIndex::default();
    let one = fresh(dir.path());
    let two = RedbIndex::open_or_new(dir.path(), options()).unwrap();
    assert!(!two.fresh);
    let two = two.index;
    for n in 0..6 {
        let part = run_of(n * 10, 20, n);
        let writer = if n % 2 == 0 { &one } else { &two };
        for index in [&model as &dyn Index, writer] {
            assert_eq!(index.apply(&[(segment_id(n), &part)]).unwrap(), Apply::Done);
        }
        for reader in [&one, &two] {
            reader.refresh().unwrap();
            assert_same(&model, reader, 80);
        }
    }
    let before = two.generation().unwrap();
    one.clear().unwrap();
    assert_ne!(two.generation().unwrap(), before);
    assert!(two.applied().unwrap().is_empty());
}

/// Segments that count as so large that they come in four parts, most of them laid aside.
fn in_parts<'f>(segments: &[(SegmentId, &Segment)], folder: Option<&'f Path>) -> Gathered<'f> {
    let mut gathered = Gathered::new(PART_ROWS * ROW_BYTES * 4, folder);
    for (id, segment) in segments {
        gathered.add(*id, segment).unwrap();
    }
    gathered
}

/// A load that fails after so many parts.
struct Failing<'f>(Gathered<'f>, usize);

impl Load for Failing<'_> {
    fn segments(&self) -> &[Applied] {
        self.0.segments()
    }

    fn packs(&self) -> &[SegmentPack] {
        self.0.packs()
    }

    fn next(&mut self) -> Result<Option<Vec<SegmentRow>>, IndexError> {
        self.1 = self.1.checked_sub(1).ok_or(IndexError("cut off".into()))?;
        self.0.next()
    }
}

#[test]
fn what_comes_in_parts_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (run_of(0, 6000, 1), run_of(3000, 6000, 2));
    let early = run_of(2900, 200, 3);
    let batch = [(segment_id(1), &first), (segment_id(2), &second)];
    let model = MemoryIndex::default();
    let index = fresh(dir.path());
    for index in [&model as &dyn Index, &index] {
        index.apply(&[(segment_id(3), &early)]).unwrap();
    }
    model.load(&mut in_parts(&batch, None)).unwrap();
    // Cut off after a commit: nothing counts as applied, and nothing is there twice later.
    let mut cut = Failing(in_parts(&batch, Some(dir.path())), 2);
    index.load(&mut cut).unwrap_err();
    assert_eq!(index.applied().unwrap().len(), 1);
    let reopened = RedbIndex::open_or_new(dir.path(), options()).unwrap();
    assert!(reopened.reason.is_none(), "the file is well");
    let mut whole = in_parts(&batch, Some(dir.path()));
    assert_eq!(index.load(&mut whole).unwrap(), Apply::Done);
    assert_same(&model, &index, 9000);
    whole.rewind();
    assert_eq!(index.load(&mut whole).unwrap(), Apply::Done);
    assert_same(&model, &index, 9000);
}

#[test]
fn a_filter_never_hides_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let one = fresh(dir.path());
    let two = RedbIndex::open_or_new(dir.path(), options()).unwrap().index;
    let all_found = |index: &RedbIndex, from: u64, to: u64| {
        (from..to).all(|n| index.find(&chunk(n)).unwrap().is_some())
    };
    let none_found =
        |from: u64, to: u64| (from..to).all(|n| one.find(&chunk(n)).unwrap().is_none());
    one.apply(&[(segment_id(1), &run_of(0, 300, 1))]).unwrap();
    assert!(none_found(10_000, 11_000) && !one.is_filtered());
    assert!(none_found(11_000, 11_100) && one.is_filtered());
    assert!(all_found(&one, 0, 300) && none_found(10_000, 12_000));
    // What it adds itself, it knows.
    one.apply(&[(segment_id(2), &run_of(250, 300, 2))]).unwrap();
    assert!(one.is_filtered() && all_found(&one, 0, 550) && none_found(10_000, 12_000));
    // What another adds makes the filter silent, until it is made anew.
    two.apply(&[(segment_id(3), &run_of(500, 300, 3))]).unwrap();
    one.refresh().unwrap();
    assert!(!one.is_filtered() && all_found(&one, 0, 800));
    one.apply(&[(segment_id(4), &run_of(700, 300, 4))]).unwrap();
    assert!(!one.is_filtered() && all_found(&one, 0, 1000));
    assert!(none_found(10_000, 12_000) && one.is_filtered());
    assert!(all_found(&one, 0, 1000));
    one.clear().unwrap();
    assert!(!one.is_filtered() && none_found(0, 1000));
}

/// Not through [`RedbIndex`], as another process would.
fn foreign(path: &Path) -> ::redb::Database {
    let mut builder = ::redb::Database::builder();
    builder.set_concurrency_mode(::redb::ConcurrencyMode::MultiWriter);
    builder.open(path).unwrap()
}

#[test]
fn busy_while_another_writes() {
    let dir = tempfile::tempdir().unwrap();
    let index = fresh(dir.path());
    let part = run_of(0, 30, 1);
    index.apply(&[(segment_id(1), &part)]).unwrap();
    let other = foreign(index.path());
    let txn = other.begin_write().unwrap();

    let start = Instant::now();
    assert_eq!(index.apply(&[(segment_id(2), &part)]).unwrap(), Apply::Busy);
    assert!(start.elapsed() >= options().wait);
    index.clear().unwrap_err();
    assert!(index.find(&chunk(3)).unwrap().is_some());
    assert_eq!(index.applied().unwrap().len(), 1);

    // Whoever opens meanwhile can read, too.
    let late = RedbIndex::open_or_new(dir.path(), options()).unwrap();
    assert!(!late.fresh, "{:?}", late.reason);
    assert!(late.index.find(&chunk(3)).unwrap().is_some());
    assert_eq!(
        late.index.apply(&[(segment_id(2), &part)]).unwrap(),
        Apply::Busy
    );

    txn.abort().unwrap();
    assert_eq!(index.apply(&[(segment_id(2), &part)]).unwrap(), Apply::Done);
    assert_eq!(late.index.applied().unwrap().len(), 2);
}

/// The image of a file at a moment without a transaction is what a killed process leaves.
#[test]
fn what_was_applied_outlives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let model = MemoryIndex::default();
    let index = fresh(dir.path());
    for n in 0..3 {
        let part = run_of(n * 3000, 5000, n);
        for index in [&model as &dyn Index, &index] {
            index.apply(&[(segment_id(n), &part)]).unwrap();
        }
        let image = dir.path().join("image");
        std::fs::copy(index.path(), &image).unwrap();
        let crashed = RedbIndex::open(&image, options()).unwrap();
        assert_same(&model, &crashed, 100);
    }
}

#[test]
fn useless_files_are_followed_by_new_ones() {
    type Spoil = fn(&Path);
    let spoil: [Spoil; 5] = [
        |path| std::fs::write(path, b"").unwrap(),
        |path| std::fs::write(path, vec![0x5a; 70_000]).unwrap(),
        |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..100]).unwrap();
        },
        |path| {
            std::fs::remove_file(path).unwrap();
            let db = ::redb::Database::create(path).unwrap();
            db.begin_write().unwrap().commit().unwrap();
        },
    ];
    for (n, spoil) in spoil.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let index = fresh(dir.path());
        index.apply(&[(segment_id(1), &run_of(0, 500, 1))]).unwrap();
        let path = index.path().to_owned();
        drop(index);
        spoil(&path);
        assert!(RedbIndex::open(&path, options()).is_err(), "{n}");
        let opened = RedbIndex::open_or_new(dir.path(), options()).unwrap();
        assert!(opened.fresh && opened.reason.is_some(), "{n}");
        assert_eq!(opened.index.file_number(), 2);
        assert!(!path.exists(), "the old file is removed");
        check_basics(&opened.index);
    }
}

#[test]
fn foreign_files_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let index = fresh(dir.path());
    let mut other = options();
    other.identity = [1; 16];
    assert!(RedbIndex::open(index.path(), other.clone()).is_err());
    let mut key = options();
    key.key = [1; 32];
    assert!(RedbIndex::open(index.path(), key).is_err());
    assert!(RedbIndex::create(index.path(), options()).is_err());

    let opened = RedbIndex::open_or_new(dir.path(), other.clone()).unwrap();
    assert!(opened.fresh && opened.reason.is_some());
    // Who has the old file open is not disturbed; who finds it at fault joins the newer one.
    index.apply(&[(segment_id(1), &run_of(0, 5, 1))]).unwrap();
    let joined = RedbIndex::open_newer(dir.path(), other.clone(), index.file_number()).unwrap();
    assert!(!joined.fresh);
    let third = RedbIndex::open_newer(dir.path(), other, joined.index.file_number()).unwrap();
    assert!(third.fresh && third.reason.is_some());
    assert_eq!(third.index.file_number(), 3);
}

#[cfg(unix)]
#[test]
fn private_to_the_user() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    let index = fresh(&folder);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(index.path())), (0o700, 0o600));
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        1,
        "nothing else is left behind"
    );
}

/// What became of a file in which bytes were altered.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy, PartialOrd, Ord)]
enum Outcome {
    Right,
    NotOpened,
    Refused,
}

/// Where only some places are asked for, none is wrong and no chunk is told absent.
fn some_places(index: &RedbIndex, model: &MemoryIndex, chunks: u64) {
    for id in (0..chunks).step_by(5).map(chunk) {
        let all = model.find(&id).unwrap();
        match (index.find_some(&id), all) {
            (Ok(Some(some)), Some(all)) => {
                assert_eq!((some.id, some.number), (all.id, all.number));
                assert!(some.places.iter().all(|place| all.places.contains(place)));
            }
            (Ok(some), all) => assert_eq!(some, all),
            (Err(_), _) => break,
        }
    }
}

/// Asks everything of an altered copy; each answer is the model's or an error.
fn outcome(path: &Path, model: &MemoryIndex, chunks: u64) -> Outcome {
    let Ok(index) = RedbIndex::open(path, options()) else {
        return Outcome::NotOpened;
    };
    // Single answers first: an error marks the index, so each kind gets a handle of its own.
    for id in (0..chunks).step_by(5).map(chunk) {
        match index.find(&id) {
            Ok(found) => assert_eq!(found, model.find(&id).unwrap()),
            Err(_) => break,
        }
    }
    if let Ok(index) = RedbIndex::open(path, options()) {
        some_places(&index, model, chunks);
    }
    if let Ok(index) = RedbIndex::open(path, options())
        && let Ok(all) = index.scan(None, usize::MAX)
    {
        assert_eq!(all, model.scan(None, usize::MAX).unwrap());
    }
    if let Ok(index) = RedbIndex::open(path, options())
        && let Ok(packs) = index.packs()
    {
        assert_eq!(packs, model.packs().unwrap());
    }
    let Ok(index) = RedbIndex::open(path, options()) else {
        return Outcome::Refused;
    };
    let more = run_of(chunks - 20, 40, 99);
    match index.apply(&[(segment_id(77), &more)]) {
        Ok(done) => assert_eq!(done, Apply::Done),
        Err(_) => return Outcome::Refused,
    }
    let model = model.clone();
    model.apply(&[(segment_id(77), &more)]).unwrap();
    match everything(&index, chunks + 20) {
        Ok(all) => {
            let right = everything(&model, chunks + 20).unwrap();
            assert_eq!(format!("{all:?}"), format!("{right:?}"));
            Outcome::Right
        }
        Err(_) => Outcome::Refused,
    }
}

#[test]
fn altered_files_never_answer_wrongly() {
    const CHUNKS: u64 = 600;
    const FLIPS: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let model = MemoryIndex::default();
    let index = fresh(dir.path());
    for n in 0..3 {
        let part = run_of(n * 200, 200, n);
        for index in [&model as &dyn Index, &index] {
            index.apply(&[(segment_id(n), &part)]).unwrap();
        }
    }
    let path = index.path().to_owned();
    drop(index);
    let whole = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let altered = dir.path().join("altered");
    let mut outcomes = std::collections::BTreeMap::new();
    for n in 0..FLIPS {
        let random = bytes("flip", n);
        let mut spoiled = whole.clone();
        // Half of them one bit, half of them whole bytes; most where something stands.
        let pick = u64::from_le_bytes(random[..8].try_into().unwrap()) as usize;
        let at = if n % 8 == 0 {
            pick % whole.len()
        } else {
            used[pick % used.len()]
        };
        spoiled[at] ^= if n % 2 == 0 {
            1 << (random[8] % 8)
        } else {
            random[8] | 1
        };
        std::fs::write(&altered, &spoiled).unwrap();
        *outcomes
            .entry(outcome(&altered, &model, CHUNKS))
            .or_insert(0) += 1;
    }
    // Most of a file is pages of older commits. What is in use must have been hit, too.
    assert!(outcomes.contains_key(&Outcome::Right) && outcomes.contains_key(&Outcome::Refused));
}
