//! Who the server is, and who may come.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::parse_x509_certificate;

/// Who has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    ApiServer,
    /// Another node of the cluster, which may have images.
    Node,
}

/// Certificates of nodes say this, upstream's way to name them.
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// The server's certificate, and the API server's name.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// The authority that vouches for the client.
    pub client_root: CertificateDer<'static>,
    /// The common name of the API server's client certificate.
    pub client_name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the node server's certificate or key cannot be used")]
    Server(#[source] rustls::Error),
    #[error("the authority of clients cannot be used")]
    Root(#[source] rustls::Error),
    #[error("the authority of clients cannot be used")]
    Verifier(#[from] VerifierBuilderError),
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            client_root: self.client_root.clone(),
            client_name: self.client_name.clone(),
        }
    }
}

impl Identity {
    /// Upgrades need HTTP/1.1, so nothing else is offered. A client without a certificate of the authority is turned away in
    /// the handshake.
    pub(super) fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.client_root.clone()).map_err(TlsError::Root)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Server)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(TlsError::Server)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// When the server's certificate ends, in Unix seconds.
    pub(super) fn ends_s(&self) -> Option<i64> {
        let (_, certificate) = parse_x509_certificate(self.chain.first()?).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }

    /// Whose a verified chain is; `None` is not served.
    pub(super) fn visitor(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<Visitor> {
        let (_, certificate) = parse_x509_certificate(chain?.first()?).ok()?;
        let mut names = certificate.subject().iter_common_name().map(|name| name.as_str());
        // One name and no more: which of two is meant would be anybody's guess.
        let (Some(Ok(name)), None) = (names.next(), names.next()) else { return None };
        let mut groups = certificate.subject().iter_organization().map(|group| group.as_str());
        if name == self.client_name {
            Some(Visitor::ApiServer)
        } else if name.starts_with(NODE_PREFIX) && groups.any(|group| group == Ok(NODES)) {
            Some(Visitor::Node)
        } else {
            None
        }
    }
}
