//! Why a tree is no object of a type, in the words of Go's JSON decoder. A fault is made where it is found and gathers
//! its path on the way out, so that the way in costs nothing.

use super::{Field, TypeDef, TypeTable};
use crate::value::Value;

/// The first thing that is wrong with a body.
#[derive(Debug)]
pub(super) enum Fault {
    Mismatch(Box<Mismatch>),
    /// From a type with a decoder of its own; printed as it is.
    Text(String),
}

/// A value of a wrong JSON type.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// What stands there: `string`, `number 3.5`.
    found: String,
    /// The Go type that it does not fit in; empty until the field is known.
    expected: String,
    /// How many lists and maps were left since.
    depth: usize,
    /// The innermost struct around it.
    owner: &'static str,
    /// Go names and JSON names, innermost first.
    path: Vec<&'static str>,
}

impl Fault {
    /// A value that does not fit the Go type of the field or item where it stands.
    pub(super) fn mismatch(found: &Value) -> Self {
        Self::expecting(found, "")
    }

    pub(super) fn expecting(found: &Value, expected: &str) -> Self {
        Self::Mismatch(Box::new(Mismatch {
            found: kind_of(found),
            expected: expected.to_owned(),
            depth: 0,
            owner: "",
            path: Vec::new(),
        }))
    }

    /// A number outside the range of its type, which Go prints.
    pub(super) fn number(found: &Value, expected: &str) -> Self {
        match found {
            Value::Int(number) => Self::of_number(&number.to_string(), expected),
            Value::Float(number) => Self::of_number(&format!("{number:?}"), expected),
            other => Self::expecting(other, expected),
        }
    }

    fn of_number(text: &str, expected: &str) -> Self {
        let fault = Self::expecting(&Value::Int(0), expected);
        let Self::Mismatch(mut mismatch) = fault else { unreachable!("made as a mismatch") };
        mismatch.found = format!("number {text}");
        Self::Mismatch(mismatch)
    }

    /// The same one list or map further out.
    pub(super) fn in_item(mut self) -> Self {
        if let Self::Mismatch(mismatch) = &mut self
            && mismatch.owner.is_empty()
        {
            mismatch.depth += 1;
        }
        self
    }

    /// The same one struct further out.
    pub(super) fn in_field(mut self, table: &TypeTable, def: &TypeDef, field: &Field) -> Self {
        if let Self::Mismatch(mismatch) = &mut self {
            if mismatch.owner.is_empty() {
                mismatch.owner = def.short_name();
                if mismatch.expected.is_empty() {
                    mismatch.expected = go_type(table, field.spelled, mismatch.depth);
                }
            }
            mismatch.path.push(field.json);
            push_embedded(table, def, field.json, &mut mismatch.path);
        }
        self
    }

    /// The message, for a body that should have been a `root`.
    pub(super) fn message(self, root: &str) -> String {
        let mismatch = match self {
            Self::Text(text) => return text,
            Self::Mismatch(mismatch) => mismatch,
        };
        if mismatch.path.is_empty() {
            return format!("json: cannot unmarshal {} into Go value of type {}", mismatch.found, last_element(root));
        }
        let path: Vec<_> = mismatch.path.iter().rev().copied().collect();
        let Mismatch { found, owner, expected, .. } = *mismatch;
        let path = path.join(".");
        format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {expected}")
    }
}

/// The Go names of the embedded structs in which a field stands, innermost first.
fn push_embedded(table: &TypeTable, def: &TypeDef, json: &str, path: &mut Vec<&'static str>) {
    let field = def.fields.iter().find(|field| field.json == json);
    if let Some(inlined) = field.and_then(|field| field.inlined) {
        let inlined = def.inlined[usize::from(inlined)];
        push_embedded(table, table.get(inlined.ty), json, path);
        path.push(inlined.go);
    }
}

fn kind_of(value: &Value) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    kind.to_owned()
}

/// The Go type `depth` lists or maps below a field of the type `spelled`.
fn go_type(table: &TypeTable, spelled: &str, depth: usize) -> String {
    let mut spelled = spelled.trim_start_matches('*');
    for _ in 0..depth {
        let base = table.aliases.get(spelled).copied().unwrap_or(spelled);
        let item = ["[]", "[.]", "{}"].iter().find_map(|prefix| base.strip_prefix(prefix));
        spelled = item.unwrap_or(base).trim_start_matches('*');
    }
    print_type(spelled)
}

fn print_type(spelled: &str) -> String {
    if let Some(item) = spelled.strip_prefix("[]") {
        format!("[]{}", print_type(item))
    } else if let Some(value) = spelled.strip_prefix("{}") {
        format!("map[string]{}", print_type(value))
    } else if spelled == "bytes" {
        "[]uint8".to_owned()
    } else if spelled == "Quantity" {
        "resource.Quantity".to_owned()
    } else {
        last_element(spelled).to_owned()
    }
}

/// `core/v1.Pod` as Go prints it: `v1.Pod`.
fn last_element(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
