//! What the core is handed from outside: clock, process, liveness, cache folder, threads.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hucha_sources::host::{ThisHost, process_is_alive};
use hucha_store::backend::Pace;
use hucha_store::clock::{Clock, Timestamp};
use hucha_store::environment::{Environment, Fate, FolderState, Liveness, LocalState, MemoryState};
use hucha_store::format::objects::HostIdentity;

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        timestamp(SystemTime::now())
    }
}

/// The core's form of a time of this system.
pub fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        },
        // Before 1970: whole seconds will do.
        Err(before) => Timestamp {
            seconds: -i64::try_from(before.duration().as_secs()).unwrap_or(0) - 1,
            nanos: 0,
        },
    }
}

/// Time as it passes, for limits of bandwidth.
#[derive(Debug, Clone, Copy)]
pub struct SystemPace(Instant);

impl SystemPace {
    /// Begins now.
    pub fn start() -> SystemPace {
        SystemPace(Instant::now())
    }
}

impl Pace for SystemPace {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// This process.
pub fn this_process() -> HostIdentity {
    let host = ThisHost::current();
    HostIdentity {
        machine: host.machine_id,
        boot: host.boot_id,
        pid_namespace: host.pid_namespace,
        pid: host.pid,
        start_time: host.start_time,
        host: host.name,
    }
}

/// The user's name in /etc/passwd, or the number.
#[cfg(unix)]
pub fn user_name() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut found = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    found.next().unwrap_or(uid)
}

/// Not to be had without the environment.
#[cfg(not(unix))]
pub fn user_name() -> String {
    String::new()
}

/// Judges processes of this machine.
#[derive(Debug)]
struct OfThisHost(HostIdentity);

impl Liveness for OfThisHost {
    fn judge(&self, other: &HostIdentity) -> Fate {
        judge(&self.0, other, process_is_alive)
    }
}

fn judge(
    this: &HostIdentity,
    other: &HostIdentity,
    is_alive: impl Fn(u32, u64) -> Option<bool>,
) -> Fate {
    let same = |a: &str, b: &str| !a.is_empty() && a == b;
    if !same(&this.machine, &other.machine) || this.boot.is_empty() || other.boot.is_empty() {
        return Fate::Elsewhere;
    }
    if this.boot != other.boot {
        // Clones of one image share a machine id; their names differ as a rule.
        return if this.host == other.host {
            Fate::Gone
        } else {
            Fate::Elsewhere
        };
    }
    if this.pid_namespace != other.pid_namespace {
        return Fate::Elsewhere;
    }
    match is_alive(other.pid, other.start_time) {
        Some(true) => Fate::Alive,
        Some(false) => Fate::Gone,
        None => Fate::Elsewhere,
    }
}

/// The environment of one repository. `cache` is its own cache folder.
pub fn environment(cache: Option<PathBuf>) -> Environment {
    let process = this_process();
    let state: Arc<dyn LocalState> = match &cache {
        Some(folder) => Arc::new(FolderState(folder.join(STATE))),
        None => Arc::new(MemoryState::default()),
    };
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    Environment {
        clock: Arc::new(SystemClock),
        liveness: Arc::new(OfThisHost(process.clone())),
        process,
        state,
        cache,
        threads,
    }
}

/// Folder of small facts inside a cache folder.
const STATE: &str = "state";

/// Makes the cache folder of one repository, 0700: `<id>-<hash of the location>`, so that a copy
/// of a repository at another place has a cache of its own.
///
/// # Errors
/// When it cannot be made.
pub fn cache_folder(caches: &Path, id: &str, location: &str) -> io::Result<PathBuf> {
    let hash = blake3::hash(location.as_bytes()).to_hex();
    let short = hash.get(..16).unwrap_or_default();
    let folder = caches.join(format!("{id}-{short}"));
    private_folder(caches)?;
    tag(caches);
    private_folder(&folder)?;
    private_folder(&folder.join(STATE))?;
    Ok(folder)
}

/// Tells other backup programs to pass the caches over (bford.info/cachedir).
fn tag(caches: &Path) {
    let text = "Signature: 8a477f597d28d172789f06886806bc55\n# Caches of hucha; may be removed.\n";
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Only a courtesy; most often it is there already.
    if let Ok(mut file) = options.open(caches.join("CACHEDIR.TAG")) {
        let _ = file.write_all(text.as_bytes());
    }
}

/// Whatever the umask says, we may read what we make ourselves; for others it stays as it was,
/// here and in commands that we start.
#[cfg(unix)]
pub fn settle_umask() {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let before = umask(Mode::from_raw_mode(0o077));
    umask(before & Mode::from_raw_mode(0o077));
}

/// Nothing of the kind on this system.
#[cfg(not(unix))]
pub fn settle_umask() {}

fn private_folder(path: &Path) -> io::Result<()> {
    let builder = |recursive| {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(recursive);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
    };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        builder(true).create(parent)?;
    }
    match builder(false).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.and_then(|()| make_private(path)),
    }
}

/// Whatever the umask took away.
#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> HostIdentity {
        HostIdentity {
            machine: "m".into(),
            boot: "b".into(),
            pid_namespace: 1,
            pid: 7,
            start_time: 9,
            host: "till".into(),
        }
    }

    #[test]
    fn judgements() {
        let this = process();
        let of = |change: fn(&mut HostIdentity), alive| {
            let mut other = process();
            change(&mut other);
            judge(&this, &other, |_, _| alive)
        };
        assert_eq!(of(|_| {}, Some(true)), Fate::Alive);
        assert_eq!(of(|_| {}, Some(false)), Fate::Gone);
        assert_eq!(of(|_| {}, None), Fate::Elsewhere);
        assert_eq!(of(|o| o.boot = "c".into(), None), Fate::Gone);
        assert_eq!(of(|o| o.boot.clear(), Some(false)), Fate::Elsewhere);
        assert_eq!(of(|o| o.pid_namespace = 2, Some(false)), Fate::Elsewhere);
        assert_eq!(of(|o| o.machine = "n".into(), Some(false)), Fate::Elsewhere);
        let nameless = HostIdentity {
            machine: String::new(),
            ..process()
        };
        assert_eq!(
            judge(&nameless, &nameless, |_, _| Some(false)),
            Fate::Elsewhere
        );
    }

    #[cfg(unix)]
    #[test]
    fn cache_folders_are_private_and_differ_by_place() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let caches = folder.path().join("a/caches");
        let one = cache_folder(&caches, "ab", "/one").unwrap();
        let two = cache_folder(&caches, "ab", "/two").unwrap();
        assert_ne!(one, two);
        assert_eq!(one, cache_folder(&caches, "ab", "/one").unwrap());
        let mode = fs::metadata(&one).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
}
