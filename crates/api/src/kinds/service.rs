//! Services, endpoints and endpoint slices.

mod update;

use std::collections::BTreeSet;

use corten_apimachinery::kind::{Column, NameRule, Strategy};
use corten_apimachinery::value::Value;

use super::change::{differs, raise_generation};
use super::column::{NONE, UNKNOWN, UNSET, age, at, first_three, labels, list, name, plain, text, wide};
use super::{KindRules, field, shown_deleted, warning};
use crate::rules::validation::{self as rules, discovery};

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            name: NameRule::DnsLabel,
            create_on_update: true,
            prepare: Some(update::prepare),
            validate: Some(rules::service::validate),
            warn: Some(warning::service),
            ..shown_deleted(base)
        },
        columns: service_columns,
        selectable_fields: || vec![field("spec.clusterIP"), field("spec.type")],
        ..KindRules::new("", "Service")
    },
    KindRules {
        strategy: |base| Strategy {
            create_on_update: true,
            validate: Some(rules::endpoints::validate),
            warn: Some(warning::endpoints),
            deprecated: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into()),
            ..base
        },
        columns: || vec![name(), text("Endpoints", |endpoints, _| addresses(endpoints).into()), age()],
        ..KindRules::new("", "Endpoints")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            prepare: Some(|new, stored| {
                // Labels count too: they say whose slice it is.
                if let Some(stored) = stored.filter(|stored| differs(new, stored, &["metadata", "labels"])) {
                    raise_generation(new, stored);
                }
            }),
            warn: Some(warning::endpoint_slice),
            validate: Some(discovery::endpoint_slice),
            ..base
        },
        columns: slice_columns,
        ..KindRules::new("discovery.k8s.io", "EndpointSlice")
    },
];

fn service_columns() -> Vec<Column> {
    vec![
        name(),
        text("Type", |service, _| at(service, &["spec", "type"])),
        text("Cluster-IP", |service, _| {
            list(service, &["spec", "clusterIPs"]).first().cloned().unwrap_or_else(|| NONE.into())
        }),
        text("External-IP", |service, _| external_ip(service).into()),
        text("Port(s)", |service, _| ports(service).into()),
        age(),
        wide(text("Selector", |service, _| {
            labels(service.at(&["spec", "selector"]).and_then(Value::as_object)).into()
        })),
    ]
}

fn external_ip(service: &Value) -> String {
    let external: Vec<String> = list(service, &["spec", "externalIPs"]).iter().map(plain).collect();
    match service.str_at(&["spec", "type"]) {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let balanced = load_balancer(service);
            match balanced.into_iter().chain(external).collect::<Vec<_>>() {
                all if all.is_empty() => "<pending>".to_owned(),
                all => all.join(","),
            }
        }
        "ExternalName" => service.str_at(&["spec", "externalName"]).to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

/// The addresses or host names of a load balancer, sorted.
pub(super) fn load_balancer(object: &Value) -> BTreeSet<String> {
    let points = list(object, &["status", "loadBalancer", "ingress"]).iter();
    let address = |point: &Value| match point.str_at(&["ip"]) {
        "" => point.str_at(&["hostname"]).to_owned(),
        ip => ip.to_owned(),
    };
    points.map(address).filter(|address| !address.is_empty()).collect()
}

fn ports(service: &Value) -> String {
    let port = |port: &Value| {
        let (number, protocol) = (port.i64_at(&["port"]).unwrap_or_default(), port.str_at(&["protocol"]));
        match port.i64_at(&["nodePort"]).unwrap_or_default() {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    };
    match list(service, &["spec", "ports"]) {
        [] => NONE.to_owned(),
        ports => ports.iter().map(port).collect::<Vec<_>>().join(","),
    }
}

/// Every address with every port; the addresses alone of what has no ports.
fn addresses(endpoints: &Value) -> String {
    let subsets = list(endpoints, &["subsets"]);
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips = || list(subset, &["addresses"]).iter().map(|address| address.str_at(&["ip"]));
        let ports = list(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let port = port.i64_at(&["port"]).unwrap_or_default();
            all.extend(
                ips().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    first_three(&all)
}

fn slice_columns() -> Vec<Column> {
    vec![
        name(),
        text("AddressType", |slice, _| at(slice, &["addressType"])),
        text("Ports", |slice, _| {
            let port = |port: &Value| match port.i64_at(&["port"]) {
                Some(number) => number.to_string(),
                None => port.get("name").map_or_else(|| "*".to_owned(), plain),
            };
            some(&list(slice, &["ports"]).iter().map(port).collect::<Vec<_>>()).into()
        }),
        text("Endpoints", |slice, _| {
            let endpoints = list(slice, &["endpoints"]).iter();
            some(&endpoints.flat_map(|endpoint| list(endpoint, &["addresses"])).map(plain).collect::<Vec<_>>()).into()
        }),
        age(),
    ]
}

fn some(items: &[String]) -> String {
    match first_three(items) {
        text if text.is_empty() => UNSET.to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn services() {
        let service = value!({"spec": {
            "type": "NodePort", "clusterIPs": ["10.0.0.1"], "selector": {"app": "a"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]
        }});
        check("", "Service", &service, &["NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "app=a"]);
        let pending = value!({"spec": {"type": "LoadBalancer", "clusterIPs": ["None"]}});
        check("", "Service", &pending, &["LoadBalancer", "None", "<pending>", "<none>", "<none>"]);
        let balanced = value!({
            "spec": {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "1.example.com"}]}}
        });
        check(
            "",
            "Service",
            &balanced,
            &["LoadBalancer", "<none>", "1.example.com,2.2.2.2,9.9.9.9", "<none>", "<none>"],
        );
        let name = value!({"spec": {"type": "ExternalName", "externalName": "a.example.com"}});
        check("", "Service", &name, &["ExternalName", "<none>", "a.example.com", "<none>", "<none>"]);
    }

    #[test]
    fn endpoints() {
        check("", "Endpoints", &value!({}), &["<none>"]);
        let endpoints = value!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 443}]},
            {"addresses": [{"ip": "10.0.0.9"}]}
        ]});
        check("", "Endpoints", &endpoints, &["10.0.0.1:80,[fd00::1]:80,10.0.0.1:443 + 2 more..."]);
    }

    #[test]
    fn slices() {
        let slice = value!({
            "addressType": "IPv4", "ports": [{"port": 80}, {"name": "dns"}, {}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]
        });
        check("discovery.k8s.io", "EndpointSlice", &slice, &["IPv4", "80,dns,*", "10.0.0.1,10.0.0.2"]);
        check("discovery.k8s.io", "EndpointSlice", &value!({}), &["", "<unset>", "<unset>"]);
    }
}
