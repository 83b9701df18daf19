//! As much of a kubeconfig as a client with a certificate needs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Where a server is and how to prove who is asking.
pub(crate) struct Endpoint {
    /// `127.0.0.1:6443`.
    pub(crate) address: String,
    pub(crate) ca_pem: Vec<u8>,
    pub(crate) certificate_pem: Vec<u8>,
    pub(crate) key_pem: Vec<u8>,
}

#[derive(Deserialize)]
struct Config {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: String,
    client_key_data: String,
}

impl Endpoint {
    /// Reads a file with one cluster and one user, all data inline.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no kubeconfig with inline certificates", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let config: Config = serde_saphyr::from_str(text)?;
        let cluster = &config.clusters.first().context("no cluster")?.cluster;
        let user = &config.users.first().context("no user")?.user;
        Ok(Self {
            address: cluster.server.strip_prefix("https://").context("the server's URL is not https")?.to_owned(),
            ca_pem: STANDARD.decode(&cluster.certificate_authority_data)?,
            certificate_pem: STANDARD.decode(&user.client_certificate_data)?,
            key_pem: STANDARD.decode(&user.client_key_data)?,
        })
    }

    /// The file that [`Endpoint::read`] reads.
    pub(crate) fn print(&self) -> String {
        let [ca, certificate, key] =
            [&self.ca_pem, &self.certificate_pem, &self.key_pem].map(|pem| STANDARD.encode(pem));
        let address = &self.address;
        format!(
            "apiVersion: v1
kind: Config
clusters:
- name: real
  cluster:
    server: https://{address}
    certificate-authority-data: {ca}
users:
- name: admin
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: admin@real
  context:
    cluster: real
    user: admin
current-context: admin@real
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let endpoint = Endpoint {
            address: "127.0.0.1:1".into(),
            ca_pem: b"a".into(),
            certificate_pem: b"b".into(),
            key_pem: b"c".into(),
        };
        let again = Endpoint::parse(&endpoint.print()).unwrap();
        assert_eq!((again.address.as_str(), again.ca_pem, again.certificate_pem, again.key_pem), {
            ("127.0.0.1:1", b"a".to_vec(), b"b".to_vec(), b"c".to_vec())
        });
    }
}
