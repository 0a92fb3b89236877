//! `completions`, `man` and `version`: what there is to know about the program itself.

use clap::CommandFactory;
use clap_mangen::Man;

use super::Run;
use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::errors::{Code, Failure, Outcome};

/// Prints a script that completes command lines.
pub fn completions(run: &mut Run, args: &CompletionsArgs) -> Outcome {
    // In memory: the generator would panic when stdout is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hucha", &mut script);
    run.out.raw().write_all(&script)?;
    Ok(Code::Done)
}

/// Prints a page of the manual, or writes all of them.
pub fn man(run: &mut Run, args: &ManArgs) -> Outcome {
    let mut command = Cli::command();
    command.build();
    if let Some(folder) = &args.output {
        let failed = |e| Failure::failed(format_args!("{}: {e}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        clap_mangen::generate_to(command, folder).map_err(failed)?;
        return Ok(Code::Done);
    }
    for name in &args.command {
        let sub = command.find_subcommand(name).cloned();
        command = sub.ok_or_else(|| {
            Failure::usage(format_args!("there is no command {name:?}")).hint("see `hucha --help`")
        })?;
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    run.out.raw().write_all(&page)?;
    Ok(Code::Done)
}

/// Tells the versions of the program and of the format.
pub fn version(run: &mut Run) -> Outcome {
    use hucha_store::format::{MAJOR, MINOR};
    let version = env!("CARGO_PKG_VERSION");
    let format = format!("{MAJOR}.{MINOR}");
    if run.out.json {
        let object = serde_json::json!({ "version": version, "format": format });
        run.out.object("version", &object)?;
    } else {
        run.out.line(&format!("hucha {version}"))?;
        run.out.line(&format!("repository format {format}"))?;
    }
    Ok(Code::Done)
}
