//! Servers that answer just what hucha asks, and fail as they are told.

pub mod tds;
