//! Protobuf messages to trees, by the table. The result has the JSON names and forms but not yet Go's order and
//! omissions: it is conformed like a tree that was read from JSON.

mod encode;

use base64::Engine as _;

use super::bytes::BASE64;
use super::{FieldType, Inlined, Slot, Special, TypeDef, TypeId, TypeTable};
use crate::duration;
use crate::json;
use crate::protobuf::{Fields, ProtobufError, VALUES_MAX, Wire, read_varint};
use crate::time::Time;
use crate::value::{Map, Str, Value};

impl TypeTable {
    /// Decodes the message of a struct type.
    pub(super) fn decode_message(&self, ty: TypeId, message: &[u8]) -> Result<Value, ProtobufError> {
        let mut map = Map::new();
        Decoder { table: self, depth: 0, values: 0 }.structure(ty, message, &mut map)?;
        Ok(Value::Object(map))
    }
}

struct Decoder<'t> {
    table: &'t TypeTable,
    depth: usize,
    values: usize,
}

impl Decoder<'_> {
    fn structure(&mut self, ty: TypeId, message: &[u8], map: &mut Map) -> Result<(), ProtobufError> {
        self.depth += 1;
        if self.depth > json::DEPTH_MAX {
            return Err(ProtobufError::Depth);
        }
        let def = self.table.get(ty);
        for field in Fields(message) {
            let (number, wire) = field?;
            match def.slot(number) {
                Some(Slot::Field(index)) => {
                    let field = &def.fields[usize::from(index)];
                    self.field(&field.ty, field.json, number, wire, map)?;
                }
                Some(Slot::Inlined(index)) => {
                    let Inlined { ty, .. } = def.inlined[usize::from(index)];
                    self.structure(ty, wire.bytes(number)?, map)?;
                }
                None => {}
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// One occurrence of a field: lists and maps grow by one, messages are merged, the last scalar wins.
    fn field(
        &mut self,
        ty: &FieldType,
        json: &'static str,
        number: u32,
        wire: Wire<'_>,
        map: &mut Map,
    ) -> Result<(), ProtobufError> {
        self.count()?;
        match ty {
            FieldType::List(item) => {
                let items = list_entry(map, json);
                match wire {
                    Wire::Bytes(packed) if is_packable(item) => self.packed(item, number, packed, items),
                    _ => {
                        items.push(self.value(item, number, wire)?);
                        Ok(())
                    }
                }
            }
            FieldType::Map(inner) => {
                let (key, value) = self.entry(inner, wire.bytes(number)?)?;
                map.object_entry(json).insert(key, value);
                Ok(())
            }
            FieldType::Struct(id) => self.structure(*id, wire.bytes(number)?, map.object_entry(json)),
            _ => {
                let value = self.value(ty, number, wire)?;
                map.insert(Str::const_new(json), value);
                Ok(())
            }
        }
    }

    fn packed(
        &mut self,
        item: &FieldType,
        number: u32,
        mut packed: &[u8],
        items: &mut Vec<Value>,
    ) -> Result<(), ProtobufError> {
        while !packed.is_empty() {
            self.count()?;
            let wire = if matches!(item, FieldType::Float64) {
                let (bytes, rest) = packed.split_first_chunk().ok_or(ProtobufError::Truncated)?;
                packed = rest;
                Wire::Fixed64(u64::from_le_bytes(*bytes))
            } else {
                Wire::Varint(read_varint(&mut packed)?)
            };
            items.push(self.value(item, number, wire)?);
        }
        Ok(())
    }

    /// A map's entry: the key in field 1, the value in field 2, either of them absent where it is zero.
    fn entry(&mut self, inner: &FieldType, message: &[u8]) -> Result<(Str, Value), ProtobufError> {
        let mut key = Str::const_new("");
        let mut value = Value::Null;
        for field in Fields(message) {
            match field? {
                (1, wire) => key = wire.text(1)?.into(),
                (2, wire) => value = self.value(inner, 2, wire)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// A value of its own: an item, a map's value, a scalar.
    fn value(&mut self, ty: &FieldType, number: u32, wire: Wire<'_>) -> Result<Value, ProtobufError> {
        match ty {
            FieldType::Bool => Ok(Value::Bool(wire.varint(number)? != 0)),
            FieldType::Int32 => Ok(Value::Int(int32(wire.varint(number)?))),
            FieldType::Int64 => Ok(Value::Int(wire.varint(number)?.cast_signed())),
            FieldType::Float64 => Ok(Value::Float(f64::from_bits(wire.fixed64(number)?))),
            FieldType::String => Ok(Value::String(wire.text(number)?.into())),
            FieldType::Bytes => Ok(Value::from(BASE64.encode(wire.bytes(number)?))),
            FieldType::Struct(id) => {
                let mut map = Map::new();
                self.structure(*id, wire.bytes(number)?, &mut map)?;
                Ok(Value::Object(map))
            }
            FieldType::List(item) | FieldType::WrappedList(item) => self.items(item, wire.bytes(number)?),
            FieldType::Map(_) => Err(ProtobufError::WireType { number, wire: 2 }),
            FieldType::Special(special) => self.special(*special, number, wire.bytes(number)?),
        }
    }

    /// A list in a message of its own.
    fn items(&mut self, item: &FieldType, message: &[u8]) -> Result<Value, ProtobufError> {
        let mut items = Vec::new();
        for field in Fields(message) {
            if let (1, wire) = field? {
                self.count()?;
                items.push(self.value(item, 1, wire)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn special(&mut self, special: Special, number: u32, message: &[u8]) -> Result<Value, ProtobufError> {
        match special {
            Special::Time => timestamp(message, Time::to_rfc3339),
            Special::MicroTime => timestamp(message, Time::to_rfc3339_micro),
            Special::Duration => nanoseconds(message),
            Special::Quantity => Ok(text_field(message, 1)?.map_or(Value::Null, |text| Value::String(text.into()))),
            Special::IntOrString => int_or_string(message),
            Special::RawExtension | Special::FieldsV1 | Special::Json => raw(message, number),
            Special::SchemaOrArray(id) => {
                let several = FieldType::List(Box::new(FieldType::Struct(id)));
                self.either(message, (1, &FieldType::Struct(id)), (2, &several))
            }
            Special::SchemaOrBool(id) => self.either(message, (2, &FieldType::Struct(id)), (1, &FieldType::Bool)),
            Special::SchemaOrStrings(id) => {
                let several = FieldType::List(Box::new(FieldType::String));
                self.either(message, (1, &FieldType::Struct(id)), (2, &several))
            }
        }
    }

    /// A message that holds a schema, or something else in its place.
    fn either(
        &mut self,
        message: &[u8],
        (schema_number, schema): (u32, &FieldType),
        (other_number, other): (u32, &FieldType),
    ) -> Result<Value, ProtobufError> {
        let mut map = Map::new();
        for field in Fields(message) {
            let (number, wire) = field?;
            if number == schema_number {
                self.field(schema, "schema", number, wire, &mut map)?;
            } else if number == other_number {
                self.field(other, "other", number, wire, &mut map)?;
            }
        }
        let is_list = matches!(other, FieldType::List(_));
        let first = if is_list { "other" } else { "schema" };
        let second = if is_list { "schema" } else { "other" };
        Ok(map.remove(first).or_else(|| map.remove(second)).unwrap_or_default())
    }

    fn count(&mut self) -> Result<(), ProtobufError> {
        self.values += 1;
        if self.values > VALUES_MAX { Err(ProtobufError::Values) } else { Ok(()) }
    }
}

impl TypeDef {
    fn slot(&self, number: u32) -> Option<Slot> {
        let numbers = &self.links.numbers;
        numbers.binary_search_by_key(&number, |(number, _)| *number).ok().map(|index| numbers[index].1)
    }
}

fn list_entry<'m>(map: &'m mut Map, json: &'static str) -> &'m mut Vec<Value> {
    map.insert_if_absent(json, || Value::Array(Vec::new()));
    map.get_mut(json).and_then(Value::as_array_mut).expect("a list field holds a list alone")
}

fn is_packable(item: &FieldType) -> bool {
    matches!(item, FieldType::Bool | FieldType::Int32 | FieldType::Int64 | FieldType::Float64)
}

/// The low 32 bits, as Go's decoder takes them.
#[expect(clippy::cast_possible_truncation, reason = "protobuf extends an int32 to 64 bits")]
fn int32(varint: u64) -> i64 {
    i64::from(varint as i32)
}

fn text_field(message: &[u8], wanted: u32) -> Result<Option<&str>, ProtobufError> {
    let mut text = None;
    for field in Fields(message) {
        let (number, wire) = field?;
        if number == wanted {
            text = Some(wire.text(number)?);
        }
    }
    Ok(text)
}

/// Seconds in field 1, nanoseconds in field 2; no field at all is the zero time.
fn timestamp(message: &[u8], print: fn(Time) -> Str) -> Result<Value, ProtobufError> {
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let mut time = Time::from_seconds(0);
    for field in Fields(message) {
        match field? {
            (1, wire) => time.seconds = wire.varint(1)?.cast_signed(),
            (2, wire) => time.nanoseconds = u32::try_from(wire.varint(2)? % 1_000_000_000).expect("a remainder"),
            _ => {}
        }
    }
    Ok(if time.is_zero() { Value::Null } else { Value::String(print(time)) })
}

/// Nanoseconds in field 1.
fn nanoseconds(message: &[u8]) -> Result<Value, ProtobufError> {
    let mut total = 0;
    for field in Fields(message) {
        if let (1, wire) = field? {
            total = wire.varint(1)?.cast_signed();
        }
    }
    Ok(Value::String(duration::print(total)))
}

/// The type in field 1 (0 for a number), the number in 2, the text in 3.
fn int_or_string(message: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for field in Fields(message) {
        match field? {
            (1, wire) => is_text = wire.varint(1)? != 0,
            (2, wire) => number = int32(wire.varint(2)?),
            (3, wire) => text = wire.text(3)?,
            _ => {}
        }
    }
    Ok(if is_text { Value::from(text) } else { Value::Int(number) })
}

/// JSON text in field 1.
fn raw(message: &[u8], number: u32) -> Result<Value, ProtobufError> {
    match text_field(message, 1)? {
        None | Some("") => Ok(Value::Null),
        Some(text) => {
            json::parse(text.as_bytes()).map(|parsed| parsed.value).map_err(|_| ProtobufError::Json { number })
        }
    }
}
