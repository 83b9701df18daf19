//! Requests that every server must refuse, and how: names, bodies, media types, options, methods.

use anyhow::Result;
use serde_json::json;

use super::{JSON, Sample};
use crate::differential::kinds::Kind;
use crate::differential::scenario::Scenario;
use crate::http::Request;

pub(super) fn of(kind: &Kind) -> Result<Scenario> {
    let sample = Sample::of(kind, 13)?;
    let mut scenario = Scenario::new("refusals", kind.subject());
    if kind.stored() {
        names(&sample, &mut scenario)?;
    }
    metadata(&sample, &mut scenario)?;
    identity(kind, &sample, &mut scenario)?;
    bodies(&sample, &mut scenario);
    options(&sample, &mut scenario);
    methods(kind, &sample, &mut scenario);
    Ok(scenario)
}

fn dry(sample: &Sample, body: impl Into<String>) -> Request {
    Request::new("POST", format!("{}?dryRun=All", sample.collection)).body(JSON, body)
}

fn names(sample: &Sample, scenario: &mut Scenario) -> Result<()> {
    let long = ["a".repeat(64), "a".repeat(254)];
    let names =
        ["", "UPPER", "under_score", "-dash", "dot.", "a..b", "sl/ash", "per%cent", ".", "..", "ü", " ", "1", "a:b"];
    for name in names.into_iter().chain(long.iter().map(String::as_str)) {
        let what = format!("name {}", name.get(..10).unwrap_or(name));
        scenario.step(what, dry(sample, sample.with("/metadata/name", name)?.to_string()));
    }
    for base in ["sample-", "Bad_Base-"] {
        let mut object = sample.with("/metadata/generateName", base)?;
        object["metadata"].as_object_mut().expect("a sample has metadata").remove("name");
        let mut bad = object.clone();
        if base.starts_with('B') {
            scenario.step("generateName bad", dry(sample, object.to_string()));
        }
        bad["metadata"]["generateName"] = json!(7);
        scenario.step("generateName number", dry(sample, bad.to_string()));
    }
    Ok(())
}

fn metadata(sample: &Sample, scenario: &mut Scenario) -> Result<()> {
    let owner = |uid: &str| json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": uid}]);
    let cases = [
        ("label key", "labels", json!({"bad key!": "a"})),
        ("label value", "labels", json!({"a": "bad value!"})),
        ("label value long", "labels", json!({"a": "b".repeat(64)})),
        ("label key prefix", "labels", json!({"Bad_Prefix/a": "b"})),
        ("label key slashes", "labels", json!({"a/b/c": "d"})),
        ("annotation key", "annotations", json!({"bad key!": "a"})),
        ("annotations too big", "annotations", json!({"a": "b".repeat(256 * 1024)})),
        ("finalizer", "finalizers", json!(["not qualified!", "unqualified"])),
        ("owner without uid", "ownerReferences", owner("")),
        (
            "owner twice controller",
            "ownerReferences",
            json!([
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "2", "controller": true},
            ]),
        ),
        ("owner event", "ownerReferences", json!([{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "1"}])),
        ("resourceVersion on create", "resourceVersion", json!("12")),
        ("uid on create", "uid", json!("mine")),
        ("deletionTimestamp on create", "deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("creationTimestamp bad", "creationTimestamp", json!("yesterday")),
        ("generation negative", "generation", json!(-1)),
        ("managedFields bad", "managedFields", json!([{"manager": "a", "operation": "Nothing"}])),
    ];
    for (what, field, value) in cases {
        scenario.step(what, dry(sample, sample.with(&format!("/metadata/{field}"), value)?.to_string()));
    }
    scenario.step("namespace other", dry(sample, sample.with("/metadata/namespace", "other")?.to_string()));
    Ok(())
}

