//! Members in a manifest, and what is known of a stream (docs/format.md, "Members").

use super::{Decoder, Fields, FieldsBuilder, Malformed};
use crate::member::{MAX_TEXT, MAX_WARNINGS, Member, Rehearsal, StreamFacts};

/// The last field of a member that this version knows.
const LAST: u8 = 14;

/// Writes what a manifest says of a member.
pub(crate) fn encode_member(member: &Member) -> Vec<u8> {
    let mut fields = FieldsBuilder::default();
    fields
        .bytes(1, member.name.as_bytes())
        .bytes(2, member.kind.as_bytes())
        .bytes(3, member.form.as_bytes())
        .bytes(4, short(&member.server).as_bytes())
        .bytes(5, short(&member.tool).as_bytes())
        .u64(6, member.bytes)
        .u64(7, member.streams)
        .u64(8, member.tables)
        .u64(10, member.duration_ms);
    if let Some(rows) = member.rows {
        fields.u64(9, rows);
    }
    for warning in member.warnings.iter().take(MAX_WARNINGS) {
        fields.bytes(11, short(warning).as_bytes());
    }
    fields.u64(12, member.warning_count);
    pairs(&member.properties, 13, &mut fields);
    if let Some(why) = &member.failed {
        fields.bytes(14, short(why).as_bytes());
    }
    for (tag, value) in &member.unknown {
        fields.bytes(*tag, value);
    }
    fields.finish()
}

/// Reads what a manifest says of a member.
pub(crate) fn decode_member(bytes: &[u8]) -> Result<Member, Malformed> {
    let fields = Fields::decode(bytes, "member")?;
    let text = |tag| fields.text(tag).unwrap_or_default();
    let lossy = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
    Ok(Member {
        name: text(1),
        kind: text(2),
        form: text(3),
        server: text(4),
        tool: text(5),
        bytes: fields.u64_or(6, 0)?,
        streams: fields.u64_or(7, 0)?,
        tables: fields.u64_or(8, 0)?,
        rows: fields.get(9).map(|_| fields.u64(9)).transpose()?,
        duration_ms: fields.u64_or(10, 0)?,
        warnings: fields.all(11).map(lossy).collect(),
        warning_count: fields.u64_or(12, 0)?,
        properties: decode_pairs(&fields, 13)?,
        failed: fields.text(14),
        unknown: (fields.iter().filter(|(tag, _)| *tag > LAST))
            .map(|(tag, value)| (tag, value.to_vec()))
            .collect(),
    })
}

/// Writes what is known of a stream.
pub(crate) fn encode_facts(facts: &StreamFacts) -> Vec<u8> {
    let mut fields = FieldsBuilder::default();
    fields.bytes(1, &facts.digest);
    for (table, rows) in &facts.rows {
        let mut value = rows.to_le_bytes().to_vec();
        value.extend_from_slice(table.as_bytes());
        fields.bytes(2, &value);
    }
    pairs(&facts.properties, 3, &mut fields);
    fields.finish()
}

/// Reads what is known of a stream.
pub(crate) fn decode_facts(bytes: &[u8]) -> Result<StreamFacts, Malformed> {
    let fields = Fields::decode(bytes, "stream")?;
    let rows = |value: &[u8]| {
        let mut d = Decoder::new(value, "stream");
        let rows = d.u64()?;
        Ok((String::from_utf8_lossy(d.rest()).into_owned(), rows))
    };
    Ok(StreamFacts {
        digest: fields.array(1)?,
        rows: fields.all(2).map(rows).collect::<Result<_, Malformed>>()?,
        properties: decode_pairs(&fields, 3)?,
    })
}

