//! Containers of a pod: the ordinary ones, those that run before them, and those that join a running pod.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::mounts::{self, Volumes};
use super::probe::{self, Pod};
use super::volume::PULL_POLICIES;
use super::{At, env, resources, security};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// Fields of ordinary containers that one in a running pod may not have.
const NOT_EPHEMERAL: [&str; 6] = ["ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

/// What the containers of a pod share.
pub(crate) struct Shared<'a> {
    pub(crate) volumes: Volumes<'a>,
    pub(crate) claims: BTreeSet<&'a str>,
    pub(crate) pod: Pod<'a>,
    pub(crate) restart_policy: &'a str,
    /// The pod has no user namespace of its own.
    pub(crate) host_users: bool,
}

pub(crate) fn containers(spec: &At<'_>, shared: &Shared<'_>, errors: &mut FieldErrors) {
    if spec.items("containers").is_empty() {
        errors.required(&spec.path("containers"), "");
        return;
    }
    let mut names = BTreeSet::new();
    for at in spec.each("containers") {
        common(&at, shared, errors);
        if !names.insert(at.text("name")) {
            errors.duplicate(&at.path("name"), at.text("name"));
        }
        probe::lifecycle(&at, shared.pod, errors);
        probe::probes(&at, shared.pod, errors);
        restart_rules(&at, errors);
    }
    let mut ports = BTreeSet::new();
    spec.each("containers").for_each(|at| host_ports(&at, &at.path, &mut ports, errors));
}

pub(crate) fn init_containers(spec: &At<'_>, shared: &Shared<'_>, errors: &mut FieldErrors) {
    let mut names: BTreeSet<&str> = spec.each("containers").map(|at| at.text("name")).collect();
    for at in spec.each("initContainers") {
        common(&at, shared, errors);
        restart_rules(&at, errors);
        let name = at.text("name");
        if names.contains(name) {
            errors.duplicate(&at.path("name"), name);
        } else if !name.is_empty() {
            names.insert(name);
        }
        // Upstream looks at one container at a time and calls it the first.
        host_ports(&at, &spec.path("initContainers").index(0), &mut BTreeSet::new(), errors);
        if at.text("restartPolicy") == "Always" {
            probe::lifecycle(&at, shared.pod, errors);
            probe::probes(&at, shared.pod, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if at.given(field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&at.path(field), detail);
            }
        }
        for policy in at.each("resizePolicy").filter(|policy| policy.text("restartPolicy") == "RestartContainer") {
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.invalid(&policy.path("restartPolicy"), "RestartContainer", detail);
        }
    }
}

