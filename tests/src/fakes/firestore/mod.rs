//! Firestore's REST interface over plain HTTP, as far as hucha uses it: lists, queries over ranges
//! of names, counts, cuts, commits, and tokens for service accounts. Every version of a document
//! is kept, so that reading at a moment shows the past while writers go on. Made from the
//! documentation and from what Google's emulator answers; switches ([`Faults`]) make it fail.

mod api;
mod http;
mod store;
mod token;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

pub use store::Name;
use store::Store;
pub use token::{credentials, key};

/// The running service.
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What its threads share.
pub(crate) struct Shared {
    pub store: Mutex<Store>,
    pub faults: Mutex<Faults>,
    pub calls: Mutex<Vec<Call>>,
    pub tokens: Mutex<token::Tokens>,
    pub stop: AtomicBool,
    pub guard: Guard,
    pub address: SocketAddr,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Who says `owner`, as with an emulator.
    Emulator,
    /// Who has a token that was given for the key of [`credentials`].
    Account,
}

/// One call that came.
#[derive(Debug, Clone)]
pub struct Call {
    /// `runQuery`, `list`, `commit`, `token`.
    pub method: String,
    /// The moment that was asked for.
    pub read_time: Option<String>,
    /// What was answered.
    pub code: u16,
    /// How many writes it had.
    pub writes: usize,
}

/// How it fails. Numbers count down.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// All calls are refused: no permission.
    pub deny: bool,
    /// Commits are refused after so many more.
    pub deny_commits_after: Option<u32>,
    /// Commits of more writes are too big, although the documented limit is another.
    pub most_writes: Option<usize>,
    /// After so many more commits somebody else writes this document into the same database.
    pub meddle_after: Option<(u32, &'static str)>,
    /// So many calls are answered with 429 and 503.
    pub busy: u32,
    /// How many seconds such an answer asks to wait.
    pub retry_after: Option<u64>,
    /// So many answers are cut in the middle.
    pub cut: u32,
    /// So many commits are done, and their answers get lost.
    pub lose_answers: u32,
    /// An integer comes as a number.
    pub wrong_type: bool,
    /// Pages of lists never end.
    pub repeat_pages: bool,
    /// Answers to queries begin from the start again.
    pub repeat_queries: bool,
    /// Queries leave a document out.
    pub lose_document: bool,
    /// Nothing is counted.
    pub no_count: bool,
    /// All tokens given so far end now; set back by itself.
    pub expire: bool,
    /// No token is given.
    pub no_tokens: bool,
    /// All moments are too old.
    pub too_old: bool,
}

impl Fake {
    /// Starts on a free port of this machine.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn start(guard: Guard) -> Fake {
        Fake::start_at(guard, "127.0.0.1:0")
    }

    /// Starts at an address.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn start_at(guard: Guard, address: &str) -> Fake {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            faults: Mutex::default(),
            calls: Mutex::default(),
            tokens: Mutex::default(),
            stop: AtomicBool::new(false),
            guard,
            address,
        });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    let served = Arc::clone(&served);
                    std::thread::spawn(move || http::serve(&stream, &served));
                }
            }
        });
        Fake { address, shared }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sets how it fails from now on.
    ///
    /// # Panics
    /// When another thread did.
    pub fn fail(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap() = faults;
    }

    /// Calls since the last time this was asked.
    ///
    /// # Panics
    /// When another thread did.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.shared.calls.lock().unwrap())
    }

    /// Writes documents at one moment: names below the root, and typed fields; none deletes.
    ///
    /// # Panics
    /// When another thread did.
    pub fn write(&self, root: &str, all: &[(&str, Option<Value>)]) {
        let mut store = self.shared.store.lock().unwrap();
        let time = store.tick();
        for (name, fields) in all {
            store.put(root, name, fields.clone(), time);
        }
    }

    /// All documents that are there now, by name.
    ///
    /// # Panics
    /// When another thread did.
    pub fn documents(&self, root: &str) -> Vec<(String, Value)> {
        let store = self.shared.store.lock().unwrap();
        store
            .existing(root, u64::MAX)
            .map(|(name, d)| (name.0.clone(), d.fields.clone()))
            .collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that listens.
        let _ = TcpStream::connect(self.address);
    }
}
