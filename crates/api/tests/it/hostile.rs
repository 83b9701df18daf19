//! Bodies that nobody meant: the decoders answer with an error or an object, never with a panic, and conforming twice
//! is conforming once.

use corten_apimachinery::schema::ObjectSchema as _;
use corten_apimachinery::value::{Map, Value};
use corten_apimachinery::{json, protobuf};
use proptest::prelude::*;
use proptest::sample::Index;

const KINDS: &[(&str, &str)] = &[
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("apps/v1", "Deployment"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
];

/// Names that occur in the schemas, so that random trees reach below the root.
const NAMES: &[&str] = &[
    "metadata",
    "name",
    "labels",
    "spec",
    "status",
    "template",
    "containers",
    "ports",
    "containerPort",
    "resources",
    "limits",
    "cpu",
    "data",
    "rules",
    "verbs",
    "versions",
    "schema",
    "openAPIV3Schema",
    "properties",
    "items",
    "additionalProperties",
    "creationTimestamp",
    "volumes",
    "hostPath",
    "replicas",
    "selector",
    "bogus",
];

/// Every form that a field can have in a message.
const POD: &str = r#"{"apiVersion":"v1","kind":"Pod",
    "metadata":{"name":"a","creationTimestamp":"2026-11-21T10:00:00Z","labels":{"app":"a"},"finalizers":["a/b"]},
    "spec":{"containers":[{"name":"a","stdin":true,"ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}},
        "livenessProbe":{"httpGet":{"port":"web"}}}],
        "securityContext":{"supplementalGroups":[1,2]},"terminationGracePeriodSeconds":30}}"#;

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (0i64..4).prop_map(Value::Int),
        any::<f64>().prop_filter("JSON has no such number", |number| number.is_finite()).prop_map(Value::Float),
        "[a-z0-9=]{0,8}".prop_map(Value::from),
        Just(Value::from("2026-11-21T10:00:00Z")),
        Just(Value::from("1.5Gi")),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((proptest::sample::select(NAMES), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.into(), v)).collect::<Map>())),
        ]
    })
}

proptest! {
    #[test]
    fn conforming_twice_is_conforming_once(tree in tree(), kind in proptest::sample::select(KINDS)) {
        let schema = corten_api::schema(kind.0, kind.1).unwrap();
        if let Ok(once) = schema.conform(tree) {
            let twice = schema.conform(once.value.clone()).unwrap();
            prop_assert!(twice.unknown.is_empty());
            prop_assert_eq!(json::to_string(&twice.value), json::to_string(&once.value));
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in proptest::sample::select(KINDS)) {
        let schema = corten_api::schema(kind.0, kind.1).unwrap();
        if let Some(Ok(value)) = schema.decode_protobuf(&bytes) {
            prop_assert!(value.as_object().is_some());
        }
        let framed = [protobuf::MAGIC.as_slice(), &bytes].concat();
        if let Ok(envelope) = protobuf::decode_envelope(&framed) {
            prop_assert!(envelope.raw.len() <= bytes.len());
        }
    }

    /// Messages that are nearly good lead further in than bytes at random.
    #[test]
    fn damaged_messages_do_no_harm(damage in proptest::collection::vec(any::<(Index, u8)>(), 1..4)) {
        let schema = corten_api::schema("v1", "Pod").unwrap();
        let pod = schema.conform(json::parse(POD.as_bytes()).unwrap().value).unwrap().value;
        let mut message = schema.encode_protobuf(&pod).unwrap().unwrap();
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if let Ok(value) = schema.decode_protobuf(&message).unwrap() {
            prop_assert!(value.as_object().is_some());
        }
    }
}

/// Wraps a message in field `number` of another.
fn nested(number: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = message.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(message);
    out
}

#[test]
fn deep_messages_are_refused() {
    let schema = corten_api::schema("apiextensions.k8s.io/v1", "CustomResourceDefinition").unwrap();
    // JSONSchemaProps.not is field 28.
    let mut message = Vec::new();
    for _ in 0..2000 {
        let mut outer = vec![0xe2, 0x01];
        let inner = nested(1, &message);
        outer.extend_from_slice(&inner[1..]);
        message = outer;
    }
    // spec.versions.schema.openAPIV3Schema
    let body = nested(2, &nested(7, &nested(4, &nested(1, &message))));
    let error = schema.decode_protobuf(&body).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "proto: nested deeper than 128 messages");
}

#[test]
fn a_message_of_countless_empty_values_is_refused() {
    let schema = corten_api::schema("v1", "Pod").unwrap();
    let containers = [0x12, 0x00].repeat(protobuf::VALUES_MAX + 1);
    let error = schema.decode_protobuf(&nested(2, &containers)).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "proto: more than 1000000 values");
}

#[test]
fn a_message_that_is_cut_short_is_refused() {
    let schema = corten_api::schema("v1", "Pod").unwrap();
    let message = nested(1, &nested(1, b"web"));
    assert!(schema.decode_protobuf(&message).unwrap().is_ok());
    for length in 1..message.len() {
        let error = schema.decode_protobuf(&message[..length]).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "unexpected EOF", "cut to {length}");
    }
}

#[test]
fn numbers_and_tags_that_cannot_be_are_refused() {
    let schema = corten_api::schema("v1", "Pod").unwrap();
    for (message, why) in [
        ([&[0x0a][..], &[0xff; 11]].concat(), "proto: integer overflow"),
        (vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00], "proto: illegal tag"),
        (vec![0x00, 0x00], "proto: illegal tag"),
        (vec![0x0b, 0x0c], "proto: illegal tag"),
        (vec![0x08, 0x01], "proto: wrong wireType = 0 for field 1"),
    ] {
        let error = schema.decode_protobuf(&message).unwrap().unwrap_err();
        assert_eq!(error.to_string(), why, "{message:x?}");
    }
}
