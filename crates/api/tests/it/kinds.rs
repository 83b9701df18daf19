//! What holds for every record of the catalogue.

use std::collections::BTreeSet;

use corten_apimachinery::kind::{GroupVersionResource, KindInfo};
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

fn find<'a>(kinds: &'a [KindInfo], group: &str, version: &str, kind: &str) -> &'a KindInfo {
    let found =
        kinds.iter().find(|info| info.gvk.group == group && info.gvk.version == version && info.gvk.kind == kind);
    found.unwrap_or_else(|| panic!("{group}/{version} {kind} is not there"))
}

#[test]
fn every_kind_conforms_an_empty_object_and_fills_it_once() {
    for info in corten_api::kinds() {
        let empty = value!({"kind": (info.gvk.kind.clone()), "apiVersion": (info.gvk.api_version())});
        let mut conformed = info.schema.conform(empty).unwrap_or_else(|error| panic!("{}: {error}", info.gvk));
        assert!(conformed.unknown.is_empty(), "{}: {:?}", info.gvk, conformed.unknown);
        info.schema.default(&mut conformed.value);
        let filled =
            info.schema.conform(conformed.value.clone()).unwrap_or_else(|error| panic!("{}: {error}", info.gvk));
        assert_eq!(keys(&filled.value), keys(&conformed.value), "{}: defaults keep the canonical form", info.gvk);
        let mut again = filled.value.clone();
        info.schema.default(&mut again);
        assert_eq!(again, filled.value, "{}: defaults are idempotent", info.gvk);
    }
}

/// All keys in their order.
fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            map.iter().flat_map(|(key, value)| [vec![key.to_string()], keys(value)].concat()).collect()
        }
        Value::Array(items) => items.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn resources_are_told_apart() {
    let kinds = corten_api::kinds();
    let resources: Vec<GroupVersionResource> =
        kinds.iter().filter(|info| info.is_resource()).map(KindInfo::gvr).collect();
    let distinct: BTreeSet<_> = resources.iter().collect();
    assert_eq!(distinct.len(), resources.len());
    assert!(resources.len() > 60, "{}", resources.len());
}

#[test]
fn records_carry_the_facts() {
    let kinds = corten_api::kinds();
    let deployment = find(&kinds, "apps", "v1", "Deployment");
    assert_eq!((deployment.plural.as_str(), deployment.list_kind.as_str()), ("deployments", "DeploymentList"));
    assert_eq!(deployment.short_names, ["deploy"]);
    assert_eq!(deployment.storage_prefix, "/registry/deployments");
    assert!(deployment.namespaced() && deployment.strategy.status);
    assert_eq!(deployment.subresource("scale").unwrap().gvk.kind, "Scale");

    assert_eq!(find(&kinds, "", "v1", "Node").storage_prefix, "/registry/minions");
    assert_eq!(find(&kinds, "", "v1", "Service").storage_prefix, "/registry/services/specs");
    let review = find(&kinds, "authorization.k8s.io", "v1", "SubjectAccessReview");
    assert_eq!((review.storage_prefix.as_str(), review.verbs.len()), ("", 1));
    let eviction = find(&kinds, "policy", "v1", "Eviction");
    assert!(eviction.verbs.is_empty() && eviction.plural.is_empty());
}

#[test]
fn only_versions_that_are_not_stored_are_converted() {
    let kinds = corten_api::kinds();
    let converted: Vec<_> =
        kinds.iter().filter(|info| info.convert.is_some()).map(|info| info.gvk.to_string()).collect();
    assert_eq!(converted, ["events.k8s.io/v1, Kind=Event", "autoscaling/v1, Kind=HorizontalPodAutoscaler"]);
}

#[test]
fn groups_stand_in_upstreams_order() {
    let kinds = corten_api::kinds();
    let mut groups: Vec<&str> = kinds.iter().map(|kind| kind.gvk.group.as_str()).collect();
    groups.dedup();
    let (first, last) = (&groups[..4], groups.last().copied());
    assert_eq!(first, ["", "apiregistration.k8s.io", "apps", "events.k8s.io"]);
    assert_eq!(last, Some("flowcontrol.apiserver.k8s.io"));
}

#[test]
fn deprecated_kinds_say_so() {
    let deprecated = corten_api::kinds().into_iter().filter(|kind| kind.strategy.deprecated.is_some());
    let names: Vec<String> = deprecated.map(|kind| kind.gvk.to_string()).collect();
    assert_eq!(names, ["/v1, Kind=ComponentStatus", "/v1, Kind=Endpoints"]);
}
