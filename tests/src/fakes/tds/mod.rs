//! A fake of SQL Server: its protocol (TDS 7.4, MS-TDS) over TCP, plain or sealed by TLS, logins,
//! and the statements that hucha sends. Databases are pages in memory; a backup is a file of them
//! with a checksum each. What it answers follows Microsoft's documentation. It was never compared
//! with a real server.

mod bak;
mod engine;
mod login;
mod packets;
mod sql;
mod statements;
mod tls;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use engine::{Database, Engine, Switches};
pub use tls::certificate;

use packets::{Message, Reply};

/// How often whoever holds looks whether the other side wants something.
const LOOK: Duration = Duration::from_millis(20);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The one login there is.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Folders by the names that the server has for them.
    pub folders: Vec<(String, PathBuf)>,
    /// Whether it can encrypt.
    pub encrypts: bool,
}

/// A server that runs until this is dropped.
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    setup: Setup,
    engine: Mutex<Engine>,
    changed: Condvar,
    is_over: AtomicBool,
}

impl Fake {
    /// Starts a server on a free port of this machine.
    ///
    /// # Errors
    /// When none can be had.
    pub fn start(setup: Setup) -> io::Result<Fake> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            setup,
            engine: Mutex::default(),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A connection that breaks is the matter of whoever broke it.
                std::thread::spawn(move || drop(serve(&shared, tcp)));
            }
        });
        Ok(Fake {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its databases, switches and log. Nobody is answered as long as this is held.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        self.shared.engine()
    }

    /// Waits until a backup is held in its middle ([`Switches::hold_backup`]).
    pub fn await_held(&self) {
        let mut engine = self.engine();
        while !engine.is_held {
            engine = wait(&self.shared.changed, engine);
        }
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.engine().switches.hold_backup = false;
        self.shared.changed.notify_all();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the acceptor; if that fails it is gone already.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            // It cannot fail but by a panic, which was printed.
            let _ = acceptor.join();
        }
    }
}

fn wait<'a>(changed: &Condvar, engine: MutexGuard<'a, Engine>) -> MutexGuard<'a, Engine> {
    let waited = changed.wait_timeout(engine, LOOK);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

impl Shared {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line to a client.
trait Line: Read + Write + Send {}
impl<T: Read + Write + Send> Line for T {}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is answered.
    Answered,
    /// The client cancelled it.
    Cancelled,
    /// The line is to be broken.
    Broken,
}

/// One connection.
struct Session {
    /// The line below, to see whether more came.
    tcp: TcpStream,
    database: String,
    shared: Arc<Shared>,
}

fn serve(shared: &Arc<Shared>, mut tcp: TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut session = Session {
        tcp: tcp.try_clone()?,
        database: "master".to_owned(),
        shared: Arc::clone(shared),
    };
    let hello = Message::read(&mut tcp)?;
    let seals = shared.setup.encrypts && login::wants_encryption(&hello)?;
    login::greet(&mut tcp, seals)?;
    let mut line: Box<dyn Line> = match seals {
        true => Box::new(tls::seal(tcp)?),
        false => Box::new(tcp),
    };
    if !login::login(line.as_mut(), &shared.setup)? {
        return Ok(());
    }
    shared.engine().logins += 1;
    loop {
        let message = Message::read(line.as_mut())?;
        let mut reply = Reply::new(line.as_mut());
        match message.kind {
            packets::BATCH => match session.batch(&message.batch()?, &mut reply)? {
                Outcome::Answered => reply.end()?,
                // The attention comes next.
                Outcome::Cancelled => {}
                Outcome::Broken => return Ok(()),
            },
            packets::ATTENTION => {
                reply.attention();
                reply.end()?;
            }
            other => return Err(io::Error::other(format!("no answer to a packet {other}"))),
        }
    }
}

impl Session {
    /// Whether the client sent something, or went, in the middle of a statement.
    fn is_wanted(&self) -> bool {
        let peek = || {
            self.tcp.set_nonblocking(true)?;
            let peeked = self.tcp.peek(&mut [0]);
            self.tcp.set_nonblocking(false)?;
            peeked
        };
        !matches!(peek(), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Holds a backup in its middle as long as that is switched on; whether it was cancelled.
    fn hold(&self) -> bool {
        let mut engine = self.shared.engine();
        while engine.switches.hold_backup {
            engine.is_held = true;
            self.shared.changed.notify_all();
            if self.is_wanted() && !engine.switches.is_deaf {
                engine.is_held = false;
                return true;
            }
            engine = wait(&self.shared.changed, engine);
        }
        engine.is_held = false;
        engine.switches.is_deaf && self.is_wanted()
    }
}
