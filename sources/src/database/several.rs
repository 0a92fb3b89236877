//! Databases and files as one source: all of them or nothing, unless a database may be missing.
//!
//! Every database fixes its moment at nearly the same time, all streams are read side by side, and
//! a database belongs into the snapshot once it has proven that they are whole. Then come files.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use hucha_store::clock::Timestamp;
use hucha_store::entry::{Content, Entry, Kind, Meta, Xattr, is_sound_path, is_within, path_order};
use hucha_store::member::{MAY_BE_EMPTY, Member, StreamFacts};
use hucha_store::source::{
    ContentError, Contents, Group, Piece, Profile, Sink, Source, SourceError, Streamed, Streams,
};

use super::{
    Bytes, Capture, Captured, Cause, Context, Database, DatabaseError, OpenStream, Preflight,
    Settings,
};
use crate::child::lock;

/// Most streams that are open at once, over all databases.
const MOST_AT_ONCE: usize = 16;

/// A database as a member of a snapshot.
pub struct Wanted {
    /// The database.
    pub database: Box<dyn Database>,
    /// The member's path in the snapshot.
    pub name: String,
    /// The snapshot is made although this one fails; it is partial then.
    pub may_fail: bool,
    /// That it has no bytes or rows where the last snapshot had some is no failure.
    pub may_be_empty: bool,
}

/// Databases and files as one source.
pub struct Several {
    wanted: Vec<Wanted>,
    files: Option<Box<dyn Source>>,
    context: Context,
    time: Timestamp,
}

impl Wanted {
    /// From a source as it was written. Options of every source: `name`, its path in the snapshot;
    /// `on_error` (`fail`, `partial`); `allow_empty`.
    ///
    /// # Errors
    /// When an option is wrong.
    pub fn new(mut settings: Settings) -> Result<Wanted, DatabaseError> {
        let common = Common::take(&mut settings)?;
        Ok(common.of(super::open(settings)?))
    }
}

/// The options that every source has.
#[derive(Debug, Clone)]
pub struct Common {
    name: Option<String>,
    may_fail: bool,
    may_be_empty: bool,
}

impl Common {
    /// Takes them out of all options.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub fn take(settings: &mut Settings) -> Result<Common, DatabaseError> {
        Ok(Common {
            name: settings.text("name")?,
            may_fail: settings.word("on_error", &[("fail", false), ("partial", true)])?,
            may_be_empty: settings.flag("allow_empty")?,
        })
    }

    /// A database with these options.
    pub fn of(self, database: Box<dyn Database>) -> Wanted {
        Wanted {
            name: self.name.unwrap_or_else(|| database.default_name()),
            database,
            may_fail: self.may_fail,
            may_be_empty: self.may_be_empty,
        }
    }
}

/// Files, and the names under which they will stand in the snapshot.
pub type NamedFiles = (Box<dyn Source>, Vec<Vec<u8>>);

impl Several {
    /// Databases, with their names in the snapshot, and files beside them, with the names in the
    /// snapshot that they will have.
    ///
    /// # Errors
    /// When two of them would stand at one place, or a name is none.
    pub fn new(
        mut wanted: Vec<Wanted>,
        files: Option<NamedFiles>,
        context: Context,
        time: Timestamp,
    ) -> Result<Several, DatabaseError> {
        wanted.sort_by(|a, b| path_order(a.name.as_bytes(), b.name.as_bytes()));
        let (files, taken) =
            files.map_or((None, Vec::new()), |(files, taken)| (Some(files), taken));
        for one in &wanted {
            let name = one.name.as_bytes();
            if name.is_empty() || !is_sound_path(name) {
                let what = format!("{:?} is no name for a member of a snapshot", one.name);
                return Err(DatabaseError::setting(what));
            }
            // All else in the root has a place beside it.
            let meets = |other: &[u8]| {
                !other.is_empty() && (is_within(name, other) || is_within(other, name))
            };
            let others = wanted.iter().filter(|other| !std::ptr::eq(*other, one));
            let same = others.map(|other| other.name.as_bytes()).find(|n| meets(n));
            let tree = taken
                .iter()
                .map(Vec::as_slice)
                .find(|path| is_within(path, name));
            if let Some(other) = same.or(tree) {
                let other = String::from_utf8_lossy(other);
                let what = format!(
                    "{} would stand at \"{}\" in the snapshot, and so would \"{other}\"",
                    one.database.location(),
                    one.name
                );
                return Err(DatabaseError::setting(what).hint("give one of them a name: ?name=…"));
            }
        }
        Ok(Several {
            wanted,
            files,
            context,
            time,
        })
    }
}

