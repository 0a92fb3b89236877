//! Leaf items: entries of a tree, and extents (docs/format.md, "Tree").

use super::fields::{Fields, FieldsBuilder, decode_time, encode_time};
use super::{Decoder, MAX_CHUNK, Malformed, len32, put_varint};
use crate::entry::{
    Content, Entry, Extent, Kind, MAX_INLINE, Meta, Xattr, is_sound_path, shared_bytes,
};
use crate::id::ChunkId;

const FILE: u8 = 1;
const FOLDER: u8 = 2;
const LINK: u8 = 3;
const FIFO: u8 = 4;
const SOCKET: u8 = 5;
const CHAR_DEVICE: u8 = 6;
const BLOCK_DEVICE: u8 = 7;

/// Items larger than this keep their attributes in a chunk.
pub(crate) const MAX_ITEM: usize = 4096;

/// Where the attributes of an entry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// In the item.
    Here,
    /// In a chunk of their own.
    Chunk(ChunkId),
}

/// Writes one item, its path shortened by what it shares with `before`.
pub(crate) fn encode_entry(
    entry: &Entry,
    attributes: &Attributes,
    before: &[u8],
    out: &mut Vec<u8>,
) {
    let mut fields = FieldsBuilder::default();
    fields.bytes(1, &shared_path(before, &entry.path));
    fields.u8(2, kind_number(&entry.kind));
    match &entry.kind {
        Kind::Link(target) => {
            fields.bytes(3, target);
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            let mut value = major.to_le_bytes().to_vec();
            value.extend_from_slice(&minor.to_le_bytes());
            fields.bytes(4, &value);
        }
        _ => {}
    }
    encode_meta(entry, &mut fields);
    match &entry.content {
        Content::None => {}
        Content::Inline(bytes) => {
            fields.bytes(9, bytes);
        }
        Content::Extents(extents) => {
            let mut value = Vec::with_capacity(extents.len() * 37);
            extents.iter().for_each(|e| encode_extent(e, &mut value));
            fields.bytes(10, &value);
        }
        Content::Paged { root, height } => {
            let mut value = root.0.to_vec();
            value.push(*height);
            fields.bytes(11, &value);
        }
    }
    match attributes {
        Attributes::Here => encode_xattrs(&entry.xattrs, &mut fields),
        Attributes::Chunk(id) => {
            fields.bytes(13, &id.0);
        }
    }
    fields.optional(14, entry.group.as_ref());
    let item = fields.finish();
    put_varint(out, len32(item.len()));
    out.extend_from_slice(&item);
}

fn encode_meta(entry: &Entry, fields: &mut FieldsBuilder) {
    let meta = &entry.meta;
    let mut stat = Vec::with_capacity(22);
    stat.extend_from_slice(&((meta.mode & 0o7777) as u16).to_le_bytes());
    stat.extend_from_slice(&meta.uid.to_le_bytes());
    stat.extend_from_slice(&meta.gid.to_le_bytes());
    encode_time(&mut stat, meta.mtime);
    fields.bytes(5, &stat);
    if entry.kind == Kind::File {
        let mut file = Vec::with_capacity(28);
        encode_time(&mut file, meta.ctime);
        file.extend_from_slice(&meta.inode.to_le_bytes());
        file.extend_from_slice(&meta.size.to_le_bytes());
        fields.bytes(6, &file);
    }
    fields
        .optional(7, meta.user.as_ref())
        .optional(8, meta.group.as_ref());
}

/// Attributes as fields 12: in an item, or alone in a chunk of kind 5.
pub(crate) fn encode_xattrs(xattrs: &[Xattr], fields: &mut FieldsBuilder) {
    for xattr in xattrs {
        let mut value = (xattr.name.len() as u16).to_le_bytes().to_vec();
        value.extend_from_slice(&xattr.name);
        value.extend_from_slice(&xattr.value);
        fields.bytes(12, &value);
    }
}

