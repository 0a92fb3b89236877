//! The restored database in place of the live one: both change their names. Whoever uses the live
//! one is thrown out, and nobody comes in while it is done: the only place in it is ours. When the
//! second name cannot be given, the first is given back.

use super::catalog::Listed;
use super::restore::free_beside;
use super::session::{Patience, Session};
use super::sql::{self, Access};
use super::{SqlServer, catalog};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// Exchanges the live database with the restored one.
pub(super) fn swap(
    of: &SqlServer,
    restored: Restored,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    let live = &of.database;
    if restored.name == *live {
        // There was none: the restored one is the live one already.
        return Ok(restored);
    }
    let mut session = Session::open(of, context)?;
    let fresh = catalog::database(&mut session, &restored.name)?;
    fresh.online(&restored.name)?;
    let listed = catalog::database(&mut session, live)?;
    listed.online(live)?;
    let before = format!("before_restore_{}", context.stamp);
    let names = Names {
        live,
        new: &restored.name,
        kept: free_beside(&mut session, live, &before)?,
        access: match listed.access.as_str() {
            "RESTRICTED_USER" => Access::Restricted,
            "SINGLE_USER" => Access::Single,
            _ => Access::Multi,
        },
    };
    if let Err(error) = names.exchange(&mut session) {
        drop(session);
        return Err(names.undo(of, error, context));
    }
    let mut warnings = restored.warnings.clone();
    warnings.extend(names.carry_over(&mut session, &listed, &fresh));
    Ok(Restored {
        name: live.clone(),
        kept: Some(names.kept),
        warnings,
        ..restored
    })
}

struct Names<'a> {
    live: &'a str,
    new: &'a str,
    kept: String,
    /// Who may use the live one.
    access: Access,
}

impl Names<'_> {
    fn exchange(&self, session: &mut Session<'_>) -> Result<(), DatabaseError> {
        let Names {
            live,
            new,
            kept,
            access,
        } = self;
        let doing = format!("exchange {live} with {new}");
        rename(session, (live, kept), *access, &doing)?;
        rename(session, (new, live), *access, &doing)
    }

    /// Gives the restored one what no backup holds; answers a warning for what stays as it is.
    fn carry_over(&self, session: &mut Session<'_>, old: &Listed, new: &Listed) -> Vec<String> {
        let (live, mut warnings) = (self.live, Vec::new());
        let mut set = |sql: &str, what: &str| {
            let done = session.tell(sql, &format!("set what {live} was before"), Patience::Short);
            let warning = |why: DatabaseError| {
                format!(
                    "{live} {what}, which could not be set ({}): {sql}",
                    why.what
                )
            };
            warnings.extend(done.err().map(warning));
        };
        if old.owner != new.owner && !old.owner.is_empty() {
            let what = format!("belonged to {}", old.owner);
            set(&sql::give_to(live, &old.owner), &what);
        }
        if old.is_trustworthy && !new.is_trustworthy {
            set(&sql::trust(live), "was TRUSTWORTHY");
        }
        if old.has_broker && !new.has_broker {
            // Two of one number cannot be on, and which of both shall be is not for us to say.
            let (off, on) = (sql::name(&self.kept), sql::name(live));
            warnings.push(format!(
                "the Service Broker of {live} was on, and is off in the restored database: \
                 ALTER DATABASE {off} SET DISABLE_BROKER WITH ROLLBACK IMMEDIATE; \
                 ALTER DATABASE {on} SET ENABLE_BROKER WITH ROLLBACK IMMEDIATE"
            ));
        }
        warnings
    }

    /// Gives both their names back, as far as they have changed them, and lets programs in again.
    fn undo(&self, of: &SqlServer, error: DatabaseError, context: &Context) -> DatabaseError {
        // What is to stop has stopped; this must be done all the same.
        let calm = context.calm();
        let undone = Session::open(of, &calm).and_then(|mut session| self.give_back(&mut session));
        match undone {
            Ok(()) => error,
            Err(why) => {
                let hint = format!(
                    "{} may stand under the name {} now, or take no programs ({}); see \
                     sys.databases, then ALTER DATABASE … MODIFY NAME, SET MULTI_USER",
                    self.live, self.kept, why.what
                );
                error.hint(hint)
            }
        }
    }

    fn give_back(&self, session: &mut Session<'_>) -> Result<(), DatabaseError> {
        let Names {
            live,
            new,
            kept,
            access,
        } = self;
        let has_changed = catalog::find(session, kept)?.is_some();
        let doing = format!("give {live} its name back");
        // The restored one may be closed as well. It is of no matter to the live one.
        let open = |session: &mut Session<'_>| {
            let _ = session.tell(&sql::access(new, Access::Multi), &doing, Patience::Short);
        };
        if !has_changed {
            open(session);
            return session.tell(&sql::access(live, *access), &doing, Patience::Short);
        }
        // Fails when the restored one has not got it yet; then nothing is in the way.
        let _ = rename(session, (live, new), Access::Multi, &doing);
        open(session);
        rename(session, (kept, live), *access, &doing)
    }
}

/// Throws everybody out of a database, gives it another name, and lets in who may use it. We are in
/// it meanwhile: it has one place, and whoever is first has that.
fn rename(
    session: &mut Session<'_>,
    (from, to): (&str, &str),
    access: Access,
    doing: &str,
) -> Result<(), DatabaseError> {
    let mut tell = |sql: &str| session.tell(sql, doing, Patience::Short);
    match tell(&sql::enter(from)) {
        // Who may alter all databases need not be a user of each.
        Err(e) if e.cause == Cause::Denied => {}
        entered => entered?,
    }
    tell(&sql::access(from, Access::Single))?;
    let renamed = tell(&sql::rename(from, to));
    let name = if renamed.is_ok() { to } else { from };
    let opened = tell(&sql::access(name, access));
    renamed.and(opened).and(tell(&sql::enter("master")))
}
