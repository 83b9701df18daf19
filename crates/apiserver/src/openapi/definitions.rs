//! The definitions of one kind: its object, its list, its subresources' bodies.

use corten_apimachinery::kind::{GroupVersionKind, KindInfo};
use corten_apimachinery::openapi::{Definitions, definition_name, reference, to_v2};
use corten_apimachinery::schema::structural::CustomSchema;
use corten_apimachinery::schema::table::{TableSchema, TypeTable};
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use crate::registry::KindSet;

/// Adds the definition of a kind's objects; returns its name.
pub(super) fn object(kind: &KindInfo, definitions: &mut Definitions, kinds: &KindSet) -> String {
    let gvk = &kind.gvk;
    let schema = kind.schema.as_any();
    let name = match schema.downcast_ref::<TableSchema>() {
        Some(schema) => definitions.add(schema.table(), schema.ty()),
        None => {
            let name = custom_name(gvk, &gvk.kind);
            let declared = schema.downcast_ref::<CustomSchema>().map_or(&Value::Null, CustomSchema::declared);
            let schema = custom(declared, meta(definitions, kinds, "ObjectMeta"));
            definitions.0.insert(name.clone(), schema);
            name
        }
    };
    definitions.mark(&name, &gvk.group, &gvk.version, &gvk.kind);
    name
}

/// Adds the definition of a kind's list; returns its name.
pub(super) fn list(kind: &KindInfo, object: &str, definitions: &mut Definitions, kinds: &KindSet) -> String {
    let gvk = &kind.gvk;
    let listed = kind.schema.as_any().downcast_ref::<TableSchema>().and_then(|schema| {
        let table = schema.table();
        let (package, _) = table.get(schema.ty()).name.rsplit_once('.')?;
        Some((table, table.lookup(&format!("{package}.{}", kind.list_kind))?))
    });
    let name = match listed {
        Some((table, ty)) => definitions.add(table, ty),
        None => {
            let name = custom_name(gvk, &kind.list_kind);
            let schema = value!({
                "type": "object", "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"}, "items": {"type": "array", "items": (reference(object))},
                    "kind": {"type": "string"}, "metadata": (meta(definitions, kinds, "ListMeta")),
                },
            });
            definitions.0.insert(name.clone(), schema);
            name
        }
    };
    definitions.mark(&name, &gvk.group, &gvk.version, &kind.list_kind);
    name
}

/// Adds a type of `meta/v1` and returns a reference to it; an open object where no built-in kind brings the table.
pub(super) fn meta(definitions: &mut Definitions, kinds: &KindSet, name: &str) -> Value {
    let ty = table(kinds).and_then(|table| table.lookup(&format!("meta/v1.{name}")).map(|ty| (table, ty)));
    match ty {
        Some((table, ty)) => {
            let name = definitions.add(table, ty);
            value!({"allOf": [(reference(&name))]})
        }
        None => value!({"type": "object"}),
    }
}

/// What every object says of itself, and what is meant by it.
const METADATA: [(&str, &str); 12] = [
    ("name", "Name tells this object from others of its kind, in its namespace where it has one. It never changes."),
    ("generateName", "GenerateName is the beginning of a name that the server completes, where no name is given."),
    ("namespace", "The namespace that this object is in; names are unique within it. It never changes."),
    ("labels", "Labels are what selectors of other objects and of requests choose by."),
    ("annotations", "Annotations are whatever people and programs note on this object; nothing selects by them."),
    ("uid", "UID tells this object from any other that had or will have its name. The server sets it."),
    ("resourceVersion", "ResourceVersion is the revision of the last change, for conditional writes and for watches."),
    ("generation", "Generation counts the changes of what is wanted, which is the spec for most kinds."),
    ("creationTimestamp", "CreationTimestamp is a timestamp of the server's clock when this object was made."),
    ("deletionTimestamp", "DeletionTimestamp is when this object will go, or would go but for its finalizers."),
    ("finalizers", "Finalizers are what has to be done, and by whom, before this object goes."),
    ("ownerReferences", "OwnerReferences are the objects with the last of which this one goes."),
];

