//! The downward API: fields of the pod and resources of a container, as text (`pkg/fieldpath`, `pkg/api/v1/resource`).

use std::net::IpAddr;

use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::value::Value;

use crate::pod::{Container, Pod};
use crate::sources::SourceError;

/// What fields are taken from.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub pod: Pod<'a>,
    /// The pod's own addresses; empty before it has a network.
    pub addresses: &'a [IpAddr],
    pub host_addresses: &'a [IpAddr],
    /// `status.allocatable` of the node: what a container without a limit may use.
    pub allocatable: &'a Value,
}

impl Subject<'_> {
    /// The value of a `fieldRef`.
    pub fn field(self, path: &str) -> Result<String, SourceError> {
        let meta = self.pod.meta();
        let joined = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let first = |addresses: &[IpAddr]| addresses.first().map(ToString::to_string).unwrap_or_default();
        let own = if self.pod.is_host_network() { self.host_addresses } else { self.addresses };
        if let Some((list, key)) = subscript(path) {
            let found = match list {
                "metadata.labels" => meta.label(key),
                "metadata.annotations" => meta.annotation(key),
                _ => return Err(unsupported(path)),
            };
            return Ok(found.unwrap_or_default().to_owned());
        }
        Ok(match path {
            "metadata.name" => meta.name().to_owned(),
            "metadata.namespace" => meta.namespace().to_owned(),
            "metadata.uid" => meta.uid().to_owned(),
            "metadata.labels" => lines(meta.labels().map(|(key, value)| (key.as_str(), value))),
            "metadata.annotations" => lines(meta.annotations().map(|(key, value)| (key.as_str(), value))),
            "spec.nodeName" => self.pod.spec_str("nodeName").to_owned(),
            "spec.serviceAccountName" => self.pod.spec_str("serviceAccountName").to_owned(),
            "status.hostIP" => first(self.host_addresses),
            "status.hostIPs" => joined(self.host_addresses),
            "status.podIP" => first(own),
            "status.podIPs" => joined(own),
            _ => return Err(unsupported(path)),
        })
    }

    /// The value of a `resourceFieldRef`; `own` is the container that names no other.
    pub fn resource(self, reference: &Value, own: Option<Container<'_>>) -> Result<String, SourceError> {
        let name = reference.str_at(&["containerName"]);
        let container = if name.is_empty() { own } else { self.pod.container(name) };
        let container = container.ok_or_else(|| SourceError::Field(format!("container {name} not found")))?;
        let resource = reference.str_at(&["resource"]);
        let (list, name) = resource.split_once('.').ok_or_else(|| unsupported(resource))?;
        let asked = container.value.at(&["resources", list, name]).filter(|value| !value.is_null());
        let amount = asked.or_else(|| self.allocatable.get(name).filter(|_| list == "limits"));
        let parse = |value: &Value| Quantity::from_value(value).map_err(|error| SourceError::Field(error.to_string()));
        let amount = amount.map(parse).transpose()?.unwrap_or_else(|| Quantity::new(0, Format::DecimalSi));
        let divisor = reference.get("divisor").filter(|value| !value.is_null()).map(parse).transpose()?;
        let divisor =
            divisor.filter(|divisor| !divisor.is_zero()).unwrap_or_else(|| Quantity::new(1, Format::DecimalSi));
        let (amount, divisor) = if name == "cpu" {
            (amount.milli_value(), divisor.milli_value())
        } else {
            (amount.value(), divisor.value())
        };
        let divisor = divisor.max(1);
        Ok((amount / divisor + i64::from(amount % divisor > 0)).to_string())
    }
}

fn unsupported(path: &str) -> SourceError {
    SourceError::Field(format!("unsupported fieldPath: {path}"))
}

/// `metadata.labels['app']` as list and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (list, rest) = path.split_once("['")?;
    Some((list, rest.strip_suffix("']")?))
}

/// `key="value"` a line, sorted.
fn lines<'a>(map: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut lines: Vec<String> = map.map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.sort();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn fields_and_resources() {
        let pod = value!({
            "metadata": {"name": "a", "uid": "1", "labels": {"b": "2", "a": "x y"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}}}]}
        });
        let allocatable = value!({"memory": "1Gi"});
        let addresses = ["10.0.0.1".parse().expect("an address"), "fd00::1".parse().expect("an address")];
        let subject = Subject { pod: Pod(&pod), addresses: &addresses, host_addresses: &[], allocatable: &allocatable };
        let field = |path| subject.field(path).expect("a field");
        assert_eq!(field("metadata.labels"), "a=\"x y\"\nb=\"2\"");
        assert_eq!((field("metadata.labels['b']"), field("spec.nodeName")), ("2".into(), "n".into()));
        assert_eq!((field("status.podIP"), field("status.podIPs")), ("10.0.0.1".into(), "10.0.0.1,fd00::1".into()));
        let resource = |resource: &str, divisor: &str| {
            let reference = value!({"resource": resource, "divisor": divisor});
            subject.resource(&reference, Pod(&pod).main_containers().next()).expect("a resource")
        };
        assert_eq!((resource("limits.cpu", "0"), resource("limits.cpu", "1m")), ("2".into(), "1500".into()));
        assert_eq!((resource("limits.memory", "1Mi"), resource("requests.cpu", "1")), ("1024".into(), "0".into()));
    }
}
