//! Default and validation hooks, called over an object from the root down, and only where a type below has one.

use super::{Field, FieldType, ListTag, TypeDef, TypeId, TypeTable};
use crate::field::{FieldErrors, FieldPath};
use crate::value::{Map, Value};

impl TypeTable {
    pub(super) fn defaults_below(&self, ty: TypeId) -> bool {
        self.get(ty).links.defaults
    }

    /// Fills in the defaults of a struct, then of what is in it. Fields are left where the hooks put them.
    pub(super) fn fill_struct(&self, ty: TypeId, map: &mut Map) {
        let def = self.get(ty);
        self.run_defaults(def, map);
        let mut next = 0;
        for (key, value) in map.iter_mut() {
            let Some(position) = def.position(key, next) else { continue };
            next = position + 1;
            self.fill(&def.fields[position].ty, value);
        }
    }

    /// Brings the fields of a struct and of all that is in it into Go's order: hooks reach below their own struct.
    pub(super) fn sort_struct(&self, ty: TypeId, map: &mut Map) {
        let def = self.get(ty);
        let mut sorted = true;
        let mut next = 0;
        for (key, value) in map.iter_mut() {
            let Some(position) = def.position(key, next) else { continue };
            sorted &= position >= next;
            next = position + 1;
            self.sort(&def.fields[position].ty, value);
        }
        if !sorted {
            sort(def, map);
        }
    }

    fn sort(&self, ty: &FieldType, value: &mut Value) {
        match (ty, value) {
            (FieldType::Struct(id), Value::Object(map)) => self.sort_struct(*id, map),
            (FieldType::List(inner), Value::Array(items)) if inner.structure().is_some() => {
                items.iter_mut().for_each(|item| self.sort(inner, item));
            }
            (FieldType::Map(inner), Value::Object(map)) => {
                if !map.keys().is_sorted() {
                    map.sort_keys();
                }
                if inner.structure().is_some() {
                    map.iter_mut().for_each(|(_, value)| self.sort(inner, value));
                }
            }
            _ => {}
        }
    }

    fn run_defaults(&self, def: &TypeDef, map: &mut Map) {
        if let Some(hook) = def.default {
            hook(map);
        }
        for inlined in &def.inlined {
            self.run_defaults(self.get(inlined.ty), map);
        }
    }

    fn fill(&self, ty: &FieldType, value: &mut Value) {
        let Some(below) = ty.structure() else { return };
        if !self.defaults_below(below) {
            return;
        }
        match (ty, value) {
            (FieldType::Struct(id), Value::Object(map)) => self.fill_struct(*id, map),
            (FieldType::List(inner) | FieldType::WrappedList(inner), Value::Array(items)) => {
                items.iter_mut().for_each(|item| self.fill(inner, item));
            }
            (FieldType::Map(inner), Value::Object(map)) => {
                map.iter_mut().for_each(|(_, value)| self.fill(inner, value));
            }
            _ => {}
        }
    }

    /// Checks a struct, then what is in it.
    pub(super) fn check_struct(
        &self,
        ty: TypeId,
        map: &Map,
        old: Option<&Map>,
        path: &FieldPath,
        errors: &mut FieldErrors,
    ) {
        let def = self.get(ty);
        if !def.links.validates {
            return;
        }
        self.run_checks(def, map, old, path, errors);
        for field in &def.fields {
            if !self.checks_below(&field.ty) {
                continue;
            }
            if let Some(value) = map.get(field.json) {
                let old = old.and_then(|old| old.get(field.json));
                self.check(&field.ty, Some(field), value, old, &path.child(field.json), errors);
            }
        }
    }

    fn checks_below(&self, ty: &FieldType) -> bool {
        ty.structure().is_some_and(|id| self.get(id).links.validates)
    }

    fn run_checks(&self, def: &TypeDef, map: &Map, old: Option<&Map>, path: &FieldPath, errors: &mut FieldErrors) {
        if let Some(hook) = def.validate {
            hook(map, old, path, errors);
        }
        for inlined in &def.inlined {
            self.run_checks(self.get(inlined.ty), map, old, path, errors);
        }
    }

    fn check(
        &self,
        ty: &FieldType,
        field: Option<&Field>,
        value: &Value,
        old: Option<&Value>,
        path: &FieldPath,
        errors: &mut FieldErrors,
    ) {
        match (ty, value) {
            (FieldType::Struct(id), Value::Object(map)) => {
                self.check_struct(*id, map, old.and_then(Value::as_object), path, errors);
            }
            (FieldType::List(inner) | FieldType::WrappedList(inner), Value::Array(items)) => {
                let keys = field.map(merge_keys).unwrap_or_default();
                let olds = old.and_then(Value::as_array).unwrap_or_default();
                for (index, item) in items.iter().enumerate() {
                    let old = counterpart(&keys, item, index, olds);
                    self.check(inner, None, item, old, &path.index(index), errors);
                }
            }
            (FieldType::Map(inner), Value::Object(map)) => {
                for (key, value) in map.iter() {
                    let old = old.and_then(|old| old.get(key));
                    self.check(inner, None, value, old, &path.key(key), errors);
                }
            }
            _ => {}
        }
    }
}

/// Brings fields into Go's order; unknown ones, which only a hook can have put there, go last.
fn sort(def: &TypeDef, map: &mut Map) {
    let mut fields: Vec<_> = std::mem::take(map).into_iter().collect();
    fields.sort_by_cached_key(|(key, _)| def.position(key, 0).unwrap_or(usize::MAX));
    map.extend(fields);
}

/// The fields that tell the items of a list apart.
fn merge_keys(field: &Field) -> Vec<&str> {
    match (&field.list, field.merge_key) {
        (ListTag::Map(keys), _) => keys.iter().map(AsRef::as_ref).collect(),
        (_, Some(key)) => vec![key],
        _ => Vec::new(),
    }
}

/// The same item in the stored list.
fn counterpart<'a>(keys: &[&str], item: &Value, index: usize, olds: &'a [Value]) -> Option<&'a Value> {
    if keys.is_empty() {
        return olds.get(index);
    }
    let same = |old: &&Value| keys.iter().all(|key| old.get(key) == item.get(key));
    olds.get(index).filter(same).or_else(|| olds.iter().find(same))
}
