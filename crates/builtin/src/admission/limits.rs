//! LimitRanger: what pods and claims of a namespace may ask for, and what containers that ask for nothing get.

use std::sync::Arc;

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_quota::amounts::{self, Amounts, amounts, of_pod};
use futures_core::future::BoxFuture;

use super::{forbidden, is};
use crate::lookup::{Lookup, PODS, Resource, tree};

const LIMIT_RANGES: Resource = Resource { group: "", plural: "limitranges" };
const CLAIMS: Resource = Resource { group: "", plural: "persistentvolumeclaims" };

/// Says on a pod what this plugin has filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger {
    lookup: Arc<dyn Lookup>,
}

impl LimitRanger {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn ranges(&self, namespace: &str) -> Result<Vec<Value>, Status> {
        let all = self.lookup.list(LIMIT_RANGES).await?;
        all.iter().filter(|range| range.head.namespace == namespace).map(|range| tree(range)).collect()
    }
}

impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if concerns(request) && is(request, PODS) {
                for range in self.ranges(&request.namespace).await? {
                    fill(&range, &mut request.object);
                }
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !concerns(request) {
                return Ok(());
            }
            for range in self.ranges(&request.namespace).await? {
                let found =
                    if is(request, PODS) { pod(&range, &request.object) } else { claim(&range, &request.object) };
                refuse(request, found)?;
            }
            Ok(())
        })
    }
}

/// New pods, pods that are resized, claims; nothing that is going.
fn concerns(request: &AdmissionRequest) -> bool {
    let subresource = request.subresource.as_str();
    let what = match request.operation {
        Operation::Create => subresource.is_empty() && (is(request, PODS) || is(request, CLAIMS)),
        _ if subresource == "resize" => is(request, PODS),
        _ => subresource.is_empty() && is(request, CLAIMS),
    };
    let going = request.old.as_ref().is_some_and(|old| old.at(&["metadata", "deletionTimestamp"]).is_some());
    what && !going
}

/// As upstream joins several errors; the same one is said once.
fn refuse(request: &AdmissionRequest, mut found: Vec<String>) -> Result<(), Status> {
    let mut seen = Vec::new();
    found.retain(|text| {
        !seen.contains(text) && {
            seen.push(text.clone());
            true
        }
    });
    match found.as_slice() {
        [] => Ok(()),
        [one] => Err(forbidden(request, one)),
        many => Err(forbidden(request, &format!("[{}]", many.join(", ")))),
    }
}

fn limits(range: &Value) -> impl Iterator<Item = &Value> {
    range.at(&["spec", "limits"]).and_then(Value::as_array).unwrap_or_default().iter()
}

fn containers<'a>(pod: &'a Value, field: &str) -> &'a [Value] {
    pod.at(&["spec", field]).and_then(Value::as_array).unwrap_or_default()
}

