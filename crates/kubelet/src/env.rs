//! The environment of a container: what its specification says, what it takes from other objects, what Services there
//! are; and the expansion of `$(NAME)` in it (`pkg/kubelet/kubelet_pods.go`, `pkg/kubelet/envvars`).

use std::collections::BTreeMap;

use corten_apimachinery::value::{Str, Value};
use corten_client::cache::View;

use crate::fields::Subject;
use crate::pod::Container;
use crate::sources::{Kind, SourceError, Sources, is_optional};

/// What a node wants to know of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    pub name: Str,
    /// Empty where it has none of its own.
    pub address: Str,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub name: Str,
    pub protocol: Str,
    pub number: i64,
}

impl View for ServiceView {
    fn from_object(service: &Value) -> Option<Self> {
        let address = service.str_at(&["spec", "clusterIP"]);
        let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default();
        Some(Self {
            name: service.str_at(&["metadata", "name"]).into(),
            address: if address == "None" { Str::default() } else { address.into() },
            ports: ports
                .iter()
                .map(|port| Port {
                    name: port.str_at(&["name"]).into(),
                    protocol: port.str_at(&["protocol"]).into(),
                    number: port.i64_at(&["port"]).unwrap_or_default(),
                })
                .collect(),
        })
    }
}

/// The environment in order; a later one of the same name wins. `services` are those that the container is told of.
pub fn environment(
    subject: Subject<'_>,
    container: Container<'_>,
    sources: &Sources,
    services: &[&ServiceView],
) -> Result<Vec<(String, String)>, SourceError> {
    let of_services: BTreeMap<String, String> = services.iter().flat_map(|service| of_service(service)).collect();
    let mut own: Vec<(String, String)> = Vec::new();
    for from in container.list("envFrom") {
        own.extend(whole(from, sources)?);
    }
    let mut known: BTreeMap<String, String> = own.iter().cloned().collect();
    for variable in container.list("env") {
        let Some(value) = value(variable, subject, container, sources, &known, &of_services)? else { continue };
        let name = variable.str_at(&["name"]).to_owned();
        known.insert(name.clone(), value.clone());
        own.push((name, value));
    }
    let others = of_services.into_iter().filter(|(name, _)| !known.contains_key(name));
    Ok(others.chain(own).collect())
}

