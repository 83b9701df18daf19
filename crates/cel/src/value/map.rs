//! Maps: part of an object, or made by an expression.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use corten_apimachinery::value;

use super::{Text, Value};
use crate::shape::Shape;

#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// An object of a tree; the shape is its own.
    Tree(&'a value::Map, &'a Shape),
    Owned(Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// What may be a key. Whole numbers are one whatever their type.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Text<'a>),
}

impl<'a> Key<'a> {
    /// The key that `value` is; `None` where no key can be equal to it.
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Int(number) => Self::Int(*number),
            Value::Uint(number) => Self::Uint(*number),
            Value::String(text) => Self::String(text.clone()),
            Value::Double(number) if number.fract() == 0.0 && number.abs() < 9e18 => Self::Int(*number as i64),
            _ => return None,
        })
    }

    pub fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::String(text) => Value::String(text.clone()),
        }
    }

    /// Which kind of key it is, and its number if it is one.
    fn rank(&self) -> (u8, i128) {
        match self {
            Self::Bool(flag) => (0, (*flag).into()),
            Self::Int(number) => (1, (*number).into()),
            Self::Uint(number) => (1, (*number).into()),
            Self::String(_) => (2, 0),
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::String(one), Self::String(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Tree(map, shape) => match shape.has_named_fields() {
                true => map.keys().filter(|name| shape.spelled(name).is_some()).count(),
                false => map.len(),
            },
            Self::Owned(map) => map.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, key: &Key<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Owned(map), _) => map.get(key).cloned(),
            (Self::Tree(..), Key::String(name)) => self.field(name),
            (Self::Tree(..), _) => None,
        }
    }

    /// The value under a key that is a string.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::Tree(map, shape) => {
                let (property, shape) = shape.field(name)?;
                map.get(property.unwrap_or(name)).map(|value| shape.read(value))
            }
            Self::Owned(map) => map.get(&Key::String(Text::Owned(name.into()))).cloned(),
        }
    }

    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Self::Tree(map, shape) => {
                let map: &'a value::Map = map;
                map.keys()
                    .filter_map(|name| shape.spelled(name))
                    .map(|name| Key::String(Text::Borrowed(name)))
                    .collect()
            }
            Self::Owned(map) => map.keys().cloned().collect(),
        }
    }

    pub fn entries(&self) -> Vec<(Key<'a>, Value<'a>)> {
        match self {
            Self::Owned(map) => map.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            Self::Tree(..) => {
                self.keys().into_iter().filter_map(|key| self.get(&key).map(|value| (key, value))).collect()
            }
        }
    }
}

impl<'a> FromIterator<(Key<'a>, Value<'a>)> for Map<'a> {
    fn from_iter<I: IntoIterator<Item = (Key<'a>, Value<'a>)>>(entries: I) -> Self {
        Self::Owned(Arc::new(entries.into_iter().collect()))
    }
}
