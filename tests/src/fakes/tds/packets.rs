//! Packets and tokens: what goes over the line (MS-TDS 2.2.3 and 2.2.7).

use std::io::{self, Read};

pub const BATCH: u8 = 1;
pub const REPLY: u8 = 4;
pub const ATTENTION: u8 = 6;
pub const PRELOGIN: u8 = 0x12;
pub const LOGIN: u8 = 0x10;
/// Bytes of a packet's header.
pub const HEADER: usize = 8;
/// Bytes of a packet that we send.
pub const PACKET: usize = 4096;
const LAST: u8 = 1;
/// Of texts: Latin1_General, code page 1252.
const COLLATION: [u8; 5] = [0x09, 0x04, 0xd0, 0x00, 0x34];

/// A message from a client.
pub struct Message {
    pub kind: u8,
    pub bytes: Vec<u8>,
}

impl Message {
    /// Reads one, which may come in several packets.
    pub fn read(line: &mut (impl Read + ?Sized)) -> io::Result<Message> {
        let mut bytes = Vec::new();
        loop {
            let mut header = [0; HEADER];
            line.read_exact(&mut header)?;
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let length = length.checked_sub(HEADER).ok_or_else(odd)?;
            let before = bytes.len();
            bytes.resize(before + length, 0);
            line.read_exact(&mut bytes[before..])?;
            if header[1] & LAST != 0 {
                let kind = header[0];
                return Ok(Message { kind, bytes });
            }
        }
    }

    /// The statement of a batch, behind its headers.
    pub fn batch(&self) -> io::Result<String> {
        let headers = self.bytes.first_chunk().map(|b| u32::from_le_bytes(*b));
        let headers = headers.and_then(|length| usize::try_from(length).ok());
        let text = headers.and_then(|length| self.bytes.get(length..));
        utf16(text.ok_or_else(odd)?)
    }
}

/// What arrived is not as the protocol says.
pub fn odd() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packet is not as it must be")
}

/// Text as the protocol has it.
pub fn utf16(bytes: &[u8]) -> io::Result<String> {
    let units = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    String::from_utf16(&units.collect::<Vec<_>>()).map_err(|_| odd())
}

/// A packet of a kind.
pub fn packet(kind: u8, bytes: &[u8], is_last: bool) -> Vec<u8> {
    let length = u16::try_from(HEADER + bytes.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut packet = vec![kind, u8::from(is_last), high, low, 0, 0, 1, 0];
    packet.extend_from_slice(bytes);
    packet
}

/// A value in an answer.
#[derive(Debug, Clone)]
pub enum Cell {
    Text(Option<String>),
    Int(Option<i64>),
    Bit(bool),
    /// `numeric(25, 0)`.
    Numeric(u128),
    /// Days since 1900, 300ths of a second.
    Moment(i32, u32),
}

/// Something that the server says: number, class, words.
#[derive(Debug, Clone)]
pub struct Said {
    pub number: u32,
    pub class: u8,
    pub words: String,
}

impl Said {
    pub fn new(number: u32, class: u8, words: impl Into<String>) -> Said {
        Said {
            number,
            class,
            words: words.into(),
        }
    }
}

/// An answer on its way.
pub struct Reply<'a> {
    line: &'a mut dyn super::Line,
    bytes: Vec<u8>,
}

