//! Quality of service: the class of a pod, its place among the control groups, its limits, and who is killed first when
//! memory runs out (`pkg/apis/core/v1/helper/qos`, `pkg/kubelet/cm`, `pkg/kubelet/qos`).

use std::path::PathBuf;

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::Value;
use corten_runtime::spec::Limits;

use crate::allowance::Allowance;
use crate::pod::{Container, Pod, Role};

/// The least share of a processor.
const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
const GUARANTEED_SCORE: i32 = -997;
const BEST_EFFORT_SCORE: i32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod; one that the API server has written is for ever.
pub fn class(pod: Pod<'_>) -> Class {
    match pod.0.str_at(&["status", "qosClass"]) {
        "Guaranteed" => return Class::Guaranteed,
        "Burstable" => return Class::Burstable,
        "BestEffort" => return Class::BestEffort,
        _ => {}
    }
    let own = pod.spec("resources").filter(|resources| has_any(resources));
    let parts: Vec<&Value> = match own {
        Some(resources) => vec![resources],
        None => pod
            .init_containers()
            .chain(pod.main_containers())
            .map(|container| container.value.get("resources").unwrap_or(&Value::Null))
            .collect(),
    };
    if parts.iter().all(|resources| !has_any(resources)) {
        return Class::BestEffort;
    }
    let guaranteed = parts.iter().all(|resources| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(resources, "limits", name);
            limit.is_some() && amount(resources, "requests", name).or(limit) == limit
        })
    });
    if guaranteed { Class::Guaranteed } else { Class::Burstable }
}

/// Some processor or memory is asked for.
fn has_any(resources: &Value) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|list| ["cpu", "memory"].iter().any(|name| amount(resources, list, name).is_some_and(|amount| amount > 0)))
}

/// Thousandths of processors, or bytes.
fn amount(resources: &Value, list: &str, name: &str) -> Option<i64> {
    let quantity = resources.at(&[list, name]).filter(|value| !value.is_null())?;
    // What the API server has accepted is a quantity.
    let quantity = Quantity::from_value(quantity).ok()?;
    Some(if name == "cpu" { quantity.milli_value() } else { quantity.value() })
}

pub fn container_amount(container: Container<'_>, list: &str, name: &str) -> Option<i64> {
    amount(container.value.get("resources")?, list, name)
}

/// The pod's control group, below the instance's.
pub fn cgroup(pod: Pod<'_>) -> PathBuf {
    let name = format!("pod{}", pod.uid());
    match class(pod) {
        Class::Guaranteed => PathBuf::from(name),
        Class::Burstable => PathBuf::from("burstable").join(name),
        Class::BestEffort => PathBuf::from("besteffort").join(name),
    }
}

/// What a list of the pod comes to: its own, or that of its containers; with sidecars beside them, and at least what an
/// init container needs beside the sidecars before it. `None` where a container has none and all must have one.
pub fn pod_amount(pod: Pod<'_>, list: &str, name: &str, all_must: bool) -> Option<i64> {
    if let Some(own) = pod.spec("resources").and_then(|resources| amount(resources, list, name)) {
        return Some(own);
    }
    let mut missing = false;
    let mut of = |container: Container<'_>| {
        let amount = container_amount(container, list, name);
        missing |= amount.is_none();
        amount.unwrap_or_default()
    };
    let (mut sidecars, mut highest) = (0, 0);
    for container in pod.init_containers() {
        let amount = of(container);
        if container.role == Role::Sidecar {
            sidecars += amount;
            highest = highest.max(sidecars);
        } else {
            highest = highest.max(sidecars + amount);
        }
    }
    let total = pod.main_containers().map(&mut of).sum::<i64>() + sidecars;
    let overhead = if list == "requests" || all_must {
        pod.spec("overhead").and_then(|overhead| amount(&overhead_of(overhead), "overhead", name)).unwrap_or_default()
    } else {
        0
    };
    let amount = total.max(highest) + overhead;
    (amount > 0 && !(missing && all_must)).then_some(amount)
}

