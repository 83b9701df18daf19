//! Limits of what a pod may write on the node's disk: of an `emptyDir`, of a container, of all containers together. Nothing stops
//! the pod at its limit; it goes when it is seen to be beyond it.

use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::value::Value;

use super::measure::{OnDisk, Written};
use super::threshold::quantity;
use crate::pod::Pod;
use crate::qos;

const RESOURCE: &str = "ephemeral-storage";

/// Whether there is something to look at.
pub(super) fn has_any(pod: Pod<'_>) -> bool {
    let limited = pod.init_containers().chain(pod.main_containers()).any(|one| limit(one.value).is_some());
    limited || pod.spec_list("volumes").iter().any(|volume| size_limit(volume).is_some())
}

/// The message of upstream's for the first limit that a pod is beyond.
pub(super) fn beyond(pod: Pod<'_>, seen: &OnDisk) -> Option<String> {
    let of = |all: &[(String, Written)], name: &str| {
        let written = all.iter().find(|(known, _)| known == name).map(|(_, written)| written.bytes);
        quantity(written.unwrap_or_default(), Format::BinarySi)
    };
    for volume in pod.spec_list("volumes") {
        let name = volume.str_at(&["name"]);
        if let Some(limit) = size_limit(volume).filter(|limit| of(&seen.volumes, name) > *limit) {
            return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". "));
        }
    }
    let all = qos::pod_amount(pod, "limits", RESOURCE, false);
    if let Some(limit) = all.filter(|limit| i64::try_from(seen.whole().bytes).is_ok_and(|bytes| bytes > *limit)) {
        let limit = Quantity::new(limit, Format::BinarySi);
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    pod.main_containers().find_map(|container| {
        let limit = limit(container.value).filter(|limit| of(&seen.containers, container.name()) > *limit)?;
        Some(format!("Container {} exceeded its local ephemeral storage limit \"{limit}\". ", container.name()))
    })
}

fn limit(container: &Value) -> Option<Quantity> {
    above_zero(container.at(&["resources", "limits", RESOURCE])?)
}

/// A memory file system has its size by itself.
fn size_limit(volume: &Value) -> Option<Quantity> {
    let empty = volume.get("emptyDir").filter(|empty| empty.str_at(&["medium"]) != "Memory")?;
    above_zero(empty.get("sizeLimit")?)
}

fn above_zero(value: &Value) -> Option<Quantity> {
    // What the API server has accepted is a quantity.
    Quantity::from_value(value).ok().filter(|quantity| quantity.signum() > 0)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod() -> Value {
        let limits = |limit: &str| value!({"limits": {"ephemeral-storage": limit}});
        value!({"metadata": {"name": "p"}, "spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}},
                {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "e", "emptyDir": {}}],
            "containers": [{"name": "a", "resources": (limits("2Mi"))}, {"name": "b", "resources": (limits("3Mi"))}]
        }})
    }

    #[track_caller]
    fn check(containers: &[(&str, u64)], volumes: &[(&str, u64)], expect: &str) {
        let written = |all: &[(&str, u64)]| {
            all.iter().map(|(name, kib)| ((*name).to_owned(), Written { bytes: kib << 10, inodes: 1 })).collect()
        };
        let seen = OnDisk { containers: written(containers), volumes: written(volumes) };
        assert_eq!(beyond(Pod(&pod()), &seen).unwrap_or_default(), expect);
    }

    #[test]
    fn who_is_beyond_a_limit_is_told_which() {
        check(&[("a", 2048), ("b", 1024)], &[("v", 1024), ("e", 1024)], "");
        check(&[], &[("v", 1025)], "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
        let together = "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. ";
        check(&[("a", 2048), ("b", 3000)], &[("e", 100)], together);
        check(&[("a", 2049)], &[], "Container a exceeded its local ephemeral storage limit \"2Mi\". ");
    }

    #[test]
    fn a_pod_without_a_limit_is_not_looked_at() {
        assert!(has_any(Pod(&pod())));
        let memory = value!({"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
        let without =
            value!({"spec": {"volumes": [memory, {"name": "e", "emptyDir": {}}], "containers": [{"name": "a"}]}});
        assert!(!has_any(Pod(&without)));
    }
}
