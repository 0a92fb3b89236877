//! Exhaustive runs.

use super::cast::{Role, Scene, Troupe};
use super::search::{Bound, explore};
use super::start::Past;
use crate::gc::Fence;

#[test]
fn first_light() {
    let start = Past::new("forgotten")
        .snapshot("ab")
        .snapshot("bc")
        .early()
        .forget(0)
        .done("forgotten");
    let troupe = Troupe::new(2);
    for roles in [
        [Role::Snapshot("ad"), Role::Gc(Fence::Now)],
        [Role::Snapshot("ad"), Role::Gc(Fence::Auto)],
        [Role::Gc(Fence::Auto), Role::Gc(Fence::Auto)],
        [Role::Undelete(0), Role::Gc(Fence::Auto)],
        [Role::Merge, Role::Gc(Fence::Auto)],
    ] {
        for first in [0, 1] {
            let mut scene = Scene::of(&start, &roles);
            scene.first = first;
            let begun = std::time::Instant::now();
            let bound = Bound {
                decisions: 1,
                faults: true,
                deep: 16,
            };
            let found = explore(&troupe, &scene, bound);
            println!(
                "{}: {} schedules, {} steps, {:?}",
                scene.describe(),
                found.schedules,
                found.steps,
                begun.elapsed()
            );
            println!("{:?}", found.violation);
        }
    }
}
