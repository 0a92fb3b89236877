//! What the modules of the suite share: the binary in an environment of its own, processes with a
//! time limit, generated data, damage, and comparison of trees by an independent tool.

pub mod damage;
pub mod data;
pub mod disk;
pub mod nights;
pub mod postgres;
pub mod private;
pub mod process;
pub mod sqlite;
pub mod world;

use std::path::Path;
use std::process::Command;

pub use process::Ran;
pub use world::World;

/// Whether the sizes of the issue are asked for (`HUCHA_TESTS=full`), not those of CI.
pub fn full() -> bool {
    std::env::var_os("HUCHA_TESTS").is_some_and(|v| v == "full")
}

/// The size for CI, or the full one.
pub fn size<T>(ci: T, all: T) -> T {
    if full() { all } else { ci }
}

/// Whether the tests run as root. When not, says loudly what is not tested.
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("!!! SKIPPED, needs root: {what}");
    }
    root
}

/// Whether a tool is there. When not, says loudly what is not tested.
pub fn has_tool(tool: &str, what: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
    if !there {
        eprintln!("!!! SKIPPED, needs {tool}: {what}");
    }
    there
}

/// Whether file systems can be mounted where nobody else sees it.
pub fn can_mount(what: &str) -> bool {
    let can = is_root(what)
        && has_tool("unshare", what)
        && Command::new("unshare")
            .args(["--mount", "mount", "-t", "tmpfs", "none", "/tmp"])
            .status()
            .is_ok_and(|status| status.success());
    if !can {
        eprintln!("!!! SKIPPED, needs the right to mount: {what}");
    }
    can
}

/// Runs a tool that sets the stage; it must succeed.
pub fn tool(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `rsync` would change in `copy` to make it equal `original`: bytes, modes, owners, times,
/// links, ACLs, extended attributes, and names that are too many.
pub fn differences(original: &Path, copy: &Path) -> Vec<String> {
    let mut rsync = Command::new("rsync");
    rsync.args([
        "-aHAXn",
        "--checksum",
        "--itemize-changes",
        "--numeric-ids",
        "--delete",
    ]);
    // Without this it compares whole seconds only.
    rsync.arg("--modify-window=-1");
    let slash = |path: &Path| format!("{}/", path.display());
    rsync.arg(slash(original)).arg(slash(copy));
    tool(&mut rsync).lines().map(str::to_owned).collect()
}

/// Fails with the first differences of two trees.
#[track_caller]
pub fn assert_same(original: &Path, copy: &Path) {
    let found = differences(original, copy);
    let first: Vec<&String> = found.iter().take(20).collect();
    assert!(found.is_empty(), "{} differences: {first:#?}", found.len());
}
