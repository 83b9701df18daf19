//! What a service no longer needs when its type changes. Fields that the server filled in go away with their reason,
//! unless the same update changes them, which validation then judges.

use std::collections::BTreeSet;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use crate::kinds::change::differs;
use crate::kinds::column::list;

pub(super) fn prepare(service: &mut Value, stored: Option<&Value>) {
    if let Some(stored) = stored {
        drop_cluster_ips(service, stored);
        drop_node_ports(service, stored);
        drop_unchanged(service, stored, "healthCheckNodePort", needs_health_port);
        drop_unchanged(service, stored, "allocateLoadBalancerNodePorts", is_balanced);
        drop_unchanged(service, stored, "loadBalancerClass", is_balanced);
        drop_unchanged(service, stored, "externalTrafficPolicy", from_outside);
    }
    if let Some(fields) = service.as_object_mut()
        && (stored.is_none() || fields.get("spec").is_none_or(|spec| spec.str_at(&["type"]) != "LoadBalancer"))
    {
        fields.object_entry("status").insert("loadBalancer", value!({}));
    }
}

fn kind(service: &Value) -> &str {
    service.str_at(&["spec", "type"])
}

fn needs_cluster_ip(service: &Value) -> bool {
    matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn is_balanced(service: &Value) -> bool {
    kind(service) == "LoadBalancer"
}

fn needs_node_ports(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

fn needs_health_port(service: &Value) -> bool {
    is_balanced(service) && service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

fn from_outside(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
        || kind(service) == "ClusterIP" && !list(service, &["spec", "externalIPs"]).is_empty()
}

fn drop_unchanged(service: &mut Value, stored: &Value, field: &str, needs: fn(&Value) -> bool) {
    if needs(stored) && !needs(service) && !differs(service, stored, &["spec", field]) {
        remove(service, field);
    }
}

fn remove(service: &mut Value, field: &str) {
    if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove(field);
    }
}

fn drop_cluster_ips(service: &mut Value, stored: &Value) {
    if !needs_cluster_ip(stored) || needs_cluster_ip(service) {
        return;
    }
    let same = |service: &Value, field: &str| !differs(service, stored, &["spec", field]);
    if same(service, "clusterIP") && same(service, "clusterIPs") {
        remove(service, "clusterIP");
        remove(service, "clusterIPs");
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if same(service, field) {
            remove(service, field);
        }
    }
}

fn drop_node_ports(service: &mut Value, stored: &Value) {
    let node_ports = |service: &Value| -> BTreeSet<i64> {
        list(service, &["spec", "ports"]).iter().filter_map(|port| port.i64_at(&["nodePort"])).collect()
    };
    if !needs_node_ports(stored) || needs_node_ports(service) || node_ports(service) != node_ports(stored) {
        return;
    }
    let ports = service.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_a_load_balancer() {
        let stored = value!({
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001, "allocateLoadBalancerNodePorts": true,
                "ports": [{"port": 80, "nodePort": 30000}]
            }
        });
        let mut service = stored.clone();
        service.object_entry("spec").insert("type", "ClusterIP");
        prepare(&mut service, Some(&stored));
        assert_eq!(
            service,
            value!({
                "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]},
                "status": {"loadBalancer": {}}
            })
        );
    }

    #[test]
    fn becoming_a_name() {
        let stored = value!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}});
        let mut service = stored.clone();
        service.object_entry("spec").insert("type", "ExternalName");
        service.object_entry("spec").insert("ipFamilies", value!(["IPv6"]));
        prepare(&mut service, Some(&stored));
        assert_eq!(service.get("spec"), Some(&value!({"type": "ExternalName", "ipFamilies": ["IPv6"]})));
    }
}
