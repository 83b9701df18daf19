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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use crate::kind::Validation;
    use crate::schema::ObjectSchema as _;
    use crate::schema::table::{Inlined, TableSchema};
    use crate::value;

    fn field(json: &'static str, ty: FieldType) -> Field {
        Field {
            json,
            number: 1,
            ty,
            spelled: "",
            pointer: false,
            omit_empty: true,
            omit_zero: false,
            inlined: None,
            list: ListTag::Atomic,
            atomic_map: false,
            patch_merge: false,
            patch_retain_keys: false,
            merge_key: None,
            required: false,
            enumeration: &[],
        }
    }

    fn list(json: &'static str, item: TypeId, keys: &[&str]) -> Field {
        let tag = if keys.is_empty() {
            ListTag::Atomic
        } else {
            ListTag::Map(keys.iter().map(|key| (*key).into()).collect())
        };
        Field { list: tag, ..field(json, FieldType::List(Box::new(FieldType::Struct(item)))) }
    }

    /// A root with two lists of items, one by key; an item inlines a part.
    fn schema() -> TableSchema {
        let (item, part) = (TypeId(1), TypeId(2));
        let text = |json| field(json, FieldType::String);
        let root = TypeDef::new(
            "t/v1.Root",
            vec![text("a"), list("keyed", item, &["name"]), list("plain", item, &[])],
            vec![],
            false,
        );
        let inlined = Inlined { go: "Part", number: 2, ty: part, at: 1 };
        let item = TypeDef::new("t/v1.Item", vec![text("name"), text("note"), text("image")], vec![inlined], false);
        let part = TypeDef::new("t/v1.Part", vec![text("port")], vec![], false);
        let mut table = TypeTable::new(vec![root, item, part]);
        table.types[0].default = Some(|root| {
            if let Some(items) = root.get_mut("keyed").and_then(Value::as_array_mut) {
                items
                    .iter_mut()
                    .for_each(|item| item.as_object_mut().unwrap().insert_if_absent("note", || "from above".into()));
            }
            root.insert_if_absent("a", || "1".into());
        });
        table.types[1].default = Some(|item| item.insert_if_absent("note", || "own".into()));
        table.types[2].default = Some(|part| part.insert_if_absent("port", || "http".into()));
        table.types[1].validate = Some(|item, old, path, errors| {
            let image = |map: &Map| map.get("image").and_then(Value::as_str).unwrap_or_default().to_owned();
            let old = old.map_or_else(|| "none".to_owned(), image);
            errors.invalid(&path.child("image"), image(item), format!("was {old}"));
        });
        table.types[2].validate = Some(|_, _, path, errors| errors.required(&path.child("port"), ""));
        table.link();
        TableSchema::new(Box::leak(Box::new(table)), TypeId(0))
    }

    #[test]
    fn a_struct_is_filled_before_what_is_in_it_and_stays_in_order() {
        let mut object = value!({"keyed": [{"name": "x"}], "plain": [{"image": "i"}]});
        schema().default(&mut object);
        assert_eq!(
            json::to_string(&object),
            concat!(
                r#"{"a":"1","keyed":[{"name":"x","port":"http","note":"from above"}],"#,
                r#""plain":[{"port":"http","note":"own","image":"i"}]}"#
            )
        );
    }

    #[test]
    fn items_meet_the_stored_item_of_the_same_key_or_index() {
        let items =
            |first: &str, second: &str| value!([{"name": first, "image": first}, {"name": second, "image": second}]);
        let new = value!({"keyed": (items("a", "b")), "plain": (items("a", "b"))});
        let old = value!({"keyed": (items("b", "c")), "plain": (items("b", "c"))});
        let mut errors = FieldErrors::default();
        let validation = Validation { object: &new, old: Some(&old), subresource: "" };
        schema().validate(validation, &FieldPath::root(), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"keyed[0].image: Invalid value: "a": was none"#,
                "keyed[0].port: Required value",
                r#"keyed[1].image: Invalid value: "b": was b"#,
                "keyed[1].port: Required value",
                r#"plain[0].image: Invalid value: "a": was b"#,
                "plain[0].port: Required value",
                r#"plain[1].image: Invalid value: "b": was c"#,
                "plain[1].port: Required value",
            ]
        );
    }
}