/// Describes what every object has.
pub(super) fn describe(definitions: &mut Definitions) {
    let Some(metadata) = definitions.0.get_mut(&definition_name("meta/v1.ObjectMeta")) else { return };
    let properties = metadata.object_entry("properties");
    for (name, text) in METADATA {
        if let Some(property) = properties.get_mut(name).and_then(Value::as_object_mut) {
            property.insert("description", text);
        }
    }
}

/// Marks every definition that is some kind's, served in this group or not.
pub(super) fn mark_kinds(definitions: &mut Definitions, kinds: &KindSet) {
    for kind in kinds.iter() {
        if let Some(schema) = kind.schema.as_any().downcast_ref::<TableSchema>() {
            let name = definition_name(schema.table().get(schema.ty()).name);
            definitions.mark(&name, &kind.gvk.group, &kind.gvk.version, &kind.gvk.kind);
        }
    }
}

/// The table that built-in kinds share.
fn table(kinds: &KindSet) -> Option<&'static TypeTable> {
    kinds.iter().find_map(|kind| kind.schema.as_any().downcast_ref::<TableSchema>()).map(TableSchema::table)
}

/// `dev.corten.test.v1.Widget`: the group reversed, as upstream names custom resources.
fn custom_name(gvk: &GroupVersionKind, kind: &str) -> String {
    let mut parts: Vec<&str> = gvk.group.split('.').rev().collect();
    parts.push(&gvk.version);
    parts.push(kind);
    parts.join(".")
}

/// A declared schema with what every object has.
fn custom(declared: &Value, metadata: Value) -> Value {
    let mut schema = match declared {
        Value::Object(map) => map.clone(),
        _ => Map::from_iter([("x-kubernetes-preserve-unknown-fields".into(), Value::Bool(true))]),
    };
    schema.insert("type", "object");
    let properties = schema.object_entry("properties");
    let text = |description: &str| value!({"type": "string", "description": description});
    properties.insert("apiVersion", text("APIVersion defines in which version of its schema this object is written."));
    properties.insert("kind", text("Kind names the schema, and so the resource, of this object."));
    let mut metadata = metadata;
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("description", "Standard object's metadata.");
    }
    properties.insert("metadata", metadata);
    Value::Object(schema)
}

/// A definition in version 2. Clients of it take an object's fields for all that it may have, so that an object which takes
/// anything tells none, not even those that every object has.
pub(super) fn second(schema: &Value) -> Value {
    const OPEN: &str = "x-kubernetes-preserve-unknown-fields";
    const KIND: &str = "x-kubernetes-group-version-kind";
    let Some(kind) = schema.get(KIND).filter(|_| schema.get(OPEN).and_then(Value::as_bool) == Some(true)) else {
        return to_v2(schema);
    };
    Value::Object(Map::from_iter([("type".into(), "object".into()), (KIND.into(), kind.clone())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_takes_anything_tells_no_fields_in_version_two() {
        const KIND: &str = "x-kubernetes-group-version-kind";
        let marked = |declared: Value| {
            let mut schema = custom(&declared, value!({"type": "object"}));
            schema.as_object_mut().expect("an object").insert(KIND, vec![value!({"kind": "Thing"})]);
            second(&schema)
        };
        let open = marked(value!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(open, value!({"type": "object", "x-kubernetes-group-version-kind": [{"kind": "Thing"}]}));
        let closed = marked(value!({"type": "object", "description": "a thing"}));
        let described = closed.str_at(&["properties", "apiVersion", "description"]);
        assert!(described.starts_with("APIVersion defines"), "{described}");
        assert_eq!(closed.str_at(&["description"]), "a thing");
    }
}
