//! Names of users and groups by number, read once from `/etc/passwd` and `/etc/group`. Other
//! directories (LDAP and the like) are not asked: their entries keep numbers only.

use std::collections::HashMap;
use std::fs;

#[derive(Debug, Default)]
pub(super) struct Owners {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Owners {
    pub(super) fn read() -> Owners {
        let table = |path| parse(&fs::read(path).unwrap_or_default());
        Owners {
            users: table("/etc/passwd"),
            groups: table("/etc/group"),
        }
    }

    pub(super) fn user(&self, uid: u32) -> Option<Vec<u8>> {
        self.users.get(&uid).cloned()
    }

    pub(super) fn group(&self, gid: u32) -> Option<Vec<u8>> {
        self.groups.get(&gid).cloned()
    }
}

/// Lines of `name:password:number:…`; the first name of a number counts.
fn parse(text: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut names = HashMap::new();
    for line in text.split(|c| *c == b'\n') {
        let mut fields = line.split(|c| *c == b':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        let number = std::str::from_utf8(number)
            .ok()
            .and_then(|text| text.parse().ok());
        if let (Some(number), false) = (number, name.is_empty()) {
            names.entry(number).or_insert_with(|| name.to_vec());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_table() {
        let names =
            parse(b"root:x:0:0:r:/root:/bin/sh\ntoor:x:0:0::\n#x\n+\nbob:x:7:\n:x:9:\na:b:c");
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], b"root");
        assert_eq!(names[&7], b"bob");
    }
}