/// Gives containers what the range gives to those that say nothing.
fn fill(range: &Value, pod: &mut Value) {
    let mut defaults = [Map::new(), Map::new()];
    for limit in limits(range).filter(|limit| limit.str_at(&["type"]) == "Container") {
        for (into, field) in defaults.iter_mut().zip(["defaultRequest", "default"]) {
            let given = limit.get(field).and_then(Value::as_object).into_iter().flat_map(Map::iter);
            given.for_each(|(name, amount)| drop(into.insert(name.clone(), amount.clone())));
        }
    }
    let [requests, limits] = defaults;
    let mut said = Vec::new();
    for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
        let own = pod.at_mut(&["spec", field]).and_then(Value::as_array_mut);
        for container in own.into_iter().flatten() {
            let name = container.str_at(&["name"]).to_owned();
            for (field, kind, defaults) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                let added = add(container, field, defaults);
                if !added.is_empty() {
                    said.push(format!("{} {kind} for {what} {name}", added.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        pod.object_entry("metadata").object_entry("annotations").insert(ANNOTATION, text);
    }
}

/// The names of what was missing, sorted.
fn add(container: &mut Value, field: &str, defaults: &Map) -> Vec<String> {
    let own = container.at(&["resources", field]).and_then(Value::as_object);
    let missing = defaults.iter().filter(|(name, _)| own.is_none_or(|own| !own.contains_key(name)));
    let missing: Vec<_> = missing.map(|(name, amount)| (name.clone(), amount.clone())).collect();
    let mut names: Vec<String> = missing.iter().map(|(name, _)| name.to_string()).collect();
    names.sort();
    if !missing.is_empty() {
        container.object_entry("resources").object_entry(field).extend(missing);
    }
    names
}

fn pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for limit in limits(range) {
        match limit.str_at(&["type"]) {
            "Container" => {
                for container in containers(pod, "containers").iter().chain(containers(pod, "initContainers")) {
                    let [requests, limits] = ["requests", "limits"].map(|field| amounts(container, field));
                    all(limit, "Container", &requests, &limits, &mut found);
                }
            }
            "Pod" => {
                let [requests, limits] = ["requests", "limits"].map(|field| of_pod(pod, field));
                all(limit, "Pod", &requests, &limits, &mut found);
            }
            _ => {}
        }
    }
    found
}

fn claim(range: &Value, claim: &Value) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = claim.get("spec").map(|spec| amounts(spec, "requests")).unwrap_or_default();
    let mut found = Vec::new();
    for limit in limits(range).filter(|limit| limit.str_at(&["type"]) == KIND) {
        for (name, enforced) in &enforced(limit, "min") {
            found.extend(minimum(KIND, name, enforced, requests.get(name), None));
        }
        for (name, enforced) in &enforced(limit, "max") {
            let of = format!("maximum {name} usage per {KIND} is {enforced}");
            found.extend(match requests.get(name) {
                None => Some(format!("{of}.  No request is specified")),
                Some(request) if request > enforced => Some(format!("{of}, but request is {request}")),
                Some(_) => None,
            });
        }
    }
    found
}

fn enforced(limit: &Value, field: &str) -> Amounts {
    amounts::read(limit.get(field))
}

fn all(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, found: &mut Vec<String>) {
    for (name, enforced) in &enforced(limit, "min") {
        found.extend(minimum(kind, name, enforced, requests.get(name), limits.get(name)));
    }
    for (name, enforced) in &enforced(limit, "max") {
        found.extend(maximum(kind, name, enforced, requests.get(name), limits.get(name)));
    }
    for (name, enforced) in &enforced(limit, "maxLimitRequestRatio") {
        found.extend(ratio(kind, name, enforced, requests.get(name), limits.get(name)));
    }
}

fn minimum(
    kind: &str,
    name: &str,
    least: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let of = format!("minimum {name} usage per {kind} is {least}");
    match (request, limit) {
        (None, _) => Some(format!("{of}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{of}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{of}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(
    kind: &str,
    name: &str,
    most: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let of = format!("maximum {name} usage per {kind} is {most}");
    match (request, limit) {
        (_, None) => Some(format!("{of}.  No limit is specified")),
        (_, Some(limit)) if limit > most => Some(format!("{of}, but limit is {limit}")),
        (Some(request), _) if request > most => Some(format!("{of}, but request is {request}")),
        _ => None,
    }
}

fn ratio(
    kind: &str,
    name: &str,
    most: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let of = format!("{name} max limit to request ratio per {kind} is {most}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{of}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{of}, but no limit is specified or limit is 0"));
    };
    let observed = limit.as_f64() / request.as_f64();
    (observed > most.as_f64()).then(|| format!("{of}, but provided ratio is {observed:.6}"))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::{Cluster, request};

    async fn admit(limit: Value, resources: Value) -> Result<Value, String> {
        let range = value!({"metadata": {"name": "r", "namespace": "ns"}, "spec": {"limits": [limit]}});
        let plugin = LimitRanger::new(Arc::new(Cluster(vec![(LIMIT_RANGES, range)])));
        let containers = value!([{"name": "c", "resources": resources}]);
        let pod = value!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
        let mut request = request(PODS, Operation::Create, "ns", pod);
        plugin.mutate(&mut request).await.expect("never refused");
        plugin.validate(&mut request).await.map_err(|status| status.message)?;
        Ok(request.object)
    }

    #[tokio::test]
    async fn containers_that_ask_for_nothing_get_the_default() {
        let limit = value!({
            "type": "Container",
            "default": {"memory": "64Mi", "cpu": "1"}, "defaultRequest": {"memory": "32Mi"}
        });
        let pod = admit(limit, value!({"limits": {"cpu": "2"}})).await.expect("admitted");
        let container = &containers(&pod, "containers")[0];
        let expected = value!({"limits": {"cpu": "2", "memory": "64Mi"}, "requests": {"memory": "32Mi"}});
        assert_eq!(container.get("resources"), Some(&expected));
        let said = "LimitRanger plugin set: memory request for container c; memory limit for container c";
        assert_eq!(pod.str_at(&["metadata", "annotations", ANNOTATION]), said);
    }

    #[tokio::test]
    async fn what_is_outside_is_refused_with_every_reason() {
        let check = async |limit: Value, resources: Value, expect: &str| {
            let refused = admit(limit, resources).await.expect_err("refused");
            assert_eq!(refused, format!("pods \"p\" is forbidden: {expect}"));
        };
        let limit = || value!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m"}});
        let little = value!({"requests": {"cpu": "50m"}, "limits": {"cpu": "1"}});
        check(limit(), little, "minimum cpu usage per Container is 100m, but request is 50m").await;
        let nothing = "[minimum cpu usage per Container is 100m.  No request is specified, maximum cpu usage per Container is 2.  No limit is specified]";
        check(limit(), value!({}), nothing).await;
        let ratio = value!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        let wide = value!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}});
        let text = "cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000";
        check(ratio, wide, text).await;
        let pod = value!({"type": "Pod", "max": {"memory": "1Gi"}});
        let much = value!({"requests": {"memory": "2Gi"}, "limits": {"memory": "2Gi"}});
        check(pod, much, "maximum memory usage per Pod is 1Gi, but limit is 2Gi").await;
    }

    #[test]
    fn a_claim_is_measured_by_what_it_requests() {
        let range = value!({"spec": {"limits": [{
            "type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}
        }]}});
        let asks = |storage: &str| claim(&range, &value!({"spec": {"resources": {"requests": {"storage": storage}}}}));
        assert_eq!(asks("1Gi"), Vec::<String>::new());
        assert_eq!(asks("3Gi"), ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]);
        let little = "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi";
        assert_eq!(asks("500Mi"), [little]);
    }

    #[test]
    fn sorted_names_are_what_a_map_yields() {
        let range = value!({"min": {"memory": "1", "cpu": "1"}});
        let names = enforced(&range, "min");
        assert_eq!(names.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["cpu", "memory"]);
    }
}
