//! Sealing: XChaCha20-Poly1305 under a random nonce, or a keyed BLAKE3 tag in repositories without
//! encryption.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::fill_random;
use crate::format::MAJOR;
use crate::id::{KeyDomain, RepositoryId};

const NONCE: usize = 24;
const TAG: usize = 16;
const PLAIN_TAG: usize = 32;

/// What is sealed; the numbers stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Record = 1,
    PageRecord = 2,
    Segment = 3,
    DataKey = 4,
    Snapshot = 5,
    Session = 6,
    List = 7,
    Note = 8,
    SlotRoot = 9,
    SlotLabel = 10,
}

/// What a seal vouches for beside the bytes themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub domain: KeyDomain,
    pub kind: Kind,
    pub header: &'a [u8],
    /// Present for kinds that belong to one repository.
    pub repository: Option<RepositoryId>,
}

impl Context<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(34 + self.header.len());
        out.extend_from_slice(&self.domain.0);
        out.push(MAJOR);
        out.push(self.kind as u8);
        out.extend_from_slice(self.header);
        if let Some(repository) = self.repository {
            out.extend_from_slice(&repository.0);
        }
        out
    }
}

/// The seal is broken: wrong key, wrong context, or altered bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seal does not hold: wrong key or altered bytes")]
pub struct Unsealable;

/// A key that seals.
#[derive(Clone)]
pub(crate) enum SealKey {
    Secret(Zeroizing<[u8; 32]>),
    /// Without encryption: the key of a tag that finds damage, not forgery.
    Public([u8; 32]),
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

impl SealKey {
    /// Bytes that sealing adds.
    pub fn overhead(&self) -> usize {
        match self {
            SealKey::Secret(_) => NONCE + TAG,
            SealKey::Public(_) => PLAIN_TAG,
        }
    }

    /// Seals `plain`, appending to `out`.
    pub fn seal_onto(&self, context: &Context<'_>, plain: &[u8], out: &mut Vec<u8>) {
        let context = context.bytes();
        out.reserve(plain.len() + self.overhead());
        match self {
            SealKey::Secret(key) => {
                let mut nonce = [0u8; NONCE];
                fill_random(&mut nonce);
                let cipher = XChaCha20Poly1305::new((&**key).into());
                out.extend_from_slice(&nonce);
                let start = out.len();
                out.extend_from_slice(plain);
                let tag = encrypt(
                    &cipher,
                    &nonce,
                    &context,
                    out.get_mut(start..).unwrap_or(&mut []),
                );
                out.extend_from_slice(&tag);
            }
            SealKey::Public(key) => {
                out.extend_from_slice(&public_tag(key, &context, plain));
                out.extend_from_slice(plain);
            }
        }
    }

    /// Seals `plain`.
    pub fn seal(&self, context: &Context<'_>, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.seal_onto(context, plain, &mut out);
        out
    }

    /// Opens what [`SealKey::seal`] made with the same context.
    pub fn open(&self, context: &Context<'_>, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let context = context.bytes();
        match self {
            SealKey::Secret(key) => {
                let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(Unsealable)?;
                let (body, tag) = rest.split_last_chunk::<TAG>().ok_or(Unsealable)?;
                let cipher = XChaCha20Poly1305::new((&**key).into());
                let mut plain = body.to_vec();
                cipher
                    .decrypt_inout_detached(
                        &XNonce::from(*nonce),
                        &context,
                        plain.as_mut_slice().into(),
                        &Tag::from(*tag),
                    )
                    .map_err(|_| Unsealable)?;
                Ok(plain)
            }
            SealKey::Public(key) => {
                let (tag, plain) = sealed.split_first_chunk::<PLAIN_TAG>().ok_or(Unsealable)?;
                let right = blake3::Hash::from(public_tag(key, &context, plain));
                if right == blake3::Hash::from(*tag) {
                    Ok(plain.to_vec())
                } else {
                    Err(Unsealable)
                }
            }
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "fails only past 256 GiB, which no buffer here reaches"
)]
fn encrypt(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; NONCE],
    context: &[u8],
    buffer: &mut [u8],
) -> [u8; TAG] {
    cipher
        .encrypt_inout_detached(&XNonce::from(*nonce), context, buffer.into())
        .expect("the message is short enough")
        .into()
}

fn public_tag(key: &[u8; 32], context: &[u8], plain: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(context.len() as u64).to_le_bytes());
    hasher.update(context);
    hasher.update(plain);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(header: &[u8]) -> Context<'_> {
        Context {
            domain: KeyDomain([1; 16]),
            kind: Kind::Record,
            header,
            repository: None,
        }
    }

    #[test]
    fn opens_only_what_was_sealed_in_the_same_context() {
        for key in [
            SealKey::Secret(Zeroizing::new([7; 32])),
            SealKey::Public([7; 32]),
        ] {
            let sealed = key.seal(&context(b"h"), b"plain");
            assert_eq!(sealed.len(), 5 + key.overhead());
            assert_eq!(key.open(&context(b"h"), &sealed).unwrap(), b"plain");
            assert!(key.open(&context(b"x"), &sealed).is_err());
            let bound = Context {
                repository: Some(RepositoryId([2; 16])),
                ..context(b"h")
            };
            assert!(key.open(&bound, &sealed).is_err());
            for i in 0..sealed.len() {
                let mut bad = sealed.clone();
                bad[i] ^= 1;
                assert!(key.open(&context(b"h"), &bad).is_err(), "bit {i}");
                assert!(
                    key.open(&context(b"h"), &sealed[..i]).is_err(),
                    "cut at {i}"
                );
            }
        }
    }

    #[test]
    fn two_seals_of_the_same_bytes_differ() {
        let key = SealKey::Secret(Zeroizing::new([7; 32]));
        assert_ne!(key.seal(&context(b""), b"a"), key.seal(&context(b""), b"a"));
    }
}
