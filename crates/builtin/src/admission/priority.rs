//! Priority: a pod's priority is that of its class, and there is one default class at most.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::{forbidden, is};
use crate::lookup::{Lookup, PODS, PRIORITY_CLASSES, tree};

pub struct Priority {
    lookup: Arc<dyn Lookup>,
}

/// What a class gives to its pods.
struct Established {
    class: Str,
    value: i64,
    /// Empty where the class has none.
    preemption: Str,
}

impl Priority {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn admit_pod(&self, request: &mut AdmissionRequest) -> Result<(), Status> {
        if request.operation == Operation::Update {
            keep(request);
            return Ok(());
        }
        let established = self.establish(request).await?;
        let spec = |field| request.object.at(&["spec", field]);
        if let Some(own) = spec("priority").and_then(Value::as_i64).filter(|own| *own != established.value) {
            let why = format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                established.value
            );
            return Err(forbidden(request, &why));
        }
        if let Some(own) = spec("preemptionPolicy").and_then(Value::as_str)
            && !established.preemption.is_empty()
            && own != established.preemption
        {
            let why = format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                established.preemption
            );
            return Err(forbidden(request, &why));
        }
        let spec = request.object.object_entry("spec");
        if !established.class.is_empty() {
            spec.insert("priorityClassName", established.class);
        }
        spec.insert("priority", established.value);
        if !established.preemption.is_empty() {
            spec.insert("preemptionPolicy", established.preemption);
        }
        Ok(())
    }

    async fn establish(&self, request: &AdmissionRequest) -> Result<Established, Status> {
        let asked = request.object.str_at(&["spec", "priorityClassName"]);
        if asked.is_empty() {
            let default = self.default_class().await?;
            let none = Established { class: Str::default(), value: 0, preemption: "PreemptLowerPriority".into() };
            return Ok(default.as_ref().map_or(none, Established::of));
        }
        match self.lookup.get(PRIORITY_CLASSES, "", asked).await? {
            Some(class) => Ok(Established::of(&tree(&class)?)),
            None => Err(forbidden(request, &format!("no PriorityClass with name {asked} was found"))),
        }
    }

    /// The class of pods that name none; the lowest, should a race have left two.
    async fn default_class(&self) -> Result<Option<Value>, Status> {
        let classes = self.lookup.list(PRIORITY_CLASSES).await?;
        let classes: Vec<Value> = classes.iter().map(|class| tree(class)).collect::<Result<_, _>>()?;
        let defaults = classes.into_iter().filter(|class| class.get("globalDefault") == Some(&Value::Bool(true)));
        Ok(defaults.min_by_key(|class| class.i64_at(&["value"])))
    }

    async fn check_class(&self, request: &AdmissionRequest) -> Result<(), Status> {
        if request.object.get("globalDefault") != Some(&Value::Bool(true)) {
            return Ok(());
        }
        let Some(default) = self.default_class().await? else { return Ok(()) };
        let name = default.str_at(&["metadata", "name"]);
        if request.operation == Operation::Update && name == request.name {
            return Ok(());
        }
        let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
        Err(forbidden(request, &why))
    }
}

impl Established {
    fn of(class: &Value) -> Self {
        Self {
            class: class.str_at(&["metadata", "name"]).into(),
            value: class.i64_at(&["value"]).unwrap_or_default(),
            preemption: class.str_at(&["preemptionPolicy"]).into(),
        }
    }
}

/// An update that leaves out what this plugin has set does not mean to remove it.
fn keep(request: &mut AdmissionRequest) {
    let Some(old) = &request.old else { return };
    for field in ["priority", "preemptionPolicy"] {
        if let Some(own) = old.at(&["spec", field]) {
            request.object.object_entry("spec").insert_if_absent(field, || own.clone());
        }
    }
}

impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if is(request, PODS) && request.subresource.is_empty() { self.admit_pod(request).await } else { Ok(()) }
        })
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let ours = is(request, PRIORITY_CLASSES) && request.subresource.is_empty();
            if ours { self.check_class(request).await } else { Ok(()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::json;
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::{Cluster, request};

    fn class(name: &str, value: i64, default: bool, preemption: &str) -> Value {
        value!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": preemption})
    }

    async fn admit(classes: Vec<Value>, spec: Value) -> Result<String, String> {
        let cluster = Cluster(classes.into_iter().map(|class| (PRIORITY_CLASSES, class)).collect());
        let pod = value!({"metadata": {"name": "a"}, "spec": spec});
        let mut request = request(PODS, Operation::Create, "ns", pod);
        Priority::new(Arc::new(cluster)).mutate(&mut request).await.map_err(|status| status.message)?;
        Ok(json::to_string(request.object.get("spec").expect("a spec")))
    }

    #[tokio::test]
    async fn a_pod_gets_what_its_class_says() {
        let classes = || vec![class("high", 1000, false, "Never"), class("usual", 10, true, "PreemptLowerPriority")];
        let none = admit(Vec::new(), value!({})).await;
        assert_eq!(none.as_deref(), Ok(r#"{"priority":0,"preemptionPolicy":"PreemptLowerPriority"}"#));
        let default = admit(classes(), value!({})).await;
        let expected = r#"{"priorityClassName":"usual","priority":10,"preemptionPolicy":"PreemptLowerPriority"}"#;
        assert_eq!(default.as_deref(), Ok(expected));
        let named = admit(classes(), value!({"priorityClassName": "high", "priority": 1000})).await;
        assert_eq!(named.as_deref(), Ok(r#"{"priorityClassName":"high","priority":1000,"preemptionPolicy":"Never"}"#));
        let absent = admit(classes(), value!({"priorityClassName": "low"})).await;
        assert_eq!(absent, Err("pods \"a\" is forbidden: no PriorityClass with name low was found".to_owned()));
        let own = admit(classes(), value!({"priorityClassName": "high", "priority": 5})).await.expect_err("refused");
        assert!(own.contains("(5) must not be provided") && own.contains("computed 1000"), "{own}");
    }

    #[tokio::test]
    async fn there_is_one_default_class() {
        let cluster = Cluster(vec![(PRIORITY_CLASSES, class("usual", 10, true, ""))]);
        let plugin = Priority::new(Arc::new(cluster));
        let second = class("second", 20, true, "");
        let mut create = request(PRIORITY_CLASSES, Operation::Create, "", second.clone());
        let refused = plugin.validate(&mut create).await.expect_err("refused").message;
        assert!(refused.ends_with("PriorityClass usual is already marked as default. Only one default can exist"));
        let mut update = request(PRIORITY_CLASSES, Operation::Update, "", class("usual", 10, true, ""));
        assert_eq!(plugin.validate(&mut update).await, Ok(()));
    }
}
