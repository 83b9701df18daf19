//! Every object in `k8s.io/api`'s test data, which upstream's own round-trip tests write with each field set: the JSON and
//! the YAML have no unknown field and come back as they were, and the protobuf holds the same object.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use corten_apimachinery::schema::ObjectSchema;
use corten_apimachinery::schema::table::TableSchema;
use corten_apimachinery::value::Value;
use corten_apimachinery::{json, protobuf, yaml};

/// Test data that is no object, and why. Everything else must pass.
const EXCEPTIONS: &[(&str, &str)] = &[(
    "core.v1.WatchEvent",
    "a frame of a watch stream, without kind and apiVersion; the streaming code writes it, nothing reads it",
)];

/// Where the Go module stands; the go command fetches it when it is missing.
fn test_data() -> PathBuf {
    let facts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/facts");
    let how =
        "this test reads the Go module k8s.io/api: install Go 1.26 or newer and run `go mod download` in dev/facts";
    let download = Command::new("go").args(["mod", "download", "k8s.io/api"]).current_dir(facts).output();
    let download = download.unwrap_or_else(|error| panic!("cannot run go ({error}); {how}"));
    assert!(download.status.success(), "{}; {how}", String::from_utf8_lossy(&download.stderr));
    let list = Command::new("go").args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/api"]).current_dir(facts).output();
    let list = list.expect("go ran above");
    let dir = String::from_utf8(list.stdout).expect("a path in UTF-8");
    let data = PathBuf::from(dir.trim()).join("testdata/HEAD");
    assert!(data.is_dir(), "{} is not there; {how}", data.display());
    data
}

/// The names of all objects, without their extension.
fn names(data: &Path) -> Vec<String> {
    let files = fs::read_dir(data).expect("the test data can be listed");
    let names = files.filter_map(|file| {
        let name = file.expect("the test data can be listed").file_name().into_string().expect("a name in UTF-8");
        name.strip_suffix(".json").map(str::to_owned)
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn schema_of(object: &Value) -> Arc<TableSchema> {
    let (api_version, kind) = (object.str_at(&["apiVersion"]), object.str_at(&["kind"]));
    corten_api::schema(api_version, kind).unwrap_or_else(|| panic!("no schema for {api_version} {kind}"))
}

/// The first difference, as a path.
fn difference(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let absent = b.keys().find(|key| a.get(key).is_none()).map(|key| format!("{path}.{key} is missing left"));
            a.iter()
                .find_map(|(key, value)| match b.get(key) {
                    Some(other) => difference(&format!("{path}.{key}"), value, other),
                    None => Some(format!("{path}.{key} is missing right")),
                })
                .or(absent)
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (x, y))| difference(&format!("{path}[{i}]"), x, y))
        }
        _ => (left != right).then(|| format!("{path}: {} / {}", json::to_string(left), json::to_string(right))),
    }
}

/// What is wrong with one object; `None` if all is well.
fn check(data: &Path, name: &str) -> Option<String> {
    let read = |extension| fs::read(data.join(format!("{name}.{extension}"))).expect("the test data can be read");
    let text = read("json");
    let golden = json::parse(&text).expect("the test data is JSON").value;
    let schema = schema_of(&golden);
    let conformed = match schema.conform(golden.clone()) {
        Ok(conformed) => conformed,
        Err(error) => return Some(format!("json: {error}")),
    };
    if !conformed.unknown.is_empty() {
        return Some(format!("json: {:?}", conformed.unknown));
    }
    if let Some(difference) = difference("json", &conformed.value, &golden) {
        return Some(difference);
    }
    let yaml = yaml::parse(&read("yaml")).expect("the test data is YAML").value;
    let yaml = schema.conform(yaml).expect("the same object");
    if let Some(difference) = difference("yaml", &yaml.value, &golden) {
        return Some(difference);
    }
    check_protobuf(&read("pb"), &schema, &golden)
}

fn check_protobuf(body: &[u8], schema: &TableSchema, golden: &Value) -> Option<String> {
    let envelope = match protobuf::decode_envelope(body) {
        Ok(envelope) => envelope,
        Err(error) => return Some(format!("envelope: {error}")),
    };
    let named = (envelope.api_version, envelope.kind);
    if named != (golden.str_at(&["apiVersion"]), golden.str_at(&["kind"])) {
        return Some(format!("envelope: {named:?}"));
    }
    let mut object = match schema.decode_protobuf(envelope.raw).expect("built-in types have a protobuf form") {
        Ok(object) => object,
        Err(error) => return Some(format!("protobuf: {error}")),
    };
    let map = object.as_object_mut().expect("a message is an object");
    map.insert("apiVersion", envelope.api_version);
    map.insert("kind", envelope.kind);
    let conformed = match schema.conform(object) {
        Ok(conformed) => conformed.value,
        Err(error) => return Some(format!("protobuf: {error}")),
    };
    difference("protobuf", &conformed, golden).or_else(|| check_encoding(body, schema, &conformed))
}

/// The object is written as Go wrote it, to the byte.
fn check_encoding(body: &[u8], schema: &TableSchema, object: &Value) -> Option<String> {
    let message = schema.encode_protobuf(object).expect("built-in types have a protobuf form");
    let message = match message {
        Ok(message) => message,
        Err(error) => return Some(format!("encoding: {error}")),
    };
    let (api_version, kind) = (object.str_at(&["apiVersion"]), object.str_at(&["kind"]));
    let written = protobuf::encode_envelope(api_version, kind, &message);
    let first = written.iter().zip(body).position(|(ours, theirs)| ours != theirs);
    let differs = written.as_slice() != body;
    differs.then(|| format!("encoding: {} bytes instead of {}, from {first:?} on", written.len(), body.len()))
}

#[test]
fn every_published_object_comes_back_as_it_was() {
    let data = test_data();
    let names = names(&data);
    assert!(names.len() > 180, "only {} objects in {}", names.len(), data.display());
    let checked = names.iter().filter(|name| !EXCEPTIONS.iter().any(|(exception, _)| exception == name));
    let problems: Vec<_> =
        checked.filter_map(|name| check(&data, name).map(|problem| format!("{name}: {problem}"))).collect();
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), names.len(), problems.join("\n"));
}
