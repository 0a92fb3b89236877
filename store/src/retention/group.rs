//! Groups of snapshots that a policy is applied to one by one.

use std::collections::BTreeMap;

use crate::format::objects::Manifest;

/// What makes snapshots belong together. Nothing: all are one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The same host.
    pub host: bool,
    /// The same paths.
    pub paths: bool,
    /// The same tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        GroupBy {
            host: true,
            paths: true,
            tags: false,
        }
    }
}

impl GroupBy {
    /// The group that a snapshot belongs to.
    pub fn key(self, manifest: &Manifest) -> GroupKey {
        let sorted = |mut list: Vec<_>| {
            list.sort();
            list
        };
        GroupKey {
            host: self.host.then(|| manifest.host.clone()),
            paths: self.paths.then(|| sorted(manifest.paths.clone())),
            tags: self.tags.then(|| {
                let mut tags = manifest.tags.clone();
                tags.sort();
                tags
            }),
        }
    }
}

/// What the snapshots of a group have in common; the default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The host, if it counts.
    pub host: Option<String>,
    /// The paths, sorted, if they count.
    pub paths: Option<Vec<Vec<u8>>>,
    /// The tags, sorted, if they count.
    pub tags: Option<Vec<String>>,
}

/// Sorts snapshots into groups; within each they keep their order.
pub fn group(by: GroupBy, snapshots: Vec<Manifest>) -> BTreeMap<GroupKey, Vec<Manifest>> {
    let mut groups: BTreeMap<GroupKey, Vec<Manifest>> = BTreeMap::new();
    for manifest in snapshots {
        groups.entry(by.key(&manifest)).or_default().push(manifest);
    }
    groups
}
