//! Pages: leaf, inner, content and attribute pages (docs/format.md, "Tree").

use super::entry::{self, Attributes};
use super::fields::{Fields, FieldsBuilder};
use super::{Decoder, Malformed, len32, put_varint};
use crate::entry::{Entry, Extent, Xattr};
use crate::id::ChunkId;

/// Largest page, but for a single item that is larger.
pub(crate) const MAX_PAGE: usize = 64 << 10;
/// A page may end from here on.
pub(crate) const MIN_PAGE: usize = 16 << 10;
/// Bytes before the items.
pub(crate) const HEADER: usize = 6;
/// Highest tree; four levels hold billions of entries.
pub(crate) const MAX_HEIGHT: u8 = 12;

/// Longest path of an entry.
const MAX_PATH: usize = 64 << 10;
/// All paths of one page: they are shortened by what they share, so few bytes may stand for many.
const MAX_PATHS: usize = 64 << 20;

/// What a page holds; the numbers stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PageKind {
    Leaf = 1,
    Inner = 2,
    ContentLeaf = 3,
    ContentInner = 4,
    Attributes = 5,
}

/// A child of an inner page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub page: ChunkId,
    /// Entries below it.
    pub entries: u64,
    /// Plain bytes of the files below it.
    pub bytes: u64,
    /// Path of its first entry.
    pub first: Vec<u8>,
}

/// A child of an inner page of a content list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentChild {
    pub page: ChunkId,
    pub bytes: u64,
}

/// A decoded page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    Leaf(Vec<(Entry, Attributes)>),
    Inner(Vec<Child>),
    ContentLeaf(Vec<Extent>),
    ContentInner(Vec<ContentChild>),
    Attributes(Vec<Xattr>),
}

/// Puts the header before encoded items.
pub(crate) fn encode_page(kind: PageKind, height: u8, count: usize, items: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + items.len());
    out.extend_from_slice(&[kind as u8, height]);
    out.extend_from_slice(&len32(count).to_le_bytes());
    out.extend_from_slice(items);
    out
}

/// A page of attributes.
pub(crate) fn encode_attributes(xattrs: &[Xattr]) -> Vec<u8> {
    let mut fields = FieldsBuilder::default();
    entry::encode_xattrs(xattrs, &mut fields);
    encode_page(PageKind::Attributes, 0, xattrs.len(), &fields.finish())
}

/// Writes an inner item.
pub(crate) fn encode_child(child: &Child, out: &mut Vec<u8>) {
    out.extend_from_slice(&child.page.0);
    out.extend_from_slice(&child.entries.to_le_bytes());
    out.extend_from_slice(&child.bytes.to_le_bytes());
    put_varint(out, len32(child.first.len()));
    out.extend_from_slice(&child.first);
}

/// Writes an inner item of a content list.
pub(crate) fn encode_content_child(child: &ContentChild, out: &mut Vec<u8>) {
    out.extend_from_slice(&child.page.0);
    out.extend_from_slice(&child.bytes.to_le_bytes());
}

/// Reads a page of the height that its parent promised.
pub(crate) fn decode_page(bytes: &[u8], height: u8) -> Result<Page, Malformed> {
    let mut d = Decoder::new(bytes, "page");
    let (kind, own_height) = (d.u8()?, d.u8()?);
    let count = d.u32()? as usize;
    if own_height != height || count > d.remaining() {
        return Err(d.bad());
    }
    let page = match (kind, height) {
        (1, 0) => Page::Leaf(decode_leaf(&mut d, count)?),
        (2, 1..=MAX_HEIGHT) => Page::Inner(repeat(&mut d, count, decode_child)?),
        (3, 0) => Page::ContentLeaf(repeat(&mut d, count, entry::decode_extent)?),
        (4, 1..=MAX_HEIGHT) => Page::ContentInner(repeat(&mut d, count, decode_content_child)?),
        (5, 0) => Page::Attributes(entry::decode_xattrs(&Fields::decode(d.rest(), "page")?)?),
        _ => return Err(d.bad()),
    };
    d.end()?;
    Ok(page)
}

fn repeat<T>(
    d: &mut Decoder<'_>,
    count: usize,
    one: impl Fn(&mut Decoder<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(one(d)?);
    }
    Ok(items)
}

fn decode_leaf(d: &mut Decoder<'_>, count: usize) -> Result<Vec<(Entry, Attributes)>, Malformed> {
    let mut items: Vec<(Entry, Attributes)> = Vec::new();
    let mut paths = 0;
    for _ in 0..count {
        let before = items.last().map_or(&[][..], |(e, _)| &e.path);
        let item = entry::decode_entry(d, before)?;
        paths += item.0.path.len();
        let small = item.0.path.len() <= MAX_PATH && paths <= MAX_PATHS;
        let ascending = items.last().is_none_or(|(last, _)| {
            crate::entry::path_order(&last.path, &item.0.path) == std::cmp::Ordering::Less
        });
        if !ascending || !small {
            return Err(d.bad());
        }
        items.push(item);
    }
    Ok(items)
}

fn decode_child(d: &mut Decoder<'_>) -> Result<Child, Malformed> {
    let page = ChunkId(d.array()?);
    let (entries, bytes) = (d.u64()?, d.u64()?);
    let len = d.varint()? as usize;
    Ok(Child {
        page,
        entries,
        bytes,
        first: d.take(len)?.to_vec(),
    })
}

fn decode_content_child(d: &mut Decoder<'_>) -> Result<ContentChild, Malformed> {
    Ok(ContentChild {
        page: ChunkId(d.array()?),
        bytes: d.u64()?,
    })
}
