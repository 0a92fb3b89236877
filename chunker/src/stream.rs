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
/// A fixed profile cuts at multiples of its size, also where an input goes on behind a hole: see
/// [`reset_at`](Self::reset_at).
///
/// Invariant: `start ≤ end ≤ buffer.len()`; `buffer[start..end]` is read but not yet lent.
pub struct ChunkStream {
    cutter: Cutter,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The reader said that it has no more.
    ended: bool,
    /// Bytes up to the first multiple of a fixed profile's size; 0 when the input is at one.
    lead: usize,
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
            lead: 0,
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
            if let Some(length) = self.cut() {
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

    /// The length of the chunk that comes next, if that can be told by now.
    fn cut(&mut self) -> Option<usize> {
        let pending = self.pending();
        match pending.get(..self.lead) {
            Some([]) => self.cutter.cut(pending, self.ended),
            None if !self.ended || pending.is_empty() => None,
            lead => {
                let length = lead.unwrap_or(pending).len();
                self.lead = 0;
                Some(length)
            }
        }
    }

    /// The first bytes of an input, which are not handed out by this; none when it is empty.
    ///
    /// # Errors
    ///
    /// As of [`next`](Self::next).
    pub fn peek(&mut self, reader: &mut dyn Read) -> io::Result<&[u8]> {
        while self.pending().is_empty() && !self.ended {
            self.read_more(reader)?;
        }
        Ok(self.pending())
    }

    /// Cuts what is not handed out yet, and all that follows, by another profile. The buffer grows
    /// when that one has larger chunks.
    pub fn cut_by(&mut self, cutter: &Cutter) {
        let size = BUFFERED_CHUNKS * cutter.profile().max_size();
        if self.buffer.len() < size {
            let mut buffer = std::mem::take(&mut self.buffer).into_vec();
            buffer.resize(size, 0);
            self.buffer = buffer.into_boxed_slice();
        }
        self.cutter = cutter.clone();
    }

    /// Forgets the input, finished or not, and keeps the buffer for another one.
    pub fn reset(&mut self) {
        (self.start, self.end, self.ended, self.lead) = (0, 0, false, 0);
    }

    /// The same, and the next input begins so many bytes behind a multiple of a fixed profile's
    /// size: its first chunk ends at the next one.
    pub fn reset_at(&mut self, offset: u64) {
        self.reset();
        let profile = self.cutter.profile();
        if profile.is_fixed() {
            let size = profile.max_size();
            let behind = (offset % size as u64) as usize;
            self.lead = (size - behind) % size;
        }
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
    fn what_is_peeked_at_is_handed_out_by_the_profile_that_is_chosen_then() {
        let mut stream = stream(512);
        let bytes: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
        let mut reader = &bytes[..];
        assert_eq!(stream.peek(&mut reader).unwrap()[..10], bytes[..10]);
        assert_eq!(stream.peek(&mut reader).unwrap()[..10], bytes[..10]);
        let table = Arc::new(GearTable::derive(&[1; 32]));
        stream.cut_by(&Cutter::new(table, Profile::fixed(2048).unwrap()));
        let mut back = Vec::new();
        while let Some(chunk) = stream.next(&mut reader).unwrap() {
            assert!(chunk.len() == 2048 || chunk.len() == 5000 - 2 * 2048);
            back.extend_from_slice(chunk);
        }
        assert_eq!(back, bytes);
        stream.reset();
        assert!(stream.peek(&mut io::empty()).unwrap().is_empty());
    }

    #[test]
    fn a_fixed_profile_goes_back_to_its_multiples() {
        let mut stream = stream(512);
        for (offset, lengths) in [
            (0, vec![512, 88]),
            (1024, vec![512, 88]),
            (1000, vec![24, 512, 64]),
            (1025, vec![511, 89]),
        ] {
            stream.reset_at(offset);
            let mut reader = io::repeat(1).take(600);
            for length in lengths {
                assert_eq!(stream.next(&mut reader).unwrap().unwrap().len(), length);
            }
            assert_eq!(stream.next(&mut reader).unwrap(), None);
        }
        // The input may end before.
        stream.reset_at(1000);
        assert_eq!(stream.next(&mut &[1; 7][..]).unwrap().unwrap().len(), 7);
        assert_eq!(stream.next(&mut io::empty()).unwrap(), None);
        stream.reset_at(1000);
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
