//! Which node ports a Service wants: for each of its ports where its type has them, and one for health checks of a load
//! balancer that keeps to a node's own endpoints.

use std::collections::BTreeMap;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;

use super::ports::{Operation, PortError};

/// Takes the node ports of a new service.
pub(super) fn create(service: &mut Value, operation: &mut Operation) -> Result<(), Status> {
    if has_node_ports(service) {
        for_new(service, operation)?;
    }
    if is_checked(service) { health_check(service, operation) } else { Ok(()) }
}

/// Takes what the new service adds; marks what it no longer has.
pub(super) fn update(service: &mut Value, old: &Value, operation: &mut Operation) -> Result<(), Status> {
    if has_node_ports(service) {
        for_changed(service, old, operation)?;
    } else if has_node_ports(old) {
        numbers(old).into_iter().for_each(|port| operation.leave(port));
    }
    match (is_checked(old), is_checked(service)) {
        (false, true) => health_check(service, operation),
        (true, false) => {
            operation.leave(health_check_of(old));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Everything that a stored service holds.
pub(super) fn held(service: &Value) -> Vec<i64> {
    let check = Some(health_check_of(service)).filter(|port| is_checked(service) && *port > 0);
    numbers(service).into_iter().chain(check).collect()
}

/// Whether its load balancer asks the nodes which of them have endpoints.
pub(super) fn is_checked(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

fn kind(service: &Value) -> &str {
    service.str_at(&["spec", "type"])
}

fn has_node_ports(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// Whether ports that name no node port get one.
fn chooses(service: &Value) -> bool {
    let wanted = || service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool).unwrap_or(false);
    kind(service) == "NodePort" || kind(service) == "LoadBalancer" && wanted()
}

fn health_check_of(service: &Value) -> i64 {
    service.i64_at(&["spec", "healthCheckNodePort"]).unwrap_or_default()
}

fn ports(service: &Value) -> &[Value] {
    service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default()
}

fn numbers(service: &Value) -> Vec<i64> {
    ports(service).iter().map(node_port).filter(|port| *port != 0).collect()
}

fn node_port(port: &Value) -> i64 {
    port.i64_at(&["nodePort"]).unwrap_or_default()
}

fn set(service: &mut Value, index: usize, number: i64) {
    let ports = service.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut);
    let port = ports.and_then(|ports| ports.get_mut(index)).and_then(Value::as_object_mut);
    port.map(|port| port.insert("nodePort", number));
}

/// Ports of one number, which differ in their protocol, share a node port.
fn for_new(service: &mut Value, operation: &mut Operation) -> Result<(), Status> {
    let mut shared: BTreeMap<i64, i64> = BTreeMap::new();
    for index in 0..ports(service).len() {
        let own = node_port(&ports(service)[index]);
        if own == 0 && !chooses(service) {
            continue;
        }
        let number = ports(service)[index].i64_at(&["port"]).unwrap_or_default();
        let named = ports(service).iter().find(|port| port.i64_at(&["port"]) == Some(number) && node_port(port) != 0);
        match (shared.get(&number).copied(), named.map(node_port)) {
            (Some(taken), _) if own == taken => {}
            (Some(taken), _) if own == 0 => set(service, index, taken),
            (Some(_), _) => take(service, index, own, operation)?,
            (None, Some(named)) => {
                take(service, index, named, operation)?;
                set(service, index, named);
                shared.insert(number, named);
            }
            (None, None) => {
                let any = operation.take_any().map_err(none_left)?;
                set(service, index, any);
                shared.insert(number, any);
            }
        }
    }
    Ok(())
}

fn for_changed(service: &mut Value, old: &Value, operation: &mut Operation) -> Result<(), Status> {
    let before = numbers(old);
    let mut added = Vec::new();
    let mut seen = Vec::new();
    for index in 0..ports(service).len() {
        let mut number = node_port(&ports(service)[index]);
        if number == 0 && !chooses(service) {
            continue;
        }
        if number == 0 {
            number = operation.take_any().map_err(none_left)?;
            set(service, index, number);
        } else if !before.contains(&number) && !added.contains(&number) {
            take(service, index, number, operation)?;
            added.push(number);
        }
        let key = (ports(service)[index].str_at(&["protocol"]).to_owned(), number);
        if seen.contains(&key) {
            return Err(twice(&key));
        }
        seen.push(key);
    }
    let after = numbers(service);
    before.into_iter().filter(|port| !after.contains(port)).for_each(|port| operation.leave(port));
    Ok(())
}

fn health_check(service: &mut Value, operation: &mut Operation) -> Result<(), Status> {
    let named = health_check_of(service);
    if named != 0 {
        let why = |error| format!("failed to allocate requested HealthCheck NodePort {named}: {error}");
        return operation.take(named).map_err(|error| Status::internal(why(error)));
    }
    let why = |error: PortError| format!("failed to allocate a HealthCheck NodePort 0: {error}");
    let any = operation.take_any().map_err(|error| Status::internal(why(error)))?;
    service.object_entry("spec").insert("healthCheckNodePort", any);
    Ok(())
}

fn take(service: &Value, index: usize, number: i64, operation: &mut Operation) -> Result<(), Status> {
    operation.take(number).map_err(|error| {
        let mut errors = FieldErrors::default();
        let path = FieldPath::new("spec").child("ports").index(index).child("nodePort");
        errors.invalid(&path, number, error.to_string());
        Status::invalid("", "Service", service.str_at(&["metadata", "name"]), &errors)
    })
}

fn none_left(error: PortError) -> Status {
    Status::internal(format_args!("failed to allocate a nodePort: {error}"))
}

/// Upstream's answer, which has no reason.
fn twice((protocol, number): &(String, i64)) -> Status {
    let message = format!("duplicate nodePort: {{{protocol} {number}}}");
    Status { code: 500, reason: "", message, details: None, continue_token: None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_apimachinery::value;
    use corten_stdx::random::Random;

    use super::super::ports::Ports;
    use super::*;

    fn port(number: i64, protocol: &str, node_port: i64) -> Value {
        value!({"port": number, "protocol": protocol, "nodePort": node_port})
    }

    fn service(kind: &str, ports: Vec<Value>) -> Value {
        value!({"metadata": {"name": "a"}, "spec": {"type": kind, "ports": ports}})
    }

    /// Upstream's texts where it is refused.
    fn created(ports: &Arc<Ports>, mut service: Value) -> Result<Value, String> {
        let mut operation = Operation::new(ports.clone(), false);
        create(&mut service, &mut operation).map_err(|status| status.message)?;
        operation.commit();
        Ok(service)
    }

    #[test]
    fn ports_of_one_number_share_a_node_port() {
        let ports = Arc::new(Ports::new(Random::seeded(1)));
        let dns = service("NodePort", vec![port(53, "UDP", 0), port(53, "TCP", 0), port(80, "TCP", 0)]);
        let dns = numbers(&created(&ports, dns).expect("created"));
        assert!(dns[0] == dns[1] && dns[0] != dns[2], "{dns:?}");
        let named = service("NodePort", vec![port(53, "UDP", 0), port(53, "TCP", 30_053)]);
        assert_eq!(numbers(&created(&ports, named).expect("created")), [30_053, 30_053]);
        let taken = created(&ports, service("NodePort", vec![port(1, "TCP", 30_053)]));
        let text = r#"Service "a" is invalid: spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated"#;
        assert_eq!(taken, Err(text.to_owned()));
        assert_eq!(created(&ports, service("ClusterIP", vec![port(1, "TCP", 0)])).map(|own| numbers(&own)), Ok(vec![]));
    }

    #[test]
    fn an_update_takes_what_is_new_and_leaves_what_is_gone() {
        let ports = Arc::new(Ports::new(Random::seeded(1)));
        let old = created(&ports, service("NodePort", vec![port(1, "TCP", 30_001), port(2, "TCP", 30_002)]));
        let old = old.expect("created");
        let mut new = service("NodePort", vec![port(1, "TCP", 30_001), port(3, "TCP", 30_003)]);
        let mut operation = Operation::new(ports.clone(), false);
        update(&mut new, &old, &mut operation).expect("taken");
        operation.commit();
        assert_eq!([30_001, 30_002, 30_003].map(|port| ports.take(port).is_err()), [true, false, true]);
        let mut twice = service("NodePort", vec![port(1, "TCP", 30_001), port(3, "TCP", 30_001)]);
        let refused = update(&mut twice, &old, &mut Operation::new(ports, false)).expect_err("refused");
        assert_eq!(refused.message, "duplicate nodePort: {TCP 30001}");
    }

    #[test]
    fn a_local_load_balancer_is_asked_for_its_health() {
        let ports = Arc::new(Ports::new(Random::seeded(1)));
        let mut local = service("LoadBalancer", Vec::new());
        local.object_entry("spec").insert("externalTrafficPolicy", "Local");
        let local = created(&ports, local).expect("created");
        let number = health_check_of(&local);
        assert_eq!(held(&local), [number]);
        let mut cluster = service("LoadBalancer", Vec::new());
        let mut operation = Operation::new(ports.clone(), false);
        update(&mut cluster, &local, &mut operation).expect("left");
        operation.commit();
        assert_eq!(ports.take(number), Ok(()));
    }
}
