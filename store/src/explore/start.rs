//! Where schedules begin: small repositories with a past, and what local caches know of it.

use std::sync::Arc;

use super::library::Library;
use super::oracle::Oracle;
use crate::backend::{Area, Backend, Memory};
use crate::crypto::{Encryption, Kind, seeded};
use crate::environment::{Environment, LocalState, MemoryState};
use crate::format::objects::{GcList, HostIdentity, Manifest, SessionKind};
use crate::gc::{Fence, GcOptions, MaxUnused, gc};
use crate::id::ChunkId;
use crate::index::MemoryIndex;
use crate::monitor::Silent;
use crate::record::World;
use crate::repository::{Credential, Repository, uuid_key};
use crate::session::Session;
use crate::testing::{self, MapSource, noise, single_chunks};
use crate::view::list_packs;
use crate::writer::Writer;

/// What a machine remembers of a repository.
#[derive(Default)]
pub(super) struct Cache {
    pub index: MemoryIndex,
    pub state: MemoryState,
}

impl Clone for Cache {
    fn clone(&self) -> Cache {
        let state = MemoryState::default();
        for name in self.state.names("") {
            state.store(&name, &self.state.load(&name).unwrap_or_default());
        }
        Cache {
            index: self.index.clone(),
            state,
        }
    }
}

/// A repository at the beginning of a schedule.
#[derive(Clone)]
pub(super) struct Start {
    pub name: &'static str,
    pub memory: Memory,
    pub oracle: Oracle,
    /// Every snapshot of its past, forgotten ones too, oldest first.
    pub snapshots: Vec<Manifest>,
    /// Of a machine that looked at it early, before most of its past.
    pub early: Cache,
    /// Of one that knows all.
    pub late: Cache,
}

/// Content of a file: a letter stands for a chunk. `A` and `B` differ little.
pub(super) fn content(letter: char) -> Vec<u8> {
    let mut bytes = noise(4500, &letter.to_ascii_lowercase().to_string());
    if letter.is_ascii_uppercase() {
        bytes = noise(4500, "like");
        bytes[100] = letter as u8;
    }
    bytes
}

/// A folder of such files.
pub(super) fn folder(letters: &str) -> MapSource {
    let mut source = MapSource::default();
    for letter in letters.chars() {
        let name = letter.to_string().into_bytes();
        source.files.insert(name, content(letter));
    }
    source
}

/// Makes the past of a repository.
pub(super) struct Past {
    memory: Memory,
    early: Option<Cache>,
    cache: Cache,
    snapshots: Vec<Manifest>,
    process: HostIdentity,
}

/// Settings of collectors here: everything unused goes.
pub(super) fn thorough(fence: Fence) -> GcOptions {
    GcOptions {
        dry_run: false,
        max_unused: MaxUnused::Bytes(0),
        force: true,
        fence,
    }
}

/// Opens a repository with what a machine knows.
pub(super) fn open(
    backend: Arc<dyn Backend>,
    cache: &Cache,
    environment: Environment,
) -> (Repository, Arc<MemoryIndex>) {
    let environment = Environment {
        state: Arc::new(cache.state.clone()),
        ..environment
    };
    let mut repository = Repository::open(backend, &Credential::None, environment).unwrap();
    let index = Arc::new(cache.index.clone());
    repository.replace_index(index.clone());
    (repository, index)
}

impl Past {
    pub fn new(seed: &str) -> Past {
        seeded::seed(format!("past {seed}").as_bytes());
        single_chunks(true);
        let (memory, _) = testing::new_repository(Encryption::None, 0);
        Past {
            memory,
            early: None,
            cache: Cache::default(),
            snapshots: Vec::new(),
            process: HostIdentity {
                pid: 900,
                ..HostIdentity::default()
            },
        }
    }

    /// Does something, and remembers what the machine learns by it.
    pub fn with<T>(&mut self, work: impl FnOnce(&Repository) -> T) -> T {
        let environment = Environment {
            process: self.process.clone(),
            ..testing::environment(0)
        };
        let backend: Arc<dyn Backend> = Arc::new(self.memory.clone());
        let (repository, index) = open(backend, &self.cache, environment);
        let result = work(&repository);
        repository.update_index().unwrap();
        self.cache.index = (*index).clone();
        result
    }

    pub fn snapshot(mut self, letters: &str) -> Past {
        let report = self.with(|r| testing::take(r, &mut folder(letters)));
        self.snapshots.push(report.manifest);
        self
    }

    pub fn forget(mut self, number: usize) -> Past {
        let name = self.snapshots[number].name;
        self.with(|r| crate::forget::mark(r, name).unwrap());
        self
    }

    pub fn gc(mut self, options: GcOptions) -> Past {
        self.with(|r| gc(r, &options, &Silent::default()).unwrap());
        self
    }

    pub fn merge(mut self) -> Past {
        let always = crate::gc::merge::When::Always;
        self.with(|r| crate::gc::merge::merge(r, always).unwrap());
        self
    }

    /// A machine looks now, and not again.
    pub fn early(mut self) -> Past {
        self.early = Some(self.cache.clone());
        self
    }

