//! The restored database in place of the live one: both change their names. Whoever uses the live
//! one is thrown out, and nobody comes in while it is done. When the second name cannot be given,
//! the first is given back.

use super::restore::free_beside;
use super::session::{Patience, Session};
use super::sql::{self, Access};
use super::{SqlServer, catalog};
use crate::child::Stopper;
use crate::database::error::DatabaseError;
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
    catalog::database(&mut session, &restored.name)?.online(&restored.name)?;
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
    let exchanged = names.exchange(&mut session);
    drop(session);
    if let Err(error) = exchanged {
        return Err(names.undo(of, error, context));
    }
    Ok(Restored {
        name: live.clone(),
        kept: Some(names.kept),
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
        let mut tell = |sql: &str| session.tell(sql, &doing, Patience::Short);
        tell(&sql::take_name(live, kept))?;
        tell(&sql::take_name(new, live))?;
        tell(&sql::access(live, *access))?;
        tell(&sql::access(kept, *access))
    }

    /// Gives both their names back, as far as they have changed them, and lets programs in again.
    fn undo(&self, of: &SqlServer, error: DatabaseError, context: &Context) -> DatabaseError {
        // What is to stop has stopped; this must be done all the same.
        let calm = Context {
            stopper: Stopper::default(),
            ..context.clone()
        };
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
        let mut tell = |sql: &str| session.tell(sql, &doing, Patience::Short);
        let mut name = *live;
        let mut given = Ok(());
        if has_changed {
            // Fails when the restored one has not got it yet; then nothing is in the way.
            let _ = tell(&sql::rename(live, new));
            given = tell(&sql::rename(kept, live));
            if given.is_err() {
                name = kept;
            }
        }
        // The restored one may be closed as well. It is of no matter to the live one.
        let _ = tell(&sql::access(new, Access::Multi));
        given.and(tell(&sql::access(name, *access)))
    }
}
