//! From settings to an open repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hucha_store::backend::{Area, Backend, BackendError, Limits, Local, Throttled};
use hucha_store::crypto::Encryption;
use hucha_store::id::RepositoryId;
use hucha_store::repair::{ConfigState, config};
use hucha_store::repository::{Credential, InitOptions, OpenError, Repository};

use crate::errors::{Code, Failure};
use crate::outside::{SystemPace, cache_folder, environment};
use crate::render::notice;
use crate::render::text::lines;
use crate::secrets::{Asked, credential};
use crate::settings::{Level, Secret, Settings};

/// How often a wrong password may be typed.
const TRIES: usize = 3;

/// Opens the repository, asking for its password where needed.
///
/// # Errors
/// When there is none, or what was given does not open it.
pub fn open(settings: &Settings) -> Result<Repository, Failure> {
    let path = settings.repository()?;
    let backend = backend(settings, &path)?;
    let found = Repository::encryption_of(&*backend)?;
    match found.ok_or_else(|| without_config(&path))? {
        Encryption::None => open_with(settings, &backend, &Credential::None),
        Encryption::XChaCha20Poly1305 => ask(settings, &*backend, &|given| {
            open_with(settings, &backend, given)
        }),
    }
}

/// Opens the repository for repair: also without its `config`, as long as a copy of it is left.
///
/// # Errors
/// As [`open`].
pub fn open_for_repair(settings: &Settings) -> Result<(Repository, ConfigState), Failure> {
    let path = settings.repository()?;
    let backend = backend(settings, &path)?;
    let open = |given: &Credential| {
        let found = config::find(&backend, given)?;
        let cache = cache_of(settings, &*backend, found.unlocked.id());
        Ok(ConfigState::open(found, environment(cache))?)
    };
    let found = config::encryption_of(&*backend)?;
    match found.ok_or_else(|| OpenError::NoRepository(backend.location()))? {
        Encryption::None => open(&Credential::None),
        Encryption::XChaCha20Poly1305 => ask(settings, &*backend, &open),
    }
}

/// Opens with a password that is asked for where needed, again when it is wrong.
fn ask<T>(
    settings: &Settings,
    backend: &dyn Backend,
    open: &dyn Fn(&Credential) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let prompt = format!("Password of {}", backend.location());
    let mut left = TRIES;
    loop {
        let given = credential(settings.secret.as_ref(), Asked::Once, &prompt)?;
        left -= 1;
        match open(&given) {
            Err(failure) if settings.secret.is_none() && left > 0 && is_wrong_key(&failure) => {
                notice("wrong password, try again");
            }
            Err(failure) if is_wrong_key(&failure) => {
                return Err(wrong_key(settings, &backend.location()));
            }
            done => return done,
        }
    }
}

/// What was wrong, and where it came from.
fn wrong_key(settings: &Settings, location: &str) -> Failure {
    let (what, hint) = match &settings.secret {
        Some(Secret::KeyFile(path)) => {
            let path = path.display();
            let hint = format!("{path}: is it the one of this repository, {location}?");
            ("wrong key file", hint)
        }
        Some(Secret::File(path)) => (
            "wrong password",
            format!("it was read from {}", path.display()),
        ),
        Some(Secret::Command(_)) => ("wrong password", "a command printed it".to_owned()),
        Some(Secret::Plain(_)) => (
            "wrong password",
            "it came from the variable HUCHA_PASSWORD".to_owned(),
        ),
        None => (
            "wrong password",
            format!("is {location} the right repository?"),
        ),
    };
    Failure::new(Code::WrongKey, what).hint(hint)
}

fn is_wrong_key(failure: &Failure) -> bool {
    failure.code == crate::errors::Code::WrongKey
}

/// Opens the repository with a credential that is known already.
///
/// # Errors
/// When it does not open.
pub fn open_with(
    settings: &Settings,
    backend: &Arc<dyn Backend>,
    credential: &Credential,
) -> Result<Repository, Failure> {
    let cache = cache(settings, &**backend)?;
    Ok(Repository::open(
        Arc::clone(backend),
        credential,
        environment(cache),
    )?)
}

fn cache(settings: &Settings, backend: &dyn Backend) -> Result<Option<PathBuf>, Failure> {
    let id = Repository::id_of(backend)?;
    Ok(id.and_then(|id| cache_of(settings, backend, id)))
}

/// A folder that cannot be used costs time, nothing else.
fn cache_of(settings: &Settings, backend: &dyn Backend, id: RepositoryId) -> Option<PathBuf> {
    let caches = settings.cache.as_ref()?;
    match cache_folder(caches, &id.to_string(), &backend.location()) {
        Ok(folder) => {
            // Without its mark a cache can be used as well: it could only be cleared meanwhile.
            let _ = crate::caches::hold(&folder, &backend.location());
            Some(folder)
        }
        Err(error) => {
            if settings.level >= Level::Verbose && !settings.json {
                let shown = caches.display();
                notice(&lines(&format!(
                    "no cache: {shown} cannot be used: {error}"
                )));
            }
            None
        }
    }
}

