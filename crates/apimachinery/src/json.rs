//! JSON to [`Value`] and back. Reading reports duplicate fields with their paths, as upstream's strict decoder does.

mod syntax;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::value::{Map, Str, Value};

/// Deepest nesting of a body, as in Go's decoder-independent limit of `serde_json`.
pub const DEPTH_MAX: usize = 128;

/// A parsed text and the duplicate fields in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    pub value: Value,
    /// Whole paths, as `spec.containers[0].name`, in the order met. The last value of a duplicate field wins.
    pub duplicates: Vec<String>,
    /// Where there are any: the same text if the first value of each won. Go decodes all of them, and so refuses a text for
    /// what is wrong with a value that counts no longer.
    pub first: Option<Value>,
}

/// A text that is no JSON, in Go's words where Go would refuse it too.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl JsonError {
    fn new(text: &[u8], error: &serde_json::Error) -> Self {
        Self(syntax::fault(text).unwrap_or_else(|| error.to_string()))
    }
}

/// Reads one JSON value and nothing behind it.
pub fn parse(text: &[u8]) -> Result<Parsed, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = read(&mut deserializer).map_err(|error| JsonError::new(text, &error))?;
    deserializer.end().map_err(|error| JsonError::new(text, &error))?;
    if parsed.duplicates.is_empty() {
        return Ok(parsed);
    }
    let seed = Seed { duplicates: &mut Vec::new(), wins: Wins::First };
    let first = seed.deserialize(&mut serde_json::Deserializer::from_slice(text));
    Ok(Parsed { first: Some(first.map_err(|error| JsonError::new(text, &error))?), ..parsed })
}

/// Reads a value from any self-describing serde format.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
    let mut duplicates = Vec::new();
    let value = Seed { duplicates: &mut duplicates, wins: Wins::Last }.deserialize(deserializer)?;
    Ok(Parsed { value, duplicates, first: None })
}

/// Duplicate fields gather their path on the way out, so that a text without any costs nothing.
struct Seed<'a> {
    duplicates: &'a mut Vec<String>,
    wins: Wins,
}

/// Which value of a duplicate field counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wins {
    First,
    Last,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "beyond 64 signed bits Go's unstructured objects hold floats too"
        )]
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::with_capacity(sequence.size_hint().unwrap_or(0).min(64));
        loop {
            let known = self.duplicates.len();
            let item = sequence.next_element_seed(Seed { duplicates: self.duplicates, wins: self.wins })?;
            prefix(&mut self.duplicates[known..], || format!("[{}]", items.len()));
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let start = self.duplicates.len();
        while let Some(key) = fields.next_key::<Key>()? {
            let known = self.duplicates.len();
            let value = fields.next_value_seed(Seed { duplicates: self.duplicates, wins: self.wins })?;
            prefix(&mut self.duplicates[known..], || key.0.to_string());
            if self.wins == Wins::First {
                map.insert_if_absent(&key.0, || value);
                continue;
            }
            let Some((duplicate, _)) = map.replace(key.0, value) else { continue };
            if !self.duplicates[start..].iter().any(|path| path == duplicate) {
                if self.duplicates.len() >= DUPLICATES_MAX {
                    return Err(A::Error::custom("too many duplicate fields"));
                }
                self.duplicates.push(duplicate.to_string());
            }
        }
        Ok(Value::Object(map))
    }
}

/// Duplicate fields that one body may report; above it the body is refused rather than listed.
const DUPLICATES_MAX: usize = 100;

/// Puts a path element in front of each path.
fn prefix(paths: &mut [String], element: impl Fn() -> String) {
    for path in paths {
        let dot = if path.starts_with('[') { "" } else { "." };
        *path = format!("{}{dot}{path}", element());
    }
}

/// An object key; YAML's numbers and booleans as keys become their text.
struct Key(Str);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(text.into()))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The compact JSON text of a value.
pub fn to_string(value: &Value) -> String {
    String::from_utf8(to_vec(value)).expect("JSON is written as UTF-8")
}

/// The compact JSON text of a value, as bytes.
pub fn to_vec(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

/// Appends the compact JSON text of a value.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => write_scalar(number, out),
        Value::Float(number) => write_scalar(number, out),
        Value::String(text) => write_str(text, out),
        Value::Array(items) => write_array(items, out),
        Value::Object(map) => write_object(map, out),
    }
}

fn write_array(items: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn write_object(map: &Map, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_str(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

/// Appends a JSON string, quotes included.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    write_scalar(text, out);
}

fn write_scalar<T: serde::Serialize + ?Sized>(scalar: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("writing a scalar to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, again: &str, duplicates: &[&str]) {
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(to_string(&parsed.value), again);
        assert_eq!(parsed.duplicates, duplicates);
    }

    #[test]
    fn the_first_value_of_a_duplicate_field_is_kept_beside() {
        let parsed = parse(br#"{"a":{"b":1,"b":2},"a":{"b":3},"c":[{"d":4,"d":5}]}"#).unwrap();
        assert_eq!(to_string(&parsed.value), r#"{"a":{"b":3},"c":[{"d":5}]}"#);
        assert_eq!(to_string(&parsed.first.unwrap()), r#"{"a":{"b":1},"c":[{"d":4}]}"#);
        assert_eq!(parse(br#"{"a":1}"#).unwrap().first, None);
    }

    #[test]
    fn round_trips_and_duplicates() {
        check(r#"{"b":1,"a":[true,null,-2.5,"x\n"]}"#, r#"{"b":1,"a":[true,null,-2.5,"x\n"]}"#, &[]);
        check(r#"{"a":1,"a":2,"a":3}"#, r#"{"a":3}"#, &["a"]);
        check(r#"{"s":[{},{"t":{"x":1,"x":1}}]}"#, r#"{"s":[{},{"t":{"x":1}}]}"#, &["s[1].t.x"]);
        check("9223372036854775807", "9223372036854775807", &[]);
    }

    #[test]
    fn refuses_what_is_no_json() {
        for text in ["", "{", "{}x", "[1,]", "\"\u{1}\"", "nul"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert!(parse(deep.as_bytes()).is_err());
    }
}