/// All of an object that `envFrom` names.
fn whole(from: &Value, sources: &Sources) -> Result<Vec<(String, String)>, SourceError> {
    let prefix = from.str_at(&["prefix"]);
    let mut found = Vec::new();
    for (field, kind) in [("configMapRef", Kind::ConfigMap), ("secretRef", Kind::Secret)] {
        let Some(reference) = from.get(field).filter(|reference| !reference.is_null()) else { continue };
        let object = sources.object(kind, reference.str_at(&["name"]), is_optional(reference))?;
        let Some(object) = object else { continue };
        let texts = object.get("data").and_then(Value::as_object).map(|map| map.len()).unwrap_or_default();
        found.reserve(texts);
        for (key, bytes) in Sources::data(kind, object)? {
            // Binary data of a ConfigMap is for files alone.
            let is_text = kind == Kind::Secret || object.at(&["data", &key]).is_some();
            if is_text {
                found.push((format!("{prefix}{key}"), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    Ok(found)
}

fn value(
    variable: &Value,
    subject: Subject<'_>,
    container: Container<'_>,
    sources: &Sources,
    known: &BTreeMap<String, String>,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, SourceError> {
    let text = variable.str_at(&["value"]);
    if !text.is_empty() {
        let find = |name: &str| known.get(name).or_else(|| services.get(name)).cloned();
        return Ok(Some(expand(text, &find)));
    }
    let Some(from) = variable.get("valueFrom").filter(|from| !from.is_null()) else {
        return Ok(Some(String::new()));
    };
    let given = |field: &str| from.get(field).filter(|reference| !reference.is_null());
    if let Some(reference) = given("fieldRef") {
        return subject.field(reference.str_at(&["fieldPath"])).map(Some);
    }
    if let Some(reference) = given("resourceFieldRef") {
        return subject.resource(reference, Some(container)).map(Some);
    }
    if let Some(reference) = given("configMapKeyRef") {
        return sources.key(Kind::ConfigMap, reference);
    }
    if let Some(reference) = given("secretKeyRef") {
        return sources.key(Kind::Secret, reference);
    }
    Ok(Some(String::new()))
}

/// Replaces `$(NAME)` by what it means; `$$` is `$`, and what means nothing stays as it is.
pub fn expand(text: &str, find: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match find(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// `NAME_SERVICE_HOST` and the variables that Docker's links had.
fn of_service(service: &ServiceView) -> Vec<(String, String)> {
    let Some(first) = service.ports.first().filter(|_| !service.address.is_empty()) else { return Vec::new() };
    let shell = |text: &str| text.to_uppercase().replace('-', "_");
    let name = shell(&service.name);
    let address =
        if service.address.contains(':') { format!("[{}]", service.address) } else { service.address.to_string() };
    let mut found = vec![
        (format!("{name}_SERVICE_HOST"), service.address.to_string()),
        (format!("{name}_SERVICE_PORT"), first.number.to_string()),
    ];
    for port in &service.ports {
        if !port.name.is_empty() {
            found.push((format!("{name}_SERVICE_PORT_{}", shell(&port.name)), port.number.to_string()));
        }
    }
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = if port.protocol.is_empty() { "TCP" } else { port.protocol.as_str() };
        let url = format!("{}://{address}:{}", protocol.to_lowercase(), port.number);
        if index == 0 {
            found.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.number, protocol.to_uppercase());
        found.push((prefix.clone(), url));
        found.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        found.push((format!("{prefix}_PORT"), port.number.to_string()));
        found.push((format!("{prefix}_ADDR"), service.address.to_string()));
    }
    found
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::pod::Pod;

    #[test]
    fn names_are_expanded_as_upstream_does() {
        let find = |name: &str| (name == "A").then(|| "1".to_owned());
        let check = |text, expect| assert_eq!(expand(text, &find), expect, "{text}");
        check("$(A)-$(B)", "1-$(B)");
        check("$$(A) $$$(A)", "$(A) $1");
        check("$A $ $(A", "$A $ $(A");
        check("x$(A)y$", "x1y$");
    }

    fn service() -> ServiceView {
        let port = Port { name: "http".into(), protocol: "TCP".into(), number: 80 };
        ServiceView { name: "my-db".into(), address: "10.96.0.9".into(), ports: vec![port] }
    }

    fn sources() -> Sources {
        let map = value!({"metadata": {"name": "m"}, "data": {"x": "1", "y": "2"}, "binaryData": {"z": "AA=="}});
        let secret = value!({"metadata": {"name": "s"}, "data": {"p": "aHVzaA=="}});
        let objects = [((Kind::ConfigMap, "m".to_owned()), Some(map)), ((Kind::Secret, "s".to_owned()), Some(secret))];
        Sources { namespace: "shop".to_owned(), objects: objects.into_iter().collect() }
    }

    fn make(container: Value) -> Result<String, SourceError> {
        let pod = value!({"metadata": {"name": "a"}, "spec": {"containers": [container]}});
        let pod = Pod(&pod);
        let subject = Subject { pod, addresses: &[], host_addresses: &[], allocatable: &Value::Null };
        let container = pod.main_containers().next().expect("one");
        let env = environment(subject, container, &sources(), &[&service()])?;
        let shown = env.iter().filter(|(name, _)| !name.starts_with("MY_DB_PORT"));
        Ok(shown.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn values_come_from_everywhere() {
        let services = "MY_DB_SERVICE_HOST=10.96.0.9 MY_DB_SERVICE_PORT=80 MY_DB_SERVICE_PORT_HTTP=80";
        let env = make(value!({
            "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "M_"}],
            "env": [
                {"name": "A", "value": "$(M_x)$(MY_DB_SERVICE_PORT)$(LATER)"},
                {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "p", "optional": true}}},
                {"name": "E"}
            ]
        }));
        assert_eq!(env, Ok(format!("{services} M_x=1 M_y=2 A=180$(LATER) P=hush N=a E=")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |container| make(container).expect_err("an error").to_string();
        let missing = value!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]});
        assert_eq!(error(missing), "configmap \"no\" not found");
        let key = value!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]});
        assert_eq!(error(key), "couldn't find key k in Secret shop/s");
    }

    #[test]
    fn links_are_those_of_docker() {
        let links: Vec<String> = of_service(&service())
            .into_iter()
            .filter(|(name, _)| name.starts_with("MY_DB_PORT"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            links,
            [
                "MY_DB_PORT=tcp://10.96.0.9:80",
                "MY_DB_PORT_80_TCP=tcp://10.96.0.9:80",
                "MY_DB_PORT_80_TCP_PROTO=tcp",
                "MY_DB_PORT_80_TCP_PORT=80",
                "MY_DB_PORT_80_TCP_ADDR=10.96.0.9"
            ]
        );
    }
}
