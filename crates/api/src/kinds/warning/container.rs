//! Containers: fractions of bytes, environment variables and ports that hide each other, profiles in annotations.

use std::collections::HashMap;

use corten_apimachinery::field::FieldPath;
use corten_apimachinery::value::Value;

use super::{Warnings, fractional};
use crate::kinds::column::list;

const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn check(template: &Value, path: &FieldPath, warnings: &mut Warnings) {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let containers: Vec<(&Value, FieldPath)> = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| {
            let path = path.child("spec").child(field);
            list(spec, &[field]).iter().enumerate().map(move |(index, container)| (container, path.index(index)))
        })
        .collect();
    for (container, container_path) in &containers {
        profiles(template, container, path, warnings);
        for resource in ["memory", "ephemeral-storage"] {
            for amounts in ["limits", "requests"] {
                let amount = container.at(&["resources", amounts, resource]);
                fractional(amount, || container_path.children(&["resources", amounts]).key(resource), warnings);
            }
        }
        environment(container, container_path, warnings);
    }
    ports(&containers, warnings);
    port_names(&containers, warnings);
}

/// Security profiles named by annotations that have fields now. A pod's own AppArmor annotations still count.
fn profiles(template: &Value, container: &Value, path: &FieldPath, warnings: &mut Warnings) {
    let Some(annotations) = template.at(&["metadata", "annotations"]) else { return };
    let annotations_path = path.child("metadata").child("annotations");
    let name = container.str_at(&["name"]);
    let set = |field| container.at(&["securityContext", field]).is_some_and(|profile: &Value| !profile.is_null());
    let mut tell = |prefix: &str, advice: &str| {
        let key = format!("{prefix}{name}");
        if annotations.get(&key).is_some() {
            warnings.push(format!("{}: {advice}", annotations_path.key(key)));
        }
    };
    if !set("seccompProfile") {
        tell(SECCOMP, r#"non-functional in v1.27+; use the "seccompProfile" field instead"#);
    }
    if !set("appArmorProfile") && !path.as_str().is_empty() {
        tell(APP_ARMOR, r#"deprecated since v1.30; use the "appArmorProfile" field instead"#);
    }
}

/// A variable may be defined again in terms of itself; otherwise the first definition is lost.
fn environment(container: &Value, path: &FieldPath, warnings: &mut Warnings) {
    let variables = list(container, &["env"]);
    for (index, variable) in variables.iter().enumerate() {
        let name = variable.str_at(&["name"]);
        if !variables[..index].iter().any(|earlier| earlier.str_at(&["name"]) == name) {
            continue;
        }
        let (value, reference) = (variable.str_at(&["value"]), format!("$({name})"));
        let from_elsewhere = variable.get("valueFrom").is_some_and(|source| !source.is_null());
        if from_elsewhere || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                path.child("env").index(index)
            ));
        }
    }
}

struct Port<'a> {
    path: FieldPath,
    host_ip: &'a str,
    host_port: i64,
}

fn ports(containers: &[(&Value, FieldPath)], warnings: &mut Warnings) {
    let mut all: HashMap<(i64, &str), Vec<Port<'_>>> = HashMap::new();
    for (container, path) in containers {
        for (index, port) in list(container, &["ports"]).iter().enumerate() {
            let number = port.i64_at(&["containerPort"]).unwrap_or_default();
            let port = Port {
                path: path.child("ports").index(index),
                host_ip: port.str_at(&["hostIP"]),
                host_port: port.i64_at(&["hostPort"]).unwrap_or_default(),
            };
            let protocol = list(container, &["ports"])[index].str_at(&["protocol"]);
            let others = all.entry((number, protocol)).or_default();
            for other in others.iter() {
                if let Some(how) = clash(&port, other) {
                    warnings.push(format!("{}: {how} port definition with {}", port.path, other.path));
                }
            }
            others.push(port);
        }
    }
}

fn clash(port: &Port<'_>, other: &Port<'_>) -> Option<&'static str> {
    if port.host_ip == other.host_ip && port.host_port == other.host_port {
        Some("duplicate")
    } else if port.host_port == 0 || other.host_port == 0 {
        Some("overlapping")
    } else if port.host_port == other.host_port && port.host_ip.is_empty() != other.host_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

fn port_names(containers: &[(&Value, FieldPath)], warnings: &mut Warnings) {
    let mut seen: HashMap<&str, FieldPath> = HashMap::new();
    for (container, path) in containers {
        for (index, port) in list(container, &["ports"]).iter().enumerate() {
            let (name, path) = (port.str_at(&["name"]), path.child("ports").index(index));
            if name.is_empty() {
                continue;
            }
            if let Some(first) = seen.get(name) {
                warnings.push(format!(
                    "{path}: duplicate port name {name:?} with {first}, services and probes that select ports by name will \
                     use {first}"
                ));
            } else {
                seen.insert(name, path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[track_caller]
    fn check_container(container: Value, expect: &[&str]) {
        let mut warnings = Warnings::new();
        check(&value!({"spec": {"containers": [container]}}), &FieldPath::root(), &mut warnings);
        assert_eq!(warnings, expect);
    }

    #[test]
    fn environments() {
        check_container(
            value!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}),
            &[r#"spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply"#],
        );
    }

    #[test]
    fn amounts() {
        check_container(
            value!({"resources": {"limits": {"memory": "100m"}}}),
            &[
                r#"spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer"#,
            ],
        );
    }

    #[test]
    fn port_clashes() {
        check_container(
            value!({"ports": [
                {"containerPort": 80, "protocol": "TCP", "name": "a"}, {"containerPort": 80, "protocol": "TCP"},
                {"containerPort": 80, "protocol": "TCP", "hostPort": 8080}, {"containerPort": 81, "name": "a"}
            ]}),
            &[
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.containers[0].ports[3]: duplicate port name \"a\" with spec.containers[0].ports[0], services and probes \
                 that select ports by name will use spec.containers[0].ports[0]",
            ],
        );
    }
}
