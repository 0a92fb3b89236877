//! Chunks of a reader, through one buffer that is used again and again.
//!
//! It does not open, seek or time anything, and it keeps no chunk: each one is lent until the
//! next call.

use crate::Cutter;
use std::fmt;
use std::io::{self, ErrorKind, Read};

/// A buffer of two largest chunks: room to read ahead, so that bytes are moved only once a
/// largest chunk has been handed out since the last move.
const BUFFERED_CHUNKS: usize = 2;

/// Cuts what a reader yields, lending one chunk at a time.
///
/// The chunks depend on the bytes alone, not on how many of them a read returns.
///
/// Memory: one buffer of 2 × [`max_size`](crate::Profile::max_size), allocated once. To cut many
/// inputs, keep the stream and call [`reset`](Self::reset) between them.
///
/// Invariant: `start ≤ end ≤ buffer.len()`; `buffer[start..end]` is read but not yet lent.
pub struct ChunkStream {
    cutter: Cutter,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The reader said that it has no more.
    ended: bool,
}

impl ChunkStream {
    /// A stream with an empty buffer, ready for its first input.
    pub fn new(cutter: &Cutter) -> ChunkStream {
        let size = BUFFERED_CHUNKS * cutter.profile().max_size();
        let buffer = vec![0; size].into_boxed_slice();
        ChunkStream {
            cutter: cutter.clone(),
            buffer,
            start: 0,
            end: 0,
            ended: false,
        }
    }

    /// The next chunk of the input, or `None` at its end, and again `None` until a
    /// [`reset`](Self::reset).
    ///
    /// Pass the same `reader` until then; it may have been read ahead of the chunk. A chunk is
    /// never empty. No read follows one that returned 0 bytes.
    ///
    /// # Errors
    ///
    /// Whatever the reader reports, except [`ErrorKind::Interrupted`], which is tried again. No
    /// byte is lost: a later call goes on where the reader failed.
    pub fn next<'b>(&'b mut self, reader: &mut dyn Read) -> io::Result<Option<&'b [u8]>> {
        let length = loop {
            if let Some(length) = self.cutter.cut(self.pending(), self.ended) {
                break length;
            }
            if self.ended {
                return Ok(None);
            }
            self.read_more(reader)?;
        };
        let from = self.start;
        self.start += length;
        Ok(Some(lent(&self.buffer, from, self.start)))
    }

    /// Forgets the input, finished or not, and keeps the buffer for another one.
    pub fn reset(&mut self) {
        (self.start, self.end, self.ended) = (0, 0, false);
    }

    /// The bytes read but not yet lent.
    fn pending(&self) -> &[u8] {
        lent(&self.buffer, self.start, self.end)
    }

    /// Reads once, as much as there is room for.
    fn read_more(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        self.make_room();
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let size = room.len();
        match reader.read(room) {
            Ok(0) => self.ended = true,
            Ok(read) if read <= size => self.end += read,
            Ok(_) => {
                return Err(io::Error::other(
                    "reader claims more bytes than it was given",
                ));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Moves the pending bytes to the front, once they have reached the back. They are fewer than
    /// a largest chunk (or there would be a cut), so at least as many have been lent since the
    /// last move, and there is room afterwards.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

impl fmt::Debug for ChunkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkStream")
            .field("cutter", &self.cutter)
            .field("pending", &(self.end - self.start))
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// `buffer[from..to]`, loudly: an empty slice in its place would be a chunk lost.
fn lent(buffer: &[u8], from: usize, to: usize) -> &[u8] {
    buffer
        .get(from..to)
        .expect("from ≤ to ≤ buffer.len() in every ChunkStream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GearTable, Profile};
    use std::sync::Arc;

    /// Hands out what each step says, then the end.
    struct Script(Vec<io::Result<usize>>);

    impl Read for Script {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            assert!(!room.is_empty(), "asked to read into nothing");
            if self.0.is_empty() {
                Ok(0)
            } else {
                self.0.remove(0)
            }
        }
    }

    fn stream(size: usize) -> ChunkStream {
        let table = Arc::new(GearTable::derive(&[1; 32]));
        ChunkStream::new(&Cutter::new(table, Profile::fixed(size).unwrap()))
    }

    #[test]
    fn buffer_is_two_largest_chunks_and_stays() {
        let mut stream = stream(512);
        let place = stream.buffer.as_ptr();
        for _ in 0..3 {
            let mut reader = io::repeat(1).take(5_000);
            while stream.next(&mut reader).unwrap().is_some() {}
            stream.reset();
        }
        assert_eq!((stream.buffer.len(), stream.buffer.as_ptr()), (1024, place));
    }

    #[test]
    fn interrupted_is_tried_again() {
        let mut reader = Script(vec![Err(ErrorKind::Interrupted.into()), Ok(3)]);
        assert_eq!(stream(512).next(&mut reader).unwrap().unwrap().len(), 3);
    }

    #[test]
    fn an_error_is_reported_and_loses_nothing() {
        let mut stream = stream(512);
        let mut reader = Script(vec![Ok(500), Err(ErrorKind::TimedOut.into()), Ok(100)]);
        assert_eq!(
            stream.next(&mut reader).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(stream.next(&mut reader).unwrap().unwrap().len(), 512);
        assert_eq!(stream.next(&mut reader).unwrap().unwrap().len(), 88);
        assert_eq!(stream.next(&mut reader).unwrap(), None);
    }

    #[test]
    fn the_end_is_final_until_reset() {
        let mut stream = stream(512);
        let mut reader = Script(vec![Ok(10), Ok(0), Ok(20)]);
        assert_eq!(stream.next(&mut reader).unwrap().unwrap().len(), 10);
        assert_eq!(stream.next(&mut reader).unwrap(), None);
        assert_eq!(stream.next(&mut reader).unwrap(), None);
        stream.reset();
        assert_eq!(stream.next(&mut reader).unwrap().unwrap().len(), 20);
    }

    #[test]
    fn reset_forgets_what_was_read_ahead() {
        let mut stream = stream(512);
        assert_eq!(stream.next(&mut io::repeat(1)).unwrap().unwrap(), [1; 512]);
        stream.reset();
        assert_eq!(stream.next(&mut &[2_u8; 7][..]).unwrap().unwrap(), [2; 7]);
        assert_eq!(stream.next(&mut io::empty()).unwrap(), None);
    }

    #[test]
    fn a_lying_reader_is_an_error() {
        let mut reader = Script(vec![Ok(usize::MAX)]);
        assert!(stream(512).next(&mut reader).is_err());
    }

    #[test]
    fn debug_keeps_the_data() {
        let mut stream = stream(512);
        stream.next(&mut io::repeat(77)).unwrap();
        assert!(!format!("{stream:?}").contains("77"));
    }
}
