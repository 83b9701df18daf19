//! Field validation: unknown and duplicate fields and wrong types, under each `fieldValidation`.

use anyhow::Result;
use serde_json::{Value, json};

use super::{APPLY, MERGE, Sample};
use crate::differential::kinds::Kind;
use crate::differential::scenario::Scenario;
use crate::http::Request;

const MODES: [&str; 4] = ["", "&fieldValidation=Ignore", "&fieldValidation=Warn", "&fieldValidation=Strict"];

pub(super) fn of(kind: &Kind) -> Result<Scenario> {
    let sample = Sample::of(kind, 12)?;
    let mut scenario = Scenario::new("fields", kind.subject());
    let unknown = sample.with("/unknownField", json!({"a": 1}))?.to_string();
    let nested = sample.with("/metadata/unknownField", 1)?.to_string();
    let duplicate = sample.object.to_string().replacen(
        "\"metadata\":{",
        "\"kind\":\"Other\",\"metadata\":{\"labels\":{\"a\":\"1\",\"a\":\"2\"},\"labels\":{},",
        1,
    );
    for mode in MODES {
        let query = format!("?dryRun=All{mode}");
        let post = |body: &str| Request::new("POST", format!("{}{query}", sample.collection)).body(super::JSON, body);
        scenario.step(format!("unknown{mode}"), post(&unknown));
        scenario.step(format!("unknown in metadata{mode}"), post(&nested));
        scenario.step(format!("duplicate{mode}"), post(&duplicate));
    }
    scenario.step("mode unknown", with_query(sample.create(), "?dryRun=All&fieldValidation=Sometimes"));
    scenario.step("unknown yaml strict", yaml(&sample, "unknownField: 1\n", "&fieldValidation=Strict"));
    scenario.step("duplicate yaml strict", yaml(&sample, "kind: Other\n", "&fieldValidation=Strict"));
    wrong_types(&sample, &mut scenario)?;
    if kind.stored() {
        patches(kind, &sample, &mut scenario);
    }
    Ok(scenario)
}

fn with_query(mut request: Request, query: &str) -> Request {
    request.path.push_str(query);
    request
}

/// The sample as YAML with lines added at its end.
fn yaml(sample: &Sample, lines: &str, mode: &str) -> Request {
    let Value::Object(map) = &sample.object else { unreachable!("a sample is an object") };
    let text: String = map.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    let path = format!("{}?dryRun=All{mode}", sample.collection);
    Request::new("POST", path).body(super::YAML, text + lines)
}

/// Each top-level field, and each field of metadata, with a value of another type.
fn wrong_types(sample: &Sample, scenario: &mut Scenario) -> Result<()> {
    let Value::Object(map) = &sample.object else { unreachable!("a sample is an object") };
    let own = map.keys().map(|key| format!("/{key}"));
    let metadata =
        ["labels", "annotations", "finalizers", "ownerReferences", "name", "generation", "creationTimestamp"];
    let pointers: Vec<String> = own.chain(metadata.map(|key| format!("/metadata/{key}"))).collect();
    for pointer in pointers {
        for (name, wrong) in
            [("text", json!("text")), ("number", json!(7)), ("list", json!([1])), ("object", json!({"a": 1}))]
        {
            if pointer == "/apiVersion" && name == "text" {
                continue;
            }
            let body = sample.with(&pointer, wrong)?.to_string();
            let request = Request::new("POST", format!("{}?dryRun=All", sample.collection)).body(super::JSON, body);
            scenario.step(format!("{pointer} is {name}"), request);
        }
    }
    Ok(())
}

fn patches(kind: &Kind, sample: &Sample, scenario: &mut Scenario) {
    scenario.step("create", sample.create());
    for mode in MODES {
        let at = |kind: &str, body: String, extra: &str| {
            Request::new("PATCH", format!("{}?dryRun=All{mode}{extra}", sample.path)).body(kind, body)
        };
        let unknown = json!({"unknownField": 1, "metadata": {"unknownField": 2}}).to_string();
        scenario.step(format!("merge unknown{mode}"), at(MERGE, unknown.clone(), ""));
        scenario.step(format!("merge duplicate{mode}"), at(MERGE, duplicate_labels(), ""));
        scenario.step(format!("strategic unknown{mode}"), at(super::STRATEGIC, unknown, ""));
        let identity = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
                              "metadata": {"name": sample.name}, "unknownField": 1});
        scenario.step(format!("apply unknown{mode}"), at(APPLY, identity.to_string(), "&fieldManager=a"));
    }
    let wrong = json!({"metadata": {"labels": "text"}}).to_string();
    scenario.step("merge wrong type", sample.patch(MERGE, wrong.clone()));
    scenario.step("strategic wrong type", sample.patch(super::STRATEGIC, wrong));
    scenario.step("delete", sample.delete());
}

fn duplicate_labels() -> String {
    "{\"metadata\":{\"labels\":{\"a\":\"1\"},\"labels\":{\"a\":\"2\"}}}".to_owned()
}
