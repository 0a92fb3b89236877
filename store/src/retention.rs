//! Which snapshots a policy keeps: a pure function of their manifests.

use std::collections::BTreeMap;

use crate::format::objects::Manifest;
use crate::id::Uuid;

/// What is kept. More rules come with a later issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest so many of each group.
    pub keep_last: u64,
}

/// What a policy says of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot's name.
    pub name: Uuid,
    /// Whether it is kept.
    pub keep: bool,
    /// The rules that keep it.
    pub reasons: Vec<String>,
}

/// Applies a policy to snapshots sorted by time, for each group of host and paths apart. Partial
/// snapshots use no counts and are kept.
pub fn apply(policy: &Policy, snapshots: &[Manifest]) -> Vec<Verdict> {
    let mut seen: BTreeMap<(&str, &[Vec<u8>]), u64> = BTreeMap::new();
    let mut verdicts: Vec<Verdict> = snapshots
        .iter()
        .rev()
        .map(|m| {
            if m.partial {
                let reasons = vec!["partial".to_owned()];
                return Verdict {
                    name: m.name,
                    keep: true,
                    reasons,
                };
            }
            let count = seen.entry((&m.host, &m.paths)).or_default();
            let keep = *count < policy.keep_last;
            if m.incomplete {
                // It is kept among those that are, and stands for none of them.
                let reasons = if keep {
                    vec!["incomplete".to_owned()]
                } else {
                    Vec::new()
                };
                return Verdict {
                    name: m.name,
                    keep,
                    reasons,
                };
            }
            *count += 1;
            let reasons = if keep {
                vec!["last".to_owned()]
            } else {
                Vec::new()
            };
            Verdict {
                name: m.name,
                keep,
                reasons,
            }
        })
        .collect();
    verdicts.reverse();
    verdicts
}
