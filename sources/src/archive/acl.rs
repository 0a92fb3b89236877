//! POSIX ACLs from the form in which Linux keeps them as attributes into text, with numbers only
//! (acl(5), "Short text form"). What is malformed stays an attribute.

/// Version of the binary form.
const VERSION: u32 = 2;
/// Bytes of one row: tag, permissions, number.
const ROW: usize = 8;

/// The text of an ACL; `None` when it is none of version 2.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let (version, rows) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || rows.len() % ROW != 0 {
        return None;
    }
    let texts: Option<Vec<String>> = rows.chunks_exact(ROW).map(row).collect();
    Some(texts?.join(","))
}

fn row(row: &[u8]) -> Option<String> {
    let &[tag, tag_high, perm, 0, a, b, c, d] = row else {
        return None;
    };
    let number = u32::from_le_bytes([a, b, c, d]);
    let who = match u16::from_le_bytes([tag, tag_high]) {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{number}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{number}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let letter = |bit: u8, letter| if perm & bit != 0 { letter } else { '-' };
    let [r, w, x] = [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')];
    (perm <= 7).then(|| format!("{who}:{r}{w}{x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_text() {
        let mut acl = 2u32.to_le_bytes().to_vec();
        let rows = [
            (1u16, 6u16, !0u32),
            (2, 4, 7),
            (4, 5, !0),
            (8, 0, 55),
            (16, 7, !0),
            (32, 1, !0),
        ];
        for (tag, perm, id) in rows {
            acl.extend(tag.to_le_bytes());
            acl.extend(perm.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        let expected = "user::rw-,user:7:r--,group::r-x,group:55:---,mask::rwx,other::--x";
        assert_eq!(text(&acl).as_deref(), Some(expected));
        assert_eq!(text(&acl[..acl.len() - 1]), None);
        acl[0] = 1;
        assert_eq!(text(&acl), None);
        assert_eq!(text(b""), None);
        assert_eq!(text(&[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
