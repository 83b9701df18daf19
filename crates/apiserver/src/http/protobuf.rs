//! Protobuf bodies: the envelope opened, its message decoded by the schema of the kind.

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::protobuf::decode_envelope;
use corten_apimachinery::schema::ObjectSchema as _;
use corten_apimachinery::schema::table::TableSchema;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;

use crate::http::body::unrecognized;
use crate::http::negotiate::unsupported_body;
use crate::registry::{Body, KindSet};

/// The type of `DeleteOptions`, which every group accepts.
const DELETE_OPTIONS: &str = "meta/v1.DeleteOptions";

/// Decodes a body as an object of the kind. The type that the envelope names goes into the tree, where the registry
/// checks it like that of any body.
pub(crate) fn decode(kind: &KindInfo, bytes: &[u8]) -> Result<Body, Status> {
    let refuse = |why: &str| unrecognized(&kind.gvk.kind, why, bytes);
    let envelope = decode_envelope(bytes).map_err(|error| refuse(&error.to_string()))?;
    if !envelope.content_encoding.is_empty() {
        return Err(refuse("the message is encoded, which is not supported"));
    }
    let decoded = kind.schema.decode_protobuf(envelope.raw).ok_or_else(|| unsupported_body(false))?;
    let mut value = decoded.map_err(|error| refuse(&error.0))?;
    if let Value::Object(map) = &mut value {
        for (key, text) in [("kind", envelope.kind), ("apiVersion", envelope.api_version)] {
            if !text.is_empty() {
                map.insert(key, text);
            }
        }
    }
    Ok(Body::from(value))
}

/// Decodes `DeleteOptions`; its type stands in the table that the built-in kinds share.
pub(crate) fn delete_options(kinds: &KindSet, bytes: &[u8]) -> Result<Value, Status> {
    let envelope = decode_envelope(bytes).map_err(|error| Status::bad_request(error.to_string()))?;
    let table = kinds.iter().find_map(|kind| kind.schema.as_any().downcast_ref::<TableSchema>());
    let table = table.map(TableSchema::table);
    let schema = table.and_then(|table| table.lookup(DELETE_OPTIONS).map(|ty| TableSchema::new(table, ty)));
    let decoded = schema.and_then(|schema| schema.decode_protobuf(envelope.raw));
    decoded.ok_or_else(|| unsupported_body(false))?.map_err(|error| Status::bad_request(error.0))
}
