//! What stands in the target and not in the snapshot: found folder by folder while the walk passes
//! through, by a merge of two sorted lists; what is to be removed is a value before anything is.
//!
//! Removes nothing itself. Where a page of the tree is lost, nothing counts as surplus.

use std::vec::IntoIter;

use super::{Scope, Select, join};
use crate::entry::{is_within, parent_of};
use crate::target::{Listed, Target, TargetError};

/// Something that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    /// Its path in the target.
    pub path: Vec<u8>,
    /// Whether the folder that holds it stays.
    pub is_top: bool,
}

/// A folder that the walk is in.
struct Visit {
    path: Vec<u8>,
    /// What the target holds there behind the entry that was met last.
    ahead: IntoIter<Listed>,
    surplus: Vec<Listed>,
}

/// Finds surplus.
pub(super) struct Surplus<'a> {
    target: &'a dyn Target,
    scope: &'a Scope,
    select: &'a dyn Fn(&[u8], bool) -> Select,
    visits: Vec<Visit>,
}

impl<'a> Surplus<'a> {
    pub fn new(
        target: &'a dyn Target,
        scope: &'a Scope,
        select: &'a dyn Fn(&[u8], bool) -> Select,
    ) -> Surplus<'a> {
        Surplus {
            target,
            scope,
            select,
            visits: Vec::new(),
        }
    }

    /// The walk goes into a folder; once into each.
    pub fn enter(&mut self, path: &[u8]) -> Result<(), TargetError> {
        if self.visits.iter().any(|v| v.path == path) {
            return Ok(());
        }
        let ahead = self.target.list(path)?.into_iter();
        self.visits.push(Visit {
            path: path.to_vec(),
            ahead,
            surplus: Vec::new(),
        });
        Ok(())
    }

    /// The walk meets an entry. Answers whether a folder stands in its place.
    pub fn meet(&mut self, path: &[u8]) -> bool {
        let parent = parent_of(path);
        let Some(visit) = self.visits.last_mut().filter(|v| parent == Some(&v.path)) else {
            return false;
        };
        let name = match visit.path.len() {
            0 => path,
            len => path.get(len + 1..).unwrap_or_default(),
        };
        while let Some(next) = visit.ahead.as_slice().first() {
            if next.name.as_slice() > name {
                return false;
            }
            let (is_it, is_folder) = (next.name == name, next.is_folder);
            let passed = visit.ahead.next();
            if is_it {
                return is_folder;
            }
            visit.surplus.extend(passed);
        }
        false
    }

    /// Some of what the open folders hold is not known: whatever stands there may belong there.
    pub fn lose(&mut self) {
        for visit in &mut self.visits {
            visit.ahead = Vec::new().into_iter();
            visit.surplus.clear();
        }
    }

    /// The walk moves on to `path`, or ends. Answers what is to be removed in the folders that it
    /// leaves.
    pub fn leave(&mut self, path: Option<&[u8]>) -> Result<Vec<Removal>, TargetError> {
        let mut plan = Vec::new();
        let holds = |v: &mut Visit| path.is_some_and(|p| is_within(p, &v.path));
        while let Some(visit) = self.visits.pop_if(|v| !holds(v)) {
            for listed in visit.surplus.into_iter().chain(visit.ahead) {
                let path = join(&visit.path, &listed.name);
                plan.extend(self.plan(path, listed.is_folder)?);
            }
        }
        Ok(plan)
    }

    /// What is to be removed of one thing and all below it, in an order that can be carried out:
    /// all that `select` takes, and folders of which nothing is left.
    pub fn plan(&self, path: Vec<u8>, is_folder: bool) -> Result<Vec<Removal>, TargetError> {
        let mut plan = Vec::new();
        let mut open: Vec<Below> = Vec::new();
        let mut next = Some((path, is_folder));
        loop {
            if let Some((path, is_folder)) = next.take() {
                let select = (self.select)(&self.scope.lengthen(&path), is_folder);
                let is_top = open.is_empty();
                match select {
                    Select::Take | Select::Descend if is_folder => {
                        let listed = self.target.list(&path)?.into_iter();
                        open.push(Below {
                            path,
                            listed,
                            goes: select == Select::Take,
                            from: plan.len(),
                        });
                    }
                    Select::Take => plan.push(Removal { path, is_top }),
                    Select::Skip | Select::Descend => stay(&mut open),
                }
            }
            let Some(folder) = open.last_mut() else {
                return Ok(plan);
            };
            if let Some(listed) = folder.listed.next() {
                next = Some((join(&folder.path, &listed.name), listed.is_folder));
            } else if let Some(done) = open.pop() {
                let is_top = open.is_empty();
                match done.goes {
                    true => plan.push(Removal {
                        path: done.path,
                        is_top,
                    }),
                    false => {
                        stay(&mut open);
                        let below = plan.get_mut(done.from..).unwrap_or_default();
                        let direct = |r: &&mut Removal| parent_of(&r.path) == Some(&done.path);
                        below
                            .iter_mut()
                            .filter(direct)
                            .for_each(|r| r.is_top = true);
                    }
                }
            }
        }
    }
}

/// A folder that is planned.
struct Below {
    path: Vec<u8>,
    listed: IntoIter<Listed>,
    /// Whether it goes, because all that it holds does.
    goes: bool,
    /// Where the plan of what lies below it begins.
    from: usize,
}

/// Something stays: so does the folder that holds it.
fn stay(open: &mut [Below]) {
    if let Some(folder) = open.last_mut() {
        folder.goes = false;
    }
}
