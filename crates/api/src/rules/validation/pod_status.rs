//! What a node may say about a pod.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, reasons, subdomain};

const STATUSES: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

pub(super) fn update(pod: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let (status, was) = (pod.object_or_empty("status"), old.object_or_empty("status"));
    conditions(&status, errors);
    nominated(old, &status, &was, errors);
    if let Some(generation @ ..0) = status.int("observedGeneration") {
        errors.invalid(&status.path("observedGeneration"), generation, "must be a non-negative integer");
    }
    if status.text("qosClass") != was.text("qosClass") {
        errors.invalid(&status.path("qosClass"), status.text("qosClass"), super::IMMUTABLE);
    }
    let spec = old.object_or_empty("spec");
    for field in STATUSES {
        transitions(&status, &was, &spec, field, errors);
    }
    claims(&status, &pod.object_or_empty("spec"), errors);
    addresses(&status, &was, "podIPs", errors);
    if let Some(first) = status.each("hostIPs").next() {
        if first.text("ip") != status.text("hostIP") {
            errors.invalid(&first.path("ip"), first.text("ip"), "must be equal to `hostIP`");
        }
        addresses(&status, &was, "hostIPs", errors);
    }
}

fn conditions(status: &At<'_>, errors: &mut FieldErrors) {
    for condition in status.each("conditions") {
        if let Some(generation @ ..0) = condition.int("observedGeneration") {
            errors.invalid(&condition.path("observedGeneration"), generation, "must be a non-negative integer");
        }
        let kind = condition.text("type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            reasons(&condition.path("Type"), kind, name::qualified_name(kind), errors);
        }
    }
}

fn nominated(old: &At<'_>, status: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let (node, path) = (status.text("nominatedNodeName"), status.path("nominatedNodeName"));
    if node.is_empty() || node == was.text("nominatedNodeName") {
        return;
    }
    reasons(&path, node, subdomain(node), errors);
    if !old.object_or_empty("spec").text("nodeName").is_empty() {
        errors.forbidden(&path, "may not be set on pods that are already bound to a node");
    }
}

/// A container that ended stays ended unless its policy starts it again.
fn transitions(status: &At<'_>, was: &At<'_>, spec: &At<'_>, field: &str, errors: &mut FieldErrors) {
    if field != "ephemeralContainerStatuses" && all_may_restart(spec) {
        return;
    }
    for old in was.each(field) {
        let Some(end) = ended(&old) else { continue };
        let name = old.text("name");
        let again = status.each(field).any(|new| new.text("name") == name && ended(&new).is_none());
        if again && !may_restart(spec, field, name, end.int("exitCode").unwrap_or_default()) {
            errors.forbidden(&old.path("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn ended<'a>(status: &At<'a>) -> Option<At<'a>> {
    status.object("state")?.object("terminated")
}

/// A rule may start all of a pod's containers again.
fn all_may_restart(spec: &At<'_>) -> bool {
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|field| spec.each(field))
        .any(|container| container.each("restartPolicyRules").any(|rule| rule.text("action") == "RestartAllContainers"))
}

fn may_restart(spec: &At<'_>, field: &str, name: &str, exit_code: i64) -> bool {
    let list = match field {
        "containerStatuses" => "containers",
        "initContainerStatuses" => "initContainers",
        _ => return false,
    };
    let Some(container) = spec.each(list).find(|container| container.text("name") == name) else { return false };
    let by_rule = container.each("restartPolicyRules").any(|rule| {
        let codes = rule.object_or_empty("exitCodes");
        let listed = codes.items("values").iter().any(|code| code.as_i64() == Some(exit_code));
        match codes.text("operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    });
    let policy = match container.text("restartPolicy") {
        "" => spec.text("restartPolicy"),
        own => own,
    };
    by_rule || policy == "Always" || policy == "OnFailure" && exit_code != 0
}

fn claims(status: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for claim in status.each("resourceClaimStatuses") {
        let name = claim.text("name");
        if !spec.each("resourceClaims").any(|known| known.text("name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&claim.path("name"), name, detail);
        }
        if !seen.insert(name) {
            errors.duplicate(&claim.path("name"), name);
        }
        claim.named("resourceClaimName", subdomain, errors);
    }
}

fn addresses(status: &At<'_>, was: &At<'_>, field: &str, errors: &mut FieldErrors) {
    let known: Vec<&str> = was.each(field).map(|address| address.text("ip")).collect();
    for address in status.each(field).filter(|address| !known.contains(&address.text("ip"))) {
        let ip = address.text("ip");
        reasons(&address.path, ip, name::legacy_ip(ip), errors);
    }
    let parsed: Vec<_> = status.each(field).map(|address| name::lenient_ip(address.text("ip"))).collect();
    if parsed.len() > 1 {
        one_of_each_family(&parsed, &status.path(field), &status.value(field), errors);
    }
}

fn one_of_each_family(
    addresses: &[Option<std::net::IpAddr>],
    path: &FieldPath,
    shown: &Value,
    errors: &mut FieldErrors,
) {
    let count = |v4: bool| addresses.iter().flatten().filter(|address| address.is_ipv4() == v4).count();
    if count(true) == 0 || count(false) == 0 || addresses.len() > 2 {
        // Upstream prints its structs, whose fields begin with capitals.
        let items = shown.as_array().unwrap_or_default().iter();
        let shown: Vec<Value> = items
            .map(|item| Value::Object([("IP".into(), Value::from(item.str_at(&["ip"])))].into_iter().collect()))
            .collect();
        errors.invalid(path, shown, "may specify no more than one IP for each IP family");
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(old: &Value, new: &Value, expect: &[&str]) {
        let pod = |status: &Value| value!({"spec": {"restartPolicy": "OnFailure", "nodeName": "n", "containers": [{"name": "c"}]}, "status": (status.clone())});
        let (old, new) = (pod(old), pod(new));
        let mut errors = FieldErrors::default();
        update(&At::root(&new), &At::root(&old), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn ends() {
        let ended =
            |code: i64| value!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code}}}]});
        let running = value!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
        check(&ended(1), &running, &[]);
        check(
            &ended(0),
            &running,
            &["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"],
        );
    }

    #[test]
    fn fields() {
        check(
            &value!({"qosClass": "Burstable"}),
            &value!({"qosClass": "Burstable", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}),
            &[],
        );
        check(
            &value!({"qosClass": "Burstable"}),
            &value!({"qosClass": "BestEffort", "nominatedNodeName": "m", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            &[
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
                r#"status.qosClass: Invalid value: "BestEffort": field is immutable"#,
                r#"status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: may specify no more than one IP for each IP family"#,
            ],
        );
    }
}
