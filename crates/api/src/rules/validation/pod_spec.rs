//! The specification of a pod, in pods and in templates.

use std::collections::BTreeSet;

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::meta::{self, Meta};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::container::{self, Shared};
use super::probe::Pod;
use super::volume::{self, Owner};
use super::{At, annotation, dns, os, reasons, resources, scheduling, security, subdomain};

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

/// A pod template, which its owner looks at in its turn.
pub(crate) fn template(at: &At<'_>, errors: &mut FieldErrors) {
    // Labels and annotations are reported beside the metadata that holds them.
    let metadata = At::new(at.object_or_empty("metadata").map, at.path.clone());
    let spec = at.object_or_empty("spec");
    metadata.labels("labels", errors);
    let wrapped = Value::Object([("metadata".into(), Value::Object(metadata.map.clone()))].into_iter().collect());
    meta::validate_annotations(Meta::of(&wrapped), &at.path("annotations"), errors);
    annotation::of_pod(&metadata, &spec, &at.path("annotations"), errors);
    self::spec(&spec, Owner { is_pod: false, name: "" }, None, errors);
    annotation::profiles(&metadata, &spec, errors);
    if !spec.items("ephemeralContainers").is_empty() {
        errors.forbidden(&spec.path("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// `mirror`: the annotation that marks a pod of a node's own, which claims no devices.
pub(crate) fn spec(at: &At<'_>, owner: Owner<'_>, mirror: Option<&str>, errors: &mut FieldErrors) {
    if !at.given("terminationGracePeriodSeconds") {
        errors.required(&at.path("terminationGracePeriodSeconds"), "");
    }
    let system = at.object("os").map(|os| os.text("name"));
    let shared = Shared {
        volumes: volume::volumes(at, owner, errors),
        claims: at.each("resourceClaims").map(|claim| claim.text("name")).filter(|name| !name.is_empty()).collect(),
        pod: Pod { grace_period_s: at.int("terminationGracePeriodSeconds"), os: system },
        restart_policy: at.text("restartPolicy"),
        host_users: has_host_users(at),
    };
    resource_claims(at, mirror.is_some(), errors);
    container::containers(at, &shared, errors);
    container::init_containers(at, &shared, errors);
    container::ephemeral_containers(at, &shared, errors);
    resources::of_pod(at, &shared.claims, errors);
    host_network_ports(at, owner, errors);
    at.require_one_of("restartPolicy", &RESTART_POLICIES, errors);
    at.require_one_of("dnsPolicy", &dns::POLICIES, errors);
    at.labels("nodeSelector", errors);
    security::of_pod(at, errors);
    scheduling::affinity(at, errors);
    dns::config(at, errors);
    gates(at, errors);
    scheduling::spread(at, errors);
    os::host_process(at, errors);
    host_users(at, errors);
    dns::hostname_override(at, errors);
    names(at, errors);
    if let Some(overhead) = at.object("overhead") {
        resources::overhead(&overhead, errors);
    }
    os::of_pod(at, errors);
    file_references(at, errors);
}

fn has_host_users(at: &At<'_>) -> bool {
    at.get("hostUsers").and_then(Value::as_bool) != Some(false)
}

fn names(at: &At<'_>, errors: &mut FieldErrors) {
    let given = |field: &str| !at.text(field).is_empty();
    for field in ["serviceAccountName", "nodeName"] {
        if given(field) {
            at.named(field, subdomain, errors);
        }
    }
    at.in_range("activeDeadlineSeconds", 1, i32::MAX.into(), errors);
    for field in ["hostname", "subdomain"] {
        if given(field) {
            at.named(field, name::dns1123_label, errors);
        }
    }
    scheduling::tolerations(at, errors);
    dns::host_aliases(at, errors);
    if given("priorityClassName") {
        at.named("priorityClassName", subdomain, errors);
    }
    at.named("runtimeClassName", subdomain, errors);
    if at.given("preemptionPolicy") {
        at.require_one_of("preemptionPolicy", &["PreemptLowerPriority", "Never"], errors);
    }
}

fn resource_claims(spec: &At<'_>, mirror: bool, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    for at in spec.each("resourceClaims") {
        if mirror {
            let detail = "static pods do not support resource claims";
            errors.forbidden(&corten_apimachinery::field::FieldPath::root(), detail);
            continue;
        }
        let name = at.text("name");
        if name.is_empty() {
            errors.required(&at.path("name"), "");
        } else if names.contains(name) {
            errors.duplicate(&at.path("name"), name);
        } else {
            at.named("name", name::dns1123_label, errors);
            names.insert(name);
        }
        let fields = [("Name", "name"), ("ResourceClaimName", "resourceClaimName")];
        let fields = fields.into_iter().chain([("ResourceClaimTemplateName", "resourceClaimTemplateName")]);
        let shown = || Value::Object(fields.clone().map(|(go, field)| (go.into(), at.value(field))).collect());
        match (at.given("resourceClaimName"), at.given("resourceClaimTemplateName")) {
            (true, true) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&at.path, shown(), detail);
            }
            (false, false) => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&at.path, shown(), detail);
            }
            _ => {}
        }
        at.named("resourceClaimName", subdomain, errors);
        at.named("resourceClaimTemplateName", subdomain, errors);
    }
}

