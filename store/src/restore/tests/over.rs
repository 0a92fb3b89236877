//! Restores over what is there: what is fetched, shared, copied, spared and found to differ.

use super::*;
use crate::backend::{Area, Backend, Counting};
use crate::clock::Timestamp;
use crate::testing::{credential, environment};

/// The same repository through a backend that counts.
fn counted(memory: &Memory) -> (Arc<Counting<Memory>>, Repository) {
    let counting = Arc::new(Counting::new(memory.clone()));
    let backend: Arc<dyn Backend> = counting.clone();
    let credential = credential(Encryption::None);
    let repository = Repository::open(backend, &credential, environment(2)).unwrap();
    repository.update_index().unwrap();
    (counting, repository)
}

/// Ranges and bytes of packs that a restore asked for.
fn fetched(
    counting: &Counting<Memory>,
    act: impl FnOnce() -> RestoreReport,
) -> (u64, u64, RestoreReport) {
    let before = counting.counts().of(Area::Packs);
    let report = act();
    let after = counting.counts().of(Area::Packs);
    let bytes = after.bytes_out - before.bytes_out;
    (after.range_gets - before.range_gets, bytes, report)
}

#[test]
fn only_what_differs_is_fetched() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    for i in 0..40 {
        let bytes = noise(30_000 + i * 1000, &i.to_string());
        source.files.insert(format!("d/{i:02}").into_bytes(), bytes);
    }
    source
        .files
        .insert(b"large".to_vec(), noise(8 << 20, "large"));
    let manifest = take(&repository, &mut source).manifest;
    for shares in [false, true] {
        let (counting, repository) = counted(&memory);
        let mut target = MapTarget::holding(&source.files);
        target.shares = shares;
        let options = RestoreOptions::default();
        let (pages, tree, report) = fetched(&counting, || {
            with(&repository, &manifest, &target, &options)
        });
        assert_eq!((report.kept, report.written, report.fetched), (41, 0, 0));
        assert!(tree < 50_000, "pages of the tree only, not {tree} bytes");
        // One byte of one chunk of many, and a tail that is too much.
        let key = b"large".to_vec();
        target.files.lock().unwrap().get_mut(&key).unwrap()[3 << 20] ^= 1;
        target
            .files
            .lock()
            .unwrap()
            .get_mut(&key)
            .unwrap()
            .extend(b"tail");
        let (gets, bytes, report) = fetched(&counting, || {
            with(&repository, &manifest, &target, &options)
        });
        assert_eq!((report.kept, report.written), (40, 1));
        assert!(
            (1..=512 << 10).contains(&report.fetched),
            "{}",
            report.fetched
        );
        assert_eq!(gets, pages + 1, "one record");
        assert!(bytes <= tree + (512 << 10), "{bytes}");
        let all: usize = source.files.values().map(Vec::len).sum();
        assert_eq!(report.fetched + report.reused, all as u64);
        assert!(*target.files.lock().unwrap() == source.files);
        let written: u64 = target.log.lock().unwrap().iter().map(|(_, len)| len).sum();
        match shares {
            true => assert_eq!(written, report.fetched, "the rest is shared"),
            false => assert_eq!(written, 8 << 20, "the rest is copied"),
        }
    }
}

#[test]
fn a_shorter_and_an_empty_file_are_taken_as_far_as_they_go() {
    let (_, repository) = new_repository(Encryption::None, 2);
    let mut source = MapSource::default();
    source.files.insert(b"cut".to_vec(), noise(2 << 20, "cut"));
    source
        .files
        .insert(b"none".to_vec(), noise(2 << 20, "none"));
    let manifest = take(&repository, &mut source).manifest;
    for shares in [false, true] {
        let mut target = MapTarget::holding(&source.files);
        target.shares = shares;
        target
            .files
            .lock()
            .unwrap()
            .get_mut(&b"cut"[..])
            .unwrap()
            .truncate(1 << 20);
        target
            .files
            .lock()
            .unwrap()
            .get_mut(&b"none"[..])
            .unwrap()
            .clear();
        let report = run(&repository, &manifest, &target);
        assert_eq!((report.written, report.verified), (2, 2));
        assert!(
            (3 << 20..4 << 20).contains(&report.fetched),
            "{}",
            report.fetched
        );
        assert!(*target.files.lock().unwrap() == source.files);
    }
}

#[test]
fn a_file_that_somebody_writes_meanwhile_is_reported() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    source.files.insert(b"f".to_vec(), noise(2 << 20, "f"));
    let manifest = take(&repository, &mut source).manifest;
    let mut target = MapTarget::holding(&source.files);
    target.unsteady = true;
    target.files.lock().unwrap().get_mut(&b"f"[..]).unwrap()[0] ^= 1;
    let report = with(&repository, &manifest, &target, &RestoreOptions::default());
    assert_eq!((report.written, report.problems.len()), (0, 1));
    assert!(report.problems[0].message.contains("changed it meanwhile"));
}

