//! What webhooks make of objects.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use super::*;
use crate::crd::kinds::kinds_of;

#[tokio::test]
async fn objects_are_changed_one_after_another_and_made_whole_again() {
    let bench = Bench::new().await;
    // The order is that of the names, not of the writes.
    bench.configure(MUTATING, "b", vec![bench.hook("/mark/b", value!({}))]).await;
    bench.configure(MUTATING, "a", vec![bench.hook("/mark/a", value!({}))]).await;
    let made = bench.config_map("m").await.expect("made");
    assert_eq!(made.at(&["data"]), Some(&value!({"k": "v", "a": "yes", "b": "yes"})));
    let reviews = [bench.webhook.took("/mark/a"), bench.webhook.took("/mark/b")];
    let data = |review: &Value| review.at(&["request", "object", "data"]).cloned();
    assert_eq!(data(&reviews[0][0]), Some(value!({"k": "v"})));
    assert_eq!(data(&reviews[1][0]), Some(value!({"k": "v", "a": "yes"})));

    bench.configure(MUTATING, "pods", vec![bench.hook("/init", value!({"rules": (of(&["pods"], &["CREATE"]))}))]).await;
    let pod = value!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = bench.create("Pod", pod).await.expect("made");
    let init = &made.at(&["spec", "initContainers"]).and_then(Value::as_array).expect("added")[0];
    assert_eq!(init.str_at(&["terminationMessagePolicy"]), "File", "defaults come after");
    assert_eq!(init.get("bogus"), None, "what the kind does not have is dropped");
    assert_ne!(made.str_at(&["metadata", "uid"]), "mine", "what only the server sets stays so");
    bench.end().await;
}

#[tokio::test]
async fn those_that_want_it_are_called_again_when_something_has_changed() {
    let bench = Bench::new().await;
    let again = value!({"reinvocationPolicy": "IfNeeded"});
    bench.configure(MUTATING, "a", vec![bench.hook("/look", again.clone())]).await;
    let made = bench.config_map("quiet").await.expect("made");
    assert_eq!(made.str_at(&["metadata", "annotations", "runs"]), "x", "nothing has changed");
    assert_eq!(bench.webhook.took("/look").len(), 1);

    bench.configure(MUTATING, "b", vec![bench.hook("/mark/b", value!({}))]).await;
    bench.configure(MUTATING, "c", vec![bench.hook("/mark/c", again)]).await;
    let made = bench.config_map("changed").await.expect("made");
    assert_eq!(made.at(&["data"]), Some(&value!({"k": "v", "b": "yes", "c": "yes"})));
    assert_eq!(made.str_at(&["metadata", "annotations", "runs"]), "xx", "what is built in looks again");
    let calls = ["/look", "/mark/b", "/mark/c"].map(|path| bench.webhook.took(path).len());
    // The built-in plugin has changed the object after all of them; b did not ask to be called again.
    assert_eq!(calls, [2, 1, 2]);
    bench.end().await;
}

#[tokio::test]
async fn what_cannot_be_changed_is_said() {
    let bench = Bench::new().await;
    let named = |path: &str| value!({"name": (format!("{path}.example.com"))});
    bench.config_map("there").await.expect("made");
    bench.configure(MUTATING, "a", vec![bench.hook("/bad-patch", named("bad"))]).await;
    let status = bench.config_map("a").await.expect_err("refused");
    assert_eq!((status.code, status.reason), (500, "InternalError"));
    assert!(status.message.contains("Unable to remove nonexistent key: absent"), "{status}");
    refused(
        bench.delete("ConfigMap", "there").await,
        500,
        "Internal error occurred: admission webhook \"bad.example.com\" attempted to modify the object, which is not \
         supported for this operation",
    );
    bench.delete(MUTATING, "a").await.expect("deleted");
    bench.until("gone", || bench.called(MUTATING) == 0).await;
    bench.configure(MUTATING, "a", vec![bench.hook("/no-patch", named("no"))]).await;
    let status = bench.config_map("a").await.expect_err("refused");
    let text = "Internal error occurred: failed calling webhook \"no.example.com\": received undecodable patch in webhook response: ";
    assert!(status.message.starts_with(text), "{status}");
    bench.end().await;
}

#[tokio::test]
async fn a_scale_is_changed_as_a_scale() {
    let bench = Bench::new().await;
    let rules = of(&["deployments/scale"], &["UPDATE"]);
    bench.configure(MUTATING, "a", vec![bench.hook("/replicas", value!({"rules": rules}))]).await;
    let template =
        value!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = value!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    bench.create("Deployment", value!({"metadata": {"name": "web"}, "spec": spec})).await.expect("made");
    let target = Target { subresource: "scale".into(), ..bench.target("Deployment", "web") };
    let scaled = bench.update(&target, |scale| {
        scale.object_entry("spec").insert("replicas", 9);
    });
    assert_eq!(scaled.await.expect("allowed").i64_at(&["spec", "replicas"]), Some(3));
    bench.end().await;
}

/// Sizes in two versions, the first of which is stored.
fn sizes() -> Value {
    let version = |name: &str, storage: bool| {
        value!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
            "type": "object", "properties": {"size": {"type": "integer"}, "color": {"type": "string", "default": "red"}}
        }}}}})
    };
    value!({
        "metadata": {"name": "sizes.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "sizes", "kind": "Size"},
            "versions": [(version("v1", true)), (version("v2", false))]}
    })
}

#[tokio::test]
async fn custom_kinds_are_shown_in_the_version_that_was_asked_for() {
    let bench = Bench::new().await;
    let kinds = kinds_of(&sizes(), &corten_api::metadata_schema())
        .unwrap_or_else(|errors: FieldErrors| panic!("{errors} at {}", FieldPath::root()));
    bench.registry.install(kinds);
    let rules = |version: &str| {
        value!([{
            "operations": ["*"], "apiGroups": ["example.com"], "apiVersions": [version], "resources": ["sizes"]
        }])
    };
    let hook = |policy: &str| bench.hook("/size", value!({"rules": (rules("v1")), "matchPolicy": policy}));
    bench.configure(MUTATING, "a", vec![hook("Exact")]).await;
    let target = |name: &str| {
        let kind = bench.registry.kinds().resource("example.com", "v2", "sizes").expect("served").clone();
        Target { kind, namespace: "shop".into(), name: name.into(), subresource: "".into() }
    };
    let create = async |name: &str| {
        let value = value!({"metadata": {"name": name}, "spec": {"bogus": 1}});
        let body = Body::from(value);
        let written = bench.registry.create(&bench.context, &target(name), body, WriteOptions::default()).await;
        written.expect("made").object.to_value().expect("readable")
    };
    assert_eq!(create("a").await.at(&["spec"]), Some(&value!({"color": "red"})), "another version was asked for");
    bench.configure(MUTATING, "b", vec![hook("Equivalent")]).await;
    let made = create("b").await;
    assert_eq!(made.str_at(&["apiVersion"]), "example.com/v2");
    assert_eq!(made.i64_at(&["spec", "size"]), Some(7));
    let review = &bench.webhook.took("/size")[0];
    assert_eq!(review.str_at(&["request", "kind", "version"]), "v1");
    assert_eq!(review.str_at(&["request", "requestKind", "version"]), "v2");
    assert_eq!(review.str_at(&["request", "object", "apiVersion"]), "example.com/v1");
    assert_eq!(review.str_at(&["request", "object", "spec", "color"]), "red", "with its defaults");
    bench.end().await;
}
