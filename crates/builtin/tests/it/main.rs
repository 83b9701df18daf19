//! Facts against their source: upstream's Go modules, read from the module cache.

mod custom;
mod faults;
mod kinds;
mod policies;
mod protobuf;
mod published;
mod services;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use corten_apimachinery::json;
use corten_apimachinery::value::Value;
use corten_builtin::rbac::defaults;

const KUBERNETES: &str = "k8s.io/kubernetes@v1.36.3";

/// The directory of upstream's main module.
fn kubernetes() -> PathBuf {
    let answer = Command::new("go").args(["env", "GOMODCACHE"]).output().expect("go is installed");
    let cache = String::from_utf8(answer.stdout).expect("a path");
    let module = PathBuf::from(cache.trim()).join(KUBERNETES);
    assert!(module.is_dir(), "run: go mod download {KUBERNETES} ({} is missing)", module.display());
    module
}

/// Upstream writes `rules: null`; absent is the same.
fn without_nulls(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}

#[test]
fn default_roles_and_bindings_are_upstreams() {
    let dir = kubernetes().join("plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata");
    let mut upstream = Vec::new();
    for file in [
        "cluster-roles",
        "controller-roles",
        "cluster-role-bindings",
        "controller-role-bindings",
        "namespace-roles",
        "namespace-role-bindings",
    ] {
        let text = std::fs::read_to_string(dir.join(file).with_extension("yaml")).expect("testdata of the module");
        let list: serde_json::Value = serde_saphyr::from_str(&text).expect("a list");
        let parsed = json::parse(list.to_string().as_bytes()).expect("JSON");
        let items = parsed.value.get("items").and_then(Value::as_array).expect("items").to_vec();
        upstream.extend(items.into_iter().map(without_nulls));
    }
    let all = defaults::objects().expect("the committed facts are readable").into_iter().map(|(_, object)| object);
    // Those of parts that upstream does not have stand beside them.
    let is_upstreams = |object: &Value| !object.str_at(&["metadata", "name"]).starts_with("corten:");
    let own: Vec<Value> = all.filter(is_upstreams).collect();
    let names = |objects: &[Value]| -> BTreeSet<String> {
        let name = |object: &Value| {
            let metadata = |field| object.str_at(&["metadata", field]).to_owned();
            format!("{} {}/{}", object.str_at(&["kind"]), metadata("namespace"), metadata("name"))
        };
        objects.iter().map(name).collect()
    };
    assert_eq!(names(&own), names(&upstream));
    assert_eq!(own.len(), upstream.len());
    for object in &upstream {
        assert!(own.contains(object), "differs: {}", json::to_string(object));
    }
}
