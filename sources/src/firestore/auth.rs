//! Who asks: an emulator's owner, a token from outside, or a service account whose key signs a
//! request for a token (RFC 7523), which is kept until shortly before it ends.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::child::lock;
use crate::database::error::{Cause, DatabaseError};
use crate::database::secret::SecretFrom;

/// What a token is asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/datastore";
/// How long a token is to hold; no longer is allowed.
const HOLDS: u64 = 3600;
/// A token is not used in its last seconds.
const SPARE: Duration = Duration::from_secs(120);

/// Who asks.
pub(super) enum Who {
    /// An emulator lets everybody do everything.
    Emulator,
    /// Whoever a token belongs to.
    Token(SecretFrom),
    /// A service account.
    Account(Box<Account>),
}

/// A service account with its key.
pub(super) struct Account {
    /// Its name, an e-mail address.
    pub email: String,
    /// Where tokens are asked for.
    pub token_uri: String,
    key_id: String,
    key: RsaKeyPair,
}

/// A token, and when it is used for the last time.
type Kept = (Zeroizing<String>, Duration);

/// The token at hand.
#[derive(Default)]
pub(super) struct Tokens {
    kept: Mutex<Option<Kept>>,
}

impl Tokens {
    /// The token, unless it is about to end; else a new one from `fetch`, with how many seconds it
    /// holds. Who comes meanwhile waits for it.
    pub fn get(
        &self,
        now: Duration,
        fetch: impl FnOnce() -> Result<(Zeroizing<String>, u64), DatabaseError>,
    ) -> Result<Zeroizing<String>, DatabaseError> {
        let mut kept = lock(&self.kept);
        if let Some((token, until)) = kept.as_ref()
            && now < *until
        {
            return Ok(token.clone());
        }
        let (token, holds) = fetch()?;
        let until = now + Duration::from_secs(holds).saturating_sub(SPARE);
        *kept = Some((token.clone(), until));
        Ok(token)
    }

    /// The service does not take this token any more.
    pub fn drop(&self, token: &str) {
        let mut kept = lock(&self.kept);
        if kept
            .as_ref()
            .is_some_and(|(known, _)| known.as_str() == token)
        {
            *kept = None;
        }
    }
}

impl Account {
    /// From a file of Google Cloud with the key of a service account.
    pub fn read(path: &Path) -> Result<Account, DatabaseError> {
        let shown = path.display();
        let denied = |what: String| DatabaseError::new(Cause::Denied, what);
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        let text =
            text.map_err(|e| denied(format!("the credentials file {shown} cannot be read: {e}")))?;
        // The parser's own words would repeat what stands in the file.
        let file: Value = serde_json::from_str(&text)
            .map_err(|_| denied(format!("the credentials file {shown} is no JSON")))?;
        let kind = file.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind != "service_account" {
            let what = format!("the credentials file {shown} is not the key of a service account");
            return Err(denied(what).hint(
                "make a key for a service account; for the account of a person give \
                 token_command=\"gcloud auth print-access-token\"",
            ));
        }
        let field = |name: &str| {
            let value = file.get(name).and_then(Value::as_str);
            let missing = || denied(format!("the credentials file {shown} has no {name}"));
            value.map(str::to_owned).ok_or_else(missing)
        };
        let pem = Zeroizing::new(field("private_key")?);
        let bad = || {
            denied(format!(
                "the private key in the credentials file {shown} is none"
            ))
        };
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(bad()),
        };
        Ok(Account {
            email: field("client_email")?,
            token_uri: field("token_uri")?,
            key_id: field("private_key_id").unwrap_or_default(),
            key: key.map_err(|_| bad())?,
        })
    }

    /// The body of a request for a token.
    pub fn request(&self, now: u64) -> Result<Zeroizing<String>, DatabaseError> {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let head = part(json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id}));
        let claims = part(json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_uri,
            "iat": now, "exp": now + HOLDS,
        }));
        let signed = format!("{head}.{claims}");
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        let done = self.key.sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        );
        done.map_err(|_| {
            DatabaseError::new(Cause::Failed, "the request for a token cannot be signed")
        })?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(Zeroizing::new(format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer\
             &assertion={signed}.{signature}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(token: &str) -> Result<(Zeroizing<String>, u64), DatabaseError> {
        Ok((Zeroizing::new(token.to_owned()), 3600))
    }

    #[test]
    fn a_token_is_kept_until_shortly_before_it_ends() {
        let tokens = Tokens::default();
        let at = Duration::from_secs;
        let none = || panic!("there is one");
        assert_eq!(*tokens.get(at(0), || fetched("one")).unwrap(), "one");
        assert_eq!(*tokens.get(at(3479), none).unwrap(), "one");
        assert_eq!(*tokens.get(at(3480), || fetched("two")).unwrap(), "two");
        tokens.drop("one");
        assert_eq!(*tokens.get(at(3481), none).unwrap(), "two");
        tokens.drop("two");
        assert_eq!(*tokens.get(at(3482), || fetched("three")).unwrap(), "three");
    }

    #[test]
    fn files_that_are_no_key_of_a_service_account() {
        let keep = tempfile::tempdir().unwrap();
        let path = keep.path().join("key.json");
        for (text, part) in [
            ("geheim", "is no JSON"),
            (
                "{\"type\": \"authorized_user\", \"x\": \"geheim\"}",
                "not the key of a service",
            ),
            ("{\"type\": \"service_account\"}", "has no private_key"),
            (
                "{\"type\": \"service_account\", \"private_key\": \"geheim\"}",
                "private key in the credentials file",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Account::read(&path).err().unwrap().in_one();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
        assert!(Account::read(&keep.path().join("gone")).is_err());
    }
}
