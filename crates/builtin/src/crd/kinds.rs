//! From a custom resource definition to the records of its kinds, one a served version. From then on a custom resource
//! is a kind like any other.

use std::sync::Arc;

use corten_apimachinery::duration;
use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::json;
use corten_apimachinery::jsonpath::JsonPath;
use corten_apimachinery::kind::{
    Cell, Column, Conversion, FieldValue, GroupVersionKind, KindInfo, NameRule, ScalePaths, Scope, SelectableField,
    Serve, Strategy, Subresource,
};
use corten_apimachinery::schema::ObjectSchema;
use corten_apimachinery::schema::structural::CustomSchema;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The records of all served versions of a definition, the storage version's semantics in each. `metadata` is the
/// schema of an `ObjectMeta`.
pub fn kinds_of(definition: &Value, metadata: &Arc<dyn ObjectSchema>) -> Result<Vec<KindInfo>, FieldErrors> {
    let versions = definition.at(&["spec", "versions"]).and_then(Value::as_array).unwrap_or_default();
    let storage = versions.iter().find(|version| flag(version, "storage")).map_or("", |v| v.str_at(&["name"]));
    let mut kinds = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        if flag(version, "served") {
            let path = FieldPath::new("spec").child("versions").index(index);
            kinds.push(kind_of(definition, version, storage, metadata, &path)?);
        }
    }
    Ok(kinds)
}

fn kind_of(
    definition: &Value,
    version: &Value,
    storage: &str,
    metadata: &Arc<dyn ObjectSchema>,
    path: &FieldPath,
) -> Result<KindInfo, FieldErrors> {
    let group = definition.str_at(&["spec", "group"]);
    let name = version.str_at(&["name"]);
    let names = definition.at(&["spec", "names"]).unwrap_or(&Value::Null);
    let plural = names.str_at(&["plural"]);
    let declared = version.at(&["schema", "openAPIV3Schema"]).cloned().unwrap_or_default();
    let schema_path = path.children(&["schema", "openAPIV3Schema"]);
    let schema = CustomSchema::new(declared, metadata.clone(), &schema_path)?;
    let gvk = GroupVersionKind::new(group, name, names.str_at(&["kind"]));
    let namespaced = definition.str_at(&["spec", "scope"]) == "Namespaced";
    Ok(KindInfo {
        list_kind: names.str_at(&["listKind"]).into(),
        plural: plural.into(),
        singular: names.str_at(&["singular"]).into(),
        short_names: texts(names, "shortNames"),
        categories: texts(names, "categories"),
        scope: if namespaced { Scope::Namespaced } else { Scope::Cluster },
        verbs: VERBS.into_iter().map(Str::from).collect(),
        storage_prefix: format!("/registry/{group}/{plural}").into(),
        convert: (name != storage).then(|| relabel(group, name, storage)),
        schema: Arc::new(schema),
        strategy: strategy(version),
        columns: columns(version, path)?,
        selectable_fields: selectable_fields(version),
        subresources: subresources(version, &gvk),
        gvk,
    })
}

/// The conversion strategy `None`: only `apiVersion` changes.
fn relabel(group: &str, version: &str, storage: &str) -> Conversion {
    let to = |version: &str| {
        let api_version = format!("{group}/{version}");
        Arc::new(move |mut object: Value| {
            if let Some(map) = object.as_object_mut() {
                map.insert("apiVersion", api_version.as_str());
            }
            Ok(object)
        })
    };
    Conversion { to_storage: to(storage), from_storage: to(version) }
}

fn strategy(version: &Value) -> Strategy {
    Strategy {
        name: NameRule::DnsSubdomain,
        generation: true,
        status: version.at(&["subresources", "status"]).is_some(),
        unconditional_update: false,
        status_keeps_metadata: true,
        ..Strategy::default()
    }
}