    /// Chunks under one session: each a letter, with the letters that it is a delta of.
    pub fn chunks(mut self, chunks: &[(char, &str)], single: bool) -> Past {
        self.with(|repository| {
            single_chunks(single);
            let session = Session::open(repository, SessionKind::Writer).unwrap();
            let view = session.view().unwrap();
            let writer =
                Writer::new(&session, view).with_pack_size(if single { 1 } else { 1 << 20 });
            for (letter, bases) in chunks {
                let id = |c: char| repository.keys().chunk_id(&content(c));
                let bases: Vec<ChunkId> = bases.chars().map(id).collect();
                let mut lane = writer.lane(World::Content);
                lane.put(id(*letter), &content(*letter), &bases).unwrap();
                lane.flush().unwrap();
                if single {
                    writer.finish().unwrap();
                }
            }
            writer.finish().unwrap();
            session.give_up();
            single_chunks(true);
        });
        self
    }

    /// A writer that died after it had put packs, before their segment.
    pub fn dead_writer(mut self, letters: &str) -> Past {
        self.with(|repository| {
            let session = Session::open(repository, SessionKind::Writer).unwrap();
            let view = session.view().unwrap();
            let writer = Writer::new(&session, view);
            let mut lane = writer.lane(World::Content);
            for letter in letters.chars() {
                lane.store(&content(letter), &[]).unwrap();
            }
            lane.flush().unwrap();
        });
        self
    }

    /// A list of packs that hold these letters and nothing that lives, without `gc/<l>.open`; the
    /// first `swept` of them are deleted already.
    pub fn list(mut self, letters: &str, swept: usize) -> Past {
        let memory = self.memory.clone();
        self.with(|repository| {
            let mut packs = Vec::new();
            for letter in letters.chars() {
                let id = repository.keys().chunk_id(&content(letter));
                let segments = repository.segments();
                let found = repository.index().find(&segments, &id).unwrap().unwrap();
                for place in found.places {
                    let pack = repository.index().pack(place.pack).unwrap();
                    packs.push(pack.id);
                }
            }
            let standing = list_packs(repository).unwrap();
            packs.retain(|p| standing.contains_key(p));
            let list = GcList {
                name: crate::crypto::fresh_uuid(),
                packs: packs.clone(),
                session: crate::crypto::fresh_uuid(),
                made: crate::clock::Timestamp::default(),
                lost: Vec::new(),
                covers: Vec::new(),
            };
            let key = uuid_key(Area::Gc, list.name);
            repository
                .put_object(&key, Kind::List, &list.encode())
                .unwrap();
            for pack in packs.iter().take(swept) {
                memory.remove(&crate::pack::pack_key(pack).unwrap());
            }
        });
        self
    }

    pub fn done(mut self, name: &'static str) -> Start {
        let keys = self.with(|r| {
            let keys = crate::crypto::Keys::derive(Encryption::None, r.keys().root(), r.id());
            keys.keep_built_in();
            keys
        });
        let mut oracle = Oracle::new(Library::new(keys));
        load(&mut oracle, &self.memory);
        oracle.check().unwrap();
        Start {
            name,
            memory: self.memory,
            oracle,
            snapshots: self.snapshots,
            early: self.early.unwrap_or_default(),
            late: self.cache,
        }
    }
}

impl Start {
    /// Flips a bit in the first pack that holds this letter.
    pub fn damaged(mut self, letter: char) -> Start {
        let backend: Arc<dyn Backend> = Arc::new(self.memory.clone());
        let (repository, _) = open(backend, &self.late, testing::environment(0));
        let id = repository.keys().chunk_id(&content(letter));
        let segments = repository.segments();
        let found = repository.index().find(&segments, &id).unwrap().unwrap();
        let packs = found.places.iter().map(|p| repository.index().pack(p.pack));
        let standing = list_packs(&repository).unwrap();
        let pack = packs.flatten().find(|p| standing.contains_key(&p.id));
        let pack = pack.unwrap().id;
        let key = crate::pack::pack_key(&pack).unwrap();
        let mut bytes = self.memory.get(&key).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.memory.replace(&key, bytes);
        self.oracle.damage(pack, false);
        self
    }
}

/// Shows everything that is stored to an oracle, in an order that it accepts.
fn load(oracle: &mut Oracle, memory: &Memory) {
    let areas = [
        Area::Trash,
        Area::Packs,
        Area::Index,
        Area::Snapshots,
        Area::Sessions,
        Area::Gc,
    ];
    let put = |oracle: &mut Oracle, key: &crate::backend::Key| {
        let stored = memory.get(key).unwrap();
        oracle.created(key, &stored, false).unwrap();
    };
    for area in areas {
        let mut names = Vec::new();
        memory
            .list(area, &mut |listed| names.push(listed.name))
            .unwrap();
        if area == Area::Index {
            oracle.allow_gone(&names, memory);
        }
        // Pages are learnt base by base.
        let rounds = if area == Area::Packs { 4 } else { 1 };
        for name in (0..rounds).flat_map(|_| names.clone()) {
            put(oracle, &crate::backend::Key::new(area, name).unwrap());
        }
    }
}