/// Writes how a rehearsal ended.
pub(crate) fn encode_rehearsal(rehearsal: &Rehearsal) -> Vec<u8> {
    let mut fields = FieldsBuilder::default();
    fields
        .time(1, rehearsal.time)
        .u8(2, u8::from(rehearsal.passed))
        .u64(3, rehearsal.duration_ms);
    for line in rehearsal.lines.iter().take(MAX_LINES) {
        fields.bytes(4, short(line).as_bytes());
    }
    fields.finish()
}

/// Reads how a rehearsal ended.
pub(crate) fn decode_rehearsal(bytes: &[u8]) -> Result<Rehearsal, Malformed> {
    let fields = Fields::decode(bytes, "rehearsal")?;
    let lossy = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
    Ok(Rehearsal {
        time: fields.time(1)?,
        passed: fields.u8(2)? == 1,
        duration_ms: fields.u64_or(3, 0)?,
        lines: fields.all(4).map(lossy).collect(),
    })
}

/// Most members that the record of a rehearsal tells of.
const MAX_LINES: usize = 50;

/// A manifest is small.
fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn pairs(pairs: &[(String, String)], tag: u8, fields: &mut FieldsBuilder) {
    for (name, value) in pairs {
        let mut bytes = (name.len() as u16).to_le_bytes().to_vec();
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(value.as_bytes());
        fields.bytes(tag, &bytes);
    }
}

fn decode_pairs(fields: &Fields<'_>, tag: u8) -> Result<Vec<(String, String)>, Malformed> {
    let pair = |value: &[u8]| {
        let mut d = Decoder::new(value, "property");
        let len = usize::from(d.u16()?);
        let name = String::from_utf8_lossy(d.take(len)?).into_owned();
        Ok((name, String::from_utf8_lossy(d.rest()).into_owned()))
    };
    fields.all(tag).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_there_and_back() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let member = Member {
            name: "inventory".into(),
            kind: "postgres".into(),
            form: "tables".into(),
            server: "PostgreSQL 15.18".into(),
            tool: "pg_dump 15.18".into(),
            bytes: 1,
            streams: 2,
            tables: 3,
            rows: Some(4),
            duration_ms: 5,
            warnings: vec!["w".into()],
            warning_count: 1,
            properties: vec![pair("encoding", "UTF8"), pair("x", "")],
            failed: Some("why".into()),
            unknown: vec![(15, b"later".to_vec())],
        };
        assert_eq!(decode_member(&encode_member(&member)).unwrap(), member);
        let none = Member::default();
        assert_eq!(decode_member(&encode_member(&none)).unwrap(), none);
        let facts = StreamFacts {
            digest: [7; 32],
            rows: vec![("public.a".into(), 0), ("b".into(), u64::MAX)],
            properties: vec![pair("order", "key")],
        };
        let bytes = encode_facts(&facts);
        assert_eq!(decode_facts(&bytes).unwrap(), facts);
        assert_eq!(facts.property("order"), Some("key"));
        for cut in 0..bytes.len() {
            // Whatever comes of it, it is no panic.
            let _ = decode_facts(&bytes[..cut]);
        }
    }

    #[test]
    fn rehearsals_there_and_back() {
        let rehearsal = Rehearsal {
            time: crate::clock::Timestamp {
                seconds: 5,
                nanos: 6,
            },
            passed: true,
            duration_ms: 7,
            lines: vec!["shop.db: 9 rows".into()],
        };
        let bytes = encode_rehearsal(&rehearsal);
        assert_eq!(decode_rehearsal(&bytes).unwrap(), rehearsal);
        assert!(decode_rehearsal(&bytes[..5]).is_err());
    }

    #[test]
    fn long_texts_are_cut() {
        let member = Member {
            server: "é".repeat(1000),
            warnings: vec!["w".into(); 50],
            warning_count: 50,
            ..Member::default()
        };
        let back = decode_member(&encode_member(&member)).unwrap();
        assert_eq!(back.server.chars().count(), MAX_TEXT);
        assert_eq!(
            (back.warnings.len(), back.warning_count),
            (MAX_WARNINGS, 50)
        );
    }
}
