//! Temporary names: whose they are, when they may go. A name tells machine, boot, process and a
//! random number; only what a process of this machine left that is certainly gone is removed, so
//! two restores into one folder leave each other's files alone.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use crate::host::{ThisHost, process_is_alive};

const PREFIX: &[u8] = b".hucha-";
const SUFFIX: &[u8] = b".tmp";

/// Who gave a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    /// Hash of machine id and host name; 0 where the machine has no id.
    machine: u32,
    /// Hash of the boot.
    boot: u32,
    pid_namespace: u64,
    pid: u64,
    start_time: u64,
}

impl Owner {
    fn of(host: &ThisHost) -> Owner {
        let machine = match host.machine_id.is_empty() {
            true => 0,
            false => short(&[&host.machine_id, &host.name]),
        };
        Owner {
            machine,
            boot: short(&[&host.boot_id]),
            pid_namespace: host.pid_namespace,
            pid: u64::from(host.pid),
            start_time: host.start_time,
        }
    }

    fn this() -> &'static Owner {
        static THIS: OnceLock<Owner> = OnceLock::new();
        THIS.get_or_init(|| Owner::of(&ThisHost::current()))
    }

    fn name(&self, random: u64) -> String {
        let Owner {
            machine,
            boot,
            pid_namespace,
            pid,
            start_time,
        } = self;
        format!(
            ".hucha-{machine:08x}-{boot:08x}-{pid_namespace:x}-{pid:x}-{start_time:x}-\
             {random:016x}.tmp"
        )
    }

    /// `None` for names that we do not give.
    fn parse(name: &[u8]) -> Option<Owner> {
        let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let digits = std::str::from_utf8(digits).ok()?;
        let mut parts = digits.split('-').map(|part| {
            let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
            let sound = part.bytes().all(hex);
            u64::from_str_radix(part, 16).ok().filter(|_| sound)
        });
        let mut next = || parts.next().flatten();
        let owner = Owner {
            machine: u32::try_from(next()?).ok()?,
            boot: u32::try_from(next()?).ok()?,
            pid_namespace: next()?,
            pid: next()?,
            start_time: next()?,
        };
        let random = next()?;
        // The very form: nothing of the user's is likely to look like it.
        (owner.name(random).as_bytes() == name).then_some(owner)
    }

    /// Whether the process that gave a name is certainly gone.
    fn is_gone(&self, this: &Owner, is_alive: impl Fn(u32, u64) -> Option<bool>) -> bool {
        if this.machine == 0 || self.machine != this.machine {
            return false;
        }
        if self.boot != this.boot {
            return true;
        }
        let pid = u32::try_from(self.pid).ok();
        self.pid_namespace == this.pid_namespace
            && pid.and_then(|pid| is_alive(pid, self.start_time)) == Some(false)
    }
}

/// FNV-1a: tells machines and boots apart, and is the same in every version of the program.
fn short(parts: &[&str]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

/// Whether a name is one that only we give.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    Owner::parse(name).is_some()
}

/// Whether a temporary name was left by a process of this machine that is gone.
pub(crate) fn is_leftover(name: &[u8]) -> bool {
    Owner::parse(name).is_some_and(|owner| owner.is_gone(Owner::this(), process_is_alive))
}

/// A free name for something of this process, as good as certainly.
pub(crate) fn temporary_name() -> String {
    // Seeded by the system once a thread, and different at every call.
    Owner::this().name(RandomState::new().hash_one(0u8))
}

/// A temporary name of a process of this machine that is gone.
#[cfg(test)]
pub(crate) fn leftover_name(random: u64) -> String {
    let mut owner = *Owner::this();
    owner.start_time += 1;
    owner.name(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            machine: 7,
            boot: 8,
            pid_namespace: 9,
            pid: 10,
            start_time: 11,
        }
    }

    #[test]
    fn names_tell_who_gave_them() {
        let name = owner().name(12);
        assert_eq!(name, ".hucha-00000007-00000008-9-a-b-000000000000000c.tmp");
        assert_eq!(Owner::parse(name.as_bytes()), Some(owner()));
        assert!(Owner::this().name(u64::MAX).len() < 120);
        for other in [
            ".hucha-0123456789abcdef.tmp",
            ".hucha-00000007-00000008-9-a-b-000000000000000c",
            ".hucha-00000007-00000008-9-a-b-c.tmp",
            ".hucha-7-00000008-9-a-b-000000000000000c.tmp",
            ".hucha-00000007-00000008-9-a-b-000000000000000c-1.tmp",
            ".hucha-00000007-00000008-9-A-b-000000000000000c.tmp",
            ".hucha-00000007-00000008-9-+a-b-000000000000000c.tmp",
            "",
        ] {
            assert!(!is_temporary(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn only_what_is_certainly_gone_is_left_over() {
        let gone = |change: fn(&mut Owner), alive| {
            let mut other = owner();
            change(&mut other);
            other.is_gone(&owner(), |_, _| alive)
        };
        assert!(gone(|_| {}, Some(false)));
        assert!(!gone(|_| {}, Some(true)));
        assert!(!gone(|_| {}, None));
        assert!(gone(|o| o.boot = 1, None));
        assert!(!gone(|o| o.machine = 1, Some(false)));
        assert!(!gone(|o| o.pid_namespace = 1, Some(false)));
        let nameless = Owner {
            machine: 0,
            ..owner()
        };
        assert!(!nameless.is_gone(&nameless, |_, _| Some(false)));
    }
}
