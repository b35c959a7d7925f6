//! TLS: which servers are trusted, and client certificates. Verification cannot be turned off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// PEM files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificates to trust in addition to the system's.
    pub ca: Option<PathBuf>,
    /// The client certificate.
    pub certificate: Option<PathBuf>,
    /// The key of the client certificate.
    pub key: Option<PathBuf>,
}

impl Trust {
    /// Reads the files. `protocols` are offered to the server, the preferred one first.
    ///
    /// # Errors
    /// If a file cannot be read or used, or there is nothing to trust.
    pub fn config(&self, protocols: &[&str]) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("cannot use TLS")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(provider)?));
        let mut config = match (&self.certificate, &self.key) {
            (None, None) => config.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let secret = PrivateKeyDer::from_pem_file(key);
                let secret =
                    secret.with_context(|| format!("cannot read a private key from {}", key.display()))?;
                let both = || format!("cannot use {} with {}", certificate.display(), key.display());
                config.with_client_auth_cert(certificates(certificate)?, secret).with_context(both)?
            }
            _ => bail!(
                "a client certificate needs its key, and a key its certificate: one of the two is not set"
            ),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<TrustVerifier> {
        let given = self.ca.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let by_issuer = Verifier::new_with_extra_roots(given.iter().cloned(), provider);
        let by_issuer = by_issuer.with_context(|| match &self.ca {
            Some(path) => format!("cannot use the certificates in {}", path.display()),
            None => "cannot use TLS; are the system's CA certificates installed?".to_owned(),
        })?;
        Ok(TrustVerifier { by_issuer, given })
    }
}

/// The certificates in a PEM file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || format!("cannot read {}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .with_context(read)?
        .collect::<Result<_, _>>()
        .with_context(read)?;
    if found.is_empty() {
        bail!("{}: no PEM certificate in it", path.display());
    }
    Ok(found)
}

/// Verifies servers by their issuers, and accepts a server whose own certificate was given.
///
/// `openssl req -x509` makes certificates that are marked as a CA, which webpki accepts from no server. curl and
/// OpenSSL accept one that they are given, so this does too.
#[derive(Debug)]
struct TrustVerifier {
    by_issuer: Verifier,
    given: Vec<CertificateDer<'static>>,
}

/// Whether only the mark as a CA is wrong: webpki has checked the dates before, but not the name.
pub fn is_ca(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.to_string() == "CaUsedAsEndEntity"
}

impl ServerCertVerifier for TrustVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.by_issuer.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(error) if is_ca(&error) && self.given.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_issuer.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_issuer.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_issuer.supported_verify_schemes()
    }
}
