//! RuntimeClass: a pod that names a class has its overhead, and goes where the class's nodes are.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_quota::amounts::read;
use futures_core::future::BoxFuture;

use super::{forbidden, is};
use crate::lookup::{Lookup, PODS, Resource, tree};

const CLASSES: Resource = Resource { group: "node.k8s.io", plural: "runtimeclasses" };
const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub struct RuntimeClass {
    lookup: Arc<dyn Lookup>,
}

impl RuntimeClass {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn class(&self, request: &AdmissionRequest) -> Result<Option<Value>, Status> {
        let Some(name) = request.object.at(&["spec", "runtimeClassName"]).and_then(Value::as_str) else {
            return Ok(None);
        };
        match self.lookup.get(CLASSES, "", name).await? {
            Some(class) => tree(&class).map(Some),
            None => Err(forbidden(request, &format!("pod rejected: RuntimeClass {name:?} not found"))),
        }
    }
}

impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !is(request, PODS) || !request.subresource.is_empty() {
                return Ok(());
            }
            let Some(class) = self.class(request).await? else { return Ok(()) };
            let done = overhead(&mut request.object, &class).and_then(|()| scheduling(&mut request.object, &class));
            done.map_err(|why| forbidden(request, &why))
        })
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !is(request, PODS) || !request.subresource.is_empty() {
                return Ok(());
            }
            let class = self.class(request).await?;
            let own = request.object.at(&["spec", "overhead"]).filter(|own| !own.is_null());
            let why = match class.as_ref().and_then(|class| class.get("overhead")) {
                Some(wanted) if read(own) == read(wanted.get("podFixed")) => return Ok(()),
                Some(_) => MISMATCH,
                None if own.is_none() => return Ok(()),
                None => "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            };
            Err(forbidden(request, why))
        })
    }
}

fn overhead(pod: &mut Value, class: &Value) -> Result<(), String> {
    let Some(overhead) = class.get("overhead") else { return Ok(()) };
    let own = read(pod.at(&["spec", "overhead"]));
    if !own.is_empty() && own != read(overhead.get("podFixed")) {
        return Err(MISMATCH.to_owned());
    }
    if let Some(fixed) = overhead.get("podFixed") {
        pod.object_entry("spec").insert("overhead", fixed.clone());
    }
    Ok(())
}

fn scheduling(pod: &mut Value, class: &Value) -> Result<(), String> {
    let Some(scheduling) = class.get("scheduling") else { return Ok(()) };
    for (key, wanted) in scheduling.get("nodeSelector").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        let wanted = wanted.as_str().unwrap_or_default();
        let own = pod.at(&["spec", "nodeSelector", key]).and_then(Value::as_str);
        if let Some(own) = own.filter(|own| *own != wanted) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        pod.object_entry("spec").object_entry("nodeSelector").insert(key.clone(), wanted);
    }
    let added = scheduling.get("tolerations").and_then(Value::as_array).unwrap_or_default();
    let mut all = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).unwrap_or_default().to_vec();
    for toleration in added {
        if !all.contains(toleration) {
            all.push(toleration.clone());
        }
    }
    if !all.is_empty() {
        pod.object_entry("spec").insert("tolerations", all);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::{Cluster, request};

    async fn admit(spec: Value) -> Result<Value, String> {
        let class = value!({
            "metadata": {"name": "vm"}, "overhead": {"podFixed": {"memory": "64Mi"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm"}]}
        });
        let plugin = RuntimeClass::new(Arc::new(Cluster(vec![(CLASSES, class)])));
        let mut request = request(PODS, Operation::Create, "ns", value!({"metadata": {"name": "p"}, "spec": spec}));
        plugin.mutate(&mut request).await.map_err(|status| status.message)?;
        plugin.validate(&mut request).await.map_err(|status| status.message)?;
        Ok(request.object.get("spec").cloned().expect("a spec"))
    }

    #[tokio::test]
    async fn a_pod_takes_over_what_its_class_says() {
        let expected = value!({
            "runtimeClassName": "vm", "overhead": {"memory": "64Mi"},
            "nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm"}]
        });
        assert_eq!(admit(value!({"runtimeClassName": "vm"})).await, Ok(expected));
        assert_eq!(admit(value!({})).await, Ok(value!({})));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        let check = async |spec: Value, expect: &str| {
            let refused = admit(spec).await.expect_err("refused");
            assert_eq!(refused, format!("pods \"p\" is forbidden: {expect}"));
        };
        check(value!({"runtimeClassName": "x"}), r#"pod rejected: RuntimeClass "x" not found"#).await;
        check(value!({"runtimeClassName": "vm", "overhead": {"memory": "1Mi"}}), MISMATCH).await;
        let alone = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        check(value!({"overhead": {"memory": "1Mi"}}), alone).await;
        let conflict = "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no";
        check(value!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}), conflict).await;
    }
}
