//! Deployments, replica sets, stateful sets, daemon sets and replication controllers.

use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, object_mut, objects_mut, text, zero};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    (
        "apps/v1.DeploymentSpec",
        fills(|spec| {
            absent(spec, "replicas", 1);
            absent(spec, "revisionHistoryLimit", 10);
            absent(spec, "progressDeadlineSeconds", 600);
            rolling(spec.object_entry("strategy"), "25%", "25%");
        }),
    ),
    (
        "apps/v1.DaemonSetSpec",
        fills(|spec| {
            absent(spec, "revisionHistoryLimit", 10);
            rolling(spec.object_entry("updateStrategy"), 1, 0);
        }),
    ),
    (
        // The number of the template, which old clients read; counted when the object is written.
        "apps/v1.DaemonSet",
        fills(|set| {
            let annotations = set.object_entry("metadata").object_entry("annotations");
            absent(annotations, "deprecated.daemonset.template.generation", "0");
        }),
    ),
    ("apps/v1.ReplicaSetSpec", fills(|spec| absent(spec, "replicas", 1))),
    ("apps/v1.StatefulSetSpec", fills(stateful_set)),
    ("core/v1.ReplicationController", fills(replication_controller)),
    ("core/v1.ReplicationControllerSpec", fills(|spec| absent(spec, "replicas", 1))),
];

fn rolling(strategy: &mut Map, max_unavailable: impl Into<Value>, max_surge: impl Into<Value>) {
    zero(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let update = strategy.object_entry("rollingUpdate");
        absent(update, "maxUnavailable", max_unavailable);
        absent(update, "maxSurge", max_surge);
    }
}

fn stateful_set(spec: &mut Map) {
    absent(spec, "replicas", 1);
    absent(spec, "revisionHistoryLimit", 10);
    zero(spec, "podManagementPolicy", "OrderedReady");
    let strategy = spec.object_entry("updateStrategy");
    if text(strategy, "type").is_empty() {
        strategy.insert("type", "RollingUpdate");
        strategy.object_entry("rollingUpdate");
    }
    if text(strategy, "type") == "RollingUpdate"
        && let Some(update) = object_mut(strategy, "rollingUpdate")
    {
        absent(update, "partition", 0);
    }
    let retention = spec.object_entry("persistentVolumeClaimRetentionPolicy");
    zero(retention, "whenDeleted", "Retain");
    zero(retention, "whenScaled", "Retain");
    for claim in objects_mut(spec, "volumeClaimTemplates") {
        claim.insert("apiVersion", "v1");
        claim.insert("kind", "PersistentVolumeClaim");
    }
}

/// The oldest of them takes its selector and labels from its template.
fn replication_controller(controller: &mut Map) {
    let labels = ["spec", "template", "metadata", "labels"]
        .iter()
        .try_fold(&*controller, |map, key| map.get(key)?.as_object())
        .filter(|labels| !labels.is_empty())
        .cloned();
    let Some(labels) = labels else { return };
    zero(controller.object_entry("spec"), "selector", labels.clone());
    zero(controller.object_entry("metadata"), "labels", labels);
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn deployments() {
        check(
            "apps/v1.DeploymentSpec",
            value!({"replicas": 0, "strategy": {"rollingUpdate": {"maxSurge": 1}}}),
            &value!({
                "replicas": 0, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}
            }),
        );
        check(
            "apps/v1.DeploymentSpec",
            value!({"strategy": {"type": "Recreate"}}),
            &value!({
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {"type": "Recreate"}
            }),
        );
    }

    #[test]
    fn daemon_sets() {
        check(
            "apps/v1.DaemonSetSpec",
            value!({}),
            &value!({
                "revisionHistoryLimit": 10,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
            }),
        );
    }

    #[test]
    fn stateful_sets() {
        check(
            "apps/v1.StatefulSetSpec",
            value!({"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}),
            &value!({
                "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "apiVersion": "v1", "kind": "PersistentVolumeClaim"}]
            }),
        );
    }

    #[test]
    fn replication_controllers() {
        check(
            "core/v1.ReplicationController",
            value!({"metadata": {"name": "a"}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
            &value!({
                "metadata": {"name": "a", "labels": {"a": "b"}},
                "spec": {"template": {"metadata": {"labels": {"a": "b"}}}, "selector": {"a": "b"}}
            }),
        );
    }
}
