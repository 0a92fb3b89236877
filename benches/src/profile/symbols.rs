//! Which functions the CPU time of a command goes to, by `perf`.

use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::process::Command;

use super::threads::command;
use crate::compare::measure::Call;

/// Functions with less of the time, in percent, are left out.
const LEAST: f64 = 1.5;

/// Runs a command under `perf` and answers a table of its functions; nothing when there is no
/// `perf`, or it may not look.
///
/// # Errors
/// When the log cannot be opened.
pub fn record(
    call: &Call,
    variables: &[(String, OsString)],
    log: &Path,
    data: &Path,
) -> io::Result<String> {
    let mut argv: Vec<OsString> = ["perf", "record", "-q", "-F", "499", "-o"]
        .map(OsString::from)
        .to_vec();
    argv.extend([data.into(), "--".into()]);
    argv.extend(call.argv.iter().cloned());
    let perf = Call { argv, folder: None };
    match command(&perf, variables, log)?.status() {
        Ok(status) if status.success() => {}
        _ => return Ok(String::new()),
    }
    let mut report = Command::new("perf");
    report.args(["report", "--stdio", "--no-children", "-g", "none"]);
    report.args(["--sort", "dso,sym", "-i"]).arg(data);
    let output = report.output()?;
    Ok(table(&String::from_utf8_lossy(&output.stdout)))
}

fn table(report: &str) -> String {
    let mut out = String::from("\n| share | function |\n|---|---|\n");
    for (share, function) in report.lines().filter_map(line) {
        if share >= LEAST {
            let _ = writeln!(out, "| {share:.1} % | `{function}` |");
        }
    }
    out
}

/// Share and function of a line: `12.34%  hucha  [.] name`.
fn line(line: &str) -> Option<(f64, String)> {
    let (share, rest) = line.trim_start().split_once('%')?;
    let share = share.parse().ok()?;
    let at = [" [.] ", " [k] "].iter().find_map(|mark| rest.find(mark))?;
    let (object, function) = rest.split_at_checked(at)?;
    let function = function.get(5..)?.trim().replace(['|', '`'], "");
    Some((share, format!("{}: {function}", object.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_with_a_share_are_listed() {
        let report = "# Samples: 9\n\n    62.10%  hucha   [.] ZSTD_compress\n     \
                      0.30%  [kernel.kallsyms]  [k] fsync\n";
        let out = table(report);
        assert!(
            out.ends_with("| 62.1 % | `hucha: ZSTD_compress` |\n"),
            "{out}"
        );
        let kernel = line(" 4.00%  [kernel.kallsyms]  [k] copy_page");
        let wanted = "[kernel.kallsyms]: copy_page".to_owned();
        assert_eq!(kernel, Some((4.0, wanted)));
    }
}
