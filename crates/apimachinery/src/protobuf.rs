//! Protobuf's wire format, and the envelope in which the API sends objects: `k8s\0` and a `runtime.Unknown`.
//! What a message's fields mean stands in the type table (`schema::table`).

/// The first bytes of an object in protobuf.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag")]
    Tag,
    #[error("proto: wrong wireType = {wire} for field {number}")]
    WireType { number: u32, wire: u8 },
    #[error("proto: field {number} contains invalid UTF-8")]
    Utf8 { number: u32 },
    #[error("proto: field {number} holds no JSON")]
    Json { number: u32 },
    #[error("proto: field {number} holds a value of another type")]
    Form { number: u32 },
    #[error("proto: nested deeper than {} messages", crate::json::DEPTH_MAX)]
    Depth,
    #[error("proto: more than {} values", VALUES_MAX)]
    Values,
}

/// Values that one message may hold: two bytes on the wire can become hundreds in memory.
pub const VALUES_MAX: usize = 1_000_000;

/// An object's envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    /// The message of the kind.
    pub raw: &'a [u8],
    pub content_encoding: &'a str,
    pub content_type: &'a str,
}

/// The value of one field on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Opens the envelope of a body.
pub fn decode_envelope(body: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let message = body.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?;
    let mut envelope = Envelope::default();
    for field in Fields(message) {
        match field? {
            (1, wire) => decode_type_meta(wire.bytes(1)?, &mut envelope)?,
            (2, wire) => envelope.raw = wire.bytes(2)?,
            (3, wire) => envelope.content_encoding = wire.text(3)?,
            (4, wire) => envelope.content_type = wire.text(4)?,
            _ => {}
        }
    }
    Ok(envelope)
}

/// An object's body: the envelope around the message of its kind.
pub fn encode_envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut type_meta = Writer::default();
    type_meta.bytes(1, api_version.as_bytes());
    type_meta.bytes(2, kind.as_bytes());
    let mut out = Writer(MAGIC.to_vec());
    out.bytes(1, &type_meta.0);
    out.bytes(2, message);
    out.bytes(3, b"");
    out.bytes(4, b"");
    out.0
}

/// One frame of a watch stream: the length in four bytes, then a `WatchEvent` around the body of an object.
pub fn encode_watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Writer::default();
    raw.bytes(1, object);
    let mut out = Writer(vec![0; 4]);
    out.bytes(1, event.as_bytes());
    out.bytes(2, &raw.0);
    let length = u32::try_from(out.0.len() - 4).expect("an object is far smaller than 4 GiB");
    out.0[..4].copy_from_slice(&length.to_be_bytes());
    out.0
}

fn decode_type_meta<'a>(message: &'a [u8], envelope: &mut Envelope<'a>) -> Result<(), ProtobufError> {
    for field in Fields(message) {
        match field? {
            (1, wire) => envelope.api_version = wire.text(1)?,
            (2, wire) => envelope.kind = wire.text(2)?,
            _ => {}
        }
    }
    Ok(())
}

impl<'a> Wire<'a> {
    pub(crate) fn varint(self, number: u32) -> Result<u64, ProtobufError> {
        match self {
            Self::Varint(value) => Ok(value),
            other => Err(ProtobufError::WireType { number, wire: other.wire_type() }),
        }
    }

    pub(crate) fn fixed64(self, number: u32) -> Result<u64, ProtobufError> {
        match self {
            Self::Fixed64(value) => Ok(value),
            other => Err(ProtobufError::WireType { number, wire: other.wire_type() }),
        }
    }

    pub(crate) fn bytes(self, number: u32) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(ProtobufError::WireType { number, wire: other.wire_type() }),
        }
    }

    pub(crate) fn text(self, number: u32) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| ProtobufError::Utf8 { number })
    }

    fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        }
    }
}

/// The fields of a message, in their order. Ends after an error.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), ProtobufError>;

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
    fn field(&mut self) -> Result<(u32, Wire<'a>), ProtobufError> {
        let tag = read_varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Tag)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(read_varint(&mut self.0)?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take_array()?)),
            2 => {
                let length = usize::try_from(read_varint(&mut self.0)?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take_array()?)),
            _ => return Err(ProtobufError::Tag),
        };
        if number == 0 { Err(ProtobufError::Tag) } else { Ok((number, wire)) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }
}

pub(crate) fn read_varint(input: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first().ok_or(ProtobufError::Truncated)?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Overflow)
}

/// A message being written.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn varint(&mut self, number: u32, value: u64) {
        self.raw_varint(u64::from(number) << 3);
        self.raw_varint(value);
    }

    pub(crate) fn fixed64(&mut self, number: u32, value: u64) {
        self.raw_varint(u64::from(number) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.raw_varint(u64::from(number) << 3 | 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A message inside this one: written behind a guess of one byte for its length, and moved where that is not enough.
    pub(crate) fn message<T>(&mut self, number: u32, write: impl FnOnce(&mut Self) -> T) -> T {
        self.raw_varint(u64::from(number) << 3 | 2);
        let start = self.0.len();
        self.0.push(0);
        let written = write(self);
        let mut length = Self::default();
        length.raw_varint((self.0.len() - start - 1) as u64);
        self.0.splice(start..=start, length.0);
        written
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_names_its_object() {
        let body = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02ab\x1a\x00\x22\x00";
        let envelope = decode_envelope(body).unwrap();
        assert_eq!((envelope.api_version, envelope.kind, envelope.raw), ("v1", "Pod", b"ab".as_slice()));
    }

    #[test]
    fn an_envelope_comes_back() {
        let body = encode_envelope("apps/v1", "Deployment", &[7; 300]);
        let envelope = decode_envelope(&body).unwrap();
        assert_eq!((envelope.api_version, envelope.kind, envelope.raw), ("apps/v1", "Deployment", [7; 300].as_slice()));
    }

    #[test]
    fn a_watch_frame_tells_its_length() {
        assert_eq!(encode_watch_frame("ADDED", b"x"), b"\0\0\0\x0c\x0a\x05ADDED\x12\x03\x0a\x01x");
    }

    #[test]
    fn hostile_bytes_are_refused() {
        assert_eq!(decode_envelope(b"{}"), Err(ProtobufError::Prefix));
        assert_eq!(decode_envelope(b"k8s\0\x12\xff\xff\xff\xff\x0fa"), Err(ProtobufError::Truncated));
        assert_eq!(decode_envelope(b"k8s\0\x12"), Err(ProtobufError::Truncated));
        assert_eq!(decode_envelope(b"k8s\0\x13\x00"), Err(ProtobufError::Tag));
        assert_eq!(decode_envelope(b"k8s\0\x10\x00"), Err(ProtobufError::WireType { number: 2, wire: 0 }));
        assert_eq!(decode_envelope(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), Err(ProtobufError::Overflow));
    }
}
