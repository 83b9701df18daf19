//! Deletes: preconditions, propagation, grace, dry run, finalizers, malformed options.

use anyhow::Result;
use serde_json::{Value, json};

use super::{JSON, MERGE, Sample};
use crate::differential::kinds::Kind;
use crate::differential::scenario::Scenario;
use crate::http::Request;

pub(super) fn of(kind: &Kind) -> Result<Scenario> {
    let sample = Sample::of(kind, 17)?;
    let mut scenario = Scenario::new("deletes", kind.subject());
    scenario.step("create", sample.create());
    let with = |options: &Value| sample.delete().body(JSON, options.to_string());
    for (what, options) in [
        ("uid mismatch", json!({"preconditions": {"uid": "other"}})),
        ("revision mismatch", json!({"preconditions": {"resourceVersion": "1"}})),
        ("propagation unknown", json!({"propagationPolicy": "Sideways"})),
        ("propagation and orphan", json!({"propagationPolicy": "Orphan", "orphanDependents": true})),
        ("grace negative", json!({"gracePeriodSeconds": -5})),
        ("dry run unknown", json!({"dryRun": ["Some"]})),
        ("dry run", json!({"dryRun": ["All"]})),
        ("another kind", json!({"kind": "Nothing", "apiVersion": "v1"})),
        ("own kind", json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]})),
        ("wrong type", json!({"gracePeriodSeconds": "soon"})),
        ("unknown field", json!({"unknownField": 1, "dryRun": ["All"]})),
    ] {
        scenario.step(what, with(&options));
    }
    scenario.step("malformed", sample.delete().body(JSON, "{"));
    scenario.step(
        "query dry run",
        Request::new("DELETE", format!("{}?dryRun=All&propagationPolicy=Foreground", sample.path)),
    );
    scenario.step("query grace bad", Request::new("DELETE", format!("{}?gracePeriodSeconds=x", sample.path)));
    scenario.step("get", sample.get());
    let finalizer = json!({"metadata": {"finalizers": ["example.com/keep"]}});
    scenario.step("add finalizer", sample.patch(MERGE, finalizer.to_string()));
    scenario.step("delete kept", with(&json!({"propagationPolicy": "Foreground", "preconditions": {"uid": "@{uid}"}})));
    scenario.step("get kept", sample.get());
    scenario.step("delete kept again", with(&json!({"propagationPolicy": "Orphan"})));
    scenario.step("change kept", sample.patch(MERGE, json!({"metadata": {"labels": {"a": "b"}}}).to_string()));
    let more = json!({"metadata": {"finalizers": ["example.com/keep", "example.com/more"]}});
    scenario.step("add finalizer to kept", sample.patch(MERGE, more.to_string()));
    scenario.step("release", sample.patch(MERGE, json!({"metadata": {"finalizers": null}}).to_string()));
    scenario.step("get released", sample.get());
    Ok(scenario)
}
