//! A stream as a source: one file under a given name, with the bytes of any reader. It is read
//! once; neither its length nor whether it changed is known beforehand.

use std::ffi::OsStr;
use std::io::{self, Read};

use hucha_store::clock::Timestamp;
use hucha_store::entry::{Content, Entry, Kind, Meta, is_sound_path};
use hucha_store::source::{ContentError, Contents, Piece, Profile, Sink, Source, SourceError};

/// A name under which no stream can be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Nothing is left of it, or it contains `..` or a NUL.
    #[error("{0:?} is no name for a file in a snapshot")]
    Name(String),
}

/// One file whose bytes come from a reader.
pub struct Stream {
    file: StreamFile,
    reader: Option<Box<dyn Read>>,
}

impl Stream {
    /// A file `name` (`/` in front, `//` and `./` are dropped) with the bytes of `reader`. Folders
    /// in the name become entries of mode 0700; all carry `time` and the user's numbers.
    ///
    /// # Errors
    /// When the name cannot stand in a snapshot.
    pub fn new(
        name: &OsStr,
        reader: Box<dyn Read>,
        time: Timestamp,
    ) -> Result<Stream, StreamError> {
        Ok(Stream {
            file: StreamFile::new(name, time)?,
            reader: Some(reader),
        })
    }
}

impl Source for Stream {
    fn paths(&self) -> Vec<Vec<u8>> {
        vec![self.file.name.clone()]
    }

    fn profile(&self) -> Profile {
        Profile::DUMP
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let mut reader = self.reader.take();
        self.file.push(sink, &mut || match reader.take() {
            Some(reader) => Ok(Box::new(Reading { reader })),
            None => Err(ContentError::Fatal("the stream was already read".into())),
        })
    }

    fn is_repeatable(&self) -> bool {
        false
    }
}

struct Reading {
    reader: Box<dyn Read>,
}

impl Contents for Reading {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        match read_some(&mut self.reader, buffer) {
            Ok(0) => Ok(Piece::End),
            Ok(n) => Ok(Piece::Data(n)),
            // Half a stream is no stream.
            Err(error) => Err(ContentError::Fatal(format!("reading the stream: {error}"))),
        }
    }
}

/// Reads once, again when a signal interrupted it.
pub(crate) fn read_some(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// What a stream and a command have in common: one file under a name that may contain folders.
pub(crate) struct StreamFile {
    pub(crate) name: Vec<u8>,
    time: Timestamp,
}

pub(crate) type OpenStream<'a> =
    &'a mut dyn FnMut() -> Result<Box<dyn Contents + 'a>, ContentError>;

impl StreamFile {
    pub(crate) fn new(name: &OsStr, time: Timestamp) -> Result<StreamFile, StreamError> {
        let parts = name.as_encoded_bytes().split(|c| *c == b'/');
        let parts: Vec<&[u8]> = parts
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        let path = parts.join(&b'/');
        if path.is_empty() || !is_sound_path(&path) {
            return Err(StreamError::Name(name.to_string_lossy().into_owned()));
        }
        Ok(StreamFile { name: path, time })
    }

    /// Pushes the folders of the name, then the file. Its size is given as 0: nobody knows it.
    pub(crate) fn push(
        &self,
        sink: &mut dyn Sink,
        open: OpenStream<'_>,
    ) -> Result<(), SourceError> {
        for (cut, _) in self.name.iter().enumerate().filter(|(_, c)| **c == b'/') {
            let folder = self.name.get(..cut).unwrap_or_default();
            sink.entry(self.entry(folder, Kind::Folder, 0o700), None)?;
        }
        let file = self.entry(&self.name, Kind::File, 0o600);
        Ok(sink.entry(file, Some(open))?)
    }

    fn entry(&self, path: &[u8], kind: Kind, mode: u32) -> Entry {
        let (uid, gid) = this_user();
        let meta = Meta {
            mode,
            uid,
            gid,
            mtime: self.time,
            ..Meta::default()
        };
        let path = path.to_vec();
        Entry {
            path,
            kind,
            meta,
            content: Content::None,
            xattrs: Vec::new(),
            group: None,
        }
    }
}

#[cfg(unix)]
pub(crate) fn this_user() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

#[cfg(not(unix))]
pub(crate) fn this_user() -> (u32, u32) {
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hucha_store::source::{Open, Problem, Stop};

    #[derive(Default)]
    struct Taken {
        entries: Vec<Entry>,
        bytes: Vec<u8>,
        error: Option<String>,
    }

    impl Sink for Taken {
        fn entry(&mut self, entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
            self.entries.push(entry);
            let Some(open) = contents else { return Ok(()) };
            let mut buffer = [0; 7];
            let mut contents = match open() {
                Ok(contents) => contents,
                Err(error) => {
                    self.error = Some(error.to_string());
                    return Err(Stop);
                }
            };
            loop {
                match contents.next(&mut buffer) {
                    Ok(Piece::Data(n)) => self.bytes.extend(&buffer[..n]),
                    Ok(Piece::End) => return Ok(()),
                    Ok(Piece::Hole(_)) => panic!("a stream has no holes"),
                    Err(error) => {
                        self.error = Some(error.to_string());
                        return Err(Stop);
                    }
                }
            }
        }

        fn problem(&mut self, problem: Problem) {
            panic!("{problem:?}");
        }

        fn excluded(&mut self, path: &[u8]) {
            panic!("{path:?}");
        }
    }

    const TIME: Timestamp = Timestamp {
        seconds: 1_700_000_000,
        nanos: 5,
    };

    #[test]
    fn a_stream_below_folders() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let reader = Box::new(io::Cursor::new(bytes.clone()));
        let mut stream = Stream::new(OsStr::new("/shop//./db/a.sql"), reader, TIME).unwrap();
        assert!(!stream.is_repeatable());
        assert_eq!(stream.paths(), vec![b"shop/db/a.sql".to_vec()]);
        let mut taken = Taken::default();
        stream.push(&mut taken).unwrap();
        let seen: Vec<_> = taken
            .entries
            .iter()
            .map(|e| (&e.path[..], e.meta.mode))
            .collect();
        let expected = vec![
            (&b"shop"[..], 0o700),
            (&b"shop/db"[..], 0o700),
            (&b"shop/db/a.sql"[..], 0o600),
        ];
        assert_eq!(seen, expected);
        assert!(taken.entries.iter().all(|entry| entry.meta.mtime == TIME));
        assert_eq!(taken.bytes, bytes);

        let mut again = Taken::default();
        assert!(matches!(stream.push(&mut again), Err(SourceError::Stopped)));
        assert_eq!(again.error.unwrap(), "the stream was already read");
    }

    #[test]
    fn names_that_cannot_be() {
        for name in ["", "/", ".", "a/../b", "..", "a\0b"] {
            assert!(StreamFile::new(OsStr::new(name), TIME).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_broken_stream_is_fatal() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let mut stream = Stream::new(OsStr::new("a"), Box::new(Broken), TIME).unwrap();
        let mut taken = Taken::default();
        assert!(stream.push(&mut taken).is_err());
        assert_eq!(taken.error.unwrap(), "reading the stream: gone");
    }
}
