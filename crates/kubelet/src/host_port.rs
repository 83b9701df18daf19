//! Ports of the node that lead to a pod.

use std::net::{IpAddr, Ipv4Addr};

use corten_network::{HostPort, Protocol};

use crate::pod::{Pod, Role};

/// What a pod asks for. On the host's network its ports are the node's already.
pub(crate) fn host_ports(pod: Pod<'_>) -> Vec<HostPort> {
    if pod.is_host_network() {
        return Vec::new();
    }
    let containers = pod.containers().filter(|container| matches!(container.role, Role::Main | Role::Sidecar));
    let ports = containers.flat_map(|container| container.list("ports")).filter_map(|port| {
        let number = |field| port.i64_at(&[field]).and_then(|number| u16::try_from(number).ok());
        let protocol = match port.str_at(&["protocol"]) {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let address = address(port.str_at(&["hostIP"]))?;
        let from = number("hostPort").filter(|number| *number > 0)?;
        Some(HostPort { address, protocol, port: from, to: number("containerPort")? })
    });
    ports.collect()
}

/// One address of the node, or all (`None`). Pods have no IPv6 that a port could lead to.
fn address(text: &str) -> Option<Option<Ipv4Addr>> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Some(None),
        Ok(IpAddr::V4(address)) => Some(Some(address)),
        Ok(IpAddr::V6(_)) => None,
        Err(_) => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    fn brief(pod: &Value) -> Vec<String> {
        let text = |port: &HostPort| {
            let address = port.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
            format!("{:?} {address}:{} {}", port.protocol, port.port, port.to)
        };
        host_ports(Pod(pod)).iter().map(text).collect()
    }

    #[test]
    fn ports_of_what_goes_on_are_led_to() {
        let sidecar = value!({"name": "s", "restartPolicy": "Always",
            "ports": [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "::"}]});
        let init = value!({"name": "i", "ports": [{"containerPort": 1, "hostPort": 1}]});
        let main = value!({"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"},
            {"containerPort": 81}, {"containerPort": 82, "hostPort": 82, "hostIP": "192.0.2.1"},
            {"containerPort": 83, "hostPort": 83, "hostIP": "2001:db8::1"}]});
        let mut pod = value!({"spec": {"initContainers": [init, sidecar], "containers": [main]}});
        assert_eq!(brief(&pod), ["Udp *:5353 53", "Tcp *:8080 80", "Tcp 192.0.2.1:82 82"]);
        pod.object_entry("spec").insert("hostNetwork", true);
        assert!(brief(&pod).is_empty());
    }
}