/// A repository's folder, no faster than was asked for.
fn limited(settings: &Settings, local: Local) -> Arc<dyn Backend> {
    match settings.limits == Limits::default() {
        true => Arc::new(local),
        false => Arc::new(Throttled::new(
            local,
            settings.limits,
            Arc::new(SystemPace::start()),
        )),
    }
}

fn backend(settings: &Settings, path: &Path) -> Result<Arc<dyn Backend>, Failure> {
    match Local::open(path) {
        Ok(local) => Ok(limited(settings, local)),
        Err(e) if e.is_absent() => Err(no_repository(path, "there is nothing", MAKE_ONE)),
        Err(e) if is_no_folder(&e) => {
            let why = match path.is_file() {
                true => "it is a file",
                false => "a part of the path is a file",
            };
            Err(no_repository(
                path,
                why,
                "is the path right? A repository is a folder",
            ))
        }
        Err(e) => Err(e.into()),
    }
}

const MAKE_ONE: &str = "`hucha init` makes one, or `hucha snapshot --init`";

fn no_repository(path: &Path, why: &str, hint: &str) -> Failure {
    let shown = path.display();
    let message = format!("there is no hucha repository at {shown}: {why}");
    Failure::new(Code::NoRepository, message).hint(hint)
}

fn is_no_folder(error: &BackendError) -> bool {
    let kind = error.source.as_ref().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::NotADirectory)
}

/// A folder without `config`: what is it?
fn without_config(path: &Path) -> Failure {
    if let Err(damaged) = never_used(path) {
        return damaged;
    }
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut found| found.next().is_none());
    match is_empty || only_ours(path).is_ok() {
        true => no_repository(path, "the folder is empty", MAKE_ONE),
        false => no_repository(
            path,
            "it holds other things",
            "is the path right? `hucha init` needs a new or empty folder",
        ),
    }
}

/// What is at a place where a repository may be made.
pub enum Place {
    /// A repository.
    Taken(Arc<dyn Backend>),
    /// Nothing, or an empty folder; it was not touched.
    Free,
}

/// Looks at the repository's place.
///
/// # Errors
/// When a repository must not be made there: something else is.
pub fn look(settings: &Settings) -> Result<Place, Failure> {
    let path = settings.repository()?;
    match Local::open(&path) {
        Ok(backend) if Repository::encryption_of(&backend)?.is_some() => {
            Ok(Place::Taken(limited(settings, backend)))
        }
        Ok(_) => only_ours(&path).map(|()| Place::Free),
        Err(e) if e.is_absent() => Ok(Place::Free),
        Err(e) if is_no_folder(&e) => {
            let message = format!("{} is a file, or a part of the path is", path.display());
            Err(Failure::failed(message).hint(NEW_FOLDER))
        }
        Err(e) => Err(e.into()),
    }
}

const NEW_FOLDER: &str = "a repository needs a folder of its own; choose a new or empty one";

/// What an interrupted or simultaneous `init` leaves beside the folders of a repository, and what
/// file systems put at their root.
const HARMLESS: [&str; 3] = ["tmp", "reserve", "lost+found"];

fn only_ours(path: &Path) -> Result<(), Failure> {
    let entries = std::fs::read_dir(path)
        .map_err(|e| Failure::failed(format_args!("{} cannot be read: {e}", path.display())))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let folders = Area::ALL.iter().map(|area| area.folder());
        if !folders.chain(HARMLESS).any(|ours| name == *ours) {
            let shown = name.to_string_lossy();
            let message = format!("{} is not empty: it holds {shown:?}", path.display());
            return Err(Failure::failed(message).hint(NEW_FOLDER));
        }
    }
    never_used(path)
}

/// A repository that lost its `config` is damaged, not absent: no second one is made over it.
fn never_used(path: &Path) -> Result<(), Failure> {
    let holds = |area: &str| {
        let entries = std::fs::read_dir(path.join(area));
        entries.is_ok_and(|mut entries| entries.next().is_some())
    };
    if !holds("snapshots") && !holds("packs") {
        return Ok(());
    }
    let message = format!(
        "{} holds a repository whose config is missing",
        path.display()
    );
    Err(Failure::new(Code::Damaged, message)
        .hint("`hucha repair config` makes it anew; nothing was changed"))
}

/// Who made the repository that is there now.
pub enum Made {
    /// We.
    Ours(Arc<dyn Backend>),
    /// Another process, which was faster.
    Others(Arc<dyn Backend>),
}

/// Makes the repository at a place that is free.
///
/// # Errors
/// When it cannot be made.
pub fn make(
    settings: &Settings,
    credential: &Credential,
    options: &InitOptions,
) -> Result<Made, Failure> {
    let path = settings.repository()?;
    let local = Local::create(&path).map_err(|e: BackendError| Failure::from(e))?;
    let backend = limited(settings, local);
    match Repository::init(Arc::clone(&backend), credential, options, environment(None)) {
        Ok(_) => Ok(Made::Ours(backend)),
        Err(OpenError::AlreadyExists(_)) => Ok(Made::Others(backend)),
        Err(e) => Err(e.into()),
    }
}
