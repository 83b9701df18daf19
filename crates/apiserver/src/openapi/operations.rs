//! Paths and operations of kinds: which verbs there are, what they take and give. Clients look for a kind's operations
//! by `x-kubernetes-group-version-kind` and for the query parameters that these know.

use std::sync::Arc;

use corten_apimachinery::kind::{GroupVersionKind, KindInfo, Subresource};
use corten_apimachinery::openapi::{Definitions, reference};
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};

use super::definitions;
use crate::registry::KindSet;

const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Query parameters and their types.
type Parameters = &'static [(&'static str, &'static str)];

const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: Parameters = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const FORCE: Parameters = &[("force", "boolean")];
const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const SELECT: Parameters = &[
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];

/// The paths of some kinds; adds the definitions that they refer to.
pub(super) fn paths(kinds: &[Arc<KindInfo>], definitions: &mut Definitions, all: &KindSet) -> Map {
    let mut paths = Map::new();
    for kind in kinds {
        Endpoint::new(kind, definitions, all).write(&mut paths, definitions, all);
        let root = format!("/{}/", super::root(kind));
        paths.insert_if_absent(&root, || resources(kind, definitions, all));
    }
    // What a watch sends; no operation names it, clients look for it all the same.
    definitions::meta(definitions, all, "WatchEvent");
    definitions::mark_kinds(definitions, all);
    definitions::describe(definitions);
    paths.sort_keys();
    paths
}

/// The path that lists a version's resources.
fn resources(kind: &KindInfo, definitions: &mut Definitions, all: &KindSet) -> Value {
    let list = definitions::meta(definitions, all, "APIResourceList");
    let group = group_id(&kind.gvk.group);
    value!({"get": {
        "tags": [(tag(&group, &kind.gvk.version))],
        "operationId": (format!("get{group}{}APIResources", capitalize(&kind.gvk.version))),
        "responses": {
            "200": {"description": "OK", "content": (contents(&list))}, "401": {"description": "Unauthorized"},
        },
    }})
}

fn tag(group: &str, version: &str) -> String {
    format!("{}_{version}", uncapitalize(group))
}

/// One kind's endpoints, with the names of its definitions.
struct Endpoint<'a> {
    kind: &'a KindInfo,
    object: String,
    list: String,
    status: Value,
    delete_options: Value,
}

impl<'a> Endpoint<'a> {
    fn new(kind: &'a KindInfo, definitions: &mut Definitions, all: &KindSet) -> Self {
        let object = definitions::object(kind, definitions, all);
        let listed = kind.verbs.iter().any(|verb| verb == "list");
        let list = if listed { definitions::list(kind, &object, definitions, all) } else { String::new() };
        let status = definitions::meta(definitions, all, "Status");
        let delete_options = definitions::meta(definitions, all, "DeleteOptions");
        definitions.0.entry(PATCH.to_owned()).or_insert_with(|| value!({"type": "object"}));
        Self { kind, object, list, status, delete_options }
    }

    fn write(&self, paths: &mut Map, definitions: &mut Definitions, all: &KindSet) {
        let root = format!("/{}", super::root(self.kind));
        let plural = &self.kind.plural;
        let namespaced = self.kind.namespaced();
        let base =
            if namespaced { format!("{root}/namespaces/{{namespace}}/{plural}") } else { format!("{root}/{plural}") };
        if namespaced && self.has("list") {
            let mut item = self.item(false, false);
            item.insert("get", self.operation("list", "ForAllNamespaces", LIST, None, &self.content(&self.list)));
            paths.insert(format!("{root}/{plural}"), item);
        }
        let collection = self.collection();
        if collection.iter().any(|(key, _)| key != "parameters") {
            paths.insert(base.clone(), collection);
        }
        let one = self.one();
        if one.iter().any(|(key, _)| key != "parameters") {
            paths.insert(format!("{base}/{{name}}"), one);
        }
        for sub in &self.kind.subresources {
            let schema = match all.kind(&sub.gvk).filter(|_| sub.gvk != self.kind.gvk) {
                Some(body) => definitions::object(body, definitions, all),
                None => self.object.clone(),
            };
            paths.insert(format!("{base}/{{name}}/{}", sub.name), self.subresource(sub, &schema));
        }
    }

    fn has(&self, verb: &str) -> bool {
        self.kind.verbs.iter().any(|own| own == verb)
    }

