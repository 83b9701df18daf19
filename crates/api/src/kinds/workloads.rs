//! Workloads: deployments, replica sets, stateful sets, daemon sets, their revisions and templates, and the
//! replication controllers that came first.

use corten_apimachinery::kind::{Column, NameRule, Propagation, Strategy};
use corten_apimachinery::value::{Str, Value};

use super::KindRules;
use super::change::{differs, keep_in_metadata, raise_generation};
use super::column::{NONE, age, containers, int, integer, labels, name, selector, selector_text, text, wide};
use super::{computed, shown_deleted, warning};
use crate::rules::validation::{apps, controller};

const TEMPLATE: &[&str] = &["spec", "template"];

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            prepare: Some(|new, stored| {
                // Annotations count too: they carry a rollout's cause.
                if let Some(stored) = stored.filter(|stored| differs(new, stored, &["metadata", "annotations"])) {
                    raise_generation(new, stored);
                }
            }),
            settle: Some(|new, write| {
                if let Some(stored) = write.old.filter(|_| write.subresource == "status") {
                    keep_in_metadata(new, stored, "labels");
                }
            }),
            warn: Some(|new, stored| warning::named_workload(new, stored, TEMPLATE)),
            validate: Some(apps::deployment),
            ..base
        },
        columns: || {
            let mut columns = vec![
                name(),
                text("Ready", |set, _| ready_of(set)),
                text("Up-to-date", |set, _| int(set, &["status", "updatedReplicas"])),
                text("Available", |set, _| int(set, &["status", "availableReplicas"])),
                age(),
            ];
            columns.extend(template_columns());
            columns.push(wide(text("Selector", |set, _| {
                selector_text(set.at(&["spec", "selector"])).unwrap_or_else(|| "<invalid>".to_owned()).into()
            })));
            columns
        },
        ..KindRules::new("apps", "Deployment")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            warn: Some(|new, stored| warning::named_workload(new, stored, TEMPLATE)),
            validate: Some(apps::replica_set),
            ..base
        },
        columns: replica_columns,
        ..KindRules::new("apps", "ReplicaSet")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            warn: Some(warning::stateful_set),
            prepare: Some(without_gated),
            name: NameRule::DnsLabel,
            validate: Some(apps::stateful_set),
            ..base
        },
        columns: || {
            let mut columns = vec![name(), text("Ready", |set, _| ready_of(set)), age()];
            columns.extend(template_columns());
            columns
        },
        ..KindRules::new("apps", "StatefulSet")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            prepare: Some(template_generation),
            warn: Some(|new, stored| warning::template(new, stored, TEMPLATE)),
            validate: Some(apps::daemon_set),
            ..base
        },
        columns: daemon_set_columns,
        ..KindRules::new("apps", "DaemonSet")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(apps::controller_revision), ..base },
        columns: revision_columns,
        ..KindRules::new("apps", "ControllerRevision")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            default_propagation: Propagation::Orphan,
            validate: Some(controller::validate),
            warn: Some(|new, stored| warning::named_workload(new, stored, TEMPLATE)),
            ..base
        },
        columns: controller_columns,
        selectable_fields: || {
            vec![computed("status.replicas", |set| {
                Str::from(set.i64_at(&["status", "replicas"]).unwrap_or_default().to_string())
            })]
        },
        ..KindRules::new("", "ReplicationController")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            warn: Some(|new, stored| warning::template(new, stored, &["template"])),
            validate: Some(apps::pod_template),
            ..shown_deleted(base)
        },
        columns: || {
            vec![
                name(),
                text("Containers", |template, _| containers(template.at(&["template", "spec"]), "name")),
                text("Images", |template, _| containers(template.at(&["template", "spec"]), "image")),
                text("Pod Labels", |template, _| {
                    labels(template.at(&["template", "metadata", "labels"]).and_then(Value::as_object)).into()
                }),
            ]
        },
        ..KindRules::new("", "PodTemplate")
    },
];

/// Where the number of a daemon set's template is kept.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Counts the changes of a daemon set's template, which controllers before revisions went by.
fn template_generation(set: &mut Value, stored: Option<&Value>) {
    let number = |set: &Value| {
        let text = set.str_at(&["metadata", "annotations", TEMPLATE_GENERATION]);
        text.parse::<i64>().unwrap_or_default()
    };
    let generation = match stored {
        None => number(set).max(1),
        Some(stored) => number(stored) + i64::from(differs(set, stored, TEMPLATE)),
    };
    let Value::Object(metadata) = &mut *set else { return };
    metadata.object_entry("metadata").object_entry("annotations").insert(TEMPLATE_GENERATION, generation.to_string());
}

fn ready_of(set: &Value) -> Value {
    let ready = set.i64_at(&["status", "readyReplicas"]).unwrap_or_default();
    format!("{ready}/{}", set.i64_at(&["spec", "replicas"]).unwrap_or_default()).into()
}

fn template_columns() -> [Column; 2] {
    [
        wide(text("Containers", |set, _| containers(set.at(&["spec", "template", "spec"]), "name"))),
        wide(text("Images", |set, _| containers(set.at(&["spec", "template", "spec"]), "image"))),
    ]
}

