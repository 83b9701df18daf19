//! What is read of Services, EndpointSlices and Nodes, once for all parts of the translator.

use std::net::{IpAddr, Ipv4Addr};

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Str, Value};
use corten_client::Resource;
use corten_client::cache::View;
use corten_network::Range;

pub const SERVICES: Resource = Resource::new("", "v1", "services");
pub const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices");
pub const NODES: Resource = Resource::new("", "v1", "nodes");

/// The label that names a slice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The label by which another proxy is asked to serve a service (KEP-2447).
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub kind: Kind,
    /// Empty for a headless one.
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// Of its load balancer, as the status says; those that are to be reached through the balancer alone are left out.
    pub balancer_ips: Vec<IpAddr>,
    /// Networks that may use the balancer's addresses; empty is all.
    pub source_ranges: Vec<Str>,
    pub external_name: Str,
    pub ports: Vec<Port>,
    /// `externalTrafficPolicy: Local`, `internalTrafficPolicy: Local`.
    pub external_local: bool,
    pub internal_local: bool,
    pub health_check_node_port: u16,
    /// A client stays with its endpoint for so many seconds.
    pub affinity_s: Option<u32>,
    pub publish_not_ready: bool,
    /// Somebody else serves it.
    pub other_proxy: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub name: Str,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: Str,
    pub number: u16,
    /// 0 for none.
    pub node_port: u16,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name of its service, as the key that finds it.
    key: Str,
    pub service: Str,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Consumers of slices use the first address of an endpoint alone.
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub hostname: Str,
    pub node: Str,
}

/// A node, as the others reach it and its pods; for now by IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Text that sorts by time.
    pub created: Str,
    /// Its first `InternalIP`.
    pub address: Option<Ipv4Addr>,
    /// Its pods'.
    pub range: Option<Range>,
}

/// The key under which a cache has the slices of a service.
pub fn slices_of(namespace: &str, service: &str) -> Str {
    format!("{namespace}/{service}").into()
}

impl Service {
    pub const fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty() && !matches!(self.kind, Kind::ExternalName)
    }
}

impl View for Service {
    fn from_object(service: &Value) -> Option<Self> {
        let spec = service.at(&["spec"])?;
        let cluster_ips = match addresses(spec, "clusterIPs") {
            none if none.is_empty() => spec.str_at(&["clusterIP"]).parse().into_iter().collect(),
            some => some,
        };
        let affine = spec.str_at(&["sessionAffinity"]) == "ClientIP";
        let affinity_s = spec.i64_at(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).unwrap_or(10_800);
        let ingress = list(service, &["status", "loadBalancer", "ingress"]).iter();
        let direct = ingress.filter(|ingress| ingress.str_at(&["ipMode"]) != "Proxy");
        Some(Self {
            kind: match spec.str_at(&["type"]) {
                "NodePort" => Kind::NodePort,
                "LoadBalancer" => Kind::LoadBalancer,
                "ExternalName" => Kind::ExternalName,
                _ => Kind::ClusterIp,
            },
            cluster_ips,
            external_ips: addresses(spec, "externalIPs"),
            balancer_ips: direct.filter_map(|ingress| ingress.str_at(&["ip"]).parse().ok()).collect(),
            source_ranges: texts(spec, "loadBalancerSourceRanges").map(Str::from).collect(),
            external_name: spec.str_at(&["externalName"]).into(),
            ports: list(spec, &["ports"]).iter().filter_map(service_port).collect(),
            external_local: spec.str_at(&["externalTrafficPolicy"]) == "Local",
            internal_local: spec.str_at(&["internalTrafficPolicy"]) == "Local",
            health_check_node_port: number(spec, "healthCheckNodePort"),
            affinity_s: affine.then(|| u32::try_from(affinity_s).unwrap_or(u32::MAX)),
            publish_not_ready: is_true(spec, "publishNotReadyAddresses").unwrap_or(false),
            other_proxy: Meta::of(service).label(OTHER_PROXY).is_some(),
        })
    }
}

impl View for Slice {
    /// Slices of names (`addressType: FQDN`) and those of no service lead nowhere.
    fn from_object(slice: &Value) -> Option<Self> {
        let meta = Meta::of(slice);
        let service = meta.label(SERVICE_NAME)?;
        let ports = list(slice, &["ports"]).iter().map(|port| Port {
            name: port.str_at(&["name"]).into(),
            protocol: protocol(port),
            number: number(port, "port"),
            node_port: 0,
        });
        Some(Self {
            key: slices_of(meta.namespace(), service),
            service: service.into(),
            ports: ports.collect(),
            endpoints: list(slice, &["endpoints"]).iter().filter_map(endpoint).collect(),
        })
    }