/// Overhead is one list; as if it were one of several.
fn overhead_of(overhead: &Value) -> Value {
    corten_apimachinery::value!({"overhead": (overhead.clone())})
}

fn shares(milli: i64) -> u64 {
    let shares = (milli * 1024 / 1000).clamp(SHARES_MIN, SHARES_MAX);
    u64::try_from(shares).unwrap_or_default()
}

fn positive(amount: Option<i64>) -> Option<u64> {
    amount.filter(|amount| *amount > 0).and_then(|amount| u64::try_from(amount).ok())
}

/// Limits of the pod's own group, on a node whose pods may have this many processes.
pub fn pod_limits(pod: Pod<'_>, allowance: Allowance, pids_max: u64) -> Limits {
    // The pod's own process is one more.
    let pids = Some(allowance.pids.map_or(pids_max, |pids| pids.saturating_add(1).min(pids_max)));
    let Allowance { io_read_bps, io_write_bps, .. } = allowance;
    if class(pod) == Class::BestEffort {
        return Limits { cpu_shares: Some(shares(0)), pids, io_read_bps, io_write_bps, ..Limits::default() };
    }
    let requests = pod_amount(pod, "requests", "cpu", false).or_else(|| pod_amount(pod, "limits", "cpu", false));
    Limits {
        cpu_shares: Some(shares(requests.unwrap_or_default())),
        cpu_milli: positive(pod_amount(pod, "limits", "cpu", true)),
        memory_bytes: positive(pod_amount(pod, "limits", "memory", true)),
        pids,
        io_read_bps,
        io_write_bps,
        ..Limits::default()
    }
}

/// Limits of a container; what it does not limit itself, the pod may.
pub fn container_limits(pod: Pod<'_>, container: Container<'_>, allowance: Allowance) -> Limits {
    let own = |list: &str, name: &str| container_amount(container, list, name);
    let of_pod = |name: &str| pod.spec("resources").and_then(|resources| amount(resources, "limits", name));
    let request = own("requests", "cpu").or_else(|| own("limits", "cpu")).unwrap_or_default();
    let mut limits = Limits {
        cpu_shares: Some(shares(request)),
        cpu_milli: positive(own("limits", "cpu").or_else(|| of_pod("cpu"))),
        memory_bytes: positive(own("limits", "memory").or_else(|| of_pod("memory"))),
        // cgroup v1 limits each group by itself, so that those of containers need what v2's pod has.
        io_read_bps: allowance.io_read_bps,
        io_write_bps: allowance.io_write_bps,
        ..Limits::default()
    };
    let listed = container.value.at(&["resources", "limits"]).and_then(Value::as_object);
    for (name, value) in listed.into_iter().flat_map(|map| map.iter()) {
        let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
        if let (Some(size), Ok(bytes)) = (size, Quantity::from_value(value)) {
            let number = |quantity: &Quantity| u64::try_from(quantity.value()).unwrap_or_default();
            limits.hugepages_bytes.insert(number(&size), number(&bytes));
        }
    }
    limits
}

