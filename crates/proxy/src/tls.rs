//! Certificates by the name that a client asks for. They are swapped while connections go on; a connection keeps its own.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Certificate;

/// Why a certificate is not served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the chain is no PEM")]
    Chain(#[source] rustls::pki_types::pem::Error),
    #[error("the key is no PEM")]
    Key(#[source] rustls::pki_types::pem::Error),
    #[error("chain and key do not fit")]
    Pair(#[from] rustls::Error),
}

/// The certificates in force.
#[derive(Debug)]
pub(crate) struct Certificates {
    provider: Arc<CryptoProvider>,
    by_name: RwLock<ByName>,
}

#[derive(Debug, Default)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    wildcards: HashMap<String, Arc<CertifiedKey>>,
    rest: Option<Arc<CertifiedKey>>,
}

impl Default for Certificates {
    fn default() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { provider, by_name: RwLock::default() }
    }
}

impl Certificates {
    /// Serves these and no others. One that cannot be read is left out, and comes back with the reason.
    pub(crate) fn set(&self, certificates: &[Certificate]) -> Vec<(String, CertificateError)> {
        let mut by_name = ByName::default();
        let mut refused = Vec::new();
        for certificate in certificates {
            match self.load(certificate) {
                Ok(key) => by_name.add(&certificate.hosts, &Arc::new(key)),
                Err(error) => refused.push((certificate.hosts.join(", "), error)),
            }
        }
        *self.by_name.write().expect("nobody panics while holding it") = by_name;
        refused
    }

    fn load(&self, certificate: &Certificate) -> Result<CertifiedKey, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(CertificateError::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).map_err(CertificateError::Key)?;
        Ok(CertifiedKey::from_der(chain, key, &self.provider)?)
    }

    /// What connections are accepted with.
    pub(crate) fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_safe_default_protocol_versions().expect("the provider has suites of both versions");
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let by_name = self.by_name.read().expect("nobody panics while holding it");
        let exact = name.and_then(|name| by_name.exact.get(name));
        let wildcard = || name.and_then(|name| by_name.wildcards.get(name.split_once('.')?.1));
        exact.or_else(wildcard).or(by_name.rest.as_ref()).cloned()
    }
}

impl ByName {
    /// The first certificate for a name keeps it.
    fn add(&mut self, hosts: &[String], key: &Arc<CertifiedKey>) {
        for host in hosts {
            let (names, host) = match host.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcards, parent),
                None => (&mut self.exact, host.as_str()),
            };
            names.entry(host.to_ascii_lowercase()).or_insert_with(|| key.clone());
        }
        self.rest.get_or_insert_with(|| key.clone());
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(hosts: &[&str]) -> Certificate {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts.clone()).unwrap();
        Certificate { hosts, chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
    }

    #[test]
    fn names_choose_the_certificate() {
        let certificates = Certificates::default();
        assert!(certificates.find(Some("a.test")).is_none());
        let [a, any, other] = [&["a.test"][..], &["*.test"], &["other"]].map(certificate);
        assert!(certificates.set(&[a, any, other]).is_empty());
        let found = |name: Option<&str>| certificates.find(name).unwrap();
        let rest = found(None);
        assert!(Arc::ptr_eq(&found(Some("a.test")), &rest));
        assert!(Arc::ptr_eq(&found(Some("b.test")), &found(Some("c.test"))));
        assert!(!Arc::ptr_eq(&found(Some("b.test")), &rest));
        assert!(Arc::ptr_eq(&found(Some("c.b.test")), &rest));
    }

    #[test]
    fn a_bad_certificate_leaves_the_others() {
        let certificates = Certificates::default();
        let mut bad = certificate(&["bad"]);
        bad.key_pem = certificate(&["else"]).key_pem;
        let none = Certificate { hosts: vec!["none".to_owned()], ..Certificate::default() };
        let refused = certificates.set(&[bad, none, certificate(&["good"])]);
        let names: Vec<_> = refused.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["bad", "none"]);
        assert!(certificates.find(Some("good")).is_some());
    }
}
