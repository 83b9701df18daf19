//! An object's life: created, read in every form, changed in every way, deleted.

use anyhow::Result;
use serde_json::json;

use super::{APPLY, JSON_PATCH, MERGE, PARTIAL, STRATEGIC, Sample, TABLE};
use crate::differential::kinds::Kind;
use crate::differential::scenario::Scenario;
use crate::http::Request;

pub(super) fn of(kind: &Kind) -> Result<Scenario> {
    let sample = Sample::of(kind, 11)?;
    let mut scenario = Scenario::new("life", kind.subject());
    scenario.step("create dry-run", dry(&sample));
    scenario.step("get absent", sample.get());
    scenario.step("create", sample.create());
    scenario.step("create again", sample.create());
    scenario.step("get", sample.get());
    scenario.step("get table", sample.get().header("accept", TABLE));
    scenario.step("get partial", sample.get().header("accept", PARTIAL));
    updates(&sample, &mut scenario)?;
    patches(kind, &sample, &mut scenario);
    if kind.subresources.iter().any(|name| name == "status") {
        status(&sample, &mut scenario);
    }
    if kind.subresources.iter().any(|name| name == "scale") {
        scale(&sample, &mut scenario);
    }
    scenario.step("delete", sample.delete());
    scenario.step("delete again", sample.delete());
    Ok(scenario)
}

fn dry(sample: &Sample) -> Request {
    let mut request = sample.create();
    request.path.push_str("?dryRun=All&fieldManager=somebody");
    request
}

fn updates(sample: &Sample, scenario: &mut Scenario) -> Result<()> {
    scenario.step("update to the same", sample.put(&sample.object));
    let labelled = sample.with("/metadata/labels", json!({"new": "label"}))?;
    scenario.step("update labels", sample.put(&labelled));
    let mut based = labelled.clone();
    super::set(&mut based, "/metadata/resourceVersion", json!("@{rv}"))?;
    scenario.step("update at the revision", sample.put(&based));
    let mut stale = labelled.clone();
    super::set(&mut stale, "/metadata/resourceVersion", json!("1"))?;
    scenario.step("update a stale revision", sample.put(&stale));
    let mut other = labelled.clone();
    super::set(&mut other, "/metadata/uid", json!("00000000-0000-0000-0000-000000000000"))?;
    scenario.step("update another uid", sample.put(&other));
    let mut renamed = labelled;
    super::set(&mut renamed, "/metadata/name", json!("another-name"))?;
    scenario.step("update another name", sample.put(&renamed));
    Ok(())
}

fn patches(kind: &Kind, sample: &Sample, scenario: &mut Scenario) {
    let merge = json!({"metadata": {"annotations": {"by": "merge"}, "labels": {"new": null}}}).to_string();
    scenario.step("patch merge", sample.patch(MERGE, merge));
    let json_patch = json!([{"op": "add", "path": "/metadata/annotations/json", "value": "patch"}]).to_string();
    scenario.step("patch json", sample.patch(JSON_PATCH, json_patch));
    let failing = json!([{"op": "test", "path": "/metadata/name", "value": "x"}]).to_string();
    scenario.step("patch json test fails", sample.patch(JSON_PATCH, failing));
    let missing = json!([{"op": "remove", "path": "/metadata/nothing/here"}]).to_string();
    scenario.step("patch json path missing", sample.patch(JSON_PATCH, missing));
    scenario.step("patch json not a list", sample.patch(JSON_PATCH, "{}"));
    let strategic = json!({"metadata": {"annotations": {"by": "strategic"}, "finalizers": ["example.com/a"]}});
    scenario.step("patch strategic", sample.patch(STRATEGIC, strategic.to_string()));
    let delete = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"], "finalizers": null}});
    scenario.step("patch strategic delete", sample.patch(STRATEGIC, delete.to_string()));
    scenario.step("patch unknown type", sample.patch("application/unknown+json", "{}"));
    scenario.step("patch malformed", sample.patch(MERGE, "{\"metadata\":"));
    scenario.step("patch empty", sample.patch(MERGE, "{}"));
    scenario.step("patch stale", sample.patch(MERGE, json!({"metadata": {"resourceVersion": "1"}}).to_string()));
    apply(kind, sample, scenario);
}

fn apply(kind: &Kind, sample: &Sample, scenario: &mut Scenario) {
    let identity = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": sample.name}});
    let with = |annotation: &str| {
        let mut object = identity.clone();
        object["metadata"]["annotations"] = json!({"by": annotation});
        object.to_string()
    };
    let query = |mut request: Request, query: &str| {
        request.path.push_str(query);
        request
    };
    scenario.step("apply without manager", sample.patch(APPLY, with("strategic")));
    scenario.step("apply the same value", query(sample.patch(APPLY, with("strategic")), "?fieldManager=one"));
    scenario.step("apply a conflict", query(sample.patch(APPLY, with("other")), "?fieldManager=two"));
    scenario.step("apply with force", query(sample.patch(APPLY, with("other")), "?fieldManager=two&force=true"));
    let [wrong, nothing] =
        [json!({"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": sample.name}}), json!({})];
    scenario.step("apply another kind", query(sample.patch(APPLY, wrong.to_string()), "?fieldManager=one"));
    scenario.step("apply nothing", query(sample.patch(APPLY, nothing.to_string()), "?fieldManager=one"));
    scenario.step("apply takes fields back", query(sample.patch(APPLY, identity.to_string()), "?fieldManager=two"));
    scenario.step("get applied", sample.get());
}

fn status(sample: &Sample, scenario: &mut Scenario) {
    let below = |method: &'static str| Request::new(method, format!("{}/status", sample.path));
    scenario.step("status get", below("GET"));
    let patch = json!({"metadata": {"labels": {"status": "label"}}, "status": {"conditions": null}});
    scenario.step("status merge", below("PATCH").body(MERGE, patch.to_string()));
    scenario.step("status update", below("PUT").body(super::JSON, sample.object.to_string()));
    scenario.step("status delete", below("DELETE"));
}

fn scale(sample: &Sample, scenario: &mut Scenario) {
    let below = |method: &'static str| Request::new(method, format!("{}/scale", sample.path));
    scenario.step("scale get", below("GET"));
    scenario.step("scale merge", below("PATCH").body(MERGE, json!({"spec": {"replicas": 5}}).to_string()));
    let wanted = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": sample.name}});
    let mut scale = wanted.clone();
    scale["metadata"]["namespace"] = json!("diff");
    scale["spec"] = json!({"replicas": 3});
    scenario.step("scale update", below("PUT").body(super::JSON, scale.to_string()));
    scale["spec"]["replicas"] = json!(-1);
    scenario.step("scale below zero", below("PUT").body(super::JSON, scale.to_string()));
    scenario.step("scale malformed", below("PATCH").body(MERGE, json!({"spec": {"replicas": "x"}}).to_string()));
    scenario.step("get scaled", sample.get());
}
