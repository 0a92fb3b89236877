//! Plain JSON files.
