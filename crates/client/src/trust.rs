//! Whom a client over TLS believes to be who they say.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Why a certificate authority is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("an authority's certificate is no PEM")]
    Pem(#[from] pem::Error),
    #[error("an authority's certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whom one of these authorities vouches for, in PEM.
    Authorities(Vec<u8>),
    /// Whoever answers. The traffic is encrypted, and who reads it is not known.
    Anybody,
}

impl Trust {
    /// A client's settings that still lack who the client is.
    ///
    /// # Errors
    /// When an authority cannot be read.
    pub fn config(&self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TrustError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        Ok(match self {
            Self::Authorities(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in CertificateDer::pem_slice_iter(pem) {
                    roots.add(authority?)?;
                }
                builder.with_root_certificates(roots)
            }
            Self::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        })
    }
}

/// Takes every certificate, if its key has signed the handshake.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
