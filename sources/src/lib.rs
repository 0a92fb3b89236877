//! What is backed up, and where it is restored to: file trees, streams and commands, on the
//! traits of `hucha-store`. Knows nothing of repositories, prints nothing and reads no
//! environment.

pub mod archive;
pub mod child;
pub mod command;
pub mod database;
pub mod expand;
pub mod firestore;
mod glob;
pub mod host;
#[cfg(unix)]
mod ignore;
mod mssql;
pub mod mysql;
mod owner;
pub mod pattern;
pub mod postgres;
mod sqlite;
pub mod stream;
pub mod tree;
