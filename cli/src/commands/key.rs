//! `key`: passwords and key files.

use std::io::IsTerminal;
use std::path::Path;

use hucha_store::crypto::KeyFile;
use hucha_store::id::SlotId;
use hucha_store::repository::{Credential, Repository, SlotDetails, SlotError, SlotKind, SlotView};
use zeroize::Zeroizing;

use super::Run;
use crate::args::{ExportArgs, KeyCommand, NewKeyArgs};
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
        KeyCommand::Export(args) => export(run, &repository, args),
        KeyCommand::Change(args) => change(run, &repository, args),
    }
}

fn kind(details: &SlotDetails) -> &'static str {
    match details.kind {
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
        match run.out.json {
            true => run.out.object("key", &json(&slot))?,
            false => table.row(row(run, &slot)),
        }
    }
    if !run.out.json {
        table
            .lines()
            .iter()
            .try_for_each(|line| run.out.line(line))?;
    }
    Ok(Code::Done)
}

fn json(slot: &SlotView) -> serde_json::Value {
    let details = slot.details.as_ref();
    serde_json::json!({
        "id": slot.id.to_string(),
        "kind": details.map(kind),
        "label": details.map(|d| &d.label.label),
        "created": details.map(|d| times::rfc3339(d.label.created, 0)),
        "host": details.map(|d| &d.label.host),
        "in_use": slot.in_use,
        "damaged": details.is_none(),
    })
}

fn row(run: &Run, slot: &SlotView) -> Vec<String> {
    let id = format!("{:.8}", slot.id);
    let in_use = if slot.in_use { "in use" } else { "" };
    let Some(details) = &slot.details else {
        let blank = String::new;
        let word = "damaged".to_owned();
        return vec![id, word, blank(), blank(), blank(), in_use.to_owned()];
    };
    vec![
        id,
        kind(details).to_owned(),
        text::name(details.label.label.as_bytes()),
        times::local(details.label.created, &run.zone),
        text::name(details.label.host.as_bytes()),
        in_use.to_owned(),
    ]
}

/// Makes a key and prints it: the only secret that is ever printed, because it was asked for.
fn export(run: &mut Run, repository: &Repository, args: &ExportArgs) -> Outcome {
    if run.settings.dry_run {
        return would(run, repository, ADD);
    }
    if std::io::stdout().is_terminal() && !args.print {
        let failure = Failure::usage("the key would stay on this screen for everybody to see");
        return Err(
            failure.hint("send it to a file or a printer (`> FILE`, `| lp`), or use --print")
        );
    }
    let key = KeyFile::generate();
    let id = repository.add_slot(&Credential::KeyFile(key.clone()), &args.label)?;
    let text = exported(run, repository, args, &key);
    let printed = match run.out.json {
        true => {
            let object = serde_json::json!({ "id": id.to_string(), "text": &*text });
            run.out.object("exported-key", &object)
        }
        false => Ok(run.out.raw().write_all(text.as_bytes())?),
    };
    if let Err(failure) = printed.and_then(|()| run.out.flush()) {
        // Nobody has it: it must not open anything.
        repository.remove_slot(id)?;
        return Err(failure);
    }
    run.out
        .remark("whoever has this text can read everything: lock it away");
    Ok(Code::Done)
}

fn exported(
    run: &Run,
    repository: &Repository,
    args: &ExportArgs,
    key: &KeyFile,
) -> Zeroizing<String> {
    let id = repository.id();
    let place = text::name(repository.backend().location().as_bytes());
    let date = times::local(super::now(), &run.zone);
    let label = text::name(args.label.as_bytes());
    let mut out = Zeroizing::new(String::with_capacity(1024));
    let comments = [
        format!("# A key of the hucha repository {id}"),
        format!("# at {place}, made {date}, label {label}."),
        "# Whoever has it can read everything. It works as a file: --key-file FILE.".to_owned(),
        "# To type it from paper only what follows is needed.".to_owned(),
    ];
    for line in comments {
        out.push_str(&line);
        out.push('\n');
    }
    out.push_str(&key.to_paper());
    out
}

/// What one of the commands does, in words for people and for programs.
#[derive(Clone, Copy)]
struct Action {
    /// `added key`, after it was done.
    did: &'static str,
    /// `would add a key`, in a dry run that makes none.
    would: &'static str,
    /// The word in JSON.
    word: &'static str,
}

const ADD: Action = Action {
    did: "added",
    would: "would add a key",
    word: "added",
};
const CHANGE: Action = Action {
    did: "changed to",
    would: "would change the key in use",
    word: "changed",
};
const REMOVE: Action = Action {
    did: "removed",
    would: "would remove a key",
    word: "removed",
};

fn add(run: &mut Run, repository: &Repository, args: &NewKeyArgs) -> Outcome {
    if run.settings.dry_run {
        return would(run, repository, ADD);
    }
    let label = args.label.as_deref().unwrap_or_default();
    let id = with_new(run, args, |new| repository.add_slot(new, label))?;
    tell(run, ADD, id, args.new_key_file.as_deref())
}

fn change(run: &mut Run, repository: &Repository, args: &NewKeyArgs) -> Outcome {
    if run.settings.dry_run {
        return would(run, repository, CHANGE);
    }
    let label = args.label.as_deref();
    let id = with_new(run, args, |new| repository.change_slot(new, label))?;
    tell(run, CHANGE, id, args.new_key_file.as_deref())
}

fn remove(run: &mut Run, repository: &Repository, typed: &str) -> Outcome {
    let slot = repository.find_slot(typed)?;
    if run.settings.dry_run {
        object(run, REMOVE, Some(slot.id))?;
        run.out
            .summary(&format!("would remove key {:.8}", slot.id))?;
        return Ok(Code::Done);
    }
    repository.remove_slot(slot.id)?;
    tell(run, REMOVE, slot.id, None)
}

/// A dry run that would make a key, after a look whether there are keys at all.
fn would(run: &mut Run, repository: &Repository, action: Action) -> Outcome {
    repository.slots()?;
    object(run, action, None)?;
    run.out.summary(action.would)?;
    Ok(Code::Done)
}

/// With `--json`: what was done to which key.
fn object(run: &mut Run, action: Action, id: Option<SlotId>) -> Result<(), Failure> {
    if !run.out.json {
        return Ok(());
    }
    run.out.object(
        "key-change",
        &serde_json::json!({
            "action": action.word,
            "id": id.map(|id| id.to_string()),
            "dry_run": run.settings.dry_run,
        }),
    )
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

fn tell(run: &mut Run, action: Action, id: SlotId, file: Option<&Path>) -> Outcome {
    object(run, action, Some(id))?;
    let file = file
        .map(|f| format!(", in {}", f.display()))
        .unwrap_or_default();
    run.out
        .summary(&format!("{} key {id:.8}{file}", action.did))?;
    Ok(Code::Done)
}
