//! `init`.

use hucha_store::crypto::Encryption;
use hucha_store::repository::{Credential, InitOptions, OpenError, Repository};

use super::Run;
use crate::args::{EncryptionArg, InitArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::open::{Made, Place, look, make};
use crate::secrets::{Asked, credential, make_key_file};
use crate::settings::Settings;

/// The core's word for what was typed.
pub fn encryption(typed: EncryptionArg) -> Encryption {
    match typed {
        EncryptionArg::ChaCha20Poly1305 => Encryption::XChaCha20Poly1305,
        EncryptionArg::None => Encryption::None,
    }
}

/// What will open a repository that is made now.
pub fn new_credential(settings: &Settings, typed: EncryptionArg) -> Result<Credential, Failure> {
    match typed {
        EncryptionArg::None => Ok(Credential::None),
        EncryptionArg::ChaCha20Poly1305 => {
            let prompt = "Password of the new repository";
            let given = credential(settings.secret.as_ref(), Asked::Twice, prompt);
            given.map_err(|failure| match settings.secret {
                None if failure.code == Code::WrongKey => no_new_key(),
                _ => failure,
            })
        }
    }
}

fn no_new_key() -> Failure {
    let message = "a new repository needs a password, and none was given";
    Failure::new(Code::WrongKey, message).hint(
        "use --password-file, the variable HUCHA_PASSWORD, --new-key-file of `hucha init`, or \
         --encryption none",
    )
}

/// Makes a repository.
pub fn init(run: &mut Run, args: &InitArgs) -> Outcome {
    if args.encryption == EncryptionArg::None && args.new_key_file.is_some() {
        return Err(Failure::usage(
            "without encryption there is nothing to make a key file for",
        ));
    }
    if let Place::Taken(backend) = look(&run.settings)? {
        return Err(OpenError::AlreadyExists(backend.location()).into());
    }
    let path = run.settings.repository()?;
    if run.settings.dry_run {
        let place = path.display().to_string();
        made_object(run, args, None, &place)?;
        run.out
            .summary(&format!("would make a repository at {place}"))?;
        return Ok(Code::Done);
    }
    let credential = match &args.new_key_file {
        Some(file) => make_key_file(file)?,
        None => new_credential(&run.settings, args.encryption)?,
    };
    let options = InitOptions {
        encryption: encryption(args.encryption),
        label: args.label.clone(),
    };
    let made = make(&run.settings, &credential, &options);
    let Ok(Made::Ours(backend)) = made else {
        if let Some(file) = &args.new_key_file {
            // It opens nothing.
            let _ = std::fs::remove_file(file);
        }
        let (Made::Ours(backend) | Made::Others(backend)) = made?;
        return Err(OpenError::AlreadyExists(backend.location()).into());
    };
    let id = Repository::id_of(&*backend)?
        .map(|id| id.to_string())
        .unwrap_or_default();
    tell(run, args, &id, &backend.location())
}

/// With `--json`: what was made, or would be.
fn made_object(
    run: &mut Run,
    args: &InitArgs,
    id: Option<&str>,
    location: &str,
) -> Result<(), Failure> {
    if !run.out.json {
        return Ok(());
    }
    let encryption = match args.encryption {
        EncryptionArg::None => "none",
        EncryptionArg::ChaCha20Poly1305 => "chacha20-poly1305",
    };
    run.out.object(
        "init",
        &serde_json::json!({
            "id": id, "location": location, "encryption": encryption,
            "dry_run": run.settings.dry_run,
        }),
    )
}

fn tell(run: &mut Run, args: &InitArgs, id: &str, location: &str) -> Outcome {
    made_object(run, args, Some(id), location)?;
    let short = id.get(..8).unwrap_or(id);
    run.out
        .summary(&format!("made repository {short} at {location}"))?;
    if let Some(file) = &args.new_key_file {
        run.out.remark(&format!(
            "its key is in {}: keep a copy elsewhere",
            file.display()
        ));
    } else if args.encryption != EncryptionArg::None {
        run.out
            .remark("keep the password safe: without it nobody can read the repository again");
    }
    Ok(Code::Done)
}