    fn keys(&self) -> Vec<Str> {
        vec![self.key.clone()]
    }
}

impl View for Node {
    fn from_object(node: &Value) -> Option<Self> {
        let spec = node.at(&["spec"]).unwrap_or(&Value::Null);
        let addresses = list(node, &["status", "addresses"]).iter();
        let mut internal = addresses.filter(|address| address.str_at(&["type"]) == "InternalIP");
        let mut ranges = texts(spec, "podCIDRs").chain([spec.str_at(&["podCIDR"])]);
        Some(Self {
            created: Meta::of(node).creation_timestamp().into(),
            address: internal.find_map(|address| address.str_at(&["address"]).parse().ok()),
            range: ranges.find_map(|range| range.parse().ok()),
        })
    }
}

fn service_port(port: &Value) -> Option<Port> {
    let own = Port {
        name: port.str_at(&["name"]).into(),
        protocol: protocol(port),
        number: number(port, "port"),
        node_port: number(port, "nodePort"),
    };
    (own.number > 0).then_some(own)
}

/// Conditions that are not told count as upstream says: ready and serving, not terminating.
fn endpoint(endpoint: &Value) -> Option<Endpoint> {
    let address = list(endpoint, &["addresses"]).first().and_then(Value::as_str)?.parse().ok()?;
    let conditions = endpoint.at(&["conditions"]);
    let condition = |name: &str| conditions.and_then(|conditions| is_true(conditions, name));
    let ready = condition("ready").unwrap_or(true);
    Some(Endpoint {
        address,
        ready,
        serving: condition("serving").unwrap_or(ready),
        terminating: condition("terminating").unwrap_or(false),
        hostname: endpoint.str_at(&["hostname"]).into(),
        node: endpoint.str_at(&["nodeName"]).into(),
    })
}

pub(crate) fn protocol(port: &Value) -> Str {
    match port.str_at(&["protocol"]) {
        "" => Str::const_new("TCP"),
        protocol => protocol.into(),
    }
}

/// A port's number; 0 for none or one that validation would have refused.
pub(crate) fn number(object: &Value, field: &str) -> u16 {
    object.i64_at(&[field]).and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

fn is_true(object: &Value, field: &str) -> Option<bool> {
    object.at(&[field]).and_then(Value::as_bool)
}

/// Whether the status was last written by this program, among others.
pub(crate) fn told_by(object: &Value, program: &str) -> bool {
    list(object, &["metadata", "managedFields"])
        .iter()
        .any(|entry| entry.str_at(&["manager"]) == program && entry.str_at(&["subresource"]) == "status")
}

pub(crate) fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

fn texts<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    list(object, &[field]).iter().filter_map(Value::as_str)
}

/// Addresses of a field; `None`, as a headless service says, is none.
fn addresses(object: &Value, field: &str) -> Vec<IpAddr> {
    texts(object, field).filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn a_service() {
        let object = value!({"metadata": {"name": "www", "namespace": "shop"}, "spec": {
            "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
            "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local"}});
        let service = Service::from_object(&object).unwrap();
        assert_eq!((service.kind, service.is_headless(), service.affinity_s), (Kind::NodePort, false, Some(10_800)));
        assert_eq!(service.ports[0].protocol, "TCP");
        assert!(service.external_local && !service.internal_local);
    }

    #[test]
    fn a_headless_service_has_no_address() {
        let object = value!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        assert!(Service::from_object(&object).unwrap().is_headless());
        let alias = value!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
        assert!(!Service::from_object(&alias).unwrap().is_headless());
    }

    #[test]
    fn conditions_that_are_not_told() {
        let slice = |conditions: Value| {
            let object = value!({"metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "www"}},
                "endpoints": [{"addresses": ["10.244.0.5"], "conditions": (conditions)}]});
            let endpoint = Slice::from_object(&object).unwrap().endpoints.remove(0);
            (endpoint.ready, endpoint.serving, endpoint.terminating)
        };
        assert_eq!(slice(value!({})), (true, true, false));
        assert_eq!(slice(value!({"ready": false})), (false, false, false));
        assert_eq!(slice(value!({"ready": false, "serving": true, "terminating": true})), (false, true, true));
        assert!(Slice::from_object(&value!({"metadata": {}})).is_none());
    }
}
