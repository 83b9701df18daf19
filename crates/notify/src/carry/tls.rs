//! Whom a webhook is believed to be: by the authorities of this machine, and those that its notifier names.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::CarryError;

pub(super) async fn connector(authorities_pem: &str) -> Result<TlsConnector, CarryError> {
    let setting = |text: String| CarryError::Setting(text);
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = found.map_err(|error| setting(format!("the authorities of this machine cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    for authority in CertificateDer::pem_slice_iter(authorities_pem.as_bytes()) {
        let authority = authority.map_err(|error| setting(format!("its authorities are no PEM: {error}")))?;
        roots.add(authority).map_err(|error| setting(format!("one of its authorities cannot be used: {error}")))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| setting(error.to_string()))?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}