    fn collection(&self) -> Map {
        let mut item = self.item(self.kind.namespaced(), false);
        if self.has("list") {
            item.insert("get", self.operation("list", "", LIST, None, &self.content(&self.list)));
        }
        if self.has("create") {
            item.insert(
                "post",
                self.operation("post", "", WRITE, Some(self.body(&self.object)), &self.content(&self.object)),
            );
        }
        if self.has("deletecollection") {
            let body = any_body(&self.delete_options);
            let mut operation = self.operation("deletecollection", "", SELECT, Some(body), &contents(&self.status));
            add_parameters(&mut operation, DELETE);
            item.insert("delete", operation);
        }
        item
    }

    fn one(&self) -> Map {
        let mut item = self.item(self.kind.namespaced(), true);
        let content = self.content(&self.object);
        if self.has("get") {
            item.insert("get", self.operation("get", "", &[], None, &content));
        }
        if self.has("update") {
            item.insert("put", self.operation("put", "", WRITE, Some(self.body(&self.object)), &content));
        }
        if self.has("patch") {
            item.insert("patch", self.patch("", &content));
        }
        if self.has("delete") {
            let body = any_body(&self.delete_options);
            item.insert("delete", self.operation("delete", "", DELETE, Some(body), &contents(&self.status)));
        }
        item
    }

    fn subresource(&self, sub: &Subresource, schema: &str) -> Map {
        let mut item = self.item(self.kind.namespaced(), true);
        let content = self.content(schema);
        let suffix = capitalize(&sub.name);
        for verb in &sub.verbs {
            let operation = match verb.as_str() {
                "get" => ("get", self.operation("get", &suffix, &[], None, &content)),
                "update" => ("put", self.operation("put", &suffix, WRITE, Some(self.body(schema)), &content)),
                "patch" => ("patch", self.patch(&suffix, &content)),
                "create" => ("post", self.operation("post", &suffix, WRITE, Some(self.body(schema)), &content)),
                "delete" => ("delete", self.operation("delete", &suffix, &[], None, &content)),
                _ => continue,
            };
            let mut value = operation.1;
            mark(&mut value, &sub.gvk);
            item.insert(operation.0, value);
        }
        item
    }

    fn patch(&self, suffix: &str, content: &Value) -> Value {
        let body = PATCH_TYPES.map(|media_type| (Str::from(media_type), value!({"schema": (reference(PATCH))})));
        let body = value!({"content": (body.into_iter().collect::<Map>()), "required": true});
        let mut operation = self.operation("patch", suffix, WRITE, Some(body), content);
        add_parameters(&mut operation, FORCE);
        operation
    }

    /// A path item with the parameters that all of its operations share.
    fn item(&self, namespace: bool, name: bool) -> Map {
        let mut parameters = Vec::new();
        for (wanted, parameter) in [(name, "name"), (namespace, "namespace")] {
            if wanted {
                let schema = value!({"type": "string", "uniqueItems": true});
                parameters.push(value!({"name": parameter, "in": "path", "required": true, "schema": schema}));
            }
        }
        parameters.push(parameter("pretty", "string"));
        let mut item = Map::new();
        item.insert("parameters", parameters);
        item
    }

    fn operation(&self, action: &str, suffix: &str, query: Parameters, body: Option<Value>, content: &Value) -> Value {
        let gvk = &self.kind.gvk;
        let group = group_id(&gvk.group);
        let scope = if self.kind.namespaced() && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let collection = if action == "deletecollection" { "Collection" } else { "" };
        let verb = match action {
            "get" => "read",
            "post" => "create",
            "put" => "replace",
            "deletecollection" => "delete",
            other => other,
        };
        let id = format!("{verb}{group}{}{collection}{scope}{}{suffix}", capitalize(&gvk.version), gvk.kind);
        let mut responses = Map::new();
        let codes: &[(&str, &str)] = match action {
            "post" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            "put" | "patch" => &[("200", "OK"), ("201", "Created")],
            "delete" => &[("200", "OK"), ("202", "Accepted")],
            _ => &[("200", "OK")],
        };
        for (code, description) in codes {
            responses.insert(*code, value!({"description": (*description), "content": (content.clone())}));
        }
        responses.insert("401", value!({"description": "Unauthorized"}));
        let mut operation = value!({
            "tags": [(tag(&group, &gvk.version))], "operationId": id,
            "parameters": (query.iter().map(|(name, kind)| parameter(name, kind)).collect::<Vec<_>>()),
        });
        let map = operation.as_object_mut().expect("made an object above");
        if let Some(body) = body {
            map.insert("requestBody", body);
        }
        map.insert("responses", responses);
        map.insert("x-kubernetes-action", action);
        mark(&mut operation, gvk);
        operation
    }

