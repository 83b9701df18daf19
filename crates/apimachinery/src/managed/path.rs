//! One step of a field path: a field, a list item by its keys or by its value, or an index. `fieldsV1` writes them as
//! `f:name`, `k:{"name":"a"}`, `v:"x"` and `i:0`.

use std::cmp::Ordering;
use std::fmt;

use crate::json;
use crate::value::{Str, Value};

/// A step of a path. Ordered as `fieldsV1` lists them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathElement {
    Field(Str),
    /// An item of a list whose items are told apart by fields; sorted by name.
    Key(Vec<(Str, Scalar)>),
    /// An item of a set.
    Value(Scalar),
    Index(i64),
}

/// A scalar with a total order: numbers, then strings, then booleans.
#[derive(Clone, Debug)]
pub(super) struct Scalar(Value);

impl Scalar {
    /// `None` for lists, maps and null, which cannot tell items apart.
    pub(super) fn new(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => Some(Self(value.clone())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn rank(&self) -> u8 {
        match self.0 {
            Value::Int(_) | Value::Float(_) => 0,
            Value::String(_) => 1,
            _ => 2,
        }
    }
}

impl Ord for Scalar {
    #[expect(clippy::cast_precision_loss, reason = "an integer is only made a float to compare it with one")]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Int(left), Value::Int(right)) => left.cmp(right),
            (Value::Int(left), Value::Float(right)) => (*left as f64).total_cmp(right),
            (Value::Float(left), Value::Int(right)) => left.total_cmp(&(*right as f64)),
            (Value::Float(left), Value::Float(right)) => left.total_cmp(right),
            (Value::String(left), Value::String(right)) => left.cmp(right),
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl PathElement {
    /// Reads an element as `fieldsV1` writes it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unreadable = || format!("cannot read the path element {text:?}");
        let (kind, rest) = text.split_once(':').ok_or_else(unreadable)?;
        let read = || json::parse(rest.as_bytes()).map(|parsed| parsed.value).map_err(|_| unreadable());
        match kind {
            "f" => Ok(Self::Field(rest.into())),
            "v" => Scalar::new(&read()?).map(Self::Value).ok_or_else(unreadable),
            "i" => rest.parse().map(Self::Index).map_err(|_| unreadable()),
            "k" => {
                let Value::Object(fields) = read()? else { return Err(unreadable()) };
                let keys = fields.iter().map(|(name, value)| Some((name.clone(), Scalar::new(value)?)));
                let mut keys: Vec<_> = keys.collect::<Option<_>>().ok_or_else(unreadable)?;
                keys.sort();
                Ok(Self::Key(keys))
            }
            _ => Err(unreadable()),
        }
    }

    /// Writes the element as a key of `fieldsV1`.
    pub(super) fn serialize(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(value) => format!("v:{}", escaped(&value.0)),
            Self::Index(index) => format!("i:{index}"),
            Self::Key(keys) => {
                let fields = keys.iter().map(|(name, value)| (name.clone(), value.0.clone()));
                format!("k:{}", escaped(&Value::Object(fields.collect())))
            }
        }
    }
}

/// JSON as Go's encoder writes it, which keeps the text harmless inside HTML.
fn escaped(value: &Value) -> String {
    json::to_string(value).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(text) => write!(f, "{text:?}"),
            other => f.write_str(&json::to_string(other)),
        }
    }
}

impl fmt::Display for PathElement {
    /// As conflicts name fields: `.spec`, `[name="a"]`, `[="x"]`, `[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
        }
    }
}
