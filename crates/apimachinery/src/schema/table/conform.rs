//! A decoded tree made an object of its type, in one pass and in place: what Go gets by decoding into a struct and
//! encoding it again. Only a struct whose fields stand in another order, or that has too many or too few, is rebuilt.

use super::fault::Fault;
use super::{Field, FieldType, TypeDef, TypeId, TypeTable, bytes, special};
use crate::value::{Map, Str, Value};

/// Strict errors that one body may report, as upstream's decoder has it.
const UNKNOWN_MAX: usize = 100;

/// One pass over a body.
pub(super) struct Pass<'t> {
    pub(super) table: &'t TypeTable,
    /// Paths of dropped fields, in the order of the text.
    pub(super) unknown: Vec<String>,
}

impl Pass<'_> {
    /// Conforms the fields of a struct.
    pub(super) fn structure(&mut self, ty: TypeId, map: &mut Map) -> Result<(), Fault> {
        let def = self.table.get(ty);
        let mut tidy = true;
        let mut always_seen = 0;
        let mut next = 0;
        for (key, value) in map.iter_mut() {
            let Some(position) = def.position(key, next) else {
                self.report(key);
                tidy = false;
                continue;
            };
            let field = &def.fields[position];
            self.field(field, value).map_err(|fault| fault.in_field(self.table, def, field))?;
            tidy &= position >= next && keep(self.table, field, value);
            always_seen += usize::from(field.always());
            next = position + 1;
        }
        if !tidy || always_seen != def.links.always.len() {
            self.rebuild(def, map);
        }
        Ok(())
    }

    /// Drops what is unknown or empty, adds what Go always writes, and brings the rest into canonical order.
    fn rebuild(&self, def: &TypeDef, map: &mut Map) {
        let mut slots: Vec<Option<(Str, Value)>> = Vec::new();
        slots.resize_with(def.fields.len(), || None);
        let mut next = 0;
        for (key, value) in std::mem::take(map) {
            if let Some(position) = def.position(&key, next) {
                next = position + 1;
                if keep(self.table, &def.fields[position], &value) {
                    slots[position] = Some((key, value));
                }
            }
        }
        for index in &def.links.always {
            let field = &def.fields[usize::from(*index)];
            slots[usize::from(*index)]
                .get_or_insert_with(|| (Str::const_new(field.json), self.table.zero_field(field)));
        }
        let mut rebuilt = Map::with_capacity(slots.iter().flatten().count());
        rebuilt.extend(slots.into_iter().flatten());
        *map = rebuilt;
    }

    fn field(&mut self, field: &Field, value: &mut Value) -> Result<(), Fault> {
        if value.is_null() {
            *value = self.table.zero_field(field);
            return Ok(());
        }
        let unknown_before = self.unknown.len();
        self.value(&field.ty, value)?;
        self.prefix(unknown_before, || field.json.to_owned());
        if !field.pointer && is_empty_container(&field.ty, value) {
            *value = Value::Null;
        }
        Ok(())
    }

    /// Conforms a value that is not null.
    pub(super) fn value(&mut self, ty: &FieldType, value: &mut Value) -> Result<(), Fault> {
        match (ty, &mut *value) {
            (FieldType::Struct(id), Value::Object(map)) => self.structure(*id, map),
            (FieldType::List(item) | FieldType::WrappedList(item), Value::Array(items)) => self.items(item, items),
            (FieldType::Map(inner), Value::Object(map)) => self.entries(inner, map),
            (FieldType::Special(special), _) => special::conform(self, *special, value),
            (FieldType::Bytes, _) => bytes::conform(value),
            (FieldType::String, Value::String(_)) | (FieldType::Bool, Value::Bool(_)) => Ok(()),
            (FieldType::Int64 | FieldType::Float64, Value::Int(_)) => Ok(()),
            (FieldType::Int32, Value::Int(number)) if i32::try_from(*number).is_ok() => Ok(()),
            (FieldType::Float64, Value::Float(number)) => {
                *value = whole(*number);
                Ok(())
            }
            (FieldType::Int32 | FieldType::Int64, Value::Int(_) | Value::Float(_)) => Err(Fault::number(value, "")),
            _ => Err(Fault::mismatch(value)),
        }
    }

    pub(super) fn items(&mut self, item: &FieldType, items: &mut [Value]) -> Result<(), Fault> {
        for (index, value) in items.iter_mut().enumerate() {
            let unknown_before = self.unknown.len();
            self.item(item, value)?;
            self.prefix(unknown_before, || format!("[{index}]"));
        }
        Ok(())
    }

    fn entries(&mut self, inner: &FieldType, map: &mut Map) -> Result<(), Fault> {
        let mut sorted = true;
        let mut last: Option<&str> = None;
        for (key, value) in map.iter_mut() {
            let unknown_before = self.unknown.len();
            self.item(inner, value)?;
            self.prefix(unknown_before, || key.to_string());
            sorted &= last.is_none_or(|last| last < key.as_str());
            last = Some(key);
        }
        if !sorted {
            map.sort_keys();
        }
        Ok(())
    }

    fn item(&mut self, ty: &FieldType, value: &mut Value) -> Result<(), Fault> {
        if value.is_null() {
            *value = self.table.zero_value(ty);
            return Ok(());
        }
        self.value(ty, value).map_err(Fault::in_item)
    }

    fn report(&mut self, key: &str) {
        if self.unknown.len() < UNKNOWN_MAX {
            self.unknown.push(key.to_owned());
        }
    }

    /// Puts a path element in front of the fields reported since.
    fn prefix(&mut self, since: usize, element: impl Fn() -> String) {
        for path in &mut self.unknown[since..] {
            let dot = if path.starts_with('[') { "" } else { "." };
            *path = format!("{}{dot}{path}", element());
        }
    }
}

/// Whether Go would write this field.
fn keep(table: &TypeTable, field: &Field, value: &Value) -> bool {
    if field.omit_zero && (value.is_null() || *value == table.zero_field(field)) {
        return false;
    }
    if !field.omit_empty || (field.ty.is_go_struct() && !field.pointer) {
        return true;
    }
    match value {
        Value::Null => false,
        _ if field.pointer => true,
        Value::Bool(flag) => *flag,
        Value::Int(number) => *number != 0,
        Value::String(text) => !text.is_empty(),
        Value::Float(_) | Value::Array(_) | Value::Object(_) => true,
    }
}

/// An empty list, map or byte string, which protobuf does not tell from an absent one.
fn is_empty_container(ty: &FieldType, value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() && !matches!(ty, FieldType::Special(_)),
        Value::Object(map) => map.is_empty() && matches!(ty, FieldType::Map(_)),
        Value::String(text) => text.is_empty() && matches!(ty, FieldType::Bytes),
        _ => false,
    }
}

/// Go writes a whole float as an integer.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "compared with the original after")]
fn whole(number: f64) -> Value {
    let integer = number as i64;
    if integer as f64 == number && number.abs() < 9e15 { Value::Int(integer) } else { Value::Float(number) }
}
