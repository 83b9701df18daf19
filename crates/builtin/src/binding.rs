//! `pods/binding` and `bindings`: gives a pod its node, once (`pkg/registry/core/pod/storage`).

use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Str, Value};
use corten_apiserver::connect::{Answer, Call, CallBody, Connector, Connectors};
use corten_apiserver::registry::{ListOptions, Preconditions, Registry};
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;

use crate::pods;

/// Labels of the node that a bound pod gets too (KEP-4742).
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

struct Endpoint {
    registry: Registry,
    clock: Clock,
}

pub fn register(connectors: &mut Connectors, registry: &Registry, clock: &Clock) {
    let endpoint = Arc::new(Endpoint { registry: registry.clone(), clock: clock.clone() });
    connectors.register("", "pods", "binding", endpoint.clone());
    connectors.register("", "bindings", "", endpoint);
}

impl Connector for Endpoint {
    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(self.bind(call))
    }
}

impl Endpoint {
    async fn bind(&self, mut call: Call) -> Result<Answer, Status> {
        let CallBody::Object(mut binding) = std::mem::replace(&mut call.body, CallBody::None) else {
            return Err(Status::bad_request("not a Binding object"));
        };
        if !call.target.name.is_empty() {
            pods::check_name(&call, &binding, "Binding")?;
        }
        let (context, namespace, dry_run) = (pods::context(&call), call.target.namespace.clone(), call.options.dry_run);
        drop(call);
        self.add_topology(&mut binding).await?;
        let meta = Meta::of(&binding);
        let target = pods::pod(&self.registry, &namespace, meta.name())?;
        let asked = |text: &str| Some(Str::from(text)).filter(|text| !text.is_empty());
        let which = Preconditions { uid: asked(meta.uid()), revision: asked(meta.resource_version()) };
        let now_s = self.clock.now_s();
        let change = |pod: &mut Value| {
            assign(pod, &binding, now_s)
                .map_err(|why| Status::conflict("", "pods/binding", Meta::of(&binding).name(), &why))
        };
        self.registry.amend(&context, &target, &which, dry_run, change).await?;
        Ok(pods::done())
    }

    /// Takes the node's labels of topology into the binding.
    async fn add_topology(&self, binding: &mut Value) -> Result<(), Status> {
        let node = binding.str_at(&["target", "name"]);
        let Some(target) = pods::target(&self.registry, "", "nodes", "", node) else { return Ok(()) };
        let node = match self.registry.get(&target, &ListOptions::default()).await {
            Ok(shown) => shown.object,
            Err(status) if status.code == 404 => return Ok(()),
            Err(status) => return Err(status),
        };
        for (key, value) in node.head.labels.iter().filter(|(key, _)| TOPOLOGY.contains(&key.as_str())) {
            metadata_mut(binding).object_entry("labels").insert(key.clone(), value.clone());
        }
        Ok(())
    }
}

/// Puts a pod on the node that a binding names, with the binding's annotations and labels.
fn assign(pod: &mut Value, binding: &Value, now_s: i64) -> Result<(), String> {
    let meta = Meta::of(pod);
    let name = meta.name();
    if meta.deletion_timestamp().is_some() {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = pod.str_at(&["spec", "nodeName"]);
    if !node.is_empty() {
        return Err(format!("pod {name} is already assigned to node {node:?}"));
    }
    if pod.at(&["spec", "schedulingGates"]).and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod.object_entry("spec").insert("nodeName", binding.str_at(&["target", "name"]));
    pod.object_entry("status").remove("nominatedNodeName");
    for part in ["annotations", "labels"] {
        let from = binding.at(&["metadata", part]).and_then(Value::as_object);
        for (key, value) in from.into_iter().flat_map(Map::iter) {
            metadata_mut(pod).object_entry(part).insert(key.clone(), value.clone());
        }
    }
    pods::set_condition(pod, "PodScheduled", "", "", now_s);
    Ok(())
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(spec: Value, deleting: bool, expect: &str) {
        let mut pod = value!({"metadata": {"name": "a", "labels": {"app": "web"}}, "spec": spec,
            "status": {"phase": "Pending", "nominatedNodeName": "n0"}});
        if deleting {
            metadata_mut(&mut pod).insert("deletionTimestamp", "2026-01-01T00:00:00Z");
        }
        let binding = value!({"metadata": {"name": "a", "annotations": {"k": "v"}, "labels": {"zone": "z"}},
            "target": {"kind": "Node", "name": "n1"}});
        let seen = match assign(&mut pod, &binding, 0) {
            Ok(()) => corten_apimachinery::json::to_string(&pod),
            Err(why) => why,
        };
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_pod_is_assigned_once() {
        check(
            value!({}),
            false,
            "{\"metadata\":{\"name\":\"a\",\"labels\":{\"app\":\"web\",\"zone\":\"z\"},\"annotations\":{\"k\":\"v\"}},\
             \"spec\":{\"nodeName\":\"n1\"},\"status\":{\"phase\":\"Pending\",\"conditions\":[{\"type\":\
             \"PodScheduled\",\"status\":\"True\",\"lastProbeTime\":null,\"lastTransitionTime\":\
             \"1970-01-01T00:00:00Z\"}]}}",
        );
        check(value!({}), true, "pod a is being deleted, cannot be assigned to a host");
        check(value!({"nodeName": "n0"}), false, "pod a is already assigned to node \"n0\"");
        check(value!({"schedulingGates": [{"name": "g"}]}), false, "pod a has non-empty .spec.schedulingGates");
    }
}