impl<'a> Reply<'a> {
    pub fn new(line: &'a mut dyn super::Line) -> Reply<'a> {
        Reply {
            line,
            bytes: Vec::new(),
        }
    }

    /// Sends what is there, without an end.
    pub fn flush(&mut self) -> io::Result<()> {
        self.send(false)
    }

    /// Sends what is there, as the end.
    pub fn end(mut self) -> io::Result<()> {
        self.send(true)
    }

    fn send(&mut self, is_end: bool) -> io::Result<()> {
        let all = std::mem::take(&mut self.bytes);
        let mut parts = all.chunks(PACKET - HEADER).peekable();
        while let Some(part) = parts.next() {
            let is_last = is_end && parts.peek().is_none();
            self.line.write_all(&packet(REPLY, part, is_last))?;
        }
        self.line.flush()
    }

    /// Rows with the names and kinds of their columns.
    pub fn rows(&mut self, columns: &[&str], rows: &[Vec<Cell>], like: &[Cell]) {
        self.bytes.push(0x81);
        self.u16(columns.len());
        for (name, cell) in columns.iter().zip(like) {
            self.bytes.extend([0; 4]); // a type of the system
            self.bytes.extend([1, 0]); // may be NULL
            self.kind(cell);
            self.short_text(name);
        }
        for row in rows {
            self.bytes.push(0xd1);
            row.iter().for_each(|cell| self.cell(cell));
        }
        self.done(0x10, rows.len());
    }

    fn kind(&mut self, cell: &Cell) {
        match cell {
            Cell::Text(_) => {
                self.bytes.extend([0xe7, 0x40, 0x1f]); // nvarchar(4000)
                self.bytes.extend(COLLATION);
            }
            Cell::Int(_) => self.bytes.extend([0x26, 8]),
            Cell::Bit(_) => self.bytes.extend([0x68, 1]),
            Cell::Numeric(_) => self.bytes.extend([0x6c, 17, 25, 0]),
            Cell::Moment(..) => self.bytes.extend([0x6f, 8]),
        }
    }

    fn cell(&mut self, cell: &Cell) {
        match cell {
            Cell::Text(None) => self.bytes.extend([0xff, 0xff]),
            Cell::Text(Some(text)) => {
                let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                self.u16(units.len());
                self.bytes.extend(units);
            }
            Cell::Int(None) => self.bytes.push(0),
            Cell::Int(Some(number)) => {
                self.bytes.push(8);
                self.bytes.extend(number.to_le_bytes());
            }
            Cell::Bit(bit) => self.bytes.extend([1, u8::from(*bit)]),
            Cell::Numeric(number) => {
                self.bytes.extend([17, 1]);
                self.bytes.extend(number.to_le_bytes());
            }
            Cell::Moment(days, parts) => {
                self.bytes.push(8);
                self.bytes.extend(days.to_le_bytes());
                self.bytes.extend(parts.to_le_bytes());
            }
        }
    }

    /// The end of a statement that went well.
    pub fn done(&mut self, status: u16, rows: usize) {
        self.bytes.push(0xfd);
        self.bytes.extend(status.to_le_bytes());
        self.bytes.extend([0, 0]);
        self.bytes.extend((rows as u64).to_le_bytes());
    }

    /// The answer to a client that cancels.
    pub fn attention(&mut self) {
        self.done(0x20, 0);
    }

    /// The end of a statement that failed.
    pub fn failed(&mut self, all: &[Said]) {
        all.iter().for_each(|said| self.said(0xaa, said));
        self.done(2, 0);
    }

    /// Something that is no failure.
    pub fn info(&mut self, said: &Said) {
        self.said(0xab, said);
    }

    fn said(&mut self, token: u8, said: &Said) {
        let mut body = Reply {
            line: &mut io::empty(),
            bytes: Vec::new(),
        };
        body.bytes.extend(said.number.to_le_bytes());
        body.bytes.extend([1, said.class]);
        body.u16(said.words.encode_utf16().count());
        body.bytes
            .extend(said.words.encode_utf16().flat_map(u16::to_le_bytes));
        body.short_text("FAKE");
        body.short_text("");
        body.bytes.extend(1_u32.to_le_bytes());
        let body = body.bytes;
        self.bytes.push(token);
        self.u16(body.len());
        self.bytes.extend(body);
    }

    /// A change of the session's surroundings.
    pub fn changed(&mut self, what: u8, new: &str, old: &str) {
        self.bytes.push(0xe3);
        let units = new.encode_utf16().count() + old.encode_utf16().count();
        self.u16(3 + 2 * units);
        self.bytes.push(what);
        self.short_text(new);
        self.short_text(old);
    }

    /// The answer to a login.
    pub fn welcome(&mut self) {
        let name = "Microsoft SQL Server";
        self.bytes.push(0xad);
        self.u16(10 + 2 * name.len());
        self.bytes.extend([1, 0x74, 0, 0, 4]);
        self.short_text(name);
        self.bytes.extend([16, 0, 0x10, 0x09]);
    }

    fn u16(&mut self, number: usize) {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        self.bytes.extend(number.to_le_bytes());
    }

    fn short_text(&mut self, text: &str) {
        let units = text.encode_utf16().count();
        self.bytes.push(u8::try_from(units).unwrap_or(u8::MAX));
        self.bytes
            .extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    }
}
