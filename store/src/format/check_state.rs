//! The state of a check that reads packs little by little (docs/format.md, "State of a check").

use super::{Decoder, Malformed, len32, put_varint};

/// Packs that were verified at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Seconds since 1970.
    pub time: i64,
    /// The first four bytes of their names, ascending.
    pub packs: Vec<u32>,
}

/// The stored form of a part.
pub(crate) fn encode(groups: &[Group]) -> Vec<u8> {
    let mut out = Vec::new();
    for group in groups {
        out.extend_from_slice(&group.time.to_le_bytes());
        out.extend_from_slice(&len32(group.packs.len()).to_le_bytes());
        let mut last = 0;
        for pack in &group.packs {
            put_varint(&mut out, pack.saturating_sub(last));
            last = *pack;
        }
    }
    out
}

/// Reads the stored form of a part.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Group>, Malformed> {
    let mut d = Decoder::new(bytes, "state of a check");
    let mut groups = Vec::new();
    while !d.is_empty() {
        let time = i64::from_le_bytes(d.array()?);
        let count = d.u32()? as usize;
        if count > d.remaining() {
            return Err(d.bad());
        }
        let mut last = 0u32;
        let mut packs = Vec::with_capacity(count);
        for _ in 0..count {
            last = last.checked_add(d.varint()?).ok_or(d.bad())?;
            packs.push(last);
        }
        groups.push(Group { time, packs });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let groups = vec![
            Group {
                time: -5,
                packs: vec![0, 1, 300, u32::MAX],
            },
            Group {
                time: 1_800_000_000,
                packs: vec![],
            },
        ];
        let bytes = encode(&groups);
        assert_eq!(decode(&bytes).unwrap(), groups);
        for cut in 0..bytes.len() {
            let _ = decode(&bytes[..cut]);
        }
        assert!(decode(&[255; 40]).is_err());
    }
}
