//! Admission policies from outside: an administrator writes a policy and a binding, and others' writes feel them.

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::registry::{Context, DeleteOptions, WriteOptions};
use corten_apiserver::testing::{Bench, body, context, target};
use corten_builtin::lookup::FromRegistry;
use corten_builtin::policy::Policies;
use corten_builtin::rbac::authorizer::Rbac;

/// How often and how long a test waits for what it has written to be felt.
const TURNS_MAX: usize = 3_000;
const TURN: Duration = Duration::from_millis(10);

struct Cluster {
    bench: Bench,
}

impl Cluster {
    async fn start() -> Self {
        let lookup = Arc::new(FromRegistry::default());
        let policies = Policies::new(lookup.clone(), Rbac::default());
        let bench = Bench::admitting(vec![policies.validating()], corten_api::kinds());
        lookup.set(bench.registry.clone());
        let cluster = Self { bench };
        cluster.put("namespaces", value!({"metadata": {"name": "default", "labels": {"team": "a"}}})).await;
        policies.start(&cluster.bench.registry, &cluster.bench.tasks).await.expect("policies are served");
        cluster
    }

    async fn write(&self, plural: &str, object: Value) -> Result<Vec<String>, Status> {
        let kind =
            self.bench.registry.kinds().iter().find(|kind| kind.plural == plural && kind.convert.is_none()).cloned();
        let kind = kind.expect("the kind is served");
        let written =
            self.bench.registry.create(&context(), &target(&kind, ""), body(object), WriteOptions::default()).await;
        written.map(|written| written.warnings)
    }

    async fn put(&self, plural: &str, object: Value) {
        self.write(plural, object).await.expect("nothing is against it");
    }

    /// Writes a policy over ConfigMaps with a binding.
    async fn publish(&self, name: &str, mut spec: Value, mut binding: Value) {
        let map = spec.as_object_mut().expect("an object");
        map.insert_if_absent("matchConstraints", || value!({"resourceRules": [(rule("configmaps"))]}));
        self.put("validatingadmissionpolicies", value!({"metadata": {"name": name}, "spec": spec})).await;
        let map = binding.as_object_mut().expect("an object");
        map.insert("policyName", name);
        map.insert_if_absent("validationActions", || value!(["Deny"]));
        self.put("validatingadmissionpolicybindings", value!({"metadata": {"name": name}, "spec": binding})).await;
    }

    /// The same, and waits until both are felt: beside its own validations the policy refuses ConfigMaps named `marker-…`.
    async fn enforce(&self, name: &str, mut spec: Value, binding: Value) {
        let own = value!({"expression": "!object.metadata.name.startsWith('marker-')", "message": "it is a marker"});
        let validations = spec.get_mut("validations").and_then(Value::as_array_mut).expect("a policy has validations");
        validations.push(own);
        self.publish(name, spec, binding).await;
        for turn in 0..TURNS_MAX {
            if self
                .write("configmaps", config(&format!("marker-{name}-{turn}"), &[("a", "1"), ("b", "2")]))
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(TURN).await;
        }
        panic!("the policy {name} is never felt");
    }

    async fn end(self) {
        assert_eq!(self.bench.tasks.stop(Duration::from_secs(5)).await, 0);
    }
}

fn rule(resource: &str) -> Value {
    value!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": [resource]})
}

fn config(name: &str, data: &[(&str, &str)]) -> Value {
    let mut object = value!({"metadata": {"name": name}});
    for (key, text) in data {
        object.object_entry("data").insert(*key, *text);
    }
    object
}

#[track_caller]
fn denied(outcome: Result<Vec<String>, Status>, message: &str) {
    let status = outcome.expect_err("it is denied");
    assert_eq!((status.code, status.reason, status.message.as_str()), (422, "Invalid", message));
    let details = status.details.expect("details");
    assert!(message.ends_with(&details.causes[0].message), "{:?}", details.causes);
}

