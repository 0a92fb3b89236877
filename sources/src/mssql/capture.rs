//! A backup on its way into a snapshot: the server writes it and checks it, then it is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex};

use hucha_store::member::StreamFacts;
use hucha_store::source::Profile;

use super::certificates::Trust;
use super::exchange::Passing;
use super::session::{Patience, Session};
use super::{SqlServer, catalog, sql};
use crate::child::lock;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Bytes, Capture, Captured, Context, Stream};

/// What stands before the name of a table whose rows are not certain, among a stream's properties.
pub(super) const UNSURE: &str = "unsure:";

/// A backup that is there and sound.
struct Made {
    file: File,
    /// Goes with this.
    passing: Passing,
    facts: StreamFacts,
    captured: Captured,
}

/// Lets the server make a backup and check it. Its moment is when the server has ended.
pub(super) fn capture<'a>(
    of: &'a SqlServer,
    context: &'a Context,
) -> Result<Capture<'a>, DatabaseError> {
    let Made {
        file,
        passing,
        facts,
        captured,
    } = make(of, context)?;
    let whole = Arc::new(Mutex::new(false));
    let reading = Reading {
        left: passing.length(),
        file,
        facts,
        whole: Arc::clone(&whole),
        context,
    };
    Ok(Capture {
        streams: vec![Stream {
            name: String::new(),
            profile: Profile::PAGES,
            open: Box::new(move || Ok(Box::new(reading))),
        }],
        at_once: 1,
        end: Box::new(move || {
            let mut captured = captured;
            captured.warnings.extend(passing.remove().err());
            match *lock(&whole) {
                true => Ok(captured),
                false => Err(DatabaseError::new(
                    Cause::Incomplete,
                    "the backup was not read to its end",
                )),
            }
        }),
    })
}

fn make(of: &SqlServer, context: &Context) -> Result<Made, DatabaseError> {
    let (name, exchange) = (&of.database, of.exchange()?);
    exchange.check()?;
    let mut session = Session::open(of, context)?;
    let listed = catalog::database(&mut session, name)?;
    listed.online(name)?;
    let passing = exchange.passing();
    session.remove_first(&passing.local);
    let before = catalog::counts(&mut session, name, &listed)?;
    session.tell(
        &sql::backup(name, &passing.server),
        &format!("back up {name}"),
        Patience::While(&|| passing.length()),
    )?;
    let after = catalog::counts(&mut session, name, &listed)?;
    // Before the server reads it all: nothing of it is ours when it is not here.
    let file = passing.open()?;
    catalog::verify(&mut session, &passing.server, true)?;
    let header = catalog::header(&mut session, &passing.server)?;
    header.whole()?;
    if header.database() != listed.name || !header.has_checksums() {
        let what = format!(
            "the server wrote a backup of {} without what was asked for",
            header.database()
        );
        return Err(DatabaseError::new(Cause::Incomplete, what));
    }
    let unsure = catalog::unsure(&before, &after, header.was_open());
    let mut properties = header.properties();
    let files = catalog::files(&mut session, &passing.server)?;
    for (number, inside) in (1..).zip(&files) {
        let catalog::Inside {
            logical,
            physical,
            kind,
            size,
        } = inside;
        properties.push((
            format!("file_{number}"),
            format!("{kind} {size} {logical} {physical}"),
        ));
    }
    properties.push(("encrypted".to_owned(), listed.is_encrypted.to_string()));
    properties.sort();
    Ok(Made {
        file,
        passing,
        facts: facts(&after, unsure),
        captured: Captured {
            form: "bak".to_owned(),
            warnings: warnings(of, &listed),
            properties,
        },
    })
}

fn facts(after: &catalog::Counts, unsure: BTreeMap<String, String>) -> StreamFacts {
    let rows = after
        .iter()
        .map(|(table, count)| (table.clone(), count.rows));
    let unsure = unsure.into_iter();
    StreamFacts {
        rows: rows.collect(),
        properties: unsure
            .map(|(table, why)| (format!("{UNSURE}{table}"), why))
            .collect(),
        ..StreamFacts::default()
    }
}

fn warnings(of: &SqlServer, listed: &catalog::Listed) -> Vec<String> {
    let mut warnings = Vec::new();
    if listed.is_encrypted {
        warnings.push(
            "the database is encrypted (TDE): a restore needs its certificate, which is in no \
             backup; keep a copy of that elsewhere"
                .to_owned(),
        );
    }
    if !listed.sees_tables {
        warnings.push(format!(
            "the login does not see all tables, so their rows were not all counted: GRANT VIEW \
             DEFINITION in {}",
            of.database
        ));
    }
    if of.trust == Some(Trust::Any) {
        warnings.push("any certificate was trusted, so nobody knows who answered".to_owned());
    }
    warnings
}

/// The bytes of a backup.
struct Reading<'a> {
    file: File,
    /// Bytes that must still come.
    left: u64,
    facts: StreamFacts,
    whole: Arc<Mutex<bool>>,
    context: &'a Context,
}

impl Bytes for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        self.context.go_on()?;
        let n = self.file.read(buffer).map_err(|e| {
            DatabaseError::new(
                Cause::Failed,
                format!("the backup file cannot be read: {e}"),
            )
        })?;
        let left = self.left.checked_sub(n as u64);
        self.left = match left {
            Some(left) if n > 0 || left == 0 => left,
            _ => {
                let what = "the backup file changed its length while it was read";
                return Err(DatabaseError::new(Cause::Incomplete, what));
            }
        };
        if n == 0 {
            *lock(&self.whole) = true;
        }
        Ok(n)
    }

    fn facts(&mut self) -> StreamFacts {
        std::mem::take(&mut self.facts)
    }
}
