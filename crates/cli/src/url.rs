//! Where an Ingress is reached, as its status says.

use corten_apimachinery::value::Value;

/// A port whose number ends so is for TLS, where it is the only one: 443, 8443.
const TLS_TAIL: i64 = 443;

/// The URL of an Ingress's first host; `None` as long as nobody has said that it is reached.
pub(crate) fn url(ingress: &Value) -> Option<String> {
    let first = |path: &[&str]| ingress.at(path).and_then(Value::as_array).and_then(|list| list.first());
    let host = first(&["spec", "rules"])?.str_at(&["host"]);
    let door = first(&["status", "loadBalancer", "ingress"])?;
    let listed = door.get("ports").and_then(Value::as_array).unwrap_or_default();
    let mut ports = listed.iter().filter_map(|port| port.i64_at(&["port"]));
    Some(match (ports.next(), ports.next()) {
        (None | Some(80), _) => format!("http://{host}/"),
        (Some(443), None) => format!("https://{host}/"),
        (Some(port), None) if port % 1000 == TLS_TAIL => format!("https://{host}:{port}/"),
        (Some(port), _) => format!("http://{host}:{port}/"),
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn an_ingress_is_reached_at_the_ports_of_its_door() {
        let check = |doors: Value, expect: Option<&str>| {
            let ingress = value!({
                "spec": {"rules": [{"host": "www.localhost"}]}, "status": {"loadBalancer": {"ingress": doors}}
            });
            assert_eq!(url(&ingress).as_deref(), expect);
        };
        let door = |ports: &[i64]| {
            let ports: Vec<Value> = ports.iter().map(|port| value!({"port": (*port), "protocol": "TCP"})).collect();
            value!([{"ip": "192.0.2.1", "ports": ports}])
        };
        check(value!([]), None);
        check(value!([{"ip": "192.0.2.1"}]), Some("http://www.localhost/"));
        check(door(&[80, 443]), Some("http://www.localhost/"));
        check(door(&[8080, 8443]), Some("http://www.localhost:8080/"));
        check(door(&[8080]), Some("http://www.localhost:8080/"));
        check(door(&[443]), Some("https://www.localhost/"));
        check(door(&[8443]), Some("https://www.localhost:8443/"));
    }
}
