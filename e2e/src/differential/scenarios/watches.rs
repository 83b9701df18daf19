//! Watches that end by themselves: from a revision, from nothing, as a streaming list, with options that do not fit.

use anyhow::Result;
use serde_json::json;

use super::{MERGE, PARTIAL, Sample, TABLE};
use crate::differential::kinds::Kind;
use crate::differential::scenario::Scenario;
use crate::http::Request;

pub(super) fn of(kind: &Kind) -> Result<Scenario> {
    let sample = Sample::of(kind, 18)?;
    let mut scenario = Scenario::new("watches", kind.subject());
    if kind.kind != "Pod" && kind.kind != "ConfigMap" && kind.kind != "Deployment" && kind.kind != "Namespace" {
        // Every watch costs its second; the refusals are as quick as any request.
        refusals(kind, &mut scenario);
        return Ok(scenario);
    }
    scenario.step("create", sample.create());
    let watch = |query: &str| {
        let by_name = format!("fieldSelector=metadata.name%3D{}", sample.name);
        Request::get(format!("{}?watch=true&timeoutSeconds=1&{by_name}{query}", sample.collection))
    };
    scenario.step("from nothing", watch(""));
    scenario.step("from 0", watch("&resourceVersion=0"));
    scenario.step("as a table", watch("&resourceVersion=0").header("accept", TABLE));
    scenario.step("as metadata", watch("&resourceVersion=0").header("accept", PARTIAL));
    scenario.step(
        "streaming list",
        watch("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"),
    );
    scenario.step("get", sample.get());
    let from = watch("&resourceVersion=@{rv}");
    scenario.step("label", sample.patch(MERGE, json!({"metadata": {"labels": {"a": "b"}}}).to_string()));
    scenario.step("delete", sample.delete());
    scenario.step("from a revision", Request { path: from.path.replace("@{rv}", "1"), ..from });
    refusals(kind, &mut scenario);
    Ok(scenario)
}

fn refusals(kind: &Kind, scenario: &mut Scenario) {
    for query in [
        "resourceVersion=x",
        "sendInitialEvents=true",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
        "sendInitialEvents=false&resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "labelSelector=%3D%3D%3D",
        "fieldSelector=nothing%3Da",
        "timeoutSeconds=x",
    ] {
        let nothing = if query.starts_with("field") { "" } else { "&fieldSelector=metadata.name%3Dnone" };
        let path = format!("{}?watch=true&timeoutSeconds=1&{query}{nothing}", kind.collection());
        scenario.step(format!("watch ?{query}"), Request::get(path));
    }
}
