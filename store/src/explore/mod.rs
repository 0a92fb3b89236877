//! The explorer: runs the real code on a backend in memory, one thread an actor, through all
//! schedules of two actors with few switches and faults, and through random ones of many.
//!
//! [`stage`] passes the token, [`cast`] holds the roles, [`start`] the repositories to begin with,
//! [`oracle`] judges every step and [`judge`] every end, [`search`] enumerates; [`reduce`] and
//! [`footprint`] tell what it need not try.

mod cast;
mod footprint;
mod judge;
mod library;
mod oracle;
mod power;
mod random;
mod reduce;
mod search;
mod stage;
mod start;
mod tests;
mod traces;
