//! What a cluster has, as its DNS shows it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Everything that is answered, and who is asked for the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zones {
    /// Without dots at its ends: `cluster.local`.
    pub domain: String,
    /// Names of namespaces: below one that is not there, nothing is.
    pub namespaces: Vec<String>,
    pub services: Vec<Service>,
    /// Servers that know everything else, in the order in which they are asked.
    pub upstreams: Vec<SocketAddr>,
}

/// A service: with addresses of its own, or headless with those of its endpoints, or an alias.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Empty: headless.
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<Port>,
    /// Of a headless service alone.
    pub endpoints: Vec<Endpoint>,
    /// Not empty: an alias of this name, and nothing else.
    pub external_name: String,
}

/// A port with a name; ports without one have no records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    pub number: u16,
}

/// One endpoint of a headless service that may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: IpAddr,
    /// Its name below the service's; empty: one made of the address.
    pub hostname: String,
    pub ports: Vec<Port>,
}
