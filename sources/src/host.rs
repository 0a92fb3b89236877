//! Which machine, boot and process this is, and whether a process still runs: enough to tell
//! sessions of one machine apart and to see that one of them has died. It decides nothing.

use std::fs;

/// What tells this process from all others. Unknown parts are empty or 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThisHost {
    /// `/etc/machine-id`; the same in every container that shares the file.
    pub machine_id: String,
    /// Changes with every boot.
    pub boot_id: String,
    /// Inode of the process id namespace: process ids of another one mean nothing here.
    pub pid_namespace: u64,
    /// Process id.
    pub pid: u32,
    /// When the process started, in clock ticks since boot: tells a reused id apart.
    pub start_time: u64,
    /// Host name.
    pub name: String,
}

impl ThisHost {
    /// Asks the system.
    pub fn current() -> ThisHost {
        let pid = std::process::id();
        ThisHost {
            machine_id: first_of(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
            boot_id: first_of(&["/proc/sys/kernel/random/boot_id"]),
            pid_namespace: pid_namespace(),
            pid,
            start_time: start_time(pid).unwrap_or(0),
            name: host_name(),
        }
    }
}

/// Whether the process `pid` that started at `start_time` still runs on this machine and in this
/// process id namespace; `None` where that cannot be told. A process that has ended but was not
/// waited for counts as ended.
#[cfg(target_os = "linux")]
pub fn process_is_alive(pid: u32, start_time: u64) -> Option<bool> {
    // Without a readable /proc nothing can be said of others.
    stat_fields("self")?;
    let Some((state, started)) = stat_fields(&pid.to_string()) else {
        return Some(false);
    };
    Some(started == start_time && state != b'Z' && state != b'X')
}

/// Whether the process `pid` that started at `start_time` still runs on this machine; `None`
/// where that cannot be told, as on this system.
#[cfg(not(target_os = "linux"))]
pub fn process_is_alive(pid: u32, start_time: u64) -> Option<bool> {
    (pid == std::process::id() && start_time == 0).then_some(true)
}

fn first_of(paths: &[&str]) -> String {
    let read = paths
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    read.map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

fn start_time(pid: u32) -> Option<u64> {
    stat_fields(&pid.to_string()).map(|(_, started)| started)
}

/// State and start time (fields 3 and 22 of proc_pid_stat(5)).
fn stat_fields(process: &str) -> Option<(u8, u64)> {
    parse_stat(&fs::read(format!("/proc/{process}/stat")).ok()?)
}

/// The name in field 2 may hold spaces and parentheses: the last `)` ends it.
fn parse_stat(stat: &[u8]) -> Option<(u8, u64)> {
    let end = stat.iter().rposition(|c| *c == b')')?;
    let mut fields = std::str::from_utf8(stat.get(end + 1..)?)
        .ok()?
        .split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(unix)]
fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}

#[cfg(not(unix))]
fn pid_namespace() -> u64 {
    0
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    first_of(&["/etc/hostname"])
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_no_other_one_in_its_place() {
        let host = ThisHost::current();
        assert_eq!(host.pid, std::process::id());
        assert!(host.pid_namespace != 0 && host.start_time != 0);
        assert!(!host.boot_id.is_empty() && !host.name.is_empty());
        assert_eq!(process_is_alive(host.pid, host.start_time), Some(true));
        assert_eq!(process_is_alive(host.pid, host.start_time + 1), Some(false));
        assert_eq!(host, ThisHost::current());
    }

    #[test]
    fn a_child_that_ended_is_not_alive_before_and_after_it_is_waited_for() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let started = start_time(child.id()).unwrap();
        assert_eq!(process_is_alive(child.id(), started), Some(true));
        drop(child.stdin.take());
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let pid = Pid::from_child(&child);
        waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert_eq!(
            process_is_alive(child.id(), started),
            Some(false),
            "not waited for"
        );
        child.wait().unwrap();
        assert_eq!(process_is_alive(child.id(), started), Some(false));
    }

    #[test]
    fn a_name_with_spaces_and_parentheses() {
        let tail = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = format!("42 (a) b (c)) {tail}");
        assert_eq!(parse_stat(stat.as_bytes()), Some((b'S', 987_654)));
        assert_eq!(parse_stat(b"42 (a) S 1"), None);
        assert_eq!(parse_stat(b""), None);
    }
}
