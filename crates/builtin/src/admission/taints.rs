//! TaintNodesByCondition: a new node takes no pods until a controller has seen it ready.

use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::is;
use crate::lookup::Resource;

const NODES: Resource = Resource { group: "", plural: "nodes" };
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub struct TaintNodesByCondition;

impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        if is(request, NODES) && request.subresource.is_empty() {
            taint(&mut request.object);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn taint(node: &mut Value) {
    let spec = node.object_entry("spec");
    let added = value!({"key": NOT_READY, "effect": EFFECT});
    let same = |own: &Value| own.str_at(&["key"]) == NOT_READY && own.str_at(&["effect"]) == EFFECT;
    match spec.get_mut("taints") {
        Some(Value::Array(own)) if own.iter().any(same) => {}
        Some(Value::Array(own)) => own.push(added),
        _ => {
            spec.insert("taints", Value::Array(vec![added]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_is_tainted_once() {
        let mut node = value!({"metadata": {"name": "n"}});
        taint(&mut node);
        taint(&mut node);
        assert_eq!(node.at(&["spec", "taints"]), Some(&value!([{"key": NOT_READY, "effect": EFFECT}])));
        let mut node = value!({"spec": {"taints": [{"key": NOT_READY, "effect": "NoExecute"}]}});
        taint(&mut node);
        assert_eq!(node.at(&["spec", "taints"]).and_then(Value::as_array).map(<[_]>::len), Some(2));
    }
}
