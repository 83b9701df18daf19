//! Conformed trees to protobuf messages, by the table and byte for byte as Go's generated code writes them: fields by their
//! number, a non-pointer scalar or struct even when it is zero, maps by their keys, nothing packed.

use base64::Engine as _;

use super::super::bytes::BASE64;
use super::super::{Field, FieldType, Slot, Special, TypeId, TypeTable};
use crate::duration;
use crate::json;
use crate::protobuf::{ProtobufError, Writer};
use crate::time::Time;
use crate::value::{Map, Value};

impl TypeTable {
    /// Encodes an object of a struct type.
    pub(in crate::schema::table) fn encode_message(&self, ty: TypeId, map: &Map) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Writer::default();
        self.write_struct(ty, map, &mut out)?;
        Ok(out.into_bytes())
    }

    fn write_struct(&self, ty: TypeId, map: &Map, out: &mut Writer) -> Result<(), ProtobufError> {
        let def = self.get(ty);
        for (number, slot) in &def.links.numbers {
            match slot {
                Slot::Field(index) => {
                    let field = &def.fields[usize::from(*index)];
                    self.write_field(field, map.get(field.json).filter(|value| !value.is_null()), out)?;
                }
                Slot::Inlined(index) => {
                    let ty = def.inlined[usize::from(*index)].ty;
                    out.message(*number, |out| self.write_struct(ty, map, out))?;
                }
            }
        }
        Ok(())
    }

    fn write_field(&self, field: &Field, value: Option<&Value>, out: &mut Writer) -> Result<(), ProtobufError> {
        match (&field.ty, value) {
            (FieldType::List(item), Some(Value::Array(items))) => {
                items.iter().try_for_each(|value| self.write_value(item, field.number, value, out))
            }
            (FieldType::Map(inner), Some(Value::Object(map))) => self.write_entries(inner, field.number, map, out),
            (ty, Some(value)) => self.write_value(ty, field.number, value, out),
            (ty, None) if !field.pointer => self.write_zero(ty, field.number, out),
            (_, None) => Ok(()),
        }
    }

    /// What Go writes for a field that is not a pointer and that nobody has set.
    fn write_zero(&self, ty: &FieldType, number: u32, out: &mut Writer) -> Result<(), ProtobufError> {
        match ty {
            FieldType::List(_) | FieldType::WrappedList(_) | FieldType::Map(_) | FieldType::Bytes => Ok(()),
            FieldType::Struct(id) => out.message(number, |out| self.write_struct(*id, &Map::new(), out)),
            FieldType::Special(Special::Quantity | Special::IntOrString | Special::Duration) => {
                self.write_value(ty, number, &self.zero_value(ty), out)
            }
            FieldType::Special(_) => out.message(number, |_| Ok(())),
            _ => self.write_value(ty, number, &self.zero_value(ty), out),
        }
    }

    fn write_entries(&self, inner: &FieldType, number: u32, map: &Map, out: &mut Writer) -> Result<(), ProtobufError> {
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.into_iter().try_for_each(|(key, value)| {
            out.message(number, |out| {
                out.bytes(1, key.as_bytes());
                self.write_value(inner, 2, value, out)
            })
        })
    }

    fn write_value(&self, ty: &FieldType, number: u32, value: &Value, out: &mut Writer) -> Result<(), ProtobufError> {
        match (ty, value) {
            (FieldType::Bool, Value::Bool(flag)) => out.varint(number, u64::from(*flag)),
            (FieldType::Int32 | FieldType::Int64, Value::Int(integer)) => out.varint(number, integer.cast_unsigned()),
            (FieldType::Float64, Value::Float(float)) => out.fixed64(number, float.to_bits()),
            #[expect(clippy::cast_precision_loss, reason = "a whole float that was read as an integer")]
            (FieldType::Float64, Value::Int(integer)) => out.fixed64(number, (*integer as f64).to_bits()),
            (FieldType::String, Value::String(text)) => out.bytes(number, text.as_bytes()),
            (FieldType::Bytes, Value::String(text)) => {
                let bytes = BASE64.decode(text.as_bytes()).map_err(|_| ProtobufError::Form { number })?;
                out.bytes(number, &bytes);
            }
            (FieldType::Struct(id), Value::Object(map)) => {
                out.message(number, |out| self.write_struct(*id, map, out))?;
            }
            (FieldType::List(item) | FieldType::WrappedList(item), Value::Array(items)) => {
                out.message(number, |out| items.iter().try_for_each(|value| self.write_value(item, 1, value, out)))?;
            }
            (FieldType::Special(special), value) => {
                out.message(number, |out| self.write_special(*special, number, value, out))?;
            }
            _ => return Err(ProtobufError::Form { number }),
        }
        Ok(())
    }

    fn write_special(
        &self,
        special: Special,
        number: u32,
        value: &Value,
        out: &mut Writer,
    ) -> Result<(), ProtobufError> {
        match (special, value) {
            (Special::Time, Value::String(text)) => write_time(Time::parse(text), number, false, out),
            (Special::MicroTime, Value::String(text)) => write_time(Time::parse_micro(text), number, true, out),
            (Special::Time | Special::MicroTime, Value::Null) => Ok(()),
            (Special::Duration, Value::String(text)) => {
                let read = duration::parse(text).ok_or(ProtobufError::Form { number })?;
                out.varint(1, read.cast_unsigned());
                Ok(())
            }
            (Special::Quantity, Value::String(text)) => {
                out.bytes(1, text.as_bytes());
                Ok(())
            }
            (Special::IntOrString, value) => write_int_or_string(number, value, out),
            (Special::RawExtension | Special::FieldsV1 | Special::Json, Value::Null) => Ok(()),
            (Special::RawExtension | Special::FieldsV1 | Special::Json, value) => {
                out.bytes(1, &json::to_vec(value));
                Ok(())
            }
            (Special::SchemaOrBool(id), value) => {
                out.varint(1, u64::from(*value != Value::Bool(false)));
                match value {
                    Value::Object(map) => out.message(2, |out| self.write_struct(id, map, out)),
                    _ => Ok(()),
                }
            }
            (Special::SchemaOrArray(id) | Special::SchemaOrStrings(id), Value::Object(map)) => {
                out.message(1, |out| self.write_struct(id, map, out))
            }
            (Special::SchemaOrArray(id), Value::Array(items)) => {
                items.iter().try_for_each(|value| self.write_value(&FieldType::Struct(id), 2, value, out))
            }
            (Special::SchemaOrStrings(_), Value::Array(items)) => {
                items.iter().try_for_each(|value| self.write_value(&FieldType::String, 2, value, out))
            }
            (Special::SchemaOrArray(_) | Special::SchemaOrStrings(_), Value::Null) => Ok(()),
            _ => Err(ProtobufError::Form { number }),
        }
    }
}

/// Seconds, and nanoseconds where the type keeps them.
fn write_time<E>(time: Result<Time, E>, number: u32, fractions: bool, out: &mut Writer) -> Result<(), ProtobufError> {
    let time = time.map_err(|_| ProtobufError::Form { number })?;
    if !time.is_zero() {
        out.varint(1, time.seconds.cast_unsigned());
        out.varint(2, if fractions { time.nanoseconds.into() } else { 0 });
    }
    Ok(())
}

fn write_int_or_string(number: u32, value: &Value, out: &mut Writer) -> Result<(), ProtobufError> {
    let (kind, integer, text) = match value {
        Value::Int(integer) => (0, *integer, ""),
        Value::String(text) => (1, 0, text.as_str()),
        _ => return Err(ProtobufError::Form { number }),
    };
    out.varint(1, kind);
    out.varint(2, integer.cast_unsigned());
    out.bytes(3, text.as_bytes());
    Ok(())
}
