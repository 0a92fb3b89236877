//! Whether the server is the one that was meant: by certificates that this machine trusts, or that
//! are in a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::database::error::{Cause, DatabaseError};

/// Whose certificates count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those that this machine trusts.
    System,
    /// Those in a PEM file: the server's own, or what it was signed with.
    File(PathBuf),
    /// Any: nobody knows who answers.
    Any,
}

/// How a line is sealed.
pub(super) fn config(trust: &Trust) -> Result<Arc<ClientConfig>, DatabaseError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |e: &dyn std::fmt::Display| {
        DatabaseError::new(Cause::Failed, format!("TLS cannot be used: {e}"))
    };
    let known = match trust {
        Trust::System => rustls_native_certs::load_native_certs().certs,
        Trust::File(path) => read(path)?,
        Trust::Any => Vec::new(),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(known.iter().cloned());
    let chains = match (trust, roots.is_empty()) {
        (Trust::Any, _) | (_, true) => None,
        (_, false) => {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Some(builder.build().map_err(|e| failed(&e))?)
        }
    };
    let verifier = Verifier {
        any: *trust == Trust::Any,
        own: match trust {
            Trust::File(_) => known,
            _ => Vec::new(),
        },
        chains,
        provider: Arc::clone(&provider),
    };
    // Before version 8 of its protocol the server knows TLS 1.2 at most.
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .map_err(|e| failed(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, DatabaseError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|e| {
        let what = format!(
            "the certificate file {} cannot be read: {e}",
            path.display()
        );
        DatabaseError::setting(what)
    })?;
    match all.is_empty() {
        true => {
            let what = format!("the file {} holds no certificate", path.display());
            Err(DatabaseError::setting(what).hint("it must be in PEM form"))
        }
        false => Ok(all),
    }
}

#[derive(Debug)]
struct Verifier {
    any: bool,
    /// Certificates that are trusted as they are, whoever signed them and whatever names they
    /// bear: a server makes one for itself that names nobody.
    own: Vec<CertificateDer<'static>>,
    chains: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_own = self
            .own
            .iter()
            .any(|own| own.as_ref() == end_entity.as_ref());
        match &self.chains {
            _ if self.any || is_own => Ok(ServerCertVerified::assertion()),
            Some(chains) => chains.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}