fn columns(version: &Value, path: &FieldPath) -> Result<Vec<Column>, FieldErrors> {
    let declared = version.get("additionalPrinterColumns").and_then(Value::as_array).unwrap_or_default();
    let mut columns = vec![column("Name", "string", "name", Cell::Field(&["metadata", "name"]))];
    if declared.is_empty() {
        columns.push(column("Age", "date", "", Cell::Age(&["metadata", "creationTimestamp"])));
        return Ok(columns);
    }
    let path = path.child("additionalPrinterColumns");
    let mut errors = FieldErrors::default();
    for (index, declared) in declared.iter().enumerate() {
        let text = declared.str_at(&["jsonPath"]);
        match JsonPath::parse(text) {
            Ok(json_path) => columns.push(declared_column(declared, json_path)),
            Err(error) => errors.invalid(&path.index(index).child("jsonPath"), text, error.to_string()),
        }
    }
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

fn declared_column(declared: &Value, json_path: JsonPath) -> Column {
    let kind: Str = declared.str_at(&["type"]).into();
    let shown_as = kind.clone();
    let cell = Cell::Path(Arc::new(move |object, now_s| {
        json_path.first(object).map_or(Value::Null, |value| cell_of(value, &shown_as, now_s))
    }));
    Column {
        description: declared.str_at(&["description"]).into(),
        priority: declared.i64_at(&["priority"]).and_then(|priority| i32::try_from(priority).ok()).unwrap_or_default(),
        ..column(declared.str_at(&["name"]), &kind, declared.str_at(&["format"]), cell)
    }
}

/// A value as a column of a type shows it; what does not fit the type is left empty.
fn cell_of(value: &Value, kind: &str, now_s: i64) -> Value {
    match (kind, value) {
        ("string", Value::String(_)) | ("integer", Value::Int(_)) | ("number", Value::Float(_) | Value::Int(_)) => {
            value.clone()
        }
        ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::Null) => Value::Null,
        ("string", other) => Value::from(json::to_string(other)),
        ("date", Value::String(text)) => match Time::parse(text) {
            Ok(time) => Value::String(duration::human(now_s - time.seconds)),
            Err(_) => Value::from("<invalid>"),
        },
        _ => Value::Null,
    }
}

fn column(name: &str, kind: &str, format: &str, cell: Cell) -> Column {
    Column {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        description: Str::default(),
        priority: 0,
        cell,
    }
}

fn selectable_fields(version: &Value) -> Vec<SelectableField> {
    let declared = version.get("selectableFields").and_then(Value::as_array).unwrap_or_default();
    let field = |declared: &Value| {
        let name = declared.str_at(&["jsonPath"]).trim_start_matches('.');
        SelectableField { name: name.into(), value: FieldValue::Path(dotted(name)) }
    };
    declared.iter().map(field).collect()
}

fn subresources(version: &Value, gvk: &GroupVersionKind) -> Vec<Subresource> {
    let verbs: Vec<Str> = ["get", "patch", "update"].into_iter().map(Str::from).collect();
    let mut subresources = Vec::new();
    if version.at(&["subresources", "status"]).is_some() {
        subresources.push(Subresource {
            name: "status".into(),
            verbs: verbs.clone(),
            gvk: gvk.clone(),
            serve: Serve::Status,
        });
    }
    if let Some(scale) = version.at(&["subresources", "scale"]) {
        let paths = ScalePaths {
            spec_replicas: dotted(scale.str_at(&["specReplicasPath"])),
            status_replicas: dotted(scale.str_at(&["statusReplicasPath"])),
            selector: scale.get("labelSelectorPath").and_then(Value::as_str).map(dotted),
        };
        let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
        subresources.push(Subresource { name: "scale".into(), verbs, gvk, serve: Serve::Scale(paths) });
    }
    subresources
}

fn dotted(path: &str) -> Vec<Str> {
    path.trim_start_matches('.').split('.').map(Str::from).collect()
}

fn flag(version: &Value, key: &str) -> bool {
    version.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn texts(value: &Value, key: &str) -> Vec<Str> {
    let items = value.get(key).and_then(Value::as_array).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(Str::from).collect()
}
