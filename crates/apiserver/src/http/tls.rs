//! TLS: the server's certificate and the CAs of clients, replaceable while connections stand.
//!
//! A client certificate is asked for, never required, and any is let through the handshake once its key has signed it:
//! whether the client CAs vouch for it is found out right after. An expired or foreign certificate is then answered
//! 401 over a working connection, as upstream does, rather than with a TLS alert that no client explains.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use corten_stdx::clock::Clock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};

/// Protocols by preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What the server shows and whom it believes.
pub struct TlsMaterial {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// CAs of client certificates; empty: none is asked for.
    pub client_roots: Vec<CertificateDer<'static>>,
}

/// The certificate that a client showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    #[default]
    None,
    /// Vouched for by a client CA, leaf first; good up to a Unix time in seconds.
    Verified { chain: Arc<[CertificateDer<'static>]>, not_after_s: i64 },
    /// Not vouched for, and why.
    Refused(String),
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the server's certificate or key cannot be used")]
    Server(#[source] rustls::Error),
    #[error("a client CA certificate cannot be used")]
    ClientRoot(#[source] rustls::Error),
    #[error("the client CAs cannot be used")]
    Verifier(#[source] VerifierBuilderError),
}

/// The current TLS set-up; new connections see a replacement, standing ones keep theirs.
pub struct Tls {
    current: RwLock<Arc<Current>>,
    clock: Clock,
}

/// One set-up. A connection holds it for its life.
pub(super) struct Current {
    pub(super) config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    pub fn new(material: TlsMaterial, clock: Clock) -> Result<Self, TlsError> {
        Ok(Self { current: RwLock::new(Arc::new(Current::new(material)?)), clock })
    }

    /// Takes over a renewed certificate or other client CAs for all connections from now on.
    pub fn replace(&self, material: TlsMaterial) -> Result<(), TlsError> {
        let next = Arc::new(Current::new(material)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Judges the chain that a client showed in its handshake.
    pub(super) fn judge(&self, current: &Current, shown: Option<&[CertificateDer<'_>]>) -> ClientCertificate {
        let Some((leaf, intermediates)) = shown.and_then(<[_]>::split_first) else { return ClientCertificate::None };
        let Some(verifier) = &current.verifier else { return ClientCertificate::None };
        let now_s = self.clock.wall_s();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s.unsigned_abs()));
        if let Err(error) = verifier.verify_client_cert(leaf, intermediates, now) {
            return ClientCertificate::Refused(error.to_string());
        }
        match x509_parser::parse_x509_certificate(leaf) {
            Err(error) => ClientCertificate::Refused(error.to_string()),
            Ok((_, parsed)) => ClientCertificate::Verified {
                chain: shown.unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect(),
                not_after_s: parsed.validity().not_after.timestamp(),
            },
        }
    }
}

impl Current {
    fn new(material: TlsMaterial) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = client_verifier(material.client_roots, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Server)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::new(AnyClient(verifier.clone()))),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(material.chain, material.key).map_err(TlsError::Server)?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(Self { config: Arc::new(config), verifier })
    }
}

fn client_verifier(
    roots: Vec<CertificateDer<'static>>,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if roots.is_empty() {
        return Ok(None);
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(TlsError::ClientRoot)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone());
    Ok(Some(builder.allow_unauthenticated().build().map_err(TlsError::Verifier)?))
}

/// Lets every certificate pass whose key signed the handshake; see the module's documentation.
#[derive(Debug)]
struct AnyClient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyClient {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
