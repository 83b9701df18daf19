//! Drops what a structural schema does not declare and reports its paths.

use std::fmt::Write as _;

use super::{Additional, Structural};
use crate::value::{Map, Value};

/// Fields that every object has, declared or not.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Prunes a whole object; its own metadata fields stay. Returns the paths of what was dropped, sorted.
pub(super) fn prune_object(object: &mut Map, schema: &Structural) -> Vec<String> {
    let mut pruner = Pruner { path: String::new(), dropped: Vec::new() };
    pruner.map(object, schema, true, schema.preserve_unknown);
    pruner.dropped.sort();
    pruner.dropped
}

struct Pruner {
    path: String,
    dropped: Vec<String>,
}

impl Pruner {
    fn value(&mut self, value: &mut Value, schema: Option<&Structural>) {
        match (value, schema) {
            (Value::Object(map), Some(schema)) => {
                self.map(map, schema, schema.embedded_resource, schema.preserve_unknown);
            }
            (Value::Object(map), None) => self.drop_all(map),
            (Value::Array(items), Some(schema)) if schema.preserve_unknown => self.kept_items(items, schema),
            (Value::Array(items), schema) => {
                let item_schema = schema.and_then(|schema| schema.items.as_deref());
                self.each(items, |pruner, item| pruner.value(item, item_schema));
            }
            _ => {}
        }
    }

    /// Items below `x-kubernetes-preserve-unknown-fields`: only what is declared for them is looked into.
    fn kept_items(&mut self, items: &mut [Value], schema: &Structural) {
        let Some(item_schema) = schema.items.as_deref() else { return };
        self.each(items, |pruner, item| match item {
            Value::Object(map) => pruner.map(map, item_schema, item_schema.embedded_resource, true),
            Value::Array(items) => pruner.kept_items(items, item_schema),
            _ => {}
        });
    }

    fn each(&mut self, items: &mut [Value], mut visit: impl FnMut(&mut Self, &mut Value)) {
        let length = self.path.len();
        for (index, item) in items.iter_mut().enumerate() {
            write!(self.path, "[{index}]").expect("writing to a string cannot fail");
            visit(self, item);
            self.path.truncate(length);
        }
    }

    fn map(&mut self, map: &mut Map, schema: &Structural, resource: bool, keep_unknown: bool) {
        let length = self.path.len();
        map.retain(|key, value| {
            if resource && META_FIELDS.contains(&key.as_str()) {
                return true;
            }
            self.push_field(key);
            let keep = match (schema.properties.get(key), &schema.additional) {
                (Some(property), _) => {
                    self.value(value, Some(property));
                    true
                }
                (None, Additional::Schema(additional)) => {
                    self.value(value, Some(additional));
                    true
                }
                (None, Additional::Any) => {
                    if !keep_unknown {
                        self.value(value, None);
                    }
                    true
                }
                (None, Additional::None) => keep_unknown,
            };
            if !keep {
                self.dropped.push(self.path.clone());
            }
            self.path.truncate(length);
            keep
        });
    }

    /// Below a map without a schema nothing is declared.
    fn drop_all(&mut self, map: &mut Map) {
        let length = self.path.len();
        for key in map.keys() {
            self.push_field(key);
            self.dropped.push(self.path.clone());
            self.path.truncate(length);
        }
        *map = Map::new();
    }

    fn push_field(&mut self, name: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldPath;
    use crate::value;

    fn check(schema: Value, mut object: Value, expect: Value, dropped: &[&str]) {
        let schema = Structural::parse(&schema, &FieldPath::root()).unwrap();
        assert_eq!(prune_object(object.as_object_mut().unwrap(), &schema), dropped);
        assert_eq!(object, expect);
    }

    #[test]
    fn drops_what_is_not_declared() {
        check(
            value!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "integer"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object"}}
            }}}}),
            value!({"kind": "K", "metadata": {"name": "x"}, "extra": 1, "spec": {
                "a": "s", "z": 1, "list": [{"b": 1, "c": 2}], "map": {"k": {"v": 1}}
            }}),
            value!({"kind": "K", "metadata": {"name": "x"}, "spec": {"a": "s", "list": [{"b": 1}], "map": {"k": {}}}}),
            &["extra", "spec.list[0].c", "spec.map.k.v", "spec.z"],
        );
    }

    #[test]
    fn keeps_below_preserve_unknown_fields_but_prunes_what_is_declared_there() {
        check(
            value!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                "known": {"type": "object", "properties": {"a": {"type": "string"}}}
            }}),
            value!({"free": {"x": [1]}, "known": {"a": "s", "b": 1}}),
            value!({"free": {"x": [1]}, "known": {"a": "s"}}),
            &["known.b"],
        );
    }
}
