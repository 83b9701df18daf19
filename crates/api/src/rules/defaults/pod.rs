//! Pods and pod templates.

use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, flag, given, inherit, object_mut, objects_mut, text, zero};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("core/v1.Pod", fills(pod)),
    ("core/v1.PodSpec", fills(pod_spec)),
    ("core/v1.PodStatus", fills(pod_status)),
    ("core/v1.PodTemplateSpec", fills(|template| drop_init_annotations(object_mut(template, "metadata")))),
];

/// Only of pods themselves, not of templates: what is derived from the whole pod.
fn pod(pod: &mut Map) {
    drop_init_annotations(object_mut(pod, "metadata"));
    let Some(spec) = object_mut(pod, "spec") else { return };
    for list in ["containers", "initContainers"] {
        for container in objects_mut(spec, list) {
            if let Some(resources) = object_mut(container, "resources") {
                inherit(resources, "limits", "requests");
            }
        }
    }
    super::amount::pod_level(spec);
    absent(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        host_ports(spec);
    }
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|period| period < 0) {
        spec.insert("terminationGracePeriodSeconds", 1);
    }
}

fn host_ports(spec: &mut Map) {
    for list in ["containers", "initContainers"] {
        for port in objects_mut(spec, list).flat_map(|container| objects_mut(container, "ports")) {
            if let Some(number) = port.get("containerPort").cloned() {
                zero(port, "hostPort", number);
            }
        }
    }
}

fn pod_spec(spec: &mut Map) {
    // A feature that is off by default upstream (GenericWorkload, KEP-4671); nothing stored has it.
    spec.remove("schedulingGroup");
    zero(spec, "dnsPolicy", "ClusterFirst");
    zero(spec, "restartPolicy", "Always");
    absent(spec, "securityContext", Value::object());
    absent(spec, "terminationGracePeriodSeconds", 30);
    zero(spec, "schedulerName", "default-scheduler");
    super::amount::round(spec, &["overhead"]);
    service_account(spec);
}

/// `serviceAccount` is an old name of `serviceAccountName`, which wins; both are always shown.
fn service_account(spec: &mut Map) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = Value::from(name);
        spec.insert("serviceAccountName", name.clone());
        spec.insert("serviceAccount", name);
    }
}

/// `podIP` and the first of `podIPs` are one fact; the singular wins where they differ.
fn pod_status(status: &mut Map) {
    super::amount::round(status, &["allocatedResources"]);
    let first = status.get("podIPs").and_then(Value::as_array).and_then(<[Value]>::first);
    let plural = first.map(|ip| ip.str_at(&["ip"])).unwrap_or_default().to_owned();
    let single = text(status, "podIP").to_owned();
    if single.is_empty() && !plural.is_empty() {
        status.insert("podIP", plural);
    } else if single != plural {
        let ip: Map = [("ip".into(), single.into())].into_iter().collect();
        status.insert("podIPs", vec![ip]);
    }
}

/// Annotations that once carried init containers must not come back to life in old nodes.
fn drop_init_annotations(metadata: Option<&mut Map>) {
    let Some(metadata) = metadata else { return };
    if !given(metadata, "annotations") {
        return;
    }
    let Some(annotations) = object_mut(metadata, "annotations") else { return };
    for stage in ["alpha", "beta"] {
        for what in ["init-containers", "init-container-statuses"] {
            annotations.remove(&format!("pod.{stage}.kubernetes.io/{what}"));
        }
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn requests_follow_limits() {
        check(
            "core/v1.Pod",
            value!({"spec": {"containers": [
                {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}, {"resources": {}}
            ]}}),
            &value!({"spec": {
                "containers": [
                    {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}},
                    {"resources": {}}
                ],
                "enableServiceLinks": true
            }}),
        );
    }

    #[test]
    fn host_network_takes_host_ports() {
        check(
            "core/v1.Pod",
            value!({"spec": {"hostNetwork": true, "enableServiceLinks": false, "terminationGracePeriodSeconds": (-4),
                "containers": [{"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 82}]}]}}),
            &value!({"spec": {"hostNetwork": true, "enableServiceLinks": false, "terminationGracePeriodSeconds": 1,
                "containers": [{"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 82}]}]}}),
        );
    }

    #[test]
    fn specs() {
        check(
            "core/v1.PodSpec",
            value!({"serviceAccount": "a", "terminationGracePeriodSeconds": 0}),
            &value!({
                "serviceAccount": "a", "serviceAccountName": "a", "terminationGracePeriodSeconds": 0,
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                "schedulerName": "default-scheduler"
            }),
        );
    }

    #[test]
    fn addresses() {
        check("core/v1.PodStatus", value!({}), &value!({}));
        check(
            "core/v1.PodStatus",
            value!({"podIPs": [{"ip": "a"}, {"ip": "b"}]}),
            &value!({"podIPs": [{"ip": "a"}, {"ip": "b"}], "podIP": "a"}),
        );
        check(
            "core/v1.PodStatus",
            value!({"podIP": "c", "podIPs": [{"ip": "a"}]}),
            &value!({"podIP": "c", "podIPs": [{"ip": "c"}]}),
        );
    }
}