impl Source for Several {
    fn paths(&self) -> Vec<Vec<u8>> {
        let locations = self
            .wanted
            .iter()
            .map(|w| w.database.location().into_bytes());
        let mut all: Vec<_> = locations.collect();
        all.extend(self.files.iter().flat_map(|files| files.paths()));
        all.sort();
        all.dedup();
        all
    }

    fn profile(&self) -> Profile {
        self.files
            .as_ref()
            .map_or(Profile::DUMP, |files| files.profile())
    }

    fn is_repeatable(&self) -> bool {
        self.files
            .as_ref()
            .is_none_or(|files| files.is_repeatable())
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        if !self.wanted.is_empty() {
            let seen: Vec<Seen> = self.wanted.iter().map(|_| Seen::default()).collect();
            let run = Run {
                wanted: &self.wanted,
                seen: &seen,
                context: &self.context,
                time: self.time,
            };
            run.push(sink)?;
        }
        match &mut self.files {
            Some(files) => files.push(sink),
            None => Ok(()),
        }
    }
}

/// One reading of all databases.
struct Run<'a> {
    wanted: &'a [Wanted],
    seen: &'a [Seen],
    context: &'a Context,
    time: Timestamp,
}

/// What became of each database, in their order.
type Each<T> = Vec<Result<T, DatabaseError>>;

/// What the contents of a database note while they are read.
#[derive(Debug, Default)]
struct Seen {
    tally: Mutex<Tally>,
    /// What went wrong first.
    failure: Mutex<Option<DatabaseError>>,
}

/// What is counted while a database is read.
#[derive(Debug, Default)]
struct Tally {
    bytes: u64,
    streams: u64,
    tables: u64,
    rows: Option<u64>,
}

/// Ends a capture.
type End<'a> = Box<dyn FnOnce() -> Result<Captured, DatabaseError> + Send + 'a>;

/// A database that is being read.
struct Reading<'a> {
    end: End<'a>,
    preflight: Preflight,
    begun: Instant,
}

impl<'a> Run<'a> {
    fn push(&self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let preflights = self.each(|wanted| wanted.database.preflight(self.context));
        self.stop_early(&preflights)?;
        let captures = self.each(|wanted| wanted.database.capture(self.context));
        self.stop_early(&captures)?;
        let mut readings: Each<Reading<'_>> = Vec::new();
        let mut streams = Streams {
            groups: Vec::new(),
            files: Vec::new(),
            at_once: 0,
        };
        let begun = Instant::now();
        for (group, found) in preflights.into_iter().zip(captures).enumerate() {
            streams.groups.push(Group {
                path: self.wanted[group].name.clone().into_bytes(),
                at_once: found.1.as_ref().map_or(1, |capture| capture.at_once.max(1)),
            });
            let reading = match found {
                (Ok(preflight), Ok(capture)) => {
                    let end = self.add(&mut streams, group, capture);
                    Ok(Reading {
                        end,
                        preflight,
                        begun,
                    })
                }
                (Err(e), _) | (_, Err(e)) => Err(e),
            };
            readings.push(reading);
        }
        self.add_folders(&mut streams);
        streams
            .files
            .sort_by(|a, b| path_order(&a.entry.path, &b.entry.path));
        let all: usize = streams.groups.iter().map(|group| group.at_once).sum();
        streams.at_once = all.clamp(1, MOST_AT_ONCE);
        for (group, why) in sink.streams(streams)? {
            let error = lock(&self.seen[group].failure).take();
            let error = error.unwrap_or_else(|| DatabaseError::new(Cause::Failed, why));
            readings[group] = Err(error);
        }
        let members = self.end(readings);
        self.stop_early(&members)?;
        for (group, member) in members.into_iter().enumerate() {
            match member {
                Ok(member) => sink.keep(group, member)?,
                Err(error) => sink.lost(self.lost(&self.wanted[group], &error)),
            }
        }
        Ok(())
    }