fn selector_column() -> Column {
    wide(text("Selector", |set, _| selector(set.at(&["spec", "selector"])).into()))
}

fn replica_counts() -> Vec<Column> {
    let mut columns = vec![
        name(),
        integer("Desired", |set, _| int(set, &["spec", "replicas"])),
        integer("Current", |set, _| int(set, &["status", "replicas"])),
        integer("Ready", |set, _| int(set, &["status", "readyReplicas"])),
        age(),
    ];
    columns.extend(template_columns());
    columns
}

fn replica_columns() -> Vec<Column> {
    let mut columns = replica_counts();
    columns.push(selector_column());
    columns
}

/// A replication controller's selector is a plain map.
fn controller_columns() -> Vec<Column> {
    let mut columns = replica_counts();
    columns
        .push(wide(text("Selector", |set, _| labels(set.at(&["spec", "selector"]).and_then(Value::as_object)).into())));
    columns
}

fn daemon_set_columns() -> Vec<Column> {
    let mut columns = vec![
        name(),
        integer("Desired", |set, _| int(set, &["status", "desiredNumberScheduled"])),
        integer("Current", |set, _| int(set, &["status", "currentNumberScheduled"])),
        integer("Ready", |set, _| int(set, &["status", "numberReady"])),
        integer("Up-to-date", |set, _| int(set, &["status", "updatedNumberScheduled"])),
        integer("Available", |set, _| int(set, &["status", "numberAvailable"])),
        text("Node Selector", |set, _| {
            labels(set.at(&["spec", "template", "spec", "nodeSelector"]).and_then(Value::as_object)).into()
        }),
        age(),
    ];
    columns.extend(template_columns());
    columns.push(selector_column());
    columns
}

fn revision_columns() -> Vec<Column> {
    vec![
        name(),
        text("Controller", |revision, _| controller(revision).into()),
        text("Revision", |revision, _| int(revision, &["revision"])),
        age(),
    ]
}

/// The controlling owner as `daemonset.apps/name`.
fn controller(object: &Value) -> String {
    let owners = super::column::list(object, &["metadata", "ownerReferences"]);
    let Some(owner) = owners.iter().find(|owner| super::column::flag(owner, &["controller"])) else {
        return NONE.to_owned();
    };
    let group = owner.str_at(&["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
    let kind = owner.str_at(&["kind"]).to_lowercase();
    let group = if group.is_empty() { String::new() } else { format!(".{}", group.to_lowercase()) };
    format!("{kind}{group}/{}", owner.str_at(&["name"]))
}

/// How many pods of a set may be away at a time is a feature that is off by default upstream (MaxUnavailableStatefulSet,
/// KEP-961); a stored value stays.
fn without_gated(set: &mut Value, stored: Option<&Value>) {
    const GATED: [&str; 4] = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
    if stored.is_some_and(|stored| stored.at(&GATED).is_some()) {
        return;
    }
    let rolling = set.get_mut("spec").and_then(|spec| spec.get_mut("updateStrategy"));
    if let Some(rolling) = rolling.and_then(|strategy| strategy.get_mut("rollingUpdate")).and_then(Value::as_object_mut)
    {
        rolling.remove("maxUnavailable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    fn set() -> Value {
        value!({
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "shop"}},
                "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]}}
            },
            "status": {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}
        })
    }

    #[test]
    fn columns() {
        check("apps", "Deployment", &set(), &["1/3", "2", "1", "a,b", "i:1,j:2", "app=shop"]);
        check("apps", "ReplicaSet", &set(), &["3", "2", "1", "a,b", "i:1,j:2", "app=shop"]);
        check("apps", "StatefulSet", &set(), &["1/3", "a,b", "i:1,j:2"]);
        let controller = value!({"spec": {"selector": {"a": "b"}}});
        check("", "ReplicationController", &controller, &["0", "0", "0", "", "", "a=b"]);
        let daemons = value!({
            "spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}, "selector": {}},
            "status": {
                "desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 2,
                "numberAvailable": 1
            }
        });
        check("apps", "DaemonSet", &daemons, &["5", "4", "3", "2", "1", "a=b", "", "", "<none>"]);
    }

    #[test]
    fn revisions() {
        let revision = value!({
            "metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]},
            "revision": 4
        });
        check("apps", "ControllerRevision", &revision, &["daemonset.apps/d", "4"]);
        check("apps", "ControllerRevision", &value!({"revision": 1}), &["<none>", "1"]);
    }

    #[test]
    fn template_generations() {
        let mut set = value!({"metadata": {}, "spec": {"template": {"a": 1}}});
        template_generation(&mut set, None);
        let stored = set.clone();
        assert_eq!(set.str_at(&["metadata", "annotations", TEMPLATE_GENERATION]), "1");
        let mut changed = value!({"metadata": {}, "spec": {"template": {"a": 2}}});
        template_generation(&mut changed, Some(&stored));
        assert_eq!(changed.str_at(&["metadata", "annotations", TEMPLATE_GENERATION]), "2");
        template_generation(&mut set, Some(&stored));
        assert_eq!(set.str_at(&["metadata", "annotations", TEMPLATE_GENERATION]), "1");
    }
}