#[tokio::test]
async fn a_policy_denies_with_upstreams_words() {
    let cluster = Cluster::start().await;
    let spec = value!({
        "variables": [
            {"name": "size", "expression": "has(object.data) ? object.data.size() : 0"},
            {"name": "odd", "expression": "variables.size % 2 == 1"}
        ],
        "validations": [
            {"expression": "variables.size < 3"},
            {"expression": "!variables.odd", "messageExpression": "'odd: ' + string(variables.size)", "reason": "Forbidden"},
            {"expression": "namespaceObject.metadata.labels['team'] == 'a' && request.operation == 'CREATE'"},
            {"expression": "object.data.all(k, object.data[k] != 'bad')", "message": " no bad data "},
            {"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed() || !('asks' in object.data)"}
        ]
    });
    cluster.enforce("sizes", spec, value!({})).await;
    let prefix = |name: &str| {
        format!(
            "configmaps \"{name}\" is forbidden: ValidatingAdmissionPolicy 'sizes' with binding 'sizes' denied request: "
        )
    };
    cluster.put("configmaps", config("good", &[("a", "1"), ("b", "2")])).await;
    let four = config("four", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    denied(
        cluster.write("configmaps", four).await,
        &format!("{}failed expression: variables.size < 3", prefix("four")),
    );
    let bad = config("worse", &[("a", "bad"), ("b", "2")]);
    denied(cluster.write("configmaps", bad).await, &format!("{}no bad data", prefix("worse")));
    let asking = config("asking", &[("asks", "1"), ("b", "2")]);
    denied(
        cluster.write("configmaps", asking).await,
        &format!(
            "{}failed expression: authorizer.group('').resource('secrets').namespace('default').check('get').allowed() || !('asks' in object.data)",
            prefix("asking")
        ),
    );
    let none = cluster.write("configmaps", config("none", &[])).await;
    denied(
        none,
        &format!(
            "{}expression 'object.data.all(k, object.data[k] != 'bad')' resulted in error: no such key: data",
            prefix("none")
        ),
    );
    let odd = cluster.write("configmaps", config("odd", &[("a", "1")])).await.expect_err("it is odd");
    assert_eq!((odd.code, odd.reason, odd.message), (403, "Forbidden", format!("{}odd: 1", prefix("odd"))));
    cluster.put("secrets", value!({"metadata": {"name": "other-kind"}})).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_binding_chooses_objects_and_what_is_done() {
    let cluster = Cluster::start().await;
    let spec = value!({"validations": [{"expression": "!has(object.data)", "message": "no data"}]});
    let selected = value!({"objectSelector": {"matchLabels": {"x": "y"}}});
    cluster.publish("plain", spec, value!({"validationActions": ["Warn", "Audit"], "matchResources": selected})).await;
    let mut warnings = Vec::new();
    for turn in 0..TURNS_MAX {
        let mut object = config(&format!("warned-{turn}"), &[("a", "1")]);
        object.object_entry("metadata").insert("labels", value!({"x": "y"}));
        warnings = cluster.write("configmaps", object).await.expect("a warning stops nothing");
        if !warnings.is_empty() {
            break;
        }
        tokio::time::sleep(TURN).await;
    }
    assert_eq!(warnings, ["Validation failed for ValidatingAdmissionPolicy 'plain' with binding 'plain': no data"]);
    let unlabelled = cluster.write("configmaps", config("unlabelled", &[("a", "1")])).await;
    assert_eq!(unlabelled.expect("nothing is against it"), Vec::<String>::new());
    cluster.end().await;
}

#[tokio::test]
async fn parameters_come_from_the_bindings() {
    let cluster = Cluster::start().await;
    cluster.put("configmaps", config("limits", &[("max", "2")])).await;
    let spec = value!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [(rule("configmaps"))], "excludeResourceRules": [{
            "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"], "resourceNames": ["free"]
        }]},
        "matchConditions": [{"name": "not-exempt", "expression": "!object.metadata.name.startsWith('exempt-')"}],
        "validations": [{"expression": "!has(object.data) || object.data.size() <= int(params.data.max)"}]
    });
    cluster
        .enforce("limited", spec.clone(), value!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}}))
        .await;
    let large = |name: &str| config(name, &[("a", "1"), ("b", "2"), ("c", "3")]);
    cluster.put("configmaps", config("small", &[("a", "1")])).await;
    cluster.put("configmaps", large("free")).await;
    cluster.put("configmaps", large("exempt-1")).await;
    let prefix = "is forbidden: ValidatingAdmissionPolicy 'limited' with binding 'limited' denied request:";
    let message = format!(
        "configmaps \"large\" {prefix} failed expression: !has(object.data) || object.data.size() <= int(params.data.max)"
    );
    denied(cluster.write("configmaps", large("large")).await, &message);
    let kind = cluster.bench.kind("configmaps");
    let context: Context = context();
    let status = cluster.bench.registry.delete(&context, &target(&kind, "limits"), &DeleteOptions::default()).await;
    let refusal = status.map(drop).expect_err("a delete has no object");
    assert!(refusal.message.contains("resulted in error: no such overload"), "{}", refusal.message);
    cluster.end().await;
}

#[tokio::test]
async fn failures_pass_where_the_policy_lets_them() {
    let cluster = Cluster::start().await;
    let spec = value!({
        "failurePolicy": "Ignore",
        "validations": [{"expression": "object.data.missing == 'x'"}]
    });
    cluster.enforce("lenient", spec, value!({})).await;
    cluster.put("configmaps", config("any", &[])).await;
    cluster.end().await;
}
