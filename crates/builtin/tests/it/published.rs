//! What the server publishes of itself, against the documents that upstream publishes of its own: discovery and OpenAPI
//! of every group and version that both serve.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::auth::{Attributes, Authorizer, Decision, User};
use corten_apiserver::connect::{Connectors, Routes};
use corten_apiserver::health::{Checks, VersionInfo};
use corten_apiserver::http::{Access, Api, ApiConfig, RequestLimits, body};
use corten_apiserver::registry::Registry;
use corten_apiserver::registry::seal::Plain;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::model::ModelStore;
use futures_core::future::BoxFuture;

/// Kinds that upstream 1.36 still stores in a beta version.
const STORED_OTHERWISE: [&str; 3] =
    ["CustomResourceDefinition", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"];

struct Everybody;

impl Authorizer for Everybody {
    fn authorize<'a>(&'a self, _attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(Decision::Allow))
    }
}

/// An API server with every built-in kind, over a store in memory, without admission.
pub(crate) fn server() -> Arc<Api> {
    let clock = Clock::manual(1_767_225_600_000);
    let (random, tasks) = (Random::seeded(1), Tasks::new());
    let store = Arc::new(ModelStore::new(clock.clone()));
    let registry = Registry::new(store, clock.clone(), random.clone(), Vec::new(), Arc::new(Plain), &tasks);
    registry.install(corten_api::kinds());
    Api::new(ApiConfig {
        registry,
        access: Access { authorizers: vec![Arc::new(Everybody)], ..Access::default() },
        connectors: Connectors::default(),
        routes: Routes::default(),
        checks: Checks::default(),
        version: VersionInfo::default(),
        limits: RequestLimits::default(),
        metrics: Arc::default(),
        clock,
        random,
        tasks,
    })
}

async fn get(api: &Arc<Api>, path: &str) -> Option<Value> {
    let request = http::Request::get(path).body(body::full("")).unwrap();
    let response = api.call(request, Arc::new(User::default())).await;
    let ok = response.status().is_success();
    let bytes = body::collect(response).await.unwrap();
    ok.then(|| json::parse(&bytes).unwrap().value)
}

fn read(path: &Path) -> Value {
    json::parse(&std::fs::read(path).unwrap()).unwrap().value
}

/// The group versions of upstream's files `apis__apps__v1SUFFIX`, with their paths.
fn group_versions(dir: &Path, suffix: &str) -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let versions = files.filter_map(|file| {
        let parts: Vec<&str> = file.strip_suffix(suffix)?.split("__").collect();
        let is_version = matches!((parts[0], parts.len()), ("api", 2) | ("apis", 3));
        is_version.then(|| (parts.join("/"), read(&dir.join(&file))))
    });
    versions.collect()
}

/// Every entry of `left` that is not in `right` as it stands.
fn missing(left: &[Value], right: &[Value]) -> Vec<String> {
    left.iter().filter(|entry| !right.contains(entry)).map(json::to_string).collect()
}

#[tokio::test]
async fn discovery_is_upstreams() {
    let api = server();
    let mut differences = Vec::new();
    for (path, upstream) in group_versions(&crate::kubernetes().join("api/discovery"), ".json") {
        let Some(own) = get(&api, &format!("/{path}")).await else { continue };
        let resources = |list: &Value| {
            let mut resources = list.get("resources").and_then(Value::as_array).unwrap().to_vec();
            let stored_otherwise = resources.iter_mut().filter(|own| STORED_OTHERWISE.contains(&own.str_at(&["kind"])));
            stored_otherwise.filter_map(Value::as_object_mut).for_each(|own| drop(own.remove("storageVersionHash")));
            resources
        };
        let (own, upstream) = (resources(&own), resources(&upstream));
        differences.extend(missing(&own, &upstream).iter().map(|entry| format!("{path}: not upstream's: {entry}")));
        differences.extend(missing(&upstream, &own).iter().map(|entry| format!("{path}: lacks {entry}")));
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// Drops what is not compared: prose, defaults and enumerations (upstream's files have few and none), and extensions that
/// say what holds anyway: atomic lists, granular maps, replacing patches.
fn comparable(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let prose = |key: &str, value: &Value| {
                matches!(key, "default" | "enum")
                    || (key == "description" && value.as_str().is_some())
                    || (key == "x-kubernetes-list-type" && value.as_str() == Some("atomic"))
                    || (key == "x-kubernetes-map-type" && value.as_str() == Some("granular"))
                    || (key == "x-kubernetes-patch-strategy" && value.as_str() == Some("replace"))
                    // The facts do not carry unions; no client reads them.
                    || key == "x-kubernetes-unions"
            };
            // A reference alone and one that is wrapped to carry more are the same.
            if let Some([reference]) = map.get("allOf").and_then(Value::as_array)
                && map.iter().all(|(key, value)| key == "allOf" || prose(key, value))
            {
                return comparable(reference);
            }
            let kept = map.iter().filter(|(key, value)| !prose(key, value));
            Value::Object(kept.map(|(key, value)| (key.clone(), comparable(value))).collect::<Map>())
        }
        Value::Array(items) => Value::Array(items.iter().map(comparable).collect()),
        other => other.clone(),
    }
}

/// Whether an object's metadata is required is left open: upstream's generator and its types disagree for one kind.
fn drop_required_metadata(schema: &mut Value) {
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str() != Some("metadata"));
    }
}

#[tokio::test]
async fn definitions_are_upstreams() {
    let api = server();
    let (mut differences, mut compared) = (Vec::new(), 0);
    for (path, upstream) in group_versions(&crate::kubernetes().join("api/openapi-spec/v3"), "_openapi.json") {
        let Some(own) = get(&api, &format!("/openapi/v3/{path}")).await else { continue };
        let schemas =
            |document: &Value| document.at(&["components", "schemas"]).and_then(Value::as_object).cloned().unwrap();
        let (own, upstream) = (schemas(&own), schemas(&upstream));
        for (name, schema) in upstream.iter() {
            compared += 1;
            match own.get(name) {
                None => differences.push(format!("{path}: lacks {name}")),
                Some(seen) => {
                    let (mut seen, mut wanted) = (comparable(seen), comparable(schema));
                    // Upstream lists options under every group that knows them.
                    for schema in [&mut seen, &mut wanted] {
                        drop_required_metadata(schema);
                        if name.contains(".meta.v1.")
                            && let Some(map) = schema.as_object_mut()
                        {
                            map.remove("x-kubernetes-group-version-kind");
                        }
                    }
                    if seen != wanted {
                        differences.push(format!(
                            "{path}: {name}\n  own      {}\n  upstream {}",
                            json::to_string(&seen),
                            json::to_string(&wanted)
                        ));
                    }
                }
            }
        }
    }
    assert!(compared > 1_000, "only {compared} definitions were compared");
    assert!(differences.is_empty(), "{} of {compared} differ:\n{}", differences.len(), differences.join("\n"));
}
