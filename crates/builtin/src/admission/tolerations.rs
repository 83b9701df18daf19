//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or cannot be reached, unless it says
//! otherwise.

use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::is;
use crate::lookup::PODS;

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const TOLERATION_S: i64 = 300;

pub struct DefaultTolerationSeconds;

impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        if is(request, PODS) && request.subresource.is_empty() {
            tolerate(&mut request.object);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn tolerate(pod: &mut Value) {
    let own = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).unwrap_or_default();
    let covers = |toleration: &Value, taint: &str| {
        let (key, effect) = (toleration.str_at(&["key"]), toleration.str_at(&["effect"]));
        (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
    };
    let missing = TAINTS.into_iter().filter(|taint| !own.iter().any(|toleration| covers(toleration, taint)));
    let added: Vec<Value> = missing
        .map(|taint| value!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_S}))
        .collect();
    if added.is_empty() {
        return;
    }
    let spec = pod.object_entry("spec");
    spec.insert_if_absent("tolerations", || Value::Array(Vec::new()));
    if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
        tolerations.extend(added);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: Value, expect: &[&str]) {
        let mut pod = value!({"spec": {"tolerations": own}});
        tolerate(&mut pod);
        let all = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).expect("tolerations");
        let keys: Vec<_> = all.iter().map(|toleration| toleration.str_at(&["key"])).collect();
        assert_eq!(keys, expect);
    }

    #[test]
    fn only_what_is_not_tolerated_is_added() {
        let [not_ready, unreachable] = TAINTS;
        check(value!([]), &TAINTS);
        check(value!([{"key": not_ready, "effect": "NoExecute"}]), &TAINTS);
        check(value!([{"key": not_ready, "effect": "NoSchedule"}]), &[not_ready, not_ready, unreachable]);
        check(value!([{"operator": "Exists"}]), &[""]);
        let mut bare = value!({});
        tolerate(&mut bare);
        assert_eq!(bare.at(&["spec", "tolerations"]).and_then(Value::as_array).map(<[_]>::len), Some(2));
    }
}