fn identity(kind: &Kind, sample: &Sample, scenario: &mut Scenario) -> Result<()> {
    for (what, pointer, value) in [
        ("another kind", "/kind", "Nothing"),
        ("no kind", "/kind", ""),
        ("no apiVersion", "/apiVersion", ""),
        ("apiVersion unknown", "/apiVersion", "example.com/v1"),
        ("apiVersion malformed", "/apiVersion", "a/b/c"),
        ("apiVersion of another version", "/apiVersion", &format!("{}9", kind.api_version())),
    ] {
        scenario.step(what, dry(sample, sample.with(pointer, value)?.to_string()));
    }
    if kind.namespaced {
        let path = format!("{}?dryRun=All", sample.collection.replace("/namespaces/diff/", "/namespaces/absent/"));
        scenario.step("absent namespace", Request::new("POST", path).body(JSON, sample.object.to_string()));
        let path = format!("{}?dryRun=All", kind.everywhere());
        scenario.step("without namespace", Request::new("POST", path).body(JSON, sample.object.to_string()));
    }
    Ok(())
}

fn bodies(sample: &Sample, scenario: &mut Scenario) {
    for (what, body) in [
        ("empty body", ""),
        ("blank body", "  \n"),
        ("half a body", "{\"kind\":"),
        ("null body", "null"),
        ("text body", "\"text\""),
        ("list body", "[]"),
        ("empty object", "{}"),
        ("number key", "{1:2}"),
        ("trailing garbage", "{} {}"),
    ] {
        scenario.step(what, dry(sample, body));
    }
    let text = sample.object.to_string();
    let post =
        |kind: &str, body: &str| Request::new("POST", format!("{}?dryRun=All", sample.collection)).body(kind, body);
    for kind in ["application/yaml", "application/json; charset=utf-8", "text/plain", "application/xml", "nonsense", ""]
    {
        scenario.step(format!("content type {kind}"), post(kind, &text));
    }
    scenario.step("yaml broken", post("application/yaml", "a: [1\nb: }"));
    scenario.step("yaml two documents", post("application/yaml", &format!("{text}\n---\n{text}")));
    scenario.step("protobuf that is none", post("application/vnd.kubernetes.protobuf", "nonsense"));
    scenario.step("protobuf with a short body", post("application/vnd.kubernetes.protobuf", "k8s\0\n"));
    for accept in
        ["application/xml", "text/html", "*/*", "application/yaml", "application/json;as=Nothing;v=v1;g=meta.k8s.io"]
    {
        // Scenarios of the same kind run meanwhile: a list is asked for in which none of their objects can be.
        let path = format!("{}?fieldSelector=metadata.name%3Dnone", sample.collection);
        let request = Request::get(path).header("accept", accept);
        scenario.step(format!("accept {accept}"), request);
    }
}

fn options(sample: &Sample, scenario: &mut Scenario) {
    for query in [
        "dryRun=Some",
        "dryRun=All&dryRun=All",
        "dryRun=",
        "fieldManager=%00",
        "dryRun=All&pretty=true",
        "dryRun=All&unknown=1",
    ] {
        let request = Request::new("POST", format!("{}?{query}", sample.collection));
        // What a server takes must not stay: the body is one that is refused later in any case.
        let body = if query.contains("All") { sample.object.to_string() } else { "{}".to_owned() };
        scenario.step(format!("create ?{query}"), request.body(JSON, body));
    }
    let long = format!("{}?dryRun=All&fieldManager={}", sample.collection, "m".repeat(200));
    scenario.step("create long manager", Request::new("POST", long).body(JSON, sample.object.to_string()));
}

fn methods(kind: &Kind, sample: &Sample, scenario: &mut Scenario) {
    for method in ["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE"] {
        scenario.step(format!("{method} on the collection"), Request::new(method, &sample.collection).body(JSON, "{}"));
    }
    if kind.stored() {
        scenario.step("POST on the object", Request::new("POST", &sample.path).body(JSON, "{}"));
        scenario.step("put absent", sample.put(&sample.object));
        scenario.step("patch absent", sample.patch(super::MERGE, "{}"));
        scenario.step("delete absent", sample.delete());
        let below = format!("{}/nothing", sample.path);
        scenario.step("unknown subresource", Request::get(below));
    }
}
