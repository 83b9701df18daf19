//! The fixed scenarios: for each kind the whole life of an object, refusals, field validation, lists, deletes; and what
//! belongs to no kind.

mod deletes;
mod discovery;
mod fields;
mod life;
mod lists;
mod refusals;
mod watches;

use anyhow::{Context, Result};
use serde_json::Value;

use super::kinds::Kind;
use super::scenario::Scenario;
use crate::http::Request;

pub(super) const JSON: &str = "application/json";
pub(super) const YAML: &str = "application/yaml";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";
pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
pub(super) const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
pub(super) const PARTIAL_LIST: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

/// A valid object of a kind, and where it lives.
pub(super) struct Sample {
    pub(super) object: Value,
    pub(super) name: String,
    pub(super) collection: String,
    /// The path of the object.
    pub(super) path: String,
}

impl Sample {
    /// `number` keeps the objects of scenarios apart; two digits.
    pub(super) fn of(kind: &Kind, number: usize) -> Result<Self> {
        let object = kind.sample(number)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let collection = kind.collection();
        let path = format!("{collection}/{name}");
        Ok(Self { object, name, collection, path })
    }

    pub(super) fn create(&self) -> Request {
        Request::new("POST", &self.collection).body(JSON, self.object.to_string())
    }

    pub(super) fn get(&self) -> Request {
        Request::get(&self.path)
    }

    pub(super) fn put(&self, object: &Value) -> Request {
        Request::new("PUT", &self.path).body(JSON, object.to_string())
    }

    pub(super) fn patch(&self, kind: &str, body: impl Into<String>) -> Request {
        Request::new("PATCH", &self.path).body(kind, body)
    }

    pub(super) fn delete(&self) -> Request {
        Request::new("DELETE", &self.path)
    }

    /// The object with one field set, by a JSON pointer whose parent exists.
    pub(super) fn with(&self, pointer: &str, value: impl Into<Value>) -> Result<Value> {
        let mut object = self.object.clone();
        set(&mut object, pointer, value.into())?;
        Ok(object)
    }
}

pub(super) fn set(object: &mut Value, pointer: &str, value: Value) -> Result<()> {
    let (parent, key) = pointer.rsplit_once('/').context("a pointer has a slash")?;
    let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.with_context(|| format!("no object at the parent of {pointer}"))?.insert(key.to_owned(), value);
    Ok(())
}

pub(super) fn all(kinds: &[Kind]) -> Result<Vec<Scenario>> {
    let mut scenarios = discovery::all(kinds);
    for kind in kinds.iter().filter(|kind| kind.has("create") && kind.kind != "Binding") {
        scenarios.push(fields::of(kind)?);
        scenarios.push(refusals::of(kind)?);
    }
    for kind in kinds.iter().filter(|kind| kind.stored()) {
        scenarios.push(life::of(kind)?);
        scenarios.push(lists::of(kind)?);
        scenarios.push(deletes::of(kind)?);
        scenarios.push(watches::of(kind)?);
    }
    Ok(scenarios)
}