#[test]
fn holes_and_zeros_over_what_was_there() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let (head, tail) = (noise(1 << 20, "head"), noise(50_000, "tail"));
    let zeros = vec![0; 1 << 18];
    let manifest = plant(&repository, &[&head, &zeros, &tail], |e| {
        let content = Content::Extents(vec![e[0], Extent::Hole(1 << 20), e[1], e[2]]);
        vec![file(
            "f",
            content,
            (1 << 20) + (1 << 20) + (1 << 18) + 50_000,
            None,
        )]
    });
    let whole = [&head[..], &vec![0; 1 << 20], &zeros, &tail].concat();
    for (shares, sparse) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut there = whole.clone();
        there[1 << 20..].fill(7);
        let mut target = MapTarget::holding(&BTreeMap::from([(b"f".to_vec(), there)]));
        target.shares = shares;
        let options = RestoreOptions {
            sparse,
            verify: true,
            ..RestoreOptions::default()
        };
        let report = with(&repository, &manifest, &target, &options);
        assert_eq!((report.written, report.verified), (1, 1));
        assert!(target.files.lock().unwrap()[&b"f"[..]] == whole);
        let log = target.log.lock().unwrap();
        let touches = |range: std::ops::Range<u64>| {
            let written = log
                .iter()
                .filter(|(at, len)| range.start < at + len && *at < range.end);
            written.count()
        };
        // The hole is never written, only cleared; the head never, when it is shared.
        assert_eq!(
            touches(1 << 20..2 << 20),
            usize::from(shares),
            "{shares} {sparse}"
        );
        assert_eq!(touches(0..1 << 20) > 0, !shares, "{shares} {sparse}");
        let zeros = (2 << 20)..(2 << 20) + (1 << 18);
        assert_eq!(touches(zeros) > 0, shares || !sparse, "{shares} {sparse}");
    }
}

#[test]
fn policies_decide_what_is_overwritten() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = files(&["new", "newer", "older", "same"]);
    let manifest = take(&repository, &mut source).manifest;
    // Entries of a map are of time 0.
    let at = |seconds| Timestamp { seconds, nanos: 0 };
    let cases = [
        (Overwrite::Always, 4, 0, 0),
        (Overwrite::Changed, 3, 1, 0),
        (Overwrite::Newer, 2, 0, 2),
        (Overwrite::Never, 1, 0, 3),
    ];
    for (overwrite, written, kept, skipped) in cases {
        for dry_run in [true, false] {
            let mut there = files(&["newer", "older", "same"]).files;
            there.values_mut().for_each(|bytes| bytes[0] ^= 1);
            let target = MapTarget::holding(&there);
            let times = [("newer", at(5)), ("older", at(-5)), ("same", at(0))];
            *target.times.lock().unwrap() = times
                .iter()
                .map(|(name, time)| (name.as_bytes().to_vec(), *time))
                .collect();
            let options = RestoreOptions {
                overwrite,
                dry_run,
                verify: true,
                ..RestoreOptions::default()
            };
            let report = with(&repository, &manifest, &target, &options);
            let counts = (report.written, report.kept, report.skipped);
            assert_eq!(counts, (written, kept, skipped), "{overwrite:?} {dry_run}");
            if dry_run {
                assert!(*target.files.lock().unwrap() == there);
                continue;
            }
            // What was taken for right unread is found out; what was spared is not read.
            assert_eq!(report.verified, written);
            assert_eq!(report.differing.len() as u64, kept);
        }
    }
}

#[test]
fn a_target_that_loses_what_is_written_is_found_out() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = files(&["a", "b"]);
    let manifest = take(&repository, &mut source).manifest;
    let target = MapTarget::default();
    let flip = |path: &[u8], _: bool| {
        // Asked again when it is verified.
        if path == b"a"
            && let Some(bytes) = target.files.lock().unwrap().get_mut(&b"b"[..])
        {
            bytes[5] ^= 1;
        }
        Select::Take
    };
    let options = RestoreOptions {
        select: &flip,
        verify: true,
        ..RestoreOptions::default()
    };
    let report = with(&repository, &manifest, &target, &options);
    let paths: Vec<&[u8]> = report
        .differing
        .iter()
        .map(|p: &Problem| &p.path[..])
        .collect();
    assert!(report.problems.is_empty());
    assert_eq!((report.verified, paths), (1, vec![&b"b"[..]]));
}

#[test]
fn what_is_to_be_done_is_known_by_the_sums_of_pages() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    for i in 0..3000u32 {
        let path = format!("d{}/e{}/file-with-a-name-{i:05}", i / 900, i / 300);
        source
            .files
            .insert(path.into_bytes(), vec![b'x'; i as usize % 50]);
    }
    let manifest = take(&repository, &mut source).manifest;
    let reader = Reader::new(&repository);
    let tree = Tree::new(&reader, manifest.root);
    let all: Vec<Entry> = tree.walk(b"").unwrap().map(Result::unwrap).collect();
    let paths = [
        "",
        "d0",
        "d1",
        "d3",
        "d1/e4",
        "d1/e5/file-with-a-name-01600",
        "d9",
        "a",
    ];
    for path in paths.map(str::as_bytes) {
        let within = || all.iter().filter(|e| is_within(&e.path, path));
        let bytes = within().map(|e| e.meta.size).sum();
        let tree = Tree::new(&reader, manifest.root);
        let sums = tree.sums(path).unwrap();
        assert_eq!(sums, (within().count() as u64, bytes), "{path:?}");
        assert!(tree.pages_read() <= 5, "{} for {path:?}", tree.pages_read());
    }
}
