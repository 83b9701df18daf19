//! Bodies of requests: what can be read comes back as it was after it was written.

use corten_apimachinery::schema::ObjectSchema as _;
use corten_apimachinery::value::Value;
use corten_apimachinery::{json, protobuf, yaml};

/// Kinds that a message is read as, chosen by its first byte; between them they have every form that a field may have.
const KINDS: [(&str, &str); 6] = [
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("apps/v1", "Deployment"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
];

pub(crate) fn json_text(bytes: &[u8]) {
    let Ok(parsed) = json::parse(bytes) else { return };
    let text = json::to_vec(&parsed.value);
    let again = json::parse(&text).expect("what is written is JSON");
    assert_eq!(json::to_vec(&again.value), text);
    assert!(again.duplicates.is_empty(), "{:?}", again.duplicates);
    conform(&parsed.value, bytes);
}

pub(crate) fn yaml_text(bytes: &[u8]) {
    let Ok(document) = yaml::parse_document(bytes) else { return };
    assert_eq!(document.strict_error().is_some(), !document.strict.is_empty());
    let text = yaml::to_string(&document.value);
    let again = yaml::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    assert_eq!(json::to_string(&again.value), json::to_string(&sorted(document.value)), "{text}");
    assert!(again.duplicates.is_empty(), "{:?}", again.duplicates);
}

/// Writing sorts the fields.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Making it an object twice is making it one once.
fn conform(value: &Value, bytes: &[u8]) {
    let (api_version, kind) = KINDS[bytes.len() % KINDS.len()];
    let schema = corten_api::schema(api_version, kind).expect("a kind of upstream's");
    if let Ok(once) = schema.conform(value.clone()) {
        let twice = schema.conform(once.value.clone()).expect("it is one already");
        assert_eq!(json::to_string(&twice.value), json::to_string(&once.value));
    }
}

pub(crate) fn protobuf_message(bytes: &[u8]) {
    let Some((first, message)) = bytes.split_first() else { return };
    if let Ok(envelope) = protobuf::decode_envelope(bytes) {
        assert!(envelope.raw.len() <= bytes.len());
    }
    let (api_version, kind) = KINDS[usize::from(*first) % KINDS.len()];
    let schema = corten_api::schema(api_version, kind).expect("a kind of upstream's");
    let Ok(value) = schema.decode_protobuf(message).expect("it has a form in protobuf") else { return };
    let Ok(object) = schema.conform(value) else { return };
    let written = schema.encode_protobuf(&object.value).expect("it has a form in protobuf");
    let Ok(written) = written else { return };
    let again = schema.decode_protobuf(&written).expect("as before").expect("what is written is a message");
    let again = schema.conform(again).expect("of an object").value;
    assert_eq!(json::to_string(&again), json::to_string(&object.value));
}