/// Reads fields 12.
pub(crate) fn decode_xattrs(fields: &Fields<'_>) -> Result<Vec<Xattr>, Malformed> {
    let decode = |value: &[u8]| {
        let mut d = Decoder::new(value, "extended attribute");
        let len = usize::from(d.u16()?);
        Ok(Xattr {
            name: d.take(len)?.to_vec(),
            value: d.rest().to_vec(),
        })
    };
    fields.all(12).map(decode).collect()
}

fn shared_path(before: &[u8], path: &[u8]) -> Vec<u8> {
    let shared = shared_bytes(before, path);
    let mut out = Vec::with_capacity(path.len() - shared + 2);
    put_varint(&mut out, len32(shared));
    out.extend_from_slice(path.get(shared..).unwrap_or(&[]));
    out
}

fn kind_number(kind: &Kind) -> u8 {
    match kind {
        Kind::File => FILE,
        Kind::Folder => FOLDER,
        Kind::Link(_) => LINK,
        Kind::Fifo => FIFO,
        Kind::Socket => SOCKET,
        Kind::CharDevice { .. } => CHAR_DEVICE,
        Kind::BlockDevice { .. } => BLOCK_DEVICE,
    }
}

/// Reads one item. The path must be sound and its kind known.
pub(crate) fn decode_entry(
    d: &mut Decoder<'_>,
    before: &[u8],
) -> Result<(Entry, Attributes), Malformed> {
    let len = d.varint()? as usize;
    let fields = Fields::decode(d.take(len)?, "entry")?;
    let path = decode_path(&fields, before)?;
    let kind = decode_kind(&fields)?;
    let meta = decode_meta(&fields, &kind)?;
    let content = decode_content(&fields)?;
    if kind != Kind::File && content != Content::None {
        return Err(fields.bad());
    }
    let attributes = match fields.optional_array(13)? {
        Some(id) => Attributes::Chunk(ChunkId(id)),
        None => Attributes::Here,
    };
    let group = fields.get(14).map(<[u8]>::to_vec);
    if group.as_ref().is_some_and(|g| !is_sound_path(g)) {
        return Err(fields.bad());
    }
    let entry = Entry {
        path,
        kind,
        meta,
        content,
        xattrs: decode_xattrs(&fields)?,
        group,
    };
    Ok((entry, attributes))
}

fn decode_path(fields: &Fields<'_>, before: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut d = Decoder::new(fields.need(1)?, "path");
    let shared = d.varint()? as usize;
    let mut path = before.get(..shared).ok_or(d.bad())?.to_vec();
    path.extend_from_slice(d.rest());
    if is_sound_path(&path) {
        Ok(path)
    } else {
        Err(d.bad())
    }
}

fn decode_kind(fields: &Fields<'_>) -> Result<Kind, Malformed> {
    let device = || {
        let mut d = Decoder::new(fields.need(4)?, "device");
        Ok::<_, Malformed>((d.u32()?, d.u32()?))
    };
    Ok(match fields.u8(2)? {
        FILE => Kind::File,
        FOLDER => Kind::Folder,
        LINK => Kind::Link(fields.need(3)?.to_vec()),
        FIFO => Kind::Fifo,
        SOCKET => Kind::Socket,
        CHAR_DEVICE => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
        BLOCK_DEVICE => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        _ => return Err(fields.bad()),
    })
}

fn decode_meta(fields: &Fields<'_>, kind: &Kind) -> Result<Meta, Malformed> {
    let mut d = Decoder::new(fields.need(5)?, "stat");
    let mut meta = Meta {
        mode: u32::from(d.u16()?),
        uid: d.u32()?,
        gid: d.u32()?,
        mtime: decode_time(&mut d)?,
        user: fields.get(7).map(<[u8]>::to_vec),
        group: fields.get(8).map(<[u8]>::to_vec),
        ..Meta::default()
    };
    if *kind == Kind::File {
        let mut d = Decoder::new(fields.need(6)?, "file stat");
        meta.ctime = decode_time(&mut d)?;
        meta.inode = d.u64()?;
        meta.size = d.u64()?;
    }
    Ok(meta)
}

