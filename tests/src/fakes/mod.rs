//! Services of others that no test can have: they answer just what hucha asks, and fail as they are
//! told.

pub mod firestore;
pub mod tds;
