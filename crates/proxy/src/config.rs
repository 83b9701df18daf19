//! What a node's edge is to do: plain, serialisable, versioned. It is written by whoever translates objects of the platform,
//! and is all that the edge knows of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The version that is written. The one before is read as well: fields are only added, with defaults.
pub const VERSION: u32 = 1;

/// The whole configuration of one node's edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeConfig {
    pub version: u32,
    /// Grows with every change; acknowledged when it is in force.
    pub generation: u64,
    /// The port that clients reach TLS at, for redirects; 0 for the usual one.
    pub https_port: u16,
    pub hosts: Vec<Host>,
    /// Sets of endpoints by name, which routes refer to.
    pub backends: BTreeMap<String, Backend>,
    pub certificates: Vec<Certificate>,
    /// Zones of the name server that runs in the same process, in that server's own form.
    pub dns: Option<serde_json::Value>,
}

/// The routes of one host name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// A name in lower case, `*.` and a name for one more label before it, or nothing for what no other host takes.
    pub name: String,
    pub routes: Vec<Route>,
}

/// Which paths go where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Begins with a slash.
    pub path: String,
    /// The path as a whole; otherwise a prefix of whole elements.
    pub exact: bool,
    pub backend: String,
    pub settings: Settings,
}

/// What may differ between routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Plain requests are sent to the same place over TLS.
    pub redirect_to_https: bool,
    /// What the matched part of the path becomes.
    pub rewrite_prefix: Option<String>,
    /// What the whole path becomes; the query stays.
    pub rewrite_path: Option<String>,
    /// Bytes of a request's body; 0 for any number.
    pub body_bytes_max: u64,
    pub connect_timeout_ms: u64,
    /// Between two pieces of what a server sends.
    pub read_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redirect_to_https: false,
            rewrite_prefix: None,
            rewrite_path: None,
            body_bytes_max: 0,
            connect_timeout_ms: 2_000,
            read_timeout_ms: 60_000,
        }
    }
}

/// Where requests can be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backend {
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// It answers what it has, and gets nothing new unless nobody else is there.
    #[serde(default)]
    pub draining: bool,
}

/// A certificate and its key, for the hosts that it is served to. The first certificate is served where no host fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    pub hosts: Vec<String>,
    pub chain_pem: String,
    pub key_pem: String,
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("it cannot be decoded")]
    Syntax(#[from] serde_json::Error),
    #[error("it has version {found}, at most {VERSION} is understood; upgrade the edge")]
    Newer { found: u32 },
    #[error("host {host}: backend {backend:?} does not exist")]
    NoBackend { host: String, backend: String },
    #[error("host {host}: path {path:?} does not begin with a slash")]
    Path { host: String, path: String },
}

impl NodeConfig {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&Self { version: VERSION, ..self.clone() }).expect("plain structs can be written")
    }

    /// # Errors
    /// When the bytes are no configuration, or one of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        if config.version > VERSION {
            return Err(ConfigError::Newer { found: config.version });
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for host in &self.hosts {
            for route in &host.routes {
                if !self.backends.contains_key(&route.backend) {
                    let (host, backend) = (host.name.clone(), route.backend.clone());
                    return Err(ConfigError::NoBackend { host, backend });
                }
                if !route.path.starts_with('/') {
                    return Err(ConfigError::Path { host: host.name.clone(), path: route.path.clone() });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let route = Route { path: "/".to_owned(), backend: "b".to_owned(), ..Route::default() };
        let config = NodeConfig {
            version: VERSION,
            generation: 7,
            hosts: vec![Host { name: "h".to_owned(), routes: vec![route] }],
            backends: BTreeMap::from([("b".to_owned(), Backend::default())]),
            ..NodeConfig::default()
        };
        assert_eq!(NodeConfig::decode(&config.encode()).unwrap(), config);
    }

    #[test]
    fn what_is_older_has_fewer_fields() {
        let config = NodeConfig::decode(br#"{"version":0,"hosts":[{"name":"h"}]}"#).unwrap();
        assert_eq!(config.hosts[0].routes, []);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |text: &str| NodeConfig::decode(text.as_bytes()).unwrap_err().to_string();
        assert!(refused(r#"{"version":99}"#).contains("version 99"));
        let lost = r#"{"hosts":[{"name":"h","routes":[{"path":"/","backend":"b"}]}]}"#;
        assert_eq!(refused(lost), "host h: backend \"b\" does not exist");
        let bare = r#"{"backends":{"b":{}},"hosts":[{"name":"h","routes":[{"path":"x","backend":"b"}]}]}"#;
        assert_eq!(refused(bare), "host h: path \"x\" does not begin with a slash");
    }
}
