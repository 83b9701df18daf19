//! Fields of a Service that say one thing twice, or that an update leaves out because the server filled them in.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::value::{Map, Value};

use super::{is_name, texts};

/// Older clients know `clusterIP` alone: the list follows what they did to it. Who writes both is left to validation.
pub(super) fn cluster_ips(service: &mut Value, old: Option<&Value>) {
    let held = old.unwrap_or(&Value::Null);
    let one = |service: &Value| service.str_at(&["spec", "clusterIP"]).to_owned();
    let given = texts(service, "clusterIPs");
    let (own, stored) = (one(service), texts(held, "clusterIPs"));
    let changed = own != one(held);
    let wanted = match (old, changed) {
        (None, _) if given.is_empty() && !own.is_empty() => vec![own],
        (Some(_), false) if given.is_empty() => stored,
        (Some(_), true) if given == stored && own.is_empty() => Vec::new(),
        (Some(_), true) if given == stored => vec![own],
        _ => return,
    };
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if wanted.is_empty() {
        spec.remove("clusterIPs");
    } else {
        spec.insert("clusterIPs", wanted);
    }
}

/// What an update leaves out of that which the server filled in stays as it is, so that a client may send its first
/// text again.
pub(super) fn allocated(service: &mut Value, old: &Value) {
    if !is_name(old) && !is_name(service) {
        for field in ["clusterIP", "clusterIPs"] {
            keep(service, old, field);
        }
    }
    if has_node_ports(old) && has_node_ports(service) {
        node_ports(service, old);
    }
    if super::node_ports::is_checked(old) && super::node_ports::is_checked(service) {
        keep(service, old, "healthCheckNodePort");
    }
}

/// Takes over a field that the new service leaves empty.
fn keep(service: &mut Value, old: &Value, field: &str) {
    let empty = match service.at(&["spec", field]) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(value) => value.as_str() == Some("") || value.as_i64() == Some(0),
    };
    if let Some(value) = old.at(&["spec", field]).filter(|_| empty) {
        service.object_entry("spec").insert(field, value.clone());
    }
}

fn has_node_ports(service: &Value) -> bool {
    match service.str_at(&["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => node_ports_wanted(service),
        _ => false,
    }
}

fn node_ports_wanted(service: &Value) -> bool {
    service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool).unwrap_or(true)
}

/// Ports of a name that had a node port keep it, unless another port uses it now.
fn node_ports(service: &mut Value, old: &Value) {
    let ports = |service: &Value| -> Vec<(String, i64)> {
        let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default();
        let of = |port: &Value| (port.str_at(&["name"]).to_owned(), port.i64_at(&["nodePort"]).unwrap_or_default());
        ports.iter().map(of).collect()
    };
    let held: BTreeMap<String, i64> = ports(old).into_iter().collect();
    let own: BTreeSet<i64> = ports(service).into_iter().map(|(_, port)| port).collect();
    let used: BTreeSet<i64> = ports(old).into_iter().map(|(_, port)| port).filter(|port| own.contains(port)).collect();
    let mine = service.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut);
    for port in mine.into_iter().flatten().filter_map(Value::as_object_mut) {
        let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
        let kept = held.get(name).copied().filter(|kept| *kept != 0 && !used.contains(kept));
        if let Some(kept) = kept.filter(|_| is_unset(port)) {
            port.insert("nodePort", kept);
        }
    }
}

fn is_unset(port: &Map) -> bool {
    port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() == 0
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn the_list_of_addresses_follows_the_single_one() {
        let check = |spec: Value, stored: Option<Value>, expect: Value| {
            let mut service = value!({"spec": spec});
            let stored = stored.map(|spec| value!({"spec": spec}));
            cluster_ips(&mut service, stored.as_ref());
            assert_eq!(service.get("spec"), Some(&expect));
        };
        let both = value!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        check(value!({"clusterIP": "None"}), None, value!({"clusterIP": "None", "clusterIPs": ["None"]}));
        check(value!({}), None, value!({}));
        check(value!({"clusterIP": "10.0.0.1"}), Some(both.clone()), both.clone());
        check(value!({"clusterIPs": ["10.0.0.1"]}), Some(both.clone()), value!({}));
        check(
            value!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]}),
            Some(both),
            value!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}),
        );
    }

    #[test]
    fn what_was_allocated_stays_where_it_is_left_out() {
        let old = value!({"spec": {
            "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "nodePort": 30001}, {"name": "b", "nodePort": 30002}]
        }});
        let mut service = value!({"spec": {
            "type": "NodePort", "ports": [{"name": "a"}, {"name": "c", "nodePort": 30002}, {"name": "b"}]
        }});
        allocated(&mut service, &old);
        let expected = value!({
            "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "nodePort": 30001}, {"name": "c", "nodePort": 30002}, {"name": "b"}]
        });
        assert_eq!(service.get("spec"), Some(&expected));
    }
}
