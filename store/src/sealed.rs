//! Bytes that may leave this process.
//!
//! Only [`Sealed`] can be handed to a backend, and only the sealing and packing code of this crate
//! makes one: plain bytes cannot be stored by mistake.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

/// The stored form of one object: in memory, or in a spool file.
#[derive(Debug)]
pub struct Sealed {
    body: Body,
}

#[derive(Debug)]
enum Body {
    Bytes(Vec<u8>),
    Spool { file: File, len: u64 },
}

impl Sealed {
    /// Takes stored bytes as they are; callers vouch that they are sealed or meant to be public.
    pub(crate) fn from_stored(bytes: Vec<u8>) -> Sealed {
        Sealed {
            body: Body::Bytes(bytes),
        }
    }

    /// Takes a spool file of `len` stored bytes.
    pub(crate) fn from_spool(file: File, len: u64) -> Sealed {
        Sealed {
            body: Body::Spool { file, len },
        }
    }

    /// Stored bytes.
    pub fn len(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Spool { len, .. } => *len,
        }
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces bytes in the middle.
    ///
    /// # Errors
    /// When the spool file cannot be written, or there are fewer bytes.
    pub(crate) fn overwrite(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        match &mut self.body {
            Body::Bytes(body) => {
                let range = body.get_mut(offset..offset + bytes.len());
                let range = range.ok_or(io::ErrorKind::UnexpectedEof)?;
                range.copy_from_slice(bytes);
                Ok(())
            }
            Body::Spool { file, .. } => {
                file.seek(SeekFrom::Start(offset as u64))?;
                file.write_all(bytes)
            }
        }
    }

    /// A reader from the first byte on. One at a time: a spool file has one position.
    ///
    /// # Errors
    /// When the spool file cannot be read.
    pub fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        match &self.body {
            Body::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes.as_slice()))),
            Body::Spool { file, len } => {
                let mut file = file;
                file.seek(SeekFrom::Start(0))?;
                Ok(Box::new(file.take(*len)))
            }
        }
    }

    /// All stored bytes.
    ///
    /// # Errors
    /// When the spool file cannot be read, or is shorter than it was.
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0));
        self.reader()?.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != self.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }
}
