//! Reading every restored file again, by the same comparison that decides what is written.

use std::collections::HashSet;

use super::walk::{Spared, plan};
use super::window::{Purpose, Window};
use super::{MAX_TROUBLE, RestoreError, RestoreOptions, RestoreReport, Scope, Select};
use crate::entry::{Kind, is_within};
use crate::monitor::Monitor;
use crate::reader::says_damage;
use crate::source::Problem;
use crate::target::Target;
use crate::tree::Tree;

/// Reads every restored file again, but those that were spared. Files and pages that cannot be
/// read were reported by the restore.
pub(super) fn run(
    tree: &Tree<'_, '_>,
    target: &dyn Target,
    options: &RestoreOptions<'_>,
    monitor: &dyn Monitor,
    spared: &Spared,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let scope = Scope::of(tree, &options.path)?;
    let told = report.damaged.iter().chain(&report.problems);
    let told: HashSet<Vec<u8>> = told.map(|p| p.path.clone()).collect();
    let mut window = Window::new(tree.reader(), target, options, Purpose::Verify, monitor);
    let mut found = RestoreReport::default();
    let mut walk = tree.walk(&scope.from)?;
    let mut trouble = 0;
    while trouble < MAX_TROUBLE {
        let mut entry = match walk.next_item() {
            Ok(Some((entry, _))) => entry,
            Ok(None) => break,
            Err(e) => {
                trouble += u32::from(!says_damage(&e));
                continue;
            }
        };
        if !is_within(&entry.path, &scope.from) {
            break;
        }
        let folder = entry.kind == Kind::Folder;
        let select = (options.select)(&entry.path, folder);
        while select == Select::Skip
            && folder
            && trouble < MAX_TROUBLE
            && let Err(e) = walk.skip_below(&entry.path)
        {
            trouble += u32::from(!says_damage(&e));
        }
        if select != Select::Take || entry.kind != Kind::File {
            continue;
        }
        entry.path = scope.shorten(&entry.path);
        if spared.contains(&entry.path) {
            continue;
        }
        window.begin(entry.clone());
        let planned = plan(tree, &mut window, &entry, &mut |window| {
            if window.is_full() {
                window.run(&mut found);
            }
        });
        match planned {
            Ok(()) => window.end(),
            Err(e) => window.give_up(&e),
        }
        if window.is_full() {
            window.run(&mut found);
        }
    }
    window.run(&mut found);
    report.verified += found.verified;
    let new = |p: &Problem| !told.contains(&p.path);
    report
        .differing
        .extend(found.differing.into_iter().filter(new));
    Ok(())
}