    /// Does something with every database at the same time.
    fn each<T: Send>(
        &self,
        work: impl Fn(&'a Wanted) -> Result<T, DatabaseError> + Sync,
    ) -> Each<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (self.wanted.iter())
                .map(|wanted| scope.spawn(move || work(wanted)))
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// Fails when a database failed that must not.
    fn stop_early<T>(&self, each: &[Result<T, DatabaseError>]) -> Result<(), SourceError> {
        let failed = |(wanted, done): (&Wanted, &Result<T, DatabaseError>)| {
            let error = done.as_ref().err().filter(|_| !wanted.may_fail)?;
            Some(error.clone().of(&wanted.name))
        };
        let mut all: Vec<DatabaseError> = self.wanted.iter().zip(each).filter_map(failed).collect();
        // What was stopped failed because of another.
        let is_stopped = |error: &DatabaseError| error.cause == Cause::Stopped;
        if !all.iter().all(is_stopped) {
            all.retain(|error| !is_stopped(error));
        }
        let what: Vec<&str> = all.iter().map(|error| error.what.as_str()).collect();
        let what = what.join("\n");
        match (all.first(), all.iter().find_map(|error| error.hint.clone())) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(SourceError::Failed(what)),
            (Some(_), Some(hint)) => Err(SourceError::Advised { what, hint }),
        }
    }

    /// Adds the streams of one database.
    fn add(&self, streams: &mut Streams<'a>, group: usize, capture: Capture<'a>) -> End<'a> {
        let (wanted, seen) = (&self.wanted[group], &self.seen[group]);
        for stream in capture.streams {
            let path = match stream.name.is_empty() {
                true => wanted.name.clone(),
                false => format!("{}/{}", wanted.name, stream.name),
            };
            let (open, context) = (stream.open, self.context);
            streams.files.push(Streamed {
                entry: self.entry(&path, Kind::File),
                group,
                profile: stream.profile,
                open: Some(Box::new(move || {
                    let open = open_watched(open, seen, wanted.may_fail, context);
                    Ok(Box::new(open?) as Box<dyn Contents>)
                })),
            });
        }
        capture.end
    }

    /// Adds the folders above all streams.
    fn add_folders(&self, streams: &mut Streams<'_>) {
        let mut folders = BTreeSet::new();
        for file in &streams.files {
            let mut path = file.entry.path.as_slice();
            while let Some(parent) = hucha_store::entry::parent_of(path)
                && !parent.is_empty()
            {
                folders.insert((parent.to_vec(), file.group));
                path = parent;
            }
        }
        let mut seen = BTreeSet::new();
        for (path, group) in folders {
            if seen.insert(path.clone()) {
                streams.files.push(Streamed {
                    entry: self.entry(&String::from_utf8_lossy(&path), Kind::Folder),
                    group,
                    profile: Profile::DUMP,
                    open: None,
                });
            }
        }
    }

    fn entry(&self, path: &str, kind: Kind) -> Entry {
        let mode = match kind {
            Kind::Folder => 0o700,
            _ => 0o600,
        };
        let (uid, gid) = crate::stream::this_user();
        Entry {
            path: path.as_bytes().to_vec(),
            kind,
            meta: Meta {
                mode,
                uid,
                gid,
                mtime: self.time,
                ..Meta::default()
            },
            content: Content::None,
            xattrs: Vec::new(),
            group: None,
        }
    }

    /// Asks every database that was read for its proof.
    fn end(&self, readings: Each<Reading<'a>>) -> Each<Member> {
        let ended = std::thread::scope(|scope| {
            let end = |reading: Result<Reading<'a>, DatabaseError>| {
                scope.spawn(move || {
                    let Reading {
                        end,
                        preflight,
                        begun,
                    } = reading?;
                    let captured = end()?;
                    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                    Ok((captured, preflight, took))
                })
            };
            let threads: Vec<_> = readings.into_iter().map(end).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().map(join).collect::<Each<_>>()
        });
        let member = |((wanted, seen), ended): ((&Wanted, &Seen), Result<_, _>)| {
            ended.map(|(captured, preflight, took)| {
                member(wanted, &lock(&seen.tally), captured, preflight, took)
            })
        };
        self.wanted
            .iter()
            .zip(self.seen)
            .zip(ended)
            .map(member)
            .collect()
    }

    fn lost(&self, wanted: &Wanted, error: &DatabaseError) -> Member {
        Member {
            name: wanted.name.clone(),
            kind: wanted.database.kind().to_owned(),
            failed: Some(error.in_one()),
            ..Member::default()
        }
    }
}

