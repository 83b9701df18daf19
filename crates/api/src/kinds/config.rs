//! What workloads are configured with: config maps, secrets, service accounts; and the limits they run under: quotas,
//! limit ranges, disruption budgets, priorities and runtime classes.

use corten_apimachinery::kind::{Column, NameRule, Strategy};
use corten_apimachinery::value::{Map, Value};

use super::column::{age, at, boolean, count, flag, int, integer, name, plain, text};
use super::{KindRules, field, shown_deleted, warning};
use crate::rules::validation::{self as rules, cluster, policy};

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy { validate: Some(rules::config::config_map), ..base },
        columns: || {
            vec![name(), text("Data", |map, _| (count(map, &["data"]) + count(map, &["binaryData"])).into()), age()]
        },
        ..KindRules::new("", "ConfigMap")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(rules::config::secret), ..base },
        columns: || {
            vec![
                name(),
                text("Type", |secret, _| at(secret, &["type"])),
                text("Data", |secret, _| count(secret, &["data"]).into()),
                age(),
            ]
        },
        selectable_fields: || vec![field("type")],
        ..KindRules::new("", "Secret")
    },
    KindRules {
        strategy: |base| Strategy {
            prepare: Some(name_secrets),
            warn: Some(warning::service_account),
            ..shown_deleted(base)
        },
        columns: || vec![name(), age()],
        ..KindRules::new("", "ServiceAccount")
    },
    KindRules {
        strategy: |base| Strategy { create_on_update: true, validate: Some(rules::quota::limit_range), ..base },
        ..KindRules::new("", "LimitRange")
    },
    KindRules {
        strategy: |base| Strategy {
            validate: Some(rules::quota::quota),
            warn: Some(warning::quota),
            ..shown_deleted(base)
        },
        columns: || {
            vec![
                name(),
                text("Request", |quota, _| use_of(quota, false).into()),
                text("Limit", |quota, _| use_of(quota, true).into()),
                age(),
            ]
        },
        ..KindRules::new("", "ResourceQuota")
    },
    KindRules {
        strategy: |base| Strategy {
            name: NameRule::PathSegment,
            qualified_finalizers: false,
            metadata_last: true,
            generation: true,
            unconditional_update: false,
            validate: Some(policy::disruption_budget),
            ..base
        },
        columns: budget_columns,
        ..KindRules::new("policy", "PodDisruptionBudget")
    },
    KindRules {
        strategy: |base| Strategy { generation: true, validate: Some(cluster::priority_class), ..base },
        columns: || {
            vec![
                name(),
                integer("Value", |class, _| int(class, &["value"])),
                boolean("Global-Default", |class, _| flag(class, &["globalDefault"]).into()),
                age(),
                text("PreemptionPolicy", |class, _| at(class, &["preemptionPolicy"])),
            ]
        },
        ..KindRules::new("scheduling.k8s.io", "PriorityClass")
    },
    KindRules {
        strategy: |base| Strategy {
            create_on_update: true,
            unconditional_update: false,
            warn: Some(warning::runtime_class),
            validate: Some(cluster::runtime_class),
            ..base
        },
        columns: || vec![name(), text("Handler", |class, _| at(class, &["handler"])), age()],
        ..KindRules::new("node.k8s.io", "RuntimeClass")
    },
];

/// Of the secrets that a service account names only the names are kept.
fn name_secrets(account: &mut Value, _: Option<&Value>) {
    let secrets = account.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|key, _| key == "name");
    }
}

/// `requests.cpu: 1/2, pods: 0/10` by resource.
fn use_of(quota: &Value, limits: bool) -> String {
    let hard = quota.at(&["status", "hard"]).and_then(Value::as_object);
    let mut resources: Vec<(&str, String)> =
        hard.into_iter().flat_map(Map::iter).map(|(key, value)| (&**key, plain(value))).collect();
    resources.retain(|(resource, _)| resource.starts_with("limits.") == limits);
    resources.sort_unstable();
    let used = |resource: &str| quota.at(&["status", "used", resource]).map_or_else(|| "0".to_owned(), plain);
    let uses = resources.iter().map(|(resource, hard)| format!("{resource}: {}/{hard}", used(resource)));
    uses.collect::<Vec<_>>().join(", ")
}

fn budget_columns() -> Vec<Column> {
    fn bound(budget: &Value, field: &str) -> Value {
        let bound = budget.at(&["spec", field]).filter(|bound| !bound.is_null());
        bound.map_or_else(|| "N/A".to_owned(), plain).into()
    }
    vec![
        name(),
        text("Min Available", |budget, _| bound(budget, "minAvailable")),
        text("Max Unavailable", |budget, _| bound(budget, "maxUnavailable")),
        integer("Allowed Disruptions", |budget, _| int(budget, &["status", "disruptionsAllowed"])),
        age(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn configuration() {
        check("", "ConfigMap", &value!({"data": {"a": "b"}, "binaryData": {"c": ""}}), &["2"]);
        check("", "Secret", &value!({"type": "Opaque", "data": {"a": "b"}}), &["Opaque", "1"]);
        let mut account = value!({"secrets": [{"name": "a", "kind": "Secret"}]});
        name_secrets(&mut account, None);
        assert_eq!(account, value!({"secrets": [{"name": "a"}]}));
    }

    #[test]
    fn limits() {
        let quota = value!({"status": {
            "hard": {"pods": "10", "limits.cpu": "4", "requests.cpu": "2"}, "used": {"pods": "1", "limits.cpu": "0"}
        }});
        check("", "ResourceQuota", &quota, &["pods: 1/10, requests.cpu: 0/2", "limits.cpu: 0/4"]);
        check(
            "policy",
            "PodDisruptionBudget",
            &value!({"spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 2}}),
            &["N/A", "25%", "2"],
        );
        let class = value!({"value": 5, "globalDefault": true, "preemptionPolicy": "Never"});
        check("scheduling.k8s.io", "PriorityClass", &class, &["5", "true", "Never"]);
        check("node.k8s.io", "RuntimeClass", &value!({"handler": "runc"}), &["runc"]);
    }
}
