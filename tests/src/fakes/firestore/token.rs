//! Tokens for a service account: the request's signature and claims are checked.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

/// The private key of the account, made for this process.
pub fn key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let made = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA"])
            .args(["-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .unwrap();
        assert!(made.status.success(), "openssl makes no key");
        String::from_utf8(made.stdout).unwrap()
    })
}

/// Tokens that hold.
#[derive(Debug, Default)]
pub struct Tokens {
    given: u64,
    pub valid: BTreeSet<String>,
}

/// The file of Google Cloud for the account, for a service at an address.
pub fn credentials(address: &str) -> String {
    json!({
        "type": "service_account", "project_id": "shop", "private_key_id": "1",
        "private_key": key(), "client_email": "hucha@shop.iam.gserviceaccount.com",
        "token_uri": format!("http://{address}/token"),
    })
    .to_string()
}

fn public_key() -> Vec<u8> {
    let body: String = key()
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
    key.public_key().as_ref().to_vec()
}

/// Answers a request: a token, or why there is none.
pub fn answer(body: &str, uri: &str, now: u64, tokens: &mut Tokens) -> (u16, Value) {
    match check(body, uri, now) {
        Ok(()) => {
            tokens.given += 1;
            let token = format!("ya29.secret-token-{}", tokens.given);
            tokens.valid.insert(token.clone());
            (
                200,
                json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}),
            )
        }
        Err(why) => (
            400,
            json!({"error": "invalid_grant", "error_description": why}),
        ),
    }
}

fn check(body: &str, uri: &str, now: u64) -> Result<(), String> {
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let jwt = body.strip_prefix(grant).ok_or("no such grant")?;
    let (signed, signature) = jwt.rsplit_once('.').ok_or("Invalid JWT")?;
    let (head, claims) = signed.split_once('.').ok_or("Invalid JWT")?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|e| e.to_string())?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key());
    key.verify(signed.as_bytes(), &signature)
        .map_err(|_| "Invalid JWT Signature.")?;
    let json = |part: &str| -> Result<Value, String> {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|e| e.to_string())?;
        serde_json::from_slice(&bytes).map_err(|e| e.to_string())
    };
    let (head, claims) = (json(head)?, json(claims)?);
    let (from, to) = (
        claims["iat"].as_u64().unwrap_or(0),
        claims["exp"].as_u64().unwrap_or(0),
    );
    for (good, why) in [
        (head["alg"] == "RS256" && head["typ"] == "JWT", "algorithm"),
        (
            claims["iss"] == "hucha@shop.iam.gserviceaccount.com",
            "issuer",
        ),
        (claims["aud"] == uri, "audience"),
        (
            claims["scope"] == "https://www.googleapis.com/auth/datastore",
            "scope",
        ),
        (
            from.abs_diff(now) < 300 && to > now && to <= from + 3600,
            "times",
        ),
    ] {
        if !good {
            return Err(format!("Invalid JWT: {why}"));
        }
    }
    Ok(())
}