/// `oom_score_adj`: the more of the machine's memory a container has asked for, the later it is killed.
pub fn oom_score(pod: Pod<'_>, container: Container<'_>, memory_bytes: i64) -> i32 {
    if pod.spec("priority").and_then(Value::as_i64).is_some_and(|priority| priority >= 2_000_001_000) {
        return GUARANTEED_SCORE;
    }
    match class(pod) {
        Class::Guaranteed => return GUARANTEED_SCORE,
        Class::BestEffort => return BEST_EFFORT_SCORE,
        Class::Burstable => {}
    }
    let of = |bytes: i64| 1000 - (1000 * bytes) / memory_bytes.max(1);
    let request = |container: Container<'_>| container_amount(container, "requests", "memory").unwrap_or_default();
    let mut score = of(request(container));
    if container.role == Role::Sidecar {
        let least = pod.main_containers().map(request).min().unwrap_or_default();
        score = score.min(of(least));
    }
    let lowest = i64::from(1000 + GUARANTEED_SCORE);
    let highest = i64::from(BEST_EFFORT_SCORE - 1);
    i32::try_from(score.clamp(lowest, highest)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod(resources: Value) -> Value {
        value!({"metadata": {"uid": "1"}, "spec": {"containers": [{"name": "a", "resources": resources}]}})
    }

    #[track_caller]
    fn check(resources: Value, class_name: &str, group: &str, score: i32) {
        let pod = pod(resources);
        let pod = Pod(&pod);
        let container = pod.main_containers().next().expect("one");
        let seen = (class(pod).name(), cgroup(pod), oom_score(pod, container, 8 << 30));
        assert_eq!(seen, (class_name, PathBuf::from(group), score));
    }

    #[test]
    fn classes_groups_and_scores() {
        check(value!({}), "BestEffort", "besteffort/pod1", 1000);
        check(value!({"requests": {"cpu": "100m"}}), "Burstable", "burstable/pod1", 999);
        check(value!({"requests": {"memory": "4Gi"}}), "Burstable", "burstable/pod1", 500);
        let both = value!({"cpu": "1", "memory": "1Gi"});
        check(value!({"requests": (both.clone()), "limits": (both.clone())}), "Guaranteed", "pod1", -997);
        check(value!({"limits": both}), "Guaranteed", "pod1", -997);
    }

    #[test]
    fn limits_of_container_and_pod() {
        let pod = pod(value!({"requests": {"cpu": "250m"}, "limits": {"cpu": "1", "memory": "64Mi"}}));
        let pod = Pod(&pod);
        let container = pod.main_containers().next().expect("one");
        let limits = container_limits(pod, container, Allowance::default());
        assert_eq!((limits.cpu_shares, limits.cpu_milli, limits.memory_bytes), (Some(256), Some(1000), Some(64 << 20)));
        assert_eq!(pod_limits(pod, Allowance::default(), 7), Limits { pids: Some(7), ..limits });
    }

    #[test]
    fn every_pod_has_a_limit_of_processes() {
        for resources in
            [value!({}), value!({"requests": {"cpu": "1"}}), value!({"limits": {"cpu": "1", "memory": "1Gi"}})]
        {
            let of =
                |pids| pod_limits(Pod(&pod(resources.clone())), Allowance { pids, ..Allowance::default() }, 100).pids;
            assert_eq!([None, Some(30), Some(u64::MAX)].map(of), [Some(100), Some(31), Some(100)]);
        }
    }

    #[test]
    fn rates_are_the_pods_and_every_containers() {
        let allowance = Allowance { pids: None, io_read_bps: Some(5), io_write_bps: Some(7) };
        for resources in [value!({}), value!({"limits": {"cpu": "1"}})] {
            let pod = pod(resources);
            let pod = Pod(&pod);
            let container = pod.main_containers().next().expect("one");
            for limits in [pod_limits(pod, allowance, 9), container_limits(pod, container, allowance)] {
                assert_eq!((limits.io_read_bps, limits.io_write_bps), (Some(5), Some(7)));
            }
        }
    }

    #[test]
    fn init_containers_count_beside_the_sidecars_before_them() {
        let request = |cpu: &str| value!({"requests": {"cpu": cpu}});
        let pod = value!({"metadata": {"uid": "1"}, "spec": {
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": (request("100m"))},
                {"name": "i", "resources": (request("500m"))}
            ],
            "containers": [{"name": "a", "resources": (request("200m"))}]
        }});
        assert_eq!(pod_amount(Pod(&pod), "requests", "cpu", false), Some(600));
        assert_eq!(pod_amount(Pod(&pod), "limits", "cpu", true), None);
    }
}
