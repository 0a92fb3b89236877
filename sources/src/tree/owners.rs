//! Names of users and groups by number, and the other way round, from wherever the system has them:
//! files, LDAP and the like. Each is asked for once; a number without a name, or whose directory
//! does not answer, stays a number.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Gid, Group, Uid, User};

type Names = RefCell<HashMap<u32, Option<Vec<u8>>>>;

#[derive(Debug, Default)]
pub(super) struct Owners {
    users: Names,
    groups: Names,
}

impl Owners {
    pub(super) fn user(&self, uid: u32) -> Option<Vec<u8>> {
        once(&self.users, uid, |uid| {
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            user.map(|user| user.name)
        })
    }

    pub(super) fn group(&self, gid: u32) -> Option<Vec<u8>> {
        once(&self.groups, gid, |gid| {
            let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            group.map(|group| group.name)
        })
    }
}

fn once(known: &Names, number: u32, ask: impl FnOnce(u32) -> Option<String>) -> Option<Vec<u8>> {
    let mut known = known.borrow_mut();
    let name = known.entry(number).or_insert_with(|| {
        ask(number)
            .filter(|n| !n.is_empty())
            .map(String::into_bytes)
    });
    name.clone()
}

/// Numbers of users and groups by name; shared by threads.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    users: Mutex<HashMap<Vec<u8>, Option<u32>>>,
    groups: Mutex<HashMap<Vec<u8>, Option<u32>>>,
}

impl Numbers {
    pub(super) fn user(&self, name: &[u8]) -> Option<u32> {
        number(&self.users, name, |name| {
            let user = User::from_name(name).ok().flatten();
            user.map(|user| user.uid.as_raw())
        })
    }

    pub(super) fn group(&self, name: &[u8]) -> Option<u32> {
        number(&self.groups, name, |name| {
            let group = Group::from_name(name).ok().flatten();
            group.map(|group| group.gid.as_raw())
        })
    }
}

fn number(
    known: &Mutex<HashMap<Vec<u8>, Option<u32>>>,
    name: &[u8],
    ask: impl FnOnce(&str) -> Option<u32>,
) -> Option<u32> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(number) = known.get(name) {
        return *number;
    }
    let text = std::str::from_utf8(name).ok();
    let number = text.filter(|text| !text.is_empty()).and_then(ask);
    known.insert(name.to_vec(), number);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_asked_for_once() {
        let names = Names::default();
        assert_eq!(once(&names, 7, |_| Some("bob".into())), Some(b"bob".into()));
        assert_eq!(once(&names, 7, |_| None), Some(b"bob".into()));
        assert_eq!(once(&names, 8, |_| None), None);
        assert_eq!(once(&names, 8, |_| Some("late".into())), None);
        assert_eq!(once(&names, 9, |_| Some(String::new())), None);
    }

    #[test]
    fn the_system_knows_root_and_no_strangers() {
        let owners = Owners::default();
        assert_eq!(owners.user(0).as_deref(), Some(&b"root"[..]));
        assert!(owners.group(0).is_some());
        assert_eq!(owners.user(3_999_999_999), None);
        assert_eq!(owners.group(3_999_999_999), None);
        let numbers = Numbers::default();
        assert_eq!(numbers.user(b"root"), Some(0));
        assert_eq!(numbers.group(&owners.group(0).unwrap()), Some(0));
        assert_eq!(numbers.user(b"no one has this name"), None);
        assert_eq!(numbers.group(b"\xff"), None);
    }
}
