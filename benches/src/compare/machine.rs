//! On which machine, and by which command, a table was made.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// How the tables of a comparison are to be read.
pub const ABOUT: &str = "
Every tool encrypts, runs with its own defaults, and gives back bytes that are compared. All sync
what they stored to disk before they end, by their defaults (fsync and fdatasync in a first night
of 60 MB, counted by strace: hucha 39, restic 16, rustic 5, borg 31, bupstash 66). Before each
timed call `sync` is run. Times are wall clock; times and CPU seconds are medians, peaks the
highest; *open* is a command that does next to nothing, mostly key derivation; *check* reads all
data; each restore goes into a new file system; *forget+gc* keeps two snapshots, each time on a
copy of the repository. MB a night is the mean of all nights but the first, of the whole repository
folder. The last line of a table is hucha's figure divided by the best of the others: below 1 hucha
is better. For open, unchanged and forget+gc these others are restic and rustic only.
";

/// Lines of Markdown that stand above tables.
pub fn header(title: &str, scratch: &Path) -> String {
    let mut out = format!("# {title}\n\n");
    let command: Vec<String> = std::env::args().skip(1).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = writeln!(out, "- command: `hucha-benches {}`", command.join(" "));
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_default();
    let _ = writeln!(
        out,
        "- machine: {cores} cores, {processor}; {memory} memory"
    );
    let _ = writeln!(
        out,
        "- Linux {}, file system {}",
        kernel.trim(),
        file_system(scratch).unwrap_or_default()
    );
    out
}

/// The value behind the first `name:` of a file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What a folder lies on, by the longest mount point above it.
fn file_system(folder: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = mounts.filter(|(point, _)| folder.starts_with(point));
    let (_, kind) = above.max_by_key(|(point, _)| point.len())?;
    Some(kind.to_owned())
}
