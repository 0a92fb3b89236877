//! Which stored chunk resembles a new one: super-features of chunks, and a table of them that this
//! machine keeps.
//!
//! Everything here is a hint. A base that it proposes is looked up, judged and verified like any
//! other; losing the table costs growth, never data.

mod features;
mod table;

use std::path::Path;

pub(crate) use features::{Features, SuperFeatures};

use crate::crypto::Keys;
use crate::id::{BaseRef, ChunkId};
use table::Table;

/// Most chunks that are proposed for one.
const PROPOSED: usize = 2;

/// Finds chunks that resemble another. Shared by threads.
pub(crate) struct Similar {
    features: Features,
    table: Table,
}

impl Similar {
    /// With the table of a cache folder, or one in memory. Nothing is opened before it is needed.
    pub fn new(keys: &Keys, cache: Option<&Path>) -> Similar {
        Similar {
            features: Features::derive(keys.feature_key()),
            table: Table::new(cache),
        }
    }

    /// The super-features of a chunk; `None` when there is too little of it.
    pub fn features(&self, plain: &[u8]) -> Option<SuperFeatures> {
        self.features.of(plain)
    }

    /// Chunks that share super-features, those that share the most first, then the newest.
    pub fn find(&self, features: &SuperFeatures) -> Vec<BaseRef> {
        let mut found: Vec<(BaseRef, usize)> = Vec::new();
        for feature in features {
            for base in self.table.find(*feature) {
                match found.iter_mut().find(|(known, _)| *known == base) {
                    Some((_, times)) => *times += 1,
                    None => found.push((base, 1)),
                }
            }
        }
        found.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let bases = found.into_iter().map(|(base, _)| base);
        bases.take(PROPOSED).collect()
    }

    /// Remembers a chunk that is stored, or will be.
    pub fn insert(&self, features: &SuperFeatures, id: &ChunkId) {
        for feature in features {
            self.table.insert(*feature, id.as_base());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Encryption;
    use crate::id::RepositoryId;
    use crate::testing::noise;

    fn keys(secret: u8) -> Keys {
        let encryption = Encryption::XChaCha20Poly1305;
        Keys::derive(encryption, &[secret; 32], RepositoryId([1; 16]))
    }

    #[test]
    fn a_chunk_with_small_changes_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(1);
        let similar = Similar::new(&keys, Some(folder.path()));
        let chunks: Vec<Vec<u8>> = (0..200)
            .map(|n| noise(100_000, &format!("chunk {n}")))
            .collect();
        for chunk in &chunks {
            let features = similar.features(chunk).unwrap();
            assert_eq!(similar.find(&features), []);
            similar.insert(&features, &keys.chunk_id(chunk));
        }
        // Another process finds what this one left.
        let similar = Similar::new(&keys, Some(folder.path()));
        let mut hits = 0;
        for chunk in &chunks {
            let mut changed = chunk.clone();
            for at in [10, 20_000, 50_000, 90_000] {
                changed.splice(at..at, *b"another row");
            }
            let features = similar.features(&changed).unwrap();
            let id = keys.chunk_id(chunk).as_base();
            hits += usize::from(similar.find(&features).first() == Some(&id));
        }
        assert!(hits > 190, "{hits} of 200");
        // What a table is asked under another key, it does not know.
        let other = super::Similar::new(&self::keys(2), Some(folder.path()));
        let known = |c: &&Vec<u8>| !other.find(&other.features(c).unwrap()).is_empty();
        assert_eq!(chunks.iter().filter(known).count(), 0);
    }

    #[test]
    fn a_table_that_is_garbage_or_gone_costs_nothing_but_growth() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(1);
        let chunk = noise(100_000, "chunk");
        let path = folder.path().join(table::NAME);
        std::fs::write(&path, noise(1 << 20, "garbage")).unwrap();
        let similar = Similar::new(&keys, Some(folder.path()));
        let features = similar.features(&chunk).unwrap();
        similar.insert(&features, &keys.chunk_id(&chunk));
        assert!(
            similar
                .find(&features)
                .contains(&keys.chunk_id(&chunk).as_base())
        );
        // No folder, and no table in it: nothing is found, and nothing fails.
        let nowhere = Similar::new(&keys, Some(&folder.path().join("gone")));
        nowhere.insert(&features, &keys.chunk_id(&chunk));
        assert_eq!(nowhere.find(&features), []);
    }

    #[test]
    fn too_little_has_no_features() {
        let similar = Similar::new(&keys(1), None);
        assert_eq!(similar.features(b"").map(|f| f.len()), None);
        assert_eq!(similar.features(b"a").map(|f| f.len()), None);
    }
}
