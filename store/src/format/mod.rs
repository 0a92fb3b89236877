//! Bytes on disk: encoding and decoding without I/O. docs/format.md is the specification.

pub mod segment;
