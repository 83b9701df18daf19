//! Whom webhooks are believed to be: whoever the configuration's bundle vouches for, or the system's authorities where it has
//! none. A certificate that itself stands in the bundle is taken too, as Go does: many webhooks sign their own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use corten_stdx::clock::Clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Makes connectors.
pub(super) struct Trust {
    clock: Clock,
    system: OnceLock<Vec<CertificateDer<'static>>>,
}

/// Certificates are judged by the clock that they are made by.
#[derive(Debug)]
struct ByClock(Clock);

impl TimeProvider for ByClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.wall_s().unsigned_abs())))
    }
}

impl Trust {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, system: OnceLock::new() }
    }

    /// A connector that trusts a bundle in PEM; the system's authorities where it is empty.
    pub(super) fn connector(&self, bundle: &[u8]) -> Result<TlsConnector, String> {
        let own = match bundle {
            [] => self.system().to_vec(),
            pem => read(pem)?,
        };
        let mut roots = RootCertStore::empty();
        let (taken, _refused) = roots.add_parsable_certificates(own.iter().cloned());
        if taken == 0 {
            return Err("unable to load root certificates: no certificate can be used".to_owned());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = Pinned { own, others: verifier.build().map_err(|error| error.to_string())? };
        let time = Arc::new(ByClock(self.clock.clone()));
        let config = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn system(&self) -> &[CertificateDer<'static>] {
        self.system.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "an authority of the system cannot be read");
            }
            found.certs
        })
    }
}

fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let unusable = |why: String| format!("unable to load root certificates: {why}");
    let all = all.map_err(|error| unusable(error.to_string()))?;
    if all.is_empty() { Err(unusable("unable to parse bytes as PEM block".to_owned())) } else { Ok(all) }
}

/// Takes what the bundle holds as it is, and leaves the rest to the usual rules.
#[derive(Debug)]
struct Pinned {
    own: Vec<CertificateDer<'static>>,
    others: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.own.iter().any(|own| own == leaf) {
            return self.others.verify_server_cert(leaf, intermediates, name, ocsp, now);
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let validity = certificate.validity();
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match now_s {
            early if early < validity.not_before.timestamp() => Err(CertificateError::NotValidYet.into()),
            late if late > validity.not_after.timestamp() => Err(CertificateError::Expired.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.others.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.others.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.others.supported_verify_schemes()
    }
}

/// What a handshake has failed by, in Go's words where they are known.
pub(super) fn told(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else { return error.to_string() };
    let why = match why {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "certificate has expired or is not yet valid".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("certificate is not valid for this name: {why}")
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}
