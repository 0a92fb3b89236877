//! Content-defined chunking: bytes in, cut points out.
//!
//! ```
//! use hucha_chunker::{ChunkStream, Cutter, GearTable, Profile};
//! use std::sync::Arc;
//!
//! let table = Arc::new(GearTable::derive(&[7; 32])); // the repository's secret key
//! let cutter = Cutter::new(table, Profile::DUMP);
//!
//! let dump = "INSERT INTO piggy VALUES (1, 'coin');\n".repeat(10_000);
//! let mut reader = dump.as_bytes(); // any `std::io::Read`
//! let mut stream = ChunkStream::new(&cutter); // owns the one buffer; reuse it with `reset`
//! let mut total = 0;
//! while let Some(chunk) = stream.next(&mut reader)? {
//!     assert!(chunk.len() <= Profile::DUMP.max_size());
//!     total += chunk.len(); // hash, compress, store: the caller's business
//! }
//! assert_eq!(total, dump.len());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # How it cuts
//!
//! A chunk ends where a rolling *gear* hash of the last 48 bytes has zeros under a mask, so a cut
//! depends on the bytes around it and not on their offset: after an insertion the cuts soon fall
//! in the old places again, and the old chunks are found again. The algorithm is FastCDC:
//!
//! - Wen Xia et al., *FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
//!   Deduplication*, USENIX ATC 2016: gear hash, no look at the first `min` bytes of a chunk, and
//!   normalized chunking (a stricter mask before the average size, a looser one after it).
//! - Wen Xia et al., *The Design of Fast Content-Defined Chunking for Data Deduplication Based
//!   Storage Systems*, IEEE TPDS 31(9), 2020: two bytes a step. Crate `fastcdc` implements it.
//!
//! The gear table is secret. With a public one, whoever sees the chunk sizes of an encrypted
//! repository can tell whether a known file is in it. Two papers carry this out against backup
//! programs, and recover the parameters of chunkers that are keyed:
//! *Chunking Attacks on File Backup Services using Content-Defined Chunking* (IACR ePrint
//! 2025/532) and *Breaking and Fixing Content-Defined Chunking* (IACR ePrint 2025/558). One 64-bit
//! word XORed into a public table is too thin a key, so here [`GearTable::derive`] takes every one
//! of the 256 entries from a 32-byte key.
//!
//! Data that changes in place, page by page, is cut at fixed, aligned offsets instead:
//! [`Profile::PAGES`].
//!
//! # What it deliberately does not do
//!
//! - **No I/O of its own.** [`Cutter`] looks at a slice; [`ChunkStream`] reads from the reader it
//!   is handed, opens nothing and starts no thread.
//! - **No hashing of chunks**, no compression, no encryption, no deduplication.
//! - **No claim that the secret table is a proof.** It raises the cost of fingerprinting, no
//!   more. The hash is linear in the table, so enough known or chosen plaintext with visible chunk
//!   sizes still gives the table away; the threat model says what remains.
//! - **No freedom to drift.** The same key, profile and bytes give the same cuts for ever; a
//!   change would store every chunk of every repository again. `tests/golden.rs` pins them.

#![deny(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing, reason = "a test may panic"))]

mod cutter;
mod gear;
mod profile;
mod stream;

pub use cutter::{Chunks, Cutter};
pub use gear::GearTable;
pub use profile::{Profile, ProfileError};
pub use stream::ChunkStream;
