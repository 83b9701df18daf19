//! The envelope of protobuf bodies: `k8s\0` and a `runtime.Unknown` with the type and the message.

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;

use crate::http::body::unrecognized;
use crate::http::negotiate::unsupported_body;
use crate::registry::Body;

const MAGIC: &[u8] = b"k8s\0";

/// A parsed envelope.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub message: &'a [u8],
}

/// Bytes that are no envelope, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("provided data does not appear to be a protobuf message, expected prefix 6b387300")]
    NoMagic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType")]
    WireType,
    #[error("proto: invalid UTF-8")]
    Utf8,
    #[error("the message is encoded ({0} bytes of contentEncoding), which no server accepts")]
    Encoded(usize),
}

impl<'a> Envelope<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut envelope = Self::default();
        let body = bytes.strip_prefix(MAGIC).ok_or(EnvelopeError::NoMagic)?;
        for field in Fields(body) {
            match field? {
                (1, type_meta) => {
                    for field in Fields(type_meta) {
                        let (number, text) = field?;
                        let text = std::str::from_utf8(text).map_err(|_| EnvelopeError::Utf8)?;
                        match number {
                            1 => envelope.api_version = text,
                            2 => envelope.kind = text,
                            _ => {}
                        }
                    }
                }
                (2, message) => envelope.message = message,
                (3, encoding) if !encoding.is_empty() => return Err(EnvelopeError::Encoded(encoding.len())),
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// The length-delimited fields of a message, which is all that an envelope has.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8]), EnvelopeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, &'a [u8]), EnvelopeError> {
        let key = self.varint()?;
        if key & 7 != 2 {
            return Err(EnvelopeError::WireType);
        }
        let length = usize::try_from(self.varint()?).map_err(|_| EnvelopeError::Truncated)?;
        let (value, rest) = self.0.split_at_checked(length).ok_or(EnvelopeError::Truncated)?;
        self.0 = rest;
        Ok((key >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, EnvelopeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(EnvelopeError::Truncated)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(EnvelopeError::Truncated)
    }
}

/// Decodes a body as an object of the kind. The type that the envelope names goes into the tree, where the registry
/// checks it like that of any body.
pub fn decode(kind: &KindInfo, bytes: &[u8]) -> Result<Body, Status> {
    let refuse = |why: &str| unrecognized(&kind.gvk.kind, why, bytes);
    let envelope = Envelope::parse(bytes).map_err(|error| refuse(&error.to_string()))?;
    let decoded = kind.schema.decode_protobuf(envelope.message).ok_or_else(|| unsupported_body(false))?;
    let mut value = decoded.map_err(|error| refuse(&error.0))?;
    if let Value::Object(map) = &mut value {
        for (key, text) in [("kind", envelope.kind), ("apiVersion", envelope.api_version)] {
            if !text.is_empty() {
                map.insert(key, text);
            }
        }
    }
    Ok(Body { value, duplicates: Vec::new() })
}

/// `DeleteOptions` as protobuf, whose handful of fields needs no table (`meta/v1` `DeleteOptions`).
pub fn delete_options(bytes: &[u8]) -> Result<Value, Status> {
    let refuse = |error: EnvelopeError| Status::bad_request(error.to_string());
    let envelope = Envelope::parse(bytes).map_err(refuse)?;
    let mut fields = AnyFields(Fields(envelope.message));
    let mut options = corten_apimachinery::value::Map::new();
    let mut dry_run: Vec<Value> = Vec::new();
    while let Some((number, field)) = fields.next().map_err(refuse)? {
        match (number, field) {
            (1, AnyField::Number(seconds)) => {
                options.insert("gracePeriodSeconds", seconds.cast_signed());
            }
            (2, AnyField::Bytes(message)) => {
                let mut preconditions = corten_apimachinery::value::Map::new();
                for field in Fields(message) {
                    let (number, text) = field.map_err(refuse)?;
                    let key = if number == 1 { "uid" } else { "resourceVersion" };
                    preconditions.insert(key, text_of(text).map_err(refuse)?);
                }
                options.insert("preconditions", preconditions);
            }
            (3, AnyField::Number(flag)) => {
                options.insert("orphanDependents", flag != 0);
            }
            (4, AnyField::Bytes(text)) => {
                options.insert("propagationPolicy", text_of(text).map_err(refuse)?);
            }
            (5, AnyField::Bytes(text)) => dry_run.push(text_of(text).map_err(refuse)?.into()),
            _ => {}
        }
    }
    if !dry_run.is_empty() {
        options.insert("dryRun", dry_run);
    }
    Ok(Value::Object(options))
}

fn text_of(bytes: &[u8]) -> Result<&str, EnvelopeError> {
    std::str::from_utf8(bytes).map_err(|_| EnvelopeError::Utf8)
}

/// Fields that may be varints too.
struct AnyFields<'a>(Fields<'a>);

enum AnyField<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> AnyFields<'a> {
    fn next(&mut self) -> Result<Option<(u64, AnyField<'a>)>, EnvelopeError> {
        if self.0.0.is_empty() {
            return Ok(None);
        }
        let before = self.0.0;
        let key = self.0.varint()?;
        if key & 7 == 0 {
            return Ok(Some((key >> 3, AnyField::Number(self.0.varint()?))));
        }
        self.0.0 = before;
        let (number, bytes) = self.0.field()?;
        Ok(Some((number, AnyField::Bytes(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[test]
    fn envelopes() {
        let bytes = b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07Example\x12\x03abc\x1a\x00\x22\x00";
        let envelope = Envelope::parse(bytes).unwrap();
        assert_eq!(envelope, Envelope { api_version: "v1", kind: "Example", message: b"abc" });
        assert_eq!(Envelope::parse(b"{}"), Err(EnvelopeError::NoMagic));
        for length in 5..bytes.len() - 4 {
            let cut = Envelope::parse(&bytes[..length]);
            assert!(cut.is_err() || cut.unwrap().message.is_empty(), "{length}");
        }
        assert_eq!(Envelope::parse(b"k8s\0\x08\x01"), Err(EnvelopeError::WireType));
        assert_eq!(
            Envelope::parse(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            Err(EnvelopeError::Truncated)
        );
    }

    #[test]
    fn delete_options_are_read() {
        let message = b"\x08\x1e\x12\x03\x0a\x01u\x22\x0aForeground\x2a\x03All";
        let mut bytes = b"k8s\0\x12".to_vec();
        bytes.push(u8::try_from(message.len()).unwrap());
        bytes.extend_from_slice(message);
        assert_eq!(
            delete_options(&bytes).unwrap(),
            value!({"gracePeriodSeconds": 30_i64, "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground",
                    "dryRun": ["All"]})
        );
    }
}
