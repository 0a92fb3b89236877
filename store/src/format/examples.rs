//! The hex examples of docs/format.md, executed.
