//! What a pod uses: itself until it has ended, and what its containers ask for.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};

use crate::amounts::{Amounts, add, amounts, of_pod, read};
use crate::measure::number;

const NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// Amounts that every container has to say where a quota limits them. Upstream calls that a mistake, and keeps it.
const DEMANDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What is limited both by what is asked for (also under the bare name) and by the limits.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

pub(crate) fn has(name: &str) -> bool {
    let asked = name.strip_prefix(REQUESTS);
    NAMES.contains(&name)
        || asked.unwrap_or(name).starts_with(HUGE_PAGES)
        || asked.is_some_and(|asked| !is_native(name) || asked.starts_with(DEVICE_CLASS))
}

/// Whether a resource is Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether the pod is to end by itself at some time.
pub(crate) fn is_terminating(pod: &Value) -> bool {
    pod.i64_at(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

/// Whether none of the pod's containers asks for anything.
pub(crate) fn is_best_effort(pod: &Value) -> bool {
    match pod.str_at(&["status", "qosClass"]) {
        "" => {
            let asks = |of: &Value| {
                let [requests, limits] = ["requests", "limits"].map(|field| amounts(of, field));
                let mut all = requests.iter().chain(&limits);
                all.any(|(name, amount)| ["cpu", "memory"].contains(&name.as_str()) && amount.signum() > 0)
            };
            let spec = pod.get("spec").cloned().unwrap_or_default();
            !asks(&spec) && !containers(pod).any(asks)
        }
        class => class == "BestEffort",
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |field| pod.at(&["spec", field]).and_then(Value::as_array).unwrap_or_default();
    of("containers").iter().chain(of("initContainers"))
}

/// Counted for as long as it is stored, charged until it has ended or should have.
pub(crate) fn usage(pod: &Value, now_s: i64) -> Amounts {
    let mut used = Amounts::from([("count/pods".into(), number(1))]);
    if !has_ended(pod, now_s) {
        let [requests, limits] = ["requests", "limits"].map(|field| with_overhead(pod, field));
        add(&mut used, &named(&requests, &limits));
    }
    used
}

fn has_ended(pod: &Value, now_s: i64) -> bool {
    if ["Failed", "Succeeded"].contains(&pod.str_at(&["status", "phase"])) {
        return true;
    }
    let deleted = Time::parse(pod.str_at(&["metadata", "deletionTimestamp"]));
    let grace_s = pod.i64_at(&["metadata", "deletionGracePeriodSeconds"]);
    matches!((deleted, grace_s), (Ok(deleted), Some(grace_s)) if now_s > deleted.seconds + grace_s)
}

fn with_overhead(pod: &Value, field: &str) -> Amounts {
    let mut of = of_pod(pod, field);
    let mut overhead = read(pod.at(&["spec", "overhead"]));
    if field == "limits" {
        overhead.retain(|name, _| of.get(name).is_some_and(|limit| !limit.is_zero()));
    }
    add(&mut of, &overhead);
    of
}

/// Amounts under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut named = Amounts::from([("pods".into(), number(1))]);
    for (name, amount) in requests {
        let is_compute = COMPUTE.contains(&name.as_str());
        if is_compute || name.starts_with(HUGE_PAGES) {
            named.insert(name.clone(), amount.clone());
        }
        if is_compute || name.starts_with(HUGE_PAGES) || name.starts_with(DEVICE_CLASS) || !is_native(name) {
            named.insert(format!("{REQUESTS}{name}").into(), amount.clone());
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str())) {
        named.insert(format!("limits.{name}").into(), amount.clone());
    }
    named
}

/// What containers do not say although a quota limits it; `None` where all is said.
pub(crate) fn unsaid<'a>(pod: &Value, limited: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if says_for_all(pod) {
        return None;
    }
    let demanded: BTreeSet<&str> = limited.into_iter().filter(|name| DEMANDED.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in containers(pod) {
        let said = named(&amounts(container, "requests"), &amounts(container, "limits"));
        for name in demanded.iter().filter(|name| !said.contains_key(**name)) {
            missing.entry(name).or_default().insert(container.str_at(&["name"]));
        }
    }
    let texts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    (!texts.is_empty()).then(|| format!("must specify {}", texts.join("; ")))
}

/// Whether the pod says amounts for all of its containers together.
fn says_for_all(pod: &Value) -> bool {
    let spec = pod.get("spec").cloned().unwrap_or_default();
    let mut said = ["requests", "limits"].into_iter().flat_map(|field| amounts(&spec, field).into_keys());
    said.any(|name: Str| ["cpu", "memory"].contains(&name.as_str()) || name.starts_with(HUGE_PAGES))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod(status: Value, metadata: Value) -> Value {
        value!({"metadata": metadata, "status": status, "spec": {
            "overhead": {"cpu": "1"},
            "containers": [{"name": "c", "resources": {
                "requests": {"cpu": "1", "hugepages-2Mi": "4Mi", "example.com/gpu": "2", "kubernetes.io/odd": "3"},
                "limits": {"cpu": "2"}
            }}]
        }})
    }

    fn shown(used: &Amounts) -> String {
        used.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pod_is_charged_until_it_has_ended() {
        let all = "count/pods=1 cpu=2 hugepages-2Mi=4Mi limits.cpu=3 pods=1 requests.cpu=2 requests.example.com/gpu=2 \
                   requests.hugepages-2Mi=4Mi";
        assert_eq!(shown(&usage(&pod(value!({}), value!({})), 0)), all);
        assert_eq!(shown(&usage(&pod(value!({"phase": "Failed"}), value!({})), 0)), "count/pods=1");
        let going = || value!({"deletionTimestamp": "1970-01-01T00:01:00Z", "deletionGracePeriodSeconds": 30});
        assert_eq!(shown(&usage(&pod(value!({}), going()), 90)), all);
        assert_eq!(shown(&usage(&pod(value!({}), going()), 91)), "count/pods=1");
    }

    #[test]
    fn names_of_amounts_are_a_pods_or_not() {
        for name in ["pods", "limits.memory", "hugepages-1Gi", "requests.hugepages-1Gi", "requests.example.com/gpu"] {
            assert!(has(name), "{name}");
        }
        for name in ["services", "example.com/gpu", "requests.storage", "requests.kubernetes.io/odd", "count/secrets"] {
            assert!(!has(name), "{name}");
        }
    }

    #[test]
    fn containers_have_to_say_what_is_limited() {
        let limited = ["requests.cpu", "limits.cpu", "memory", "requests.example.com/gpu", "pods"];
        let said = unsaid(&pod(value!({}), value!({})), limited);
        assert_eq!(said.as_deref(), Some("must specify memory for: c"));
        let nothing =
            value!({"spec": {"initContainers": [{"name": "b"}], "containers": [{"name": "a"}, {"name": "c"}]}});
        let said = unsaid(&nothing, ["memory", "cpu"]);
        assert_eq!(said.as_deref(), Some("must specify cpu for: a,b,c; memory for: a,b,c"));
        let whole = value!({"spec": {"resources": {"limits": {"cpu": "1"}}, "containers": [{"name": "a"}]}});
        assert_eq!(unsaid(&whole, ["memory", "cpu"]), None);
    }

    #[test]
    fn a_pod_that_asks_for_nothing_is_best_effort() {
        assert!(is_best_effort(&value!({"spec": {"containers": [{"resources": {"requests": {"cpu": "0"}}}]}})));
        assert!(!is_best_effort(&pod(value!({}), value!({}))));
        assert!(is_best_effort(&pod(value!({"qosClass": "BestEffort"}), value!({}))), "as its status says");
    }
}
