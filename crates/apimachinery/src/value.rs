//! The dynamic object: one owned tree for every kind, built-in or custom.
//!
//! Numbers keep the distinction that Go's unstructured objects make (`int64` or `float64`). Object keys keep their
//! order, so that a canonical writer is the same as a plain one. Strings up to 24 bytes, and the field names of the
//! built-in tables, need no allocation.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use compact_str::CompactString;
use indexmap::IndexMap;

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

/// An object with the order of its keys. Equality does not look at the order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(IndexMap<Str, Value, Seed>);

/// Hashes field names with one random seed a process. It takes no room in the map, where a seed of its own would be a
/// third of an empty one.
#[derive(Clone, Copy, Debug, Default)]
struct Seed;

static SEED: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);

impl BuildHasher for Seed {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> ahash::AHasher {
        SEED.build_hasher()
    }
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

impl Map {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(capacity: usize) -> Self {
        Self(IndexMap::with_capacity_and_hasher(capacity, Seed))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.get_mut(key)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Sets a field; a new one goes to the end. Returns the value that was there.
    pub fn insert(&mut self, key: impl Into<Str>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(key.into(), value.into())
    }

    /// Sets a field as [`Self::insert`] does and gives the name of one that was there already.
    pub(crate) fn replace(&mut self, key: Str, value: Value) -> Option<&Str> {
        let (index, old) = self.0.insert_full(key, value);
        old.and_then(|_| self.0.get_index(index)).map(|(key, _)| key)
    }

    /// Sets a field only where there is none.
    pub fn insert_if_absent(&mut self, key: &str, value: impl FnOnce() -> Value) {
        if !self.contains_key(key) {
            self.insert(key, value());
        }
    }

    /// Removes a field and keeps the order of the others.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.0.shift_remove(key)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Str, &Value)> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&Str, &mut Value)> {
        self.0.iter_mut()
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Str> {
        self.0.keys()
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.0.values()
    }

    pub fn retain(&mut self, keep: impl FnMut(&Str, &mut Value) -> bool) {
        self.0.retain(keep);
    }

    /// Sorts the fields by name, as Go writes maps.
    pub fn sort_keys(&mut self) {
        self.0.sort_unstable_keys();
    }

    /// The field `key`, made an empty object first where it is absent or no object.
    pub fn object_entry(&mut self, key: &str) -> &mut Map {
        if !matches!(self.get(key), Some(Value::Object(_))) {
            self.insert(key, Value::object());
        }
        match self.get_mut(key) {
            Some(Value::Object(map)) => map,
            _ => unreachable!("inserted above"),
        }
    }
}

impl IntoIterator for Map {
    type Item = (Str, Value);
    type IntoIter = indexmap::map::IntoIter<Str, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<(Str, Value)> for Map {
    fn extend<I: IntoIterator<Item = (Str, Value)>>(&mut self, fields: I) {
        self.0.extend(fields);
    }
}

impl FromIterator<(Str, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Str, Value)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
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
