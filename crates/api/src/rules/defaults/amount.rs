//! Amounts of resources: rounded to thousandths everywhere, and summed up where a pod has limits of its own.

use std::collections::BTreeMap;

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::{Map, Str, Value};

use super::{fills, object_mut, text};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("core/v1.ResourceRequirements", fills(|resources| round(resources, &["limits", "requests"]))),
    ("core/v1.VolumeResourceRequirements", fills(|resources| round(resources, &["limits", "requests"]))),
    ("core/v1.ContainerStatus", fills(|status| round(status, &["allocatedResources"]))),
    ("core/v1.PersistentVolumeSpec", fills(|spec| round(spec, &["capacity"]))),
    ("core/v1.PersistentVolumeClaimStatus", fills(|status| round(status, &["capacity", "allocatedResources"]))),
    ("core/v1.ResourceQuotaSpec", fills(|spec| round(spec, &["hard"]))),
    ("core/v1.ResourceQuotaStatus", fills(|status| round(status, &["hard", "used"]))),
];

type Amounts = BTreeMap<Str, Quantity>;

/// Rounds the amounts of some fields up to thousandths.
pub(super) fn round(map: &mut Map, fields: &[&str]) {
    for field in fields {
        for (_, amount) in object_mut(map, field).into_iter().flat_map(Map::iter_mut) {
            // What is no quantity is left to validation.
            let Ok(exact) = Quantity::from_value(amount) else { continue };
            let rounded = Quantity::from_milli(exact.milli_value(), exact.format());
            if rounded > exact {
                *amount = rounded.to_string().into();
            }
        }
    }
}

/// A pod that limits itself as a whole: huge pages are limited by what its containers may use, and requests are the sum
/// of its containers' requests, else the limits.
pub(super) fn pod_level(spec: &mut Map) {
    let limits_needed = sum(spec, "limits").into_iter().filter(|(name, _)| is_huge_page(name)).collect::<Vec<_>>();
    let requests_needed = sum(spec, "requests").into_iter().filter(|(name, _)| is_shared(name)).collect::<Vec<_>>();
    let Some(resources) = object_mut(spec, "resources") else { return };
    let filled = |resources: &Map, field| {
        resources.get(field).and_then(Value::as_object).is_some_and(|amounts| !amounts.is_empty())
    };
    if !filled(resources, "limits") && !filled(resources, "requests") {
        return;
    }
    for (name, amount) in limits_needed {
        if resources.get("requests").is_none_or(|requests| requests.get(&name).is_none()) {
            set(resources, "limits", &name, amount.to_string().into());
        }
    }
    if !filled(resources, "limits") {
        return;
    }
    for (name, amount) in requests_needed {
        set(resources, "requests", &name, amount.to_string().into());
    }
    let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, amount) in limits.into_iter().filter(|(name, _)| is_shared(name) || is_huge_page(name)) {
        set(resources, "requests", &name, amount);
    }
}

fn set(resources: &mut Map, field: &str, name: &str, amount: Value) {
    resources.object_entry(field).insert_if_absent(name, || amount);
}

fn is_shared(name: &str) -> bool {
    matches!(name, "cpu" | "memory")
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// What the containers of a pod need at most at one time: all of them together with the sidecars, or an init container
/// together with the sidecars before it.
fn sum(spec: &Map, field: &str) -> Amounts {
    let containers = |list| spec.get(list).and_then(Value::as_array).into_iter().flatten();
    let mut all = Amounts::new();
    for container in containers("containers") {
        add(&mut all, &amounts(container, field));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in containers("initContainers") {
        let mut needed = amounts(container, field);
        if container.as_object().is_some_and(|container| text(container, "restartPolicy") == "Always") {
            add(&mut all, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut peak, needed);
    }
    raise(&mut all, peak);
    all
}

fn amounts(container: &Value, field: &str) -> Amounts {
    let amounts = container.at(&["resources", field]).and_then(Value::as_object);
    let parsed = amounts.into_iter().flat_map(Map::iter).map(|(name, amount)| (name, Quantity::from_value(amount)));
    // What is no quantity is left to validation.
    parsed
        .filter_map(|(name, amount)| if let Ok(amount) = amount { Some((name.clone(), amount)) } else { None })
        .collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        sum.entry(name.clone()).and_modify(|sum| sum.add(amount)).or_insert_with(|| amount.clone());
    }
}

fn raise(highest: &mut Amounts, candidate: Amounts) {
    for (name, amount) in candidate {
        match highest.get(&name) {
            Some(known) if *known >= amount => {}
            _ => {
                highest.insert(name, amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn rounding() {
        check(
            "core/v1.ResourceRequirements",
            value!({"limits": {"cpu": "100u", "memory": "1Gi"}, "requests": {"cpu": "0.5", "x": "bad"}}),
            &value!({"limits": {"cpu": "1m", "memory": "1Gi"}, "requests": {"cpu": "0.5", "x": "bad"}}),
        );
    }

    #[test]
    fn pods_with_limits() {
        check(
            "core/v1.Pod",
            value!({"spec": {
                "enableServiceLinks": true,
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
                "containers": [
                    {"resources": {"requests": {"cpu": "500m"}, "limits": {"hugepages-2Mi": "4Mi"}}},
                    {"resources": {"requests": {"cpu": "300m"}}}
                ],
                "initContainers": [
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                    {"resources": {"requests": {"cpu": "1"}}}
                ]
            }}),
            &value!({"spec": {
                "enableServiceLinks": true,
                "resources": {
                    "limits": {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "4Mi"},
                    "requests": {"cpu": "1100m", "memory": "1Gi", "hugepages-2Mi": "4Mi"}
                },
                "containers": [
                    {"resources": {"requests": {"cpu": "500m", "hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}}},
                    {"resources": {"requests": {"cpu": "300m"}}}
                ],
                "initContainers": [
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                    {"resources": {"requests": {"cpu": "1"}}}
                ]
            }}),
        );
    }
}
