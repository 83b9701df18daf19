//! A custom resource's structural schema (`apiextensions.k8s.io/v1` `JSONSchemaProps`): the tree, and how it is read
//! from its declaration. Pruning, defaulting and validation are one file each below; [`CustomSchema`] joins them.

mod check;
mod custom;
mod defaults;
mod format;
mod number;
mod prune;

pub use custom::CustomSchema;

use std::collections::BTreeMap;

use regex::Regex;

use super::{ListKind, Node, ObjectSchema};
use crate::field::{FieldErrors, FieldPath};
use crate::value::{Str, Value};

/// One schema of the tree.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty where any is allowed.
    pub kind: Str,
    pub properties: BTreeMap<Str, Structural>,
    pub additional: Additional,
    pub items: Option<Box<Structural>>,
    pub default: Option<Value>,
    pub nullable: bool,
    pub preserve_unknown: bool,
    pub embedded_resource: bool,
    pub int_or_string: bool,
    /// `atomic`, `set`, `map` or empty.
    pub list_type: Str,
    pub list_keys: Vec<Str>,
    /// `x-kubernetes-map-type: atomic`.
    pub map_atomic: bool,
    pub rules: Rules,
}

/// `additionalProperties`.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Not declared: other fields are pruned.
    #[default]
    None,
    /// `true`: a map of anything.
    Any,
    Schema(Box<Structural>),
}

/// The value rules of one schema.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub required: Vec<Str>,
    pub enumeration: Option<Vec<Value>>,
    pub format: Str,
    pub pattern: Option<Regex>,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub length_min: Option<u64>,
    pub length_max: Option<u64>,
    pub items_min: Option<u64>,
    pub items_max: Option<u64>,
    pub unique_items: bool,
    pub properties_min: Option<u64>,
    pub properties_max: Option<u64>,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
}

/// `minimum` or `maximum`, with its `exclusive` flag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub value: f64,
    pub exclusive: bool,
}

/// Nesting of a declared schema that is read; a deeper one is refused.
const DEPTH_MAX: usize = 64;

impl Structural {
    /// Reads a declaration (`openAPIV3Schema`). What cannot be used (a pattern that is no regular expression) is an
    /// error at its path.
    pub fn parse(declared: &Value, path: &FieldPath) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::default();
        let schema = Reader { errors: &mut errors, depth: 0 }.schema(declared, path);
        if errors.is_empty() { Ok(schema) } else { Err(errors) }
    }

    /// The schema of a field of an object, if one is declared.
    pub fn field(&self, name: &str) -> Option<&Structural> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Additional::Schema(schema)) => Some(schema),
            (None, Additional::None | Additional::Any) => None,
        }
    }
}

/// A position in a structural schema.
#[derive(Clone, Copy)]
pub struct StructuralNode<'a> {
    pub schema: &'a Structural,
    /// At the root of an object: the schema of its metadata.
    pub metadata: Option<&'a dyn ObjectSchema>,
}

impl<'a> StructuralNode<'a> {
    pub fn field(self, name: &str) -> Node<'a> {
        match self.metadata {
            Some(metadata) if name == "metadata" => metadata.node(),
            _ => Self::below(self.schema.field(name)),
        }
    }

    pub fn item(self) -> Node<'a> {
        Self::below(self.schema.items.as_deref())
    }

    fn below(schema: Option<&'a Structural>) -> Node<'a> {
        schema.map_or(Node::Unknown, |schema| Node::Structural(Self { schema, metadata: None }))
    }

    pub fn list_kind(self) -> ListKind<'a> {
        match self.schema.list_type.as_str() {
            "set" => ListKind::Set,
            "map" => ListKind::Map(&self.schema.list_keys),
            _ => ListKind::Atomic,
        }
    }

    pub fn atomic_map(self) -> bool {
        self.schema.map_atomic
    }
}

/// Reads declarations and collects what is wrong with them.
struct Reader<'a> {
    errors: &'a mut FieldErrors,
    depth: usize,
}