    fn content(&self, schema: &str) -> Value {
        contents(&reference(schema))
    }

    fn body(&self, schema: &str) -> Value {
        value!({"content": {"*/*": {"schema": (reference(schema))}}, "required": true})
    }
}

fn any_body(schema: &Value) -> Value {
    value!({"content": {"*/*": {"schema": (schema.clone())}}})
}

fn contents(schema: &Value) -> Value {
    let content = MEDIA_TYPES.map(|media_type| (Str::from(media_type), value!({"schema": (schema.clone())})));
    Value::Object(content.into_iter().collect())
}

fn parameter(name: &str, kind: &str) -> Value {
    value!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn add_parameters(operation: &mut Value, parameters: Parameters) {
    if let Some(Value::Array(own)) = operation.get_mut("parameters") {
        own.extend(parameters.iter().map(|(name, kind)| parameter(name, kind)));
    }
}

fn mark(operation: &mut Value, gvk: &GroupVersionKind) {
    if let Value::Object(map) = operation {
        let kind = value!({"group": (gvk.group.clone()), "kind": (gvk.kind.clone()), "version": (gvk.version.clone())});
        map.insert("x-kubernetes-group-version-kind", kind);
    }
}

/// `RbacAuthorization` for `rbac.authorization.k8s.io`, `Core` for the core group.
fn group_id(group: &str) -> String {
    let name = group.strip_suffix(".k8s.io").unwrap_or(group);
    if name.is_empty() { "Core".to_owned() } else { name.split('.').map(capitalize).collect() }
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn uncapitalize(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// Version 3 path items as version 2 has them: bodies are parameters, schemas stand in the responses.
pub(super) fn second_paths(paths: Map) -> Map {
    let convert = |(path, item): (Str, Value)| {
        let Value::Object(item) = item else { return (path, item) };
        let item = item.into_iter().map(|(key, value)| match (key.as_str(), value) {
            ("parameters", value) => (key, second_parameters(value)),
            (_, value) => (key, second_operation(value)),
        });
        (path, Value::Object(item.collect()))
    };
    paths.into_iter().map(convert).collect()
}

fn second_parameters(parameters: Value) -> Value {
    let Value::Array(parameters) = parameters else { return parameters };
    let flat = parameters.into_iter().map(|mut parameter| {
        if let Some(map) = parameter.as_object_mut()
            && let Some(Value::Object(schema)) = map.remove("schema")
        {
            for (key, value) in schema {
                map.insert(key, value);
            }
        }
        parameter
    });
    Value::Array(flat.collect())
}

fn second_operation(operation: Value) -> Value {
    let Value::Object(mut map) = operation else { return operation };
    let body = map.remove("requestBody");
    let mut parameters = second_parameters(map.remove("parameters").unwrap_or(Value::Array(Vec::new())));
    if let (Some(list), Some(body)) = (parameters.as_array_mut(), &body)
        && let Some(schema) = schema_of(body)
    {
        list.push(value!({"in": "body", "name": "body", "required": true, "schema": schema}));
    }
    map.insert("parameters", parameters);
    let consumes: Vec<Str> = body
        .iter()
        .filter_map(|body| body.get("content"))
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .cloned()
        .collect();
    if !consumes.is_empty() {
        map.insert("consumes", consumes);
    }
    map.insert("produces", MEDIA_TYPES.to_vec());
    map.insert("schemes", vec!["https"]);
    if let Some(Value::Object(responses)) = map.get_mut("responses") {
        for (_, response) in responses.iter_mut() {
            if let Some(schema) = schema_of(response)
                && let Some(map) = response.as_object_mut()
            {
                map.remove("content");
                map.insert("schema", schema);
            }
        }
    }
    Value::Object(map)
}

/// The schema of the first content type, in version 2's form.
fn schema_of(holder: &Value) -> Option<Value> {
    let content = holder.get("content")?.as_object()?;
    let schema = content.values().next()?.get("schema")?;
    Some(corten_apimachinery::openapi::to_v2(schema))
}
