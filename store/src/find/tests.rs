//! What is found in which snapshots, and that each page is read once.

use std::collections::BTreeSet;

use super::*;
use crate::crypto::Encryption;
use crate::record::World;
use crate::testing::{MapSource, new_repository, noise, take};

fn found(
    repository: &Repository,
    snapshots: &[Manifest],
    query: &Query<'_>,
) -> (Vec<(String, Vec<usize>)>, FindReport) {
    let mut all = Vec::new();
    let report = find(repository, snapshots, query, &mut |found| {
        let path = String::from_utf8_lossy(&found.entry.path).into_owned();
        all.push((path, found.snapshots.to_vec()));
        Ok::<(), AccessError>(())
    });
    (all, report.unwrap())
}

/// Ids of all pages of entries, each once.
fn pages(repository: &Repository, snapshots: &[Manifest]) -> usize {
    let reader = Reader::new(repository);
    let mut ids = BTreeSet::new();
    for manifest in snapshots {
        let tree = Tree::new(&reader, manifest.root);
        tree.for_each_reference(&mut |world, id| Ok(world != World::Pages || ids.insert(id.0)))
            .unwrap();
    }
    ids.len()
}

#[test]
fn every_page_of_many_snapshots_is_read_once() {
    let (_, repository) = new_repository(Encryption::None, 2);
    let file = |n: u32| format!("folder-{:02}/file-{n:05}", n % 40).into_bytes();
    let mut source = MapSource::default();
    for n in 0..10_000 {
        source.files.insert(file(n), n.to_le_bytes().to_vec());
    }
    let mut snapshots = Vec::new();
    for night in 0..12u32 {
        source
            .files
            .insert(file(night * 700), vec![0; night as usize]);
        // A change that is taken back: its pages come again.
        match night % 2 {
            0 => drop(source.files.insert(b"folder-07/odd".to_vec(), vec![7])),
            _ => drop(source.files.remove(&b"folder-07/odd"[..])),
        }
        snapshots.push(take(&repository, &mut source).manifest);
    }
    snapshots.push(take(&repository, &mut source).manifest);
    let query = Query {
        wanted: &|entry| entry.path.ends_with(b"/odd") || entry.path == file(700),
        chunk: None,
    };
    let (all, report) = found(&repository, &snapshots, &query);
    let versions = [
        ("folder-07/odd".to_owned(), vec![0, 2, 4, 6, 8, 10]),
        ("folder-20/file-00700".to_owned(), vec![0]),
        ("folder-20/file-00700".to_owned(), (1..=12).collect()),
    ];
    assert_eq!(all, versions);
    let distinct = pages(&repository, &snapshots);
    assert_eq!(report.pages_read, distinct as u64);
    assert!(report.damaged.is_empty());
    let alone = pages(&repository, &snapshots[..1]);
    assert!(
        distinct < 3 * alone,
        "{distinct} pages, one snapshot {alone}"
    );
}

#[test]
fn by_chunk_and_around_damage() {
    let (memory, repository) = new_repository(Encryption::None, 2);
    let mut source = MapSource::default();
    for n in 0..3_000 {
        let name = format!("{n:04}-{}", "long".repeat(20));
        source.files.insert(name.into_bytes(), vec![1]);
    }
    source.files.insert(b"big".to_vec(), noise(9_000, "big"));
    source.files.insert(b"twin".to_vec(), noise(9_000, "big"));
    let taken = take(&repository, &mut source).manifest;
    let entry = crate::browse::entry(&repository, &taken, b"big").unwrap();
    let mut chunk = None;
    let reader = Reader::new(&repository);
    let tree = Tree::new(&reader, taken.root);
    tree.for_each_id(&entry.content, &mut |_, id| {
        chunk = Some(*id);
        Ok(true)
    })
    .unwrap();
    assert!(chunk.is_some());
    let query = Query {
        wanted: &|_| true,
        chunk,
    };
    let (all, _) = found(&repository, std::slice::from_ref(&taken), &query);
    let paths: Vec<&str> = all.iter().map(|(path, _)| &**path).collect();
    assert_eq!(paths, ["big", "twin"]);

    // A leaf that the index knows nowhere.
    let mut leaf = None;
    tree.for_each_reference(&mut |world, id| {
        leaf = (world == World::Pages).then_some(*id).or(leaf);
        Ok(true)
    })
    .unwrap();
    drop(memory);
    let lost = Manifest {
        root: leaf.map(|mut page| {
            page.0[0] ^= 1;
            crate::format::objects::TreeRoot { page, height: 0 }
        }),
        ..taken.clone()
    };
    let query = Query {
        wanted: &|entry| entry.path == b"big",
        chunk: None,
    };
    let (all, report) = found(&repository, &[lost, taken], &query);
    assert_eq!(all, [("big".to_owned(), vec![1])]);
    assert_eq!(report.damaged.len(), 1);
}
