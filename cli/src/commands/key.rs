//! `key`: passwords and key files.

use std::path::Path;

use hucha_store::id::SlotId;
use hucha_store::repository::{Credential, Repository, SlotError, SlotKind, SlotView};

use super::Run;
use crate::args::{KeyCommand, NewKeyArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::table::{Heading, Table};
use crate::render::text;
use crate::secrets::{Asked, credential, make_key_file};
use crate::settings::Secret;
use crate::times;

/// Carries out one of the commands of `key`.
pub fn key(run: &mut Run, command: &KeyCommand) -> Outcome {
    let repository = open(&run.settings)?;
    match command {
        KeyCommand::List => show(run, &repository),
        KeyCommand::Add(args) => add(run, &repository, args),
        KeyCommand::Remove { key } => remove(run, &repository, key),
        KeyCommand::Change(args) => change(run, &repository, args),
    }
}

fn kind(slot: &SlotView) -> &'static str {
    match slot.kind {
        SlotKind::Password => "password",
        SlotKind::KeyFile => "key file",
    }
}

fn show(run: &mut Run, repository: &Repository) -> Outcome {
    let mut table = Table::new(&[
        Heading::Left("ID"),
        Heading::Left("Kind"),
        Heading::Left("Label"),
        Heading::Left("Made"),
        Heading::Left("On host"),
        Heading::Left(""),
    ]);
    for slot in repository.slots()? {
        if run.out.json {
            run.out.object(
                "key",
                &serde_json::json!({
                    "id": slot.id.to_string(),
                    "kind": kind(&slot),
                    "label": slot.label.label,
                    "created": times::rfc3339(slot.label.created, 0),
                    "host": slot.label.host,
                    "in_use": slot.in_use,
                }),
            )?;
            continue;
        }
        table.row(vec![
            format!("{:.8}", slot.id),
            kind(&slot).to_owned(),
            text::name(slot.label.label.as_bytes()),
            times::local(slot.label.created, &run.zone),
            text::name(slot.label.host.as_bytes()),
            (if slot.in_use { "in use" } else { "" }).to_owned(),
        ]);
    }
    if !run.out.json {
        table
            .lines()
            .iter()
            .try_for_each(|line| run.out.line(line))?;
    }
    Ok(Code::Done)
}

fn add(run: &mut Run, repository: &Repository, args: &NewKeyArgs) -> Outcome {
    let label = args.label.as_deref().unwrap_or_default();
    if let Some(done) = dry_run(run, repository, "would add a key")? {
        return Ok(done);
    }
    let id = with_new(run, args, |new| repository.add_slot(new, label))?;
    tell(run, "added", id, args.new_key_file.as_deref())
}

fn change(run: &mut Run, repository: &Repository, args: &NewKeyArgs) -> Outcome {
    if let Some(done) = dry_run(run, repository, "would change the key in use")? {
        return Ok(done);
    }
    let label = args.label.as_deref();
    let id = with_new(run, args, |new| repository.change_slot(new, label))?;
    tell(run, "changed to", id, args.new_key_file.as_deref())
}

fn remove(run: &mut Run, repository: &Repository, typed: &str) -> Outcome {
    let slot = repository.find_slot(typed)?;
    if run.settings.dry_run {
        run.out
            .summary(&format!("would remove key {:.8}", slot.id))?;
        return Ok(Code::Done);
    }
    repository.remove_slot(slot.id)?;
    tell(run, "removed", slot.id, None)
}

/// Ends a dry run, after a look whether there are keys at all.
fn dry_run(run: &mut Run, repository: &Repository, what: &str) -> Result<Option<Code>, Failure> {
    repository.slots()?;
    if !run.settings.dry_run {
        return Ok(None);
    }
    run.out.summary(what)?;
    Ok(Some(Code::Done))
}

/// Hands a new credential to `store`; a key file that then opens nothing is removed again.
fn with_new(
    run: &Run,
    args: &NewKeyArgs,
    store: impl Fn(&Credential) -> Result<SlotId, SlotError>,
) -> Result<SlotId, Failure> {
    if let Some(file) = &args.new_key_file {
        let new = make_key_file(file)?;
        return store(&new).map_err(|error| {
            let _ = std::fs::remove_file(file);
            error.into()
        });
    }
    let secret = (args.new_password_file.clone().map(Secret::File))
        .or_else(|| run.settings.new_password.clone().map(Secret::Plain));
    let new =
        credential(secret.as_ref(), Asked::Twice, "New password").map_err(
            |failure| match secret {
                Some(_) => failure,
                None => failure.hint(
                    "use --new-password-file, --new-key-file, or the variable HUCHA_NEW_PASSWORD",
                ),
            },
        )?;
    Ok(store(&new)?)
}

fn tell(run: &mut Run, what: &str, id: SlotId, file: Option<&Path>) -> Outcome {
    if run.out.json {
        run.out
            .object("key", &serde_json::json!({ "id": id.to_string() }))?;
        return Ok(Code::Done);
    }
    let file = file
        .map(|f| format!(", in {}", f.display()))
        .unwrap_or_default();
    run.out.summary(&format!("{what} key {id:.8}{file}"))?;
    Ok(Code::Done)
}
