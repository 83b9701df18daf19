//! The dynamic object: one owned tree for every kind, built-in or custom.
//!
//! Numbers keep the distinction that Go's unstructured objects make (`int64` or `float64`). Object keys keep their
//! order, so that a canonical writer is the same as a plain one. Strings up to 24 bytes, and the field names of the
//! built-in tables, need no allocation.

mod map;

use compact_str::CompactString;

pub use map::Map;

/// A string of the object model: inline up to 24 bytes, or static.
pub type Str = CompactString;

/// One JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Str),
    Array(Vec<Value>),
    Object(Map),
}

impl Value {
    /// An empty object.
    pub fn object() -> Self {
        Self::Object(Map::new())
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Object(map) => Some(map),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The field of an object; `None` for other values and absent fields.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_object_mut()?.get_mut(key)
    }

    /// The value below a chain of fields, as in `value.at(&["metadata", "name"])`.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(self, |value, key| value.get_mut(key))
    }

    /// The string below a chain of fields, or `""`.
    pub fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The integer below a chain of fields.
    pub fn i64_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path)?.as_i64()
    }

    /// The field `key`, made an empty object first where it is absent or no object.
    pub fn object_entry(&mut self, key: &str) -> &mut Map {
        if !matches!(self, Self::Object(_)) {
            *self = Self::object();
        }
        let Self::Object(map) = self else { unreachable!("made an object above") };
        map.object_entry(key)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Str> for Value {
    fn from(text: Str) -> Self {
        Self::String(text)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Object(map)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

/// Builds a [`Value`] from a JSON literal; keys are string literals, leaves are anything that converts into a value.
///
/// ```
/// use corten_apimachinery::value;
/// let pod = value!({"metadata": {"name": "a", "labels": {"app": "shop"}}, "spec": {"containers": [{"name": "c"}]}});
/// assert_eq!(pod.str_at(&["metadata", "name"]), "a");
/// ```
#[macro_export]
macro_rules! value {
    (null) => { $crate::value::Value::Null };
    ([ $($item:tt),* $(,)? ]) => { $crate::value::Value::Array(vec![ $( $crate::value!($item) ),* ]) };
    ({ $($key:literal : $val:tt),* $(,)? }) => {{
        #[allow(unused_mut, reason = "an empty object needs no mutation")]
        let mut map = $crate::value::Map::new();
        $( map.insert($key, $crate::value!($val)); )*
        $crate::value::Value::Object(map)
    }};
    ($leaf:expr) => { $crate::value::Value::from($leaf) };
}
