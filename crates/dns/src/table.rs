//! Every name of a cluster with its records, made whole from [`Zones`] and never changed.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::zones::{Endpoint, Port, Service, Zones};

/// Version of the specification that is followed, which `dns-version` tells.
const SPECIFICATION: &str = "1.1.0";

/// A record without its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    Address(IpAddr),
    Alias(String),
    Service { port: u16, target: String },
    Pointer(String),
    Text(String),
}

/// Names in lower case, without the final dot, and their records. A name without records is there too when another one is
/// below it (RFC 8020).
#[derive(Debug, Default)]
pub struct Table {
    domain: String,
    names: HashMap<String, Vec<Data>>,
    namespaces: BTreeSet<String>,
    upstreams: Vec<SocketAddr>,
}

/// What a table says of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// It is there, perhaps without any record.
    Records(&'a [Data]),
    /// It would be here, and is not.
    Nothing,
    /// It belongs to somebody else.
    Elsewhere,
}

impl Table {
    pub fn new(zones: &Zones) -> Self {
        let domain = zones.domain.trim_matches('.').to_lowercase();
        let mut table = Self {
            namespaces: zones.namespaces.iter().cloned().collect(),
            upstreams: zones.upstreams.clone(),
            domain,
            ..Self::default()
        };
        table.add(&table.below("dns-version"), Data::Text(SPECIFICATION.to_owned()));
        for namespace in &zones.namespaces {
            table.reserve(&table.below(&format!("{namespace}.svc")));
            table.reserve(&table.below(&format!("{namespace}.pod")));
        }
        for service in &zones.services {
            table.service(service);
        }
        for records in table.names.values_mut() {
            records.sort();
            records.dedup();
        }
        table
    }

    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    pub fn upstreams(&self) -> &[SocketAddr] {
        &self.upstreams
    }

    pub(crate) fn is_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// Looks for a name in lower case without final dot.
    pub(crate) fn find(&self, name: &str) -> Found<'_> {
        match self.names.get(name) {
            Some(records) => Found::Records(records),
            None if self.relative(name).is_some() => Found::Nothing,
            None => Found::Elsewhere,
        }
    }

    /// The part of a name in front of the domain; empty for the domain itself.
    pub(crate) fn relative<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_suffix(self.domain.as_str())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
    }

    fn below(&self, relative: &str) -> String {
        format!("{relative}.{}", self.domain)
    }

    fn service(&mut self, service: &Service) {
        let own = self.below(&format!("{}.{}.svc", service.name, service.namespace));
        if !service.external_name.is_empty() {
            self.add(&own, Data::Alias(service.external_name.trim_end_matches('.').to_lowercase()));
            return;
        }
        for address in &service.addresses {
            self.add(&own, Data::Address(*address));
            self.add(&reverse(*address), Data::Pointer(own.clone()));
        }
        if service.addresses.is_empty() {
            for endpoint in &service.endpoints {
                self.endpoint(&own, endpoint);
            }
        } else {
            for port in &service.ports {
                self.port(&own, port, &own);
            }
        }
        self.reserve(&own);
    }

    fn endpoint(&mut self, service: &str, endpoint: &Endpoint) {
        let label = if endpoint.hostname.is_empty() { label_of(endpoint.address) } else { endpoint.hostname.clone() };
        let own = format!("{label}.{service}");
        self.add(service, Data::Address(endpoint.address));
        self.add(&own, Data::Address(endpoint.address));
        if !endpoint.hostname.is_empty() {
            self.add(&reverse(endpoint.address), Data::Pointer(own.clone()));
        }
        for port in &endpoint.ports {
            self.port(service, port, &own);
        }
    }

    fn port(&mut self, service: &str, port: &Port, target: &str) {
        if port.name.is_empty() {
            return;
        }
        let name = format!("_{}._{}.{service}", port.name, port.protocol.to_lowercase());
        self.add(&name, Data::Service { port: port.number, target: target.to_owned() });
    }

    fn add(&mut self, name: &str, data: Data) {
        self.reserve(name);
        self.names.entry(name.to_owned()).or_default().push(data);
    }

    /// Makes a name and those above it, down to the domain, known.
    fn reserve(&mut self, name: &str) {
        let mut name = name;
        while !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), Vec::new());
            if name == self.domain || self.relative(name).is_none() {
                return;
            }
            let Some((_, above)) = name.split_once('.') else { return };
            name = above;
        }
    }
}

/// A name of one label for an address: dashes for dots and colons.
fn label_of(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The name that leads back from an address (RFC 1035 § 3.5, RFC 3596 § 2.5).
pub(crate) fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let mut name: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            name.push_str("ip6.arpa");
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names() {
        assert_eq!(reverse("10.96.0.10".parse().unwrap()), "10.0.96.10.in-addr.arpa");
        let v6 = reverse("2001:db8::1".parse().unwrap());
        assert_eq!(v6, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }

    #[test]
    fn names_above_are_known() {
        let service = Service {
            namespace: "shop".into(),
            name: "www".into(),
            addresses: vec!["10.96.0.7".parse().unwrap()],
            ..Service::default()
        };
        let table = Table::new(&Zones { domain: "cluster.local".into(), services: vec![service], ..Zones::default() });
        for name in ["cluster.local", "svc.cluster.local", "shop.svc.cluster.local"] {
            assert_eq!(table.find(name), Found::Records(&[]), "{name}");
        }
        assert_eq!(table.find("other.svc.cluster.local"), Found::Nothing);
        assert_eq!(table.find("acluster.local"), Found::Elsewhere);
        assert_eq!(table.find("local"), Found::Elsewhere);
        assert_eq!(table.find("arpa"), Found::Elsewhere);
    }
}
