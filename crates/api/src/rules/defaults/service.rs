//! Services, endpoints and endpoint slices.

use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, is_zero, object_mut, objects_mut, text, zero};
use crate::rules::RuleTable;

/// How long a client sticks to an endpoint: three hours.
const AFFINITY_S: i64 = 10_800;

pub(in crate::rules) const RULES: RuleTable = &[
    (
        "core/v1.Service",
        fills(|service| {
            let balanced = object_mut(service, "spec").is_some_and(|spec| text(spec, "type") == "LoadBalancer");
            if balanced {
                load_balancer_status(service);
            }
        }),
    ),
    ("core/v1.ServiceSpec", fills(service_spec)),
    ("core/v1.ServicePort", fills(service_port)),
    ("core/v1.EndpointPort", fills(|port| zero(port, "protocol", "TCP"))),
    (
        "discovery/v1.EndpointPort",
        fills(|port| {
            absent(port, "name", "");
            absent(port, "protocol", "TCP");
        }),
    ),
];

fn service_spec(spec: &mut Map) {
    zero(spec, "type", "ClusterIP");
    affinity(spec);
    let kind = text(spec, "type").to_owned();
    let in_cluster = matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer");
    let from_outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || kind == "ClusterIP" && spec.get("externalIPs").is_some_and(|ips| !is_zero(ips));
    if from_outside {
        zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if in_cluster {
        absent(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        absent(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn affinity(spec: &mut Map) {
    zero(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            absent(spec.object_entry("sessionAffinityConfig").object_entry("clientIP"), "timeoutSeconds", AFFINITY_S)
        }
        _ => {}
    }
}

fn service_port(port: &mut Map) {
    zero(port, "protocol", "TCP");
    if let Some(number) = port.get("port").cloned() {
        zero(port, "targetPort", number);
    }
}

fn load_balancer_status(service: &mut Map) {
    let status = object_mut(service, "status").and_then(|status| object_mut(status, "loadBalancer"));
    for ingress in status.into_iter().flat_map(|status| objects_mut(status, "ingress")) {
        if ingress.get("ip").and_then(Value::as_str).is_some_and(|ip| !ip.is_empty()) {
            absent(ingress, "ipMode", "VIP");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn cluster_ip() {
        check(
            "core/v1.ServiceSpec",
            value!({"sessionAffinityConfig": {}}),
            &value!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}),
        );
        check(
            "core/v1.ServiceSpec",
            value!({"externalIPs": ["1.1.1.1"], "sessionAffinity": "ClientIP"}),
            &value!({
                "externalIPs": ["1.1.1.1"], "sessionAffinity": "ClientIP", "type": "ClusterIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"
            }),
        );
    }

    #[test]
    fn other_types() {
        check(
            "core/v1.ServiceSpec",
            value!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
            &value!({
                "type": "LoadBalancer", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None", "allocateLoadBalancerNodePorts": true
            }),
        );
        check(
            "core/v1.ServiceSpec",
            value!({"type": "ExternalName"}),
            &value!({"type": "ExternalName", "sessionAffinity": "None"}),
        );
        check(
            "core/v1.Service",
            value!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "a"}, {"hostname": "b"}]}}}),
            &value!({
                "spec": {"type": "LoadBalancer"},
                "status": {"loadBalancer": {"ingress": [{"ip": "a", "ipMode": "VIP"}, {"hostname": "b"}]}}
            }),
        );
    }

    #[test]
    fn ports() {
        check("core/v1.ServicePort", value!({"port": 80}), &value!({"port": 80, "protocol": "TCP", "targetPort": 80}));
        check(
            "core/v1.ServicePort",
            value!({"port": 53, "protocol": "UDP", "targetPort": "dns"}),
            &value!({"port": 53, "protocol": "UDP", "targetPort": "dns"}),
        );
    }
}
