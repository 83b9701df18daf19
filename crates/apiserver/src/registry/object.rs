//! Objects as they are stored and shown: canonical JSON bytes, a head taken out once, the revision spliced in on the
//! way out.

use std::sync::Arc;

use bytes::Bytes;
use corten_apimachinery::json;
use corten_apimachinery::kind::{FieldValue, KindInfo, SelectableField};
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Map, Str, Value};
use corten_store::Revision;
use serde::Deserialize;

use super::{Head, Object, Shown};

/// Where metadata begins; neither a kind nor an API version can contain it.
const METADATA: &[u8] = br#","metadata":{"#;

/// Bytes under a key that are no object of this server. Names nothing of their content, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error("the stored bytes are not canonical JSON of an object")]
    NotCanonical,
    #[error("the stored bytes are no object: {0}")]
    Malformed(String),
    #[error("the object cannot be converted: {0}")]
    Conversion(String),
    #[error("the stored bytes cannot be unsealed: {0}")]
    Sealed(#[from] super::seal::SealError),
}

/// The text that goes to the store: `kind`, `apiVersion`, `metadata` first, no `resourceVersion`.
pub(super) fn encode(value: &Value) -> Bytes {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(br#"{"kind":"#);
    json::write_str(value.str_at(&["kind"]), &mut out);
    out.extend_from_slice(br#","apiVersion":"#);
    json::write_str(value.str_at(&["apiVersion"]), &mut out);
    out.extend_from_slice(br#","metadata":"#);
    write_fields(value.get("metadata").and_then(Value::as_object), &["resourceVersion"], true, &mut out);
    write_fields(value.as_object(), &["kind", "apiVersion", "metadata"], false, &mut out);
    out.into()
}

/// Writes an object's fields but some; `whole` opens it, and both ways close it.
fn write_fields(map: Option<&Map>, without: &[&str], whole: bool, out: &mut Vec<u8>) {
    if whole {
        out.push(b'{');
    }
    let mut first = whole;
    for (key, value) in map.iter().flat_map(|map| map.iter()).filter(|(key, _)| !without.contains(&key.as_str())) {
        if !first {
            out.push(b',');
        }
        first = false;
        json::write_str(key, out);
        out.push(b':');
        json::write(value, out);
    }
    out.push(b'}');
}

impl Object {
    /// Takes the head out of stored bytes. `fields` are the selectable fields of the stored version's record.
    pub fn decode(json: Bytes, revision: Revision, fields: &[SelectableField]) -> Result<Self, ObjectError> {
        let splice = find_metadata(&json).ok_or(ObjectError::NotCanonical)?;
        let top: Top = serde_json::from_slice(&json).map_err(|error| ObjectError::Malformed(error.to_string()))?;
        let mut head = top.metadata.head();
        if !fields.is_empty() {
            let value = parse(&json)?;
            head.fields = field_values(fields, &value);
        }
        Ok(Self { json, splice, revision, head })
    }

    /// The object that a value becomes, without reading it back.
    pub fn of(value: &Value, revision: Revision, fields: &[SelectableField]) -> Self {
        let json = encode(value);
        let splice = find_metadata(&json).expect("encode writes metadata");
        Self { json, splice, revision, head: Head::of(value, fields) }
    }

    /// The stored version as a tree, without `resourceVersion`.
    pub fn parse(&self) -> Result<Value, ObjectError> {
        parse(&self.json)
    }

    /// Appends the object's JSON with its revision, without parsing it.
    fn splice_into(&self, out: &mut Vec<u8>) {
        out.reserve(self.json.len() + 48);
        out.extend_from_slice(&self.json[..self.splice]);
        if self.revision > 0 {
            out.extend_from_slice(br#""resourceVersion":""#);
            out.extend_from_slice(self.revision.to_string().as_bytes());
            out.extend_from_slice(if self.json[self.splice] == b'}' { br#"""# } else { br#"","# });
        }
        out.extend_from_slice(&self.json[self.splice..]);
    }
}

fn find_metadata(json: &[u8]) -> Option<usize> {
    memchr::memmem::find(json, METADATA).map(|at| at + METADATA.len())
}

fn parse(json: &[u8]) -> Result<Value, ObjectError> {
    json::parse(json).map(|parsed| parsed.value).map_err(|error| ObjectError::Malformed(error.to_string()))
}

/// The values of selectable fields, in the record's order.
pub(super) fn field_values(fields: &[SelectableField], value: &Value) -> Vec<Str> {
    fields.iter().map(|field| field_value(field, value)).collect()
}

fn field_value(field: &SelectableField, value: &Value) -> Str {
    match &field.value {
        FieldValue::Computed(compute) => compute(value),
        FieldValue::Path(path) => match path.iter().try_fold(value, |value, key| value.get(key)) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => Str::default(),
            Some(other) => json::to_string(other).into(),
        },
    }
}

impl Head {
    pub fn of(value: &Value, fields: &[SelectableField]) -> Self {
        let meta = Meta::of(value);
        Self {
            namespace: meta.namespace().into(),
            name: meta.name().into(),
            uid: meta.uid().into(),
            labels: meta.sorted_labels(),
            fields: field_values(fields, value),
            owners: meta.owner_references().map(|owner| owner.uid().into()).collect(),
            deleting: meta.deletion_timestamp().is_some(),
        }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }
}

/// The part of an object that the head needs; the rest is skipped, not built.
#[derive(Deserialize)]
struct Top {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    labels: std::collections::BTreeMap<String, String>,
    owner_references: Vec<Owner>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    uid: String,
}

impl Metadata {
    fn head(self) -> Head {
        Head {
            namespace: self.namespace.into(),
            name: self.name.into(),
            uid: self.uid.into(),
            labels: self.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            fields: Vec::new(),
            owners: self.owner_references.into_iter().map(|owner| owner.uid.into()).collect(),
            deleting: self.deletion_timestamp.is_some(),
        }
    }
}

impl Shown {
    /// The object as clients see it: in the asked version, defaults of fields younger than the object applied, with
    /// `resourceVersion`.
    pub fn to_value(&self) -> Result<Value, ObjectError> {
        let mut value = self.object.parse()?;
        if let Some(convert) = &self.kind.convert {
            value = (convert.from_storage)(value).map_err(ObjectError::Conversion)?;
        }
        if self.kind.schema.defaults_on_read() {
            self.kind.schema.default(&mut value);
        }
        if self.object.revision > 0 {
            value.object_entry("metadata").insert("resourceVersion", self.object.revision.to_string());
        }
        Ok(value)
    }

    /// Appends the object's JSON. Copies the stored bytes where nothing has to be converted or defaulted. After an
    /// error `out` is as it was.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), ObjectError> {
        if self.kind.convert.is_none() && !self.kind.schema.defaults_on_read() {
            self.object.splice_into(out);
        } else {
            json::write(&self.to_value()?, out);
        }
        Ok(())
    }

    /// An object that is shown but not stored: a scale.
    pub(super) fn unstored(kind: Arc<KindInfo>, value: &Value, revision: Revision) -> Self {
        Self { kind, object: Arc::new(Object::of(value, revision, &[])) }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn writes_canonical_bytes_and_reads_the_head_back() {
        let value = value!({
            "metadata": {"name": "a", "namespace": "n", "resourceVersion": "7", "uid": "u", "labels": {"k": "v"},
                "ownerReferences": [{"uid": "o"}], "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"metadata": {"x": 1}},
            "apiVersion": "g/v1",
            "kind": "Thing"
        });
        let bytes = encode(&value);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"Thing","apiVersion":"g/v1","metadata":{"name":"a","namespace""#),
            "{text}"
        );
        assert!(!text.contains("resourceVersion"), "{text}");
        let fields = [SelectableField { name: "spec.metadata.x".into(), value: path(&["spec", "metadata", "x"]) }];
        let object = Object::decode(bytes, 9, &fields).unwrap();
        assert_eq!(object.head, Head::of(&value, &fields));
        assert_eq!(object.head.fields, ["1"]);
        assert!(object.head.deleting);
        let mut out = Vec::new();
        object.splice_into(&mut out);
        let shown = json::parse(&out).unwrap().value;
        assert_eq!(shown.str_at(&["metadata", "resourceVersion"]), "9");
        assert_eq!(shown.at(&["spec"]), value.at(&["spec"]));
    }

    #[test]
    fn empty_metadata_and_foreign_bytes() {
        let object = Object::of(&value!({"kind": "A", "apiVersion": "v1"}), 3, &[]);
        let mut out = Vec::new();
        object.splice_into(&mut out);
        assert_eq!(out, br#"{"kind":"A","apiVersion":"v1","metadata":{"resourceVersion":"3"}}"#);
        let foreign = Object::decode(Bytes::from_static(b"k8s\0binary"), 1, &[]);
        assert_eq!(foreign.unwrap_err(), ObjectError::NotCanonical);
    }

    fn path(names: &[&str]) -> FieldValue {
        FieldValue::Path(names.iter().map(|name| Str::from(*name)).collect())
    }
}