fn decode_content(fields: &Fields<'_>) -> Result<Content, Malformed> {
    if let Some(bytes) = fields.get(9) {
        let fits = !bytes.is_empty() && bytes.len() <= MAX_INLINE;
        return if fits {
            Ok(Content::Inline(bytes.to_vec()))
        } else {
            Err(fields.bad())
        };
    }
    if let Some(value) = fields.get(10) {
        let mut d = Decoder::new(value, "extents");
        let mut extents = Vec::new();
        while !d.is_empty() {
            extents.push(decode_extent(&mut d)?);
        }
        return Ok(Content::Extents(extents));
    }
    if let Some(value) = fields.get(11) {
        let mut d = Decoder::new(value, "content list");
        return Ok(Content::Paged {
            root: ChunkId(d.array()?),
            height: d.u8()?,
        });
    }
    Ok(Content::None)
}

/// Writes an extent.
pub(crate) fn encode_extent(extent: &Extent, out: &mut Vec<u8>) {
    match extent {
        Extent::Chunk { id, len } => {
            out.push(0);
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&len.to_le_bytes());
        }
        Extent::Hole(len) => {
            out.push(1);
            out.extend_from_slice(&len.to_le_bytes());
        }
    }
}

/// Reads an extent.
pub(crate) fn decode_extent(d: &mut Decoder<'_>) -> Result<Extent, Malformed> {
    match d.u8()? {
        0 => {
            let (id, len) = (ChunkId(d.array()?), d.u32()?);
            if len as usize > MAX_CHUNK {
                return Err(d.bad());
            }
            Ok(Extent::Chunk { id, len })
        }
        1 => d.u64().map(Extent::Hole),
        _ => Err(d.bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn file() -> Entry {
        Entry {
            path: b"a/b.txt".to_vec(),
            kind: Kind::File,
            meta: Meta {
                mode: 0o4755,
                uid: 1,
                gid: 2,
                user: Some(b"ana".to_vec()),
                group: None,
                mtime: Timestamp {
                    seconds: -1,
                    nanos: 999_999_999,
                },
                ctime: Timestamp {
                    seconds: 3,
                    nanos: 4,
                },
                inode: 5,
                size: 6,
            },
            content: Content::Extents(vec![
                Extent::Chunk {
                    id: ChunkId([1; 32]),
                    len: 6,
                },
                Extent::Hole(1 << 40),
            ]),
            xattrs: vec![Xattr {
                name: b"user.x".to_vec(),
                value: vec![0, 255],
            }],
            group: Some(b"a/a.txt".to_vec()),
        }
    }

    #[test]
    fn entries_there_and_back() {
        let mut folder = file();
        folder.kind = Kind::Folder;
        folder.content = Content::None;
        folder.meta = Meta {
            mode: 0o755,
            ..Meta::default()
        };
        let mut device = folder.clone();
        device.kind = Kind::BlockDevice { major: 8, minor: 1 };
        let mut link = folder.clone();
        link.kind = Kind::Link(b"../x\xff".to_vec());
        let mut inline = file();
        inline.content = Content::Inline(b"hello!".to_vec());
        for entry in [file(), folder, device, link, inline] {
            let mut out = Vec::new();
            encode_entry(&entry, &Attributes::Here, b"a/a.txt", &mut out);
            let mut d = Decoder::new(&out, "test");
            assert_eq!(
                decode_entry(&mut d, b"a/a.txt").unwrap(),
                (entry, Attributes::Here)
            );
            d.end().unwrap();
            for i in 0..out.len() {
                let mut bad = out.clone();
                bad[i] ^= 0x11;
                let _ = decode_entry(&mut Decoder::new(&bad, "test"), b"a/a.txt");
                assert!(decode_entry(&mut Decoder::new(&out[..i], "test"), b"a/a.txt").is_err());
            }
        }
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in [
            &b"../x"[..],
            b"/etc/passwd",
            b"a/../../x",
            b"a//b",
            b"a/.",
            b"a\0b",
        ] {
            let entry = Entry {
                path: path.to_vec(),
                ..file()
            };
            let mut out = Vec::new();
            encode_entry(&entry, &Attributes::Here, b"", &mut out);
            assert!(
                decode_entry(&mut Decoder::new(&out, "test"), b"").is_err(),
                "{path:?}"
            );
        }
    }
}
