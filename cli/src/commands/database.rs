//! `restore --to`, and `manifest`: members as databases again, and what is known of them.

use std::io::IsTerminal;

use hucha_sources::database::{
    self, Merge, Part, RestoreOptions, Restored, Settings as SourceSettings, Stored, StoredMember,
};
use hucha_store::format::objects::Manifest;

use super::{Run, find, now};
use crate::args::{ManifestArgs, MergeArg, RestoreArgs, ToArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::names::{self, Name};
use crate::open::open;
use crate::render::json::Snapshot;
use crate::render::members::WholeMember;
use crate::render::text;
use crate::{signals, sources};

/// Makes a database of a member.
pub fn restore_to(run: &mut Run, args: &RestoreArgs, address: &str) -> Outcome {
    let name = names::parse(&args.snapshot, &run.zone)?;
    refuse_what_is_for_files(args)?;
    let settings = SourceSettings::of_address(address)?;
    let target = database::open(settings)?;
    let options = options(&args.to)?;
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    let member = member_name(&name, &manifest)?;
    let stored = StoredMember::find(&repository, &manifest, &member, target.kind())?;
    if run.settings.dry_run {
        run.out.summary(&format!(
            "dry run: \"{member}\" ({}) would be restored to {}",
            text::size(stored.member().bytes),
            target.location()
        ))?;
        return Ok(Code::Done);
    }
    confirm(&args.to, &options)?;
    let context = sources::context(&run.settings, &run.zone, now(), args.to.stall_timeout);
    signals::watch(signals::TO_UNDO);
    let stored = stored.until(&context.stopper);
    let mut restored = target.restore(&stored, &options, &context)?;
    if args.to.swap {
        let made = restored.name.clone();
        restored = target.swap(restored, &context).map_err(|e| {
            let failure = Failure::from(e);
            let hint = failure.hint.clone();
            let kept = format!("the restored database stays at {made}");
            let hint = hint.map_or(kept.clone(), |hint| format!("{hint}; {kept}"));
            failure.hint(hint)
        })?;
    }
    tell(run, &manifest, &member, &restored)
}

fn options(args: &ToArgs) -> Result<RestoreOptions, Failure> {
    Ok(RestoreOptions {
        part: match (args.schema_only, args.data_only) {
            (true, _) => Part::Schema,
            (_, true) => Part::Data,
            _ => Part::All,
        },
        tables: super::commas(&args.tables),
        merge: match args.merge {
            MergeArg::New => Merge::NewOnly,
            MergeArg::Overwrite => Merge::Overwrite,
            MergeArg::Mirror => Merge::Mirror,
        },
    })
}

/// What only a restore into a folder can do must not be asked for in vain.
fn refuse_what_is_for_files(args: &RestoreArgs) -> Result<(), Failure> {
    let given = [
        ("--delete", args.delete),
        ("--sparse", args.sparse),
        ("--numeric-ids", args.numeric_ids),
        ("--include or --exclude", !args.choice.takes_all()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::usage(format_args!(
            "{option} is about files, and --to makes a database"
        ))),
    }
}

/// The member that was named; the only one when none was.
pub(super) fn member_name(name: &Name, manifest: &Manifest) -> Result<String, Failure> {
    let typed = std::str::from_utf8(&name.path)
        .map_err(|_| Failure::failed("names of members are UTF-8 text"))?;
    match (typed, manifest.members.as_slice()) {
        ("", [only]) => Ok(only.name.clone()),
        (typed, _) => Ok(typed.to_owned()),
    }
}

/// Asks before anything that is there is changed.
fn confirm(args: &ToArgs, options: &RestoreOptions) -> Result<(), Failure> {
    let what = match options.merge {
        _ if args.yes => return Ok(()),
        Merge::NewOnly => return Ok(()),
        Merge::Overwrite => "overwrites documents that are there",
        Merge::Mirror => "overwrites documents, and removes those that are not stored",
    };
    if !std::io::stdin().is_terminal() {
        let failure = Failure::failed(format_args!("this {what}, and nobody can be asked"));
        return Err(failure.hint("add --yes"));
    }
    let answer = crate::secrets::ask_line(&format!("This {what}. Go on? (yes/no) "))?;
    match answer.trim() {
        "yes" | "y" => Ok(()),
        _ => Err(Failure::failed("nothing was changed")),
    }
}

fn tell(run: &mut Run, manifest: &Manifest, member: &str, restored: &Restored) -> Outcome {
    for warning in &restored.warnings {
        run.out.remark(&format!("warning: {warning}"));
    }
    if run.out.json {
        let object = serde_json::json!({
            "id": manifest.id.to_string(),
            "member": member,
            "database": restored.name,
            "tables": restored.tables,
            "rows": restored.rows,
            "kept": restored.kept,
            "warnings": restored.warnings,
        });
        run.out.object("database_restored", &object)?;
        return Ok(Code::Done);
    }
    let compared = text::compared(restored.rows, restored.tables);
    let name = &restored.name;
    run.out
        .summary(&format!("restored \"{member}\" to {name}: {compared}"))?;
    if let Some(kept) = &restored.kept {
        run.out
            .summary(&format!("what was there before is now {kept}"))?;
    }
    Ok(Code::Done)
}

/// Prints what a snapshot says of itself and of its members, as JSON.
pub fn manifest(run: &mut Run, args: &ManifestArgs) -> Outcome {
    let name = names::parse_whole(&args.snapshot, &run.zone)?;
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    let mut members = Vec::new();
    for member in &manifest.members {
        let streams = match member.failed {
            Some(_) => Vec::new(),
            None => StoredMember::find(&repository, &manifest, &member.name, &member.kind)?
                .streams()
                .to_vec(),
        };
        members.push(WholeMember::new(member, &streams));
    }
    let no_json = |e| Failure::failed(format_args!("no JSON: {e}"));
    let mut whole = serde_json::to_value(Snapshot::new(&manifest)).map_err(no_json)?;
    // Those of the list, with their streams.
    whole["members"] = serde_json::to_value(members).map_err(no_json)?;
    match run.out.json {
        true => run.out.object("manifest", &whole)?,
        false => {
            let text = serde_json::to_string_pretty(&whole).map_err(no_json)?;
            run.out.line(&text)?;
        }
    }
    Ok(Code::Done)
}