pub(crate) fn ephemeral_containers(spec: &At<'_>, shared: &Shared<'_>, errors: &mut FieldErrors) {
    let others: BTreeSet<&str> =
        spec.each("containers").chain(spec.each("initContainers")).map(|at| at.text("name")).collect();
    let mut names = others.clone();
    for at in spec.each("ephemeralContainers") {
        common(&at, shared, errors);
        image_is_trimmed(&at, errors);
        let (name, target) = (at.text("name"), at.text("targetContainerName"));
        if !names.insert(name) {
            errors.duplicate(&at.path("name"), name);
        }
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&at.path("targetContainerName"), target);
        }
        let empty = |value: &Value| match value {
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        let more = ["resizePolicy", "restartPolicy", "restartPolicyRules"];
        for field in NOT_EPHEMERAL.iter().chain(&more) {
            if at.get(field).is_some_and(|value| *field != "resources" || !empty(value)) {
                errors.forbidden(&at.path(field), "cannot be set for an Ephemeral Container");
            }
        }
        for mount in at.each("volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    errors.forbidden(&mount.path(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// What holds for every kind of container.
fn common(at: &At<'_>, shared: &Shared<'_>, errors: &mut FieldErrors) {
    at.require_named("name", name::dns1123_label, errors);
    at.require("image", errors);
    at.require_one_of("terminationMessagePolicy", &["File", "FallbackToLogsOnError"], errors);
    ports(at, errors);
    env::variables(at, errors);
    env::sources(at, errors);
    mounts::mounts(at, &shared.volumes, errors);
    mounts::devices(at, &shared.volumes, errors);
    at.require_one_of("imagePullPolicy", &PULL_POLICIES, errors);
    resources::requirements(&at.object_or_empty("resources"), &shared.claims, errors);
    resize(at, shared.restart_policy, errors);
    security::of_container(at, shared.host_users, errors);
}

/// An image's name without blanks around it, which only pods are held to.
pub(crate) fn image_is_trimmed(at: &At<'_>, errors: &mut FieldErrors) {
    let image = at.text("image");
    if image.trim().len() != image.len() {
        errors.invalid(&at.path("image"), image, "must not have leading or trailing whitespace");
    }
}

fn ports(container: &At<'_>, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    for at in container.each("ports") {
        let name = at.text("name");
        if !name.is_empty() {
            let bad = name::port_name(name);
            if bad.is_empty() && !names.insert(name) {
                errors.duplicate(&at.path("name"), name);
            }
            super::reasons(&at.path("name"), name, bad, errors);
        }
        match at.int("containerPort").unwrap_or_default() {
            0 => errors.required(&at.path("containerPort"), ""),
            _ => at.in_range("containerPort", 1, 65535, errors),
        }
        if at.int("hostPort").is_some_and(|port| port != 0) {
            at.in_range("hostPort", 1, 65535, errors);
        }
        at.require_one_of("protocol", &PROTOCOLS, errors);
    }
}

/// A port of the node is taken once; `shown` is what upstream calls the container.
fn host_ports(container: &At<'_>, shown: &FieldPath, taken: &mut BTreeSet<String>, errors: &mut FieldErrors) {
    for (index, at) in container.each("ports").enumerate() {
        let port = at.int("hostPort").unwrap_or_default();
        let key = format!("{}/{}/{port}", at.text("protocol"), at.text("hostIP"));
        if port != 0 && !taken.insert(key.clone()) {
            errors.duplicate(&shown.child("ports").index(index).child("hostPort"), key);
        }
    }
}

/// Upstream reports these at the list.
fn resize(container: &At<'_>, restart_policy: &str, errors: &mut FieldErrors) {
    let path = container.path("resizePolicy");
    let mut seen = BTreeSet::new();
    for at in container.each("resizePolicy") {
        let (resource, policy) = (at.text("resourceName"), at.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&at.path, resource);
        }
        for (value, supported) in [(resource, ["cpu", "memory"]), (policy, ["NotRequired", "RestartContainer"])] {
            if value.is_empty() {
                errors.required(&path, "");
            } else if !supported.contains(&value) {
                errors.not_supported(&path, value, &supported);
            }
        }
        if restart_policy == "Never" && policy != "NotRequired" {
            errors.invalid(&path, policy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

fn restart_rules(container: &At<'_>, errors: &mut FieldErrors) {
    let count = container.items("restartPolicyRules").len();
    if !container.given("restartPolicy") {
        if count > 0 {
            let detail = "must specify restartPolicy when restart rules are used";
            errors.required(&container.path("restartPolicy"), detail);
        }
        if container.path.as_str().contains("initContainers[") {
            return;
        }
    }
    container.one_of("restartPolicy", &["Always", "Never", "OnFailure"], errors);
    if count > RESTART_RULES_MAX {
        errors.too_many(&container.path("restartPolicyRules"), count, RESTART_RULES_MAX);
    }
    for rule in container.each("restartPolicyRules") {
        let (action, actions) = (rule.text("action"), ["Restart", "RestartAllContainers"]);
        if !actions.contains(&action) {
            errors.not_supported(&rule.path("action"), action, &actions);
        }
        let Some(codes) = rule.object("exitCodes") else {
            errors.required(&rule.path("exitCodes"), "must be specified");
            continue;
        };
        let (operator, operators) = (codes.text("operator"), ["In", "NotIn"]);
        if !operators.contains(&operator) {
            errors.not_supported(&codes.path("operator"), operator, &operators);
        }
        let count = codes.items("values").len();
        if count > EXIT_CODES_MAX {
            errors.too_many(&codes.path("values"), count, EXIT_CODES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn shared() -> Shared<'static> {
        Shared {
            volumes: Volumes::new(),
            claims: BTreeSet::new(),
            pod: Pod { grace_period_s: Some(30), os: None },
            restart_policy: "Always",
            host_users: true,
        }
    }

    fn container(name: &str, more: Value) -> Value {
        let mut container = value!({
            "name": name, "image": "i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"
        });
        let Value::Object(more) = more else { unreachable!("fields") };
        container.as_object_mut().unwrap().extend(more);
        container
    }

    fn check(spec: &Value, expect: &[&str]) {
        let found = errors(spec, |at, errors| {
            containers(at, &shared(), errors);
            init_containers(at, &shared(), errors);
            ephemeral_containers(at, &shared(), errors);
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn names_and_images() {
        check(&value!({}), &["at.containers: Required value"]);
        check(&value!({"containers": [(container("a", value!({})))]}), &[]);
        check(
            &value!({"containers": [{"name": "", "terminationMessagePolicy": "No"}, (container("a", value!({}))), (container("a", value!({})))]}),
            &[
                "at.containers[0].name: Required value",
                "at.containers[0].image: Required value",
                r#"at.containers[0].terminationMessagePolicy: Unsupported value: "No": supported values: "File", "FallbackToLogsOnError""#,
                "at.containers[0].imagePullPolicy: Required value",
                r#"at.containers[2].name: Duplicate value: "a""#,
            ],
        );
    }

    #[test]
    fn ports_of_containers() {
        let port = |port: i64, host: i64| value!({"containerPort": port, "hostPort": host, "protocol": "TCP"});
        check(
            &value!({"containers": [(container("a", value!({"ports": [(port(80, 80)), (port(0, 80)), {"name": "UP", "containerPort": 70000, "protocol": "X"}]})))]}),
            &[
                "at.containers[0].ports[1].containerPort: Required value",
                r#"at.containers[0].ports[2].name: Invalid value: "UP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
                r#"at.containers[0].ports[2].name: Invalid value: "UP": must contain at least one letter (a-z)"#,
                "at.containers[0].ports[2].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                r#"at.containers[0].ports[2].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#,
                r#"at.containers[0].ports[1].hostPort: Duplicate value: "TCP//80""#,
            ],
        );
    }

    #[test]
    fn init_and_ephemeral_containers() {
        let probe = || value!({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 1}});
        let sidecar =
            value!({"restartPolicy": "Always", "livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 1}});
        check(
            &value!({"containers": [(container("a", value!({})))], "initContainers": [(container("b", sidecar)), (container("a", probe()))]}),
            &[
                r#"at.initContainers[1].name: Duplicate value: "a""#,
                "at.initContainers[1].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        );
        check(
            &value!({"containers": [(container("a", value!({})))], "ephemeralContainers": [(container("b", value!({"targetContainerName": "c", "lifecycle": {}})))]}),
            &[
                r#"at.ephemeralContainers[0].targetContainerName: Not found: "c""#,
                "at.ephemeralContainers[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container",
            ],
        );
    }

    #[test]
    fn rules_of_restart() {
        check(
            &value!({"containers": [(container("a", value!({"restartPolicyRules": [{"action": "No"}]})))]}),
            &[
                "at.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                r#"at.containers[0].restartPolicyRules[0].action: Unsupported value: "No": supported values: "Restart", "RestartAllContainers""#,
                "at.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
            ],
        );
    }
}