/// In the node's own network a container's ports are the node's.
fn host_network_ports(spec: &At<'_>, owner: Owner<'_>, errors: &mut FieldErrors) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for port in spec.each("containers").flat_map(|container| container.each("ports")) {
        let number = |field: &str| port.int(field).unwrap_or_default();
        let (host, own) = (number("hostPort"), number("containerPort"));
        if (owner.is_pod || host != 0) && host != own {
            errors.invalid(&port.path("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
        }
    }
}

fn gates(spec: &At<'_>, errors: &mut FieldErrors) {
    for gate in spec.each("readinessGates") {
        let condition = gate.text("conditionType");
        reasons(&gate.path("conditionType"), condition, name::qualified_name(condition), errors);
    }
    let mut seen = BTreeSet::new();
    for gate in spec.each("schedulingGates") {
        let name = gate.text("name");
        reasons(&gate.path, name, name::qualified_name(name), errors);
        if !seen.insert(name) {
            errors.duplicate(&gate.path, name);
        }
    }
}

/// What a pod with a user namespace of its own cannot have.
fn host_users(spec: &At<'_>, errors: &mut FieldErrors) {
    if has_host_users(spec) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(field) {
            errors.forbidden(&spec.path(shown), "when `hostUsers` is false");
        }
    }
    for container in all_containers(spec).filter(|container| !container.items("volumeDevices").is_empty()) {
        errors.forbidden(&container.path("volumeDevices"), "when `hostUsers` is false");
    }
}

/// Containers of all three kinds, in the order in which upstream visits them.
pub(super) fn all_containers<'a>(spec: &At<'a>) -> impl Iterator<Item = At<'a>> + use<'a> {
    let kinds = ["initContainers", "containers", "ephemeralContainers"].map(|field| spec.each(field));
    kinds.into_iter().flatten()
}

/// Variables that are read from a file in an empty folder.
fn file_references(spec: &At<'_>, errors: &mut FieldErrors) {
    for variable in all_containers(spec).flat_map(|container| container.each("env")) {
        let Some(file) = variable.object("valueFrom").and_then(|from| from.object("fileKeyRef")) else { continue };
        let (name, path) = (file.text("volumeName"), file.path("volumeName"));
        match spec.each("volumes").filter(|volume| volume.text("name") == name).last() {
            None => errors.not_found(&path, name),
            Some(volume) if !volume.given("emptyDir") => {
                errors.invalid(&path, name, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn pod_spec(more: &Value) -> Value {
        let container =
            value!({"name": "c", "image": "i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"});
        let mut spec = value!({
            "containers": [container], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }

    fn check(more: &Value, expect: &[&str]) {
        let owner = Owner { is_pod: true, name: "p" };
        assert_eq!(errors(&pod_spec(more), |at, errors| spec(at, owner, None, errors)), expect);
    }

    #[test]
    fn policies_and_names() {
        check(&value!({}), &[]);
        check(
            &value!({"restartPolicy": "Sometimes", "dnsPolicy": "", "hostname": "a.b", "activeDeadlineSeconds": 0}),
            &[
                r#"at.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never""#,
                "at.dnsPolicy: Required value",
                "at.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                r#"at.hostname: Invalid value: "a.b": must not contain dots"#,
            ],
        );
    }

    #[test]
    fn a_user_namespace_of_its_own() {
        check(&value!({"hostUsers": false, "hostPID": true}), &["at.HostPID: Forbidden: when `hostUsers` is false"]);
    }

    #[test]
    fn gates_and_claims() {
        check(
            &value!({"schedulingGates": [{"name": "a"}, {"name": "a"}], "resourceClaims": [{"name": "c"}]}),
            &[
                r#"at.resourceClaims[0]: Invalid value: {"Name":"c","ResourceClaimName":null,"ResourceClaimTemplateName":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"#,
                r#"at.schedulingGates[1]: Duplicate value: "a""#,
            ],
        );
    }

    #[test]
    fn templates() {
        let input = value!({"metadata": {"labels": {"a": "b c"}}, "spec": (pod_spec(&value!({"ephemeralContainers": [{"name": "e"}]})))});
        let found = errors(&input, template);
        assert!(found[0].starts_with(r#"at.labels: Invalid value: "b c": a valid label must be"#), "{found:?}");
        let last = "at.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template";
        assert_eq!(found.last().unwrap(), last);
    }
}
