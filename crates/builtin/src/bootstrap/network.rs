//! The Services that every cluster has: the API server's own, first in the range, with the endpoint where pods reach
//! it; and cluster DNS, tenth in the range, which the node answers by itself and which therefore selects no pods.

use std::net::{Ipv4Addr, SocketAddrV4};

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use ipnet::Ipv4Net;

use super::object;
use crate::lookup::Resource;
use crate::rbac::defaults::Change;
use crate::service::{SERVICE_CIDRS, SERVICES};

const ENDPOINTS: Resource = Resource { group: "", plural: "endpoints" };
const SLICES: Resource = Resource { group: "discovery.k8s.io", plural: "endpointslices" };

/// The name of the API server's Service, and of the range that all Services begin with.
const NAME: &str = "kubernetes";
const API_PORT: i64 = 443;
const DNS_PORT: i64 = 53;

/// Where the cluster's own Services are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The range of cluster addresses.
    pub services: Ipv4Net,
    /// Where pods reach the API server behind its Service; `None` where they cannot.
    pub endpoint: Option<SocketAddrV4>,
}

impl Network {
    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.services.network()) + offset)
    }

    /// The range of Services, which everything below is taken from.
    pub(crate) fn range(&self) -> (Resource, Value) {
        let spec = value!({"cidrs": [(self.services.to_string())]});
        (SERVICE_CIDRS, object("networking.k8s.io/v1", "ServiceCIDR", NAME, [("spec", spec)]))
    }

    pub(crate) fn services(&self) -> Vec<(Resource, Value)> {
        let target = self.endpoint.map_or(API_PORT, |endpoint| i64::from(endpoint.port()));
        let api = value!({
            "clusterIP": (self.address(1).to_string()), "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "protocol": "TCP", "port": API_PORT, "targetPort": target}]
        });
        let port = |name: &str, protocol: &str| value!({"name": name, "protocol": protocol, "port": DNS_PORT, "targetPort": DNS_PORT});
        let dns = value!({
            "clusterIP": (self.address(10).to_string()), "ipFamilyPolicy": "SingleStack",
            "ports": [(port("dns", "UDP")), (port("dns-tcp", "TCP"))]
        });
        let dns_labels =
            [("k8s-app", "kube-dns"), ("kubernetes.io/cluster-service", "true"), ("kubernetes.io/name", "CoreDNS")];
        vec![
            (SERVICES, service("default", NAME, &[("component", "apiserver"), ("provider", "kubernetes")], api)),
            (SERVICES, service("kube-system", "kube-dns", &dns_labels, dns)),
        ]
    }

    /// The API server's endpoint in both forms.
    pub(crate) fn endpoints(&self) -> Vec<(Resource, Value)> {
        let skipped = [("endpointslice.kubernetes.io/skip-mirror", "true")];
        let mut endpoints = object("v1", "Endpoints", NAME, []);
        place(&mut endpoints, "default", &skipped);
        let mut slice = object("discovery.k8s.io/v1", "EndpointSlice", NAME, [("addressType", "IPv4".into())]);
        place(&mut slice, "default", &[("kubernetes.io/service-name", NAME)]);
        let (mut subsets, mut ready, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(endpoint) = self.endpoint {
            let address = endpoint.ip().to_string();
            let port = value!({"name": "https", "port": (i64::from(endpoint.port())), "protocol": "TCP"});
            subsets.push(value!({"addresses": [{"ip": (address.as_str())}], "ports": [(port.clone())]}));
            ready.push(value!({"addresses": [(address)], "conditions": {"ready": true}}));
            ports.push(port);
        }
        endpoints.as_object_mut().map(|endpoints| endpoints.insert("subsets", subsets));
        slice.as_object_mut().map(|slice| slice.insert("endpoints", ready));
        slice.as_object_mut().map(|slice| slice.insert("ports", ports));
        vec![(ENDPOINTS, endpoints), (SLICES, slice)]
    }
}

/// Makes endpoints what they are to be now.
pub(crate) fn follow(existing: Option<&Value>, wanted: &Value) -> Option<Change> {
    let Some(existing) = existing else { return Some(Change::Create(wanted.clone())) };
    let empty = Value::Array(Vec::new());
    let mut changed = existing.clone();
    for field in ["subsets", "endpoints", "ports"] {
        let [stored, wanted] = [existing, wanted].map(|object| object.get(field).unwrap_or(&empty));
        if !(stored == wanted || stored.is_null() && *wanted == empty) {
            changed.as_object_mut().map(|object| object.insert(field, wanted.clone()));
        }
    }
    (changed != *existing).then_some(Change::Update(changed))
}

fn service(namespace: &str, name: &str, labels: &[(&str, &str)], spec: Value) -> Value {
    let mut service = object("v1", "Service", name, [("spec", spec)]);
    place(&mut service, namespace, labels);
    service
}

fn place(object: &mut Value, namespace: &str, labels: &[(&str, &str)]) {
    let labels: Map = labels.iter().map(|(key, text)| ((*key).into(), (*text).into())).collect();
    let metadata = object.object_entry("metadata");
    metadata.insert("namespace", namespace);
    metadata.insert("labels", labels);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(endpoint: &str) -> Network {
        let services = "10.96.0.0/16".parse().expect("a range");
        Network { services, endpoint: endpoint.parse().ok() }
    }

    #[test]
    fn the_endpoint_follows_the_address() {
        let first = network("192.0.2.7:6443");
        for (index, (_, stored)) in first.endpoints().into_iter().enumerate() {
            assert!(follow(Some(&stored), &stored).is_none(), "nothing to do");
            for other in ["192.0.2.8:6443", "nowhere"] {
                let wanted = &network(other).endpoints()[index].1;
                assert_eq!(follow(Some(&stored), wanted), Some(Change::Update(wanted.clone())));
            }
        }
    }
}