fn member(
    wanted: &Wanted,
    tally: &Tally,
    captured: Captured,
    preflight: Preflight,
    duration_ms: u64,
) -> Member {
    let Captured {
        form,
        warnings,
        mut properties,
    } = captured;
    if wanted.may_be_empty {
        properties.push((MAY_BE_EMPTY.to_owned(), "true".to_owned()));
    }
    properties.sort();
    Member {
        name: wanted.name.clone(),
        kind: wanted.database.kind().to_owned(),
        form,
        server: preflight.server,
        tool: preflight.tool,
        bytes: tally.bytes,
        streams: tally.streams,
        tables: tally.tables,
        rows: tally.rows,
        duration_ms,
        warning_count: warnings.len() as u64,
        warnings,
        properties,
        failed: None,
        unknown: Vec::new(),
    }
}

/// Bytes of a stream that are counted and digested on their way.
struct Watched<'a> {
    bytes: Box<dyn Bytes + 'a>,
    hasher: blake3::Hasher,
    read: u64,
    seen: &'a Seen,
    may_fail: bool,
    context: &'a Context,
}

fn open_watched<'a>(
    open: OpenStream<'a>,
    seen: &'a Seen,
    may_fail: bool,
    context: &'a Context,
) -> Result<Watched<'a>, ContentError> {
    let opened = context.go_on().and_then(|()| open());
    Ok(Watched {
        bytes: opened.map_err(|e| failed(seen, may_fail, context, e))?,
        hasher: blake3::Hasher::new(),
        read: 0,
        seen,
        may_fail,
        context,
    })
}

/// Notes why a database failed; when it must not, all others end, too.
fn failed(seen: &Seen, may_fail: bool, context: &Context, error: DatabaseError) -> ContentError {
    let what = error.in_one();
    lock(&seen.failure).get_or_insert(error);
    if !may_fail {
        context.stopper.stop();
    }
    ContentError::Fatal(what)
}

impl Contents for Watched<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        let stopped = self.context.go_on();
        let read = stopped.and_then(|()| self.bytes.read(buffer));
        let n = read.map_err(|e| failed(self.seen, self.may_fail, self.context, e))?;
        if n == 0 {
            return Ok(Piece::End);
        }
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        self.read += n as u64;
        Ok(Piece::Data(n))
    }

    fn attributes(&mut self) -> Vec<Xattr> {
        let facts = StreamFacts {
            digest: *self.hasher.finalize().as_bytes(),
            ..self.bytes.facts()
        };
        let mut tally = lock(&self.seen.tally);
        tally.bytes += self.read;
        tally.streams += 1;
        tally.tables += facts.rows.len() as u64;
        if let Some(rows) = facts.total() {
            *tally.rows.get_or_insert(0) += rows;
        }
        vec![facts.to_attribute()]
    }
}