impl Reader<'_> {
    fn schema(&mut self, declared: &Value, path: &FieldPath) -> Structural {
        if self.depth == DEPTH_MAX {
            self.errors.forbidden(path, format!("must not be nested deeper than {DEPTH_MAX} levels"));
            return Structural::default();
        }
        self.depth += 1;
        let schema = Structural {
            kind: text(declared, "type"),
            properties: self.properties(declared, path),
            additional: self.additional(declared, path),
            items: self.one(declared, "items", path),
            default: declared.get("default").cloned(),
            nullable: flag(declared, "nullable"),
            preserve_unknown: flag(declared, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(declared, "x-kubernetes-embedded-resource"),
            int_or_string: flag(declared, "x-kubernetes-int-or-string"),
            list_type: text(declared, "x-kubernetes-list-type"),
            list_keys: texts(declared, "x-kubernetes-list-map-keys"),
            map_atomic: declared.str_at(&["x-kubernetes-map-type"]) == "atomic",
            rules: self.rules(declared, path),
        };
        self.depth -= 1;
        schema
    }

    fn properties(&mut self, declared: &Value, path: &FieldPath) -> BTreeMap<Str, Structural> {
        let Some(properties) = declared.get("properties").and_then(Value::as_object) else { return BTreeMap::new() };
        let path = path.child("properties");
        properties.iter().map(|(name, schema)| (name.clone(), self.schema(schema, &path.key(name)))).collect()
    }

    fn additional(&mut self, declared: &Value, path: &FieldPath) -> Additional {
        match declared.get("additionalProperties") {
            Some(Value::Bool(true)) => Additional::Any,
            Some(schema @ Value::Object(_)) => {
                Additional::Schema(Box::new(self.schema(schema, &path.child("additionalProperties"))))
            }
            _ => Additional::None,
        }
    }

    fn one(&mut self, declared: &Value, key: &str, path: &FieldPath) -> Option<Box<Structural>> {
        let schema = declared.get(key).filter(|value| value.as_object().is_some())?;
        Some(Box::new(self.schema(schema, &path.child(key))))
    }

    fn many(&mut self, declared: &Value, key: &str, path: &FieldPath) -> Vec<Structural> {
        let path = path.child(key);
        let schemas = declared.get(key).and_then(Value::as_array).unwrap_or_default();
        schemas.iter().enumerate().map(|(index, schema)| self.schema(schema, &path.index(index))).collect()
    }

    fn rules(&mut self, declared: &Value, path: &FieldPath) -> Rules {
        Rules {
            required: texts(declared, "required"),
            enumeration: declared.get("enum").and_then(Value::as_array).map(<[Value]>::to_vec),
            format: text(declared, "format"),
            pattern: self.pattern(declared, path),
            minimum: bound(declared, "minimum", "exclusiveMinimum"),
            maximum: bound(declared, "maximum", "exclusiveMaximum"),
            multiple_of: declared.get("multipleOf").and_then(number::as_f64),
            length_min: count(declared, "minLength"),
            length_max: count(declared, "maxLength"),
            items_min: count(declared, "minItems"),
            items_max: count(declared, "maxItems"),
            unique_items: flag(declared, "uniqueItems"),
            properties_min: count(declared, "minProperties"),
            properties_max: count(declared, "maxProperties"),
            all_of: self.many(declared, "allOf", path),
            any_of: self.many(declared, "anyOf", path),
            one_of: self.many(declared, "oneOf", path),
            not: self.one(declared, "not", path),
        }
    }

    fn pattern(&mut self, declared: &Value, path: &FieldPath) -> Option<Regex> {
        let pattern = declared.get("pattern")?.as_str()?;
        match Regex::new(pattern) {
            Ok(regex) => Some(regex),
            Err(error) => {
                let detail = format!("must be a valid regular expression, but isn't: {error}");
                self.errors.invalid(&path.child("pattern"), pattern, detail);
                None
            }
        }
    }
}

fn text(declared: &Value, key: &str) -> Str {
    declared.str_at(&[key]).into()
}

fn texts(declared: &Value, key: &str) -> Vec<Str> {
    let items = declared.get(key).and_then(Value::as_array).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(Str::from).collect()
}

fn flag(declared: &Value, key: &str) -> bool {
    declared.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn count(declared: &Value, key: &str) -> Option<u64> {
    declared.get(key)?.as_i64().and_then(|count| u64::try_from(count).ok())
}

fn bound(declared: &Value, key: &str, exclusive: &str) -> Option<Bound> {
    let value = declared.get(key).and_then(number::as_f64)?;
    Some(Bound { value, exclusive: flag(declared, exclusive) })
}
