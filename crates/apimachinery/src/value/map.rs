//! The fields of an object in their order. Objects are small: up to [`SMALL`] fields are searched one by one, which is
//! faster than hashing a name, and cost one allocation. Above it a hash index is kept beside them, so that the time of
//! a lookup has a bound whatever a client sends.

use std::collections::HashMap;

use super::{Str, Value};

/// Fields that are searched one by one.
const SMALL: usize = 16;

type Index = HashMap<Str, usize, ahash::RandomState>;

/// An object with the order of its keys. Equality does not look at the order.
#[derive(Clone, Debug, Default)]
pub struct Map {
    fields: Vec<(Str, Value)>,
    /// Where each field stands; there exactly when there are more than [`SMALL`].
    index: Option<Box<Index>>,
}

impl Map {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(capacity: usize) -> Self {
        Self { fields: Vec::with_capacity(capacity), index: None }
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.position(key).map(|position| &self.fields[position].1)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.position(key).map(|position| &mut self.fields[position].1)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Sets a field; a new one goes to the end. Returns the value that was there.
    pub fn insert(&mut self, key: impl Into<Str>, value: impl Into<Value>) -> Option<Value> {
        self.replace(key.into(), value.into()).map(|(_, old)| old)
    }

    /// Sets a field as [`Self::insert`] does; gives the name too of one that was there already.
    pub(crate) fn replace(&mut self, key: Str, value: Value) -> Option<(&Str, Value)> {
        if let Some(position) = self.position(&key) {
            let (key, old) = &mut self.fields[position];
            return Some((key, std::mem::replace(old, value)));
        }
        let position = self.fields.len();
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), position);
        }
        self.fields.push((key, value));
        if position == SMALL {
            self.reindex();
        }
        None
    }

    /// Sets a field only where there is none.
    pub fn insert_if_absent(&mut self, key: &str, value: impl FnOnce() -> Value) {
        if !self.contains_key(key) {
            self.insert(key, value());
        }
    }

    /// Removes a field and keeps the order of the others.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let (_, value) = self.fields.remove(self.position(key)?);
        self.reindex();
        Some(value)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Str, &Value)> {
        self.fields.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&Str, &mut Value)> {
        self.fields.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Str> {
        self.fields.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.fields.iter().map(|(_, value)| value)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&Str, &mut Value) -> bool) {
        self.fields.retain_mut(|(key, value)| keep(key, value));
        self.reindex();
    }

    /// Sorts the fields by name, as Go writes maps.
    pub fn sort_keys(&mut self) {
        self.fields.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        self.reindex();
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

    fn position(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self.fields.iter().position(|(name, _)| name == key),
        }
    }

    /// Brings the index in line with the fields.
    fn reindex(&mut self) {
        self.index = (self.fields.len() > SMALL).then(|| {
            let positions = self.fields.iter().enumerate();
            Box::new(positions.map(|(position, (key, _))| (key.clone(), position)).collect())
        });
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
            || self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl IntoIterator for Map {
    type Item = (Str, Value);
    type IntoIter = std::vec::IntoIter<(Str, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}

impl Extend<(Str, Value)> for Map {
    fn extend<I: IntoIterator<Item = (Str, Value)>>(&mut self, fields: I) {
        for (key, value) in fields {
            self.insert(key, value);
        }
    }
}

impl FromIterator<(Str, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Str, Value)>>(fields: I) -> Self {
        let fields = fields.into_iter();
        let mut map = Self::with_capacity(fields.size_hint().0);
        map.extend(fields);
        map
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What to do with a map, and with the list of pairs that it must equal.
    #[derive(Clone, Debug)]
    enum Change {
        Insert(u8, i64),
        Remove(u8),
        Keep(u8),
        Sort,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            8 => (0u8..40, any::<i64>()).prop_map(|(key, value)| Change::Insert(key, value)),
            3 => (0u8..40).prop_map(Change::Remove),
            1 => (2u8..6).prop_map(Change::Keep),
            1 => Just(Change::Sort),
        ]
    }

    fn name(key: u8) -> Str {
        format!("field{key}").into()
    }

    fn apply(change: &Change, map: &mut Map, pairs: &mut Vec<(Str, Value)>) {
        match change {
            Change::Insert(key, value) => {
                map.insert(name(*key), *value);
                match pairs.iter_mut().find(|(known, _)| *known == name(*key)) {
                    Some((_, old)) => *old = (*value).into(),
                    None => pairs.push((name(*key), (*value).into())),
                }
            }
            Change::Remove(key) => {
                let known = pairs.iter().position(|(known, _)| *known == name(*key));
                let removed = known.map(|position| pairs.remove(position).1);
                assert_eq!(map.remove(&name(*key)), removed);
            }
            Change::Keep(divisor) => {
                let keep = |value: &Value| value.as_i64().is_some_and(|number| number % i64::from(*divisor) != 0);
                map.retain(|_, value| keep(value));
                pairs.retain(|(_, value)| keep(value));
            }
            Change::Sort => {
                map.sort_keys();
                pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
            }
        }
    }

    proptest! {
        #[test]
        fn a_map_is_its_list_of_fields(changes in proptest::collection::vec(change(), 0..120)) {
            let (mut map, mut pairs) = (Map::new(), Vec::new());
            for change in &changes {
                apply(change, &mut map, &mut pairs);
                prop_assert_eq!(map.index.is_some(), pairs.len() > SMALL);
                for key in 0..40 {
                    let known = pairs.iter().find(|(known, _)| *known == name(key)).map(|(_, value)| value);
                    prop_assert_eq!(map.get(&name(key)), known);
                }
            }
            prop_assert_eq!(map.clone().into_iter().collect::<Vec<_>>(), pairs.clone());
            let reversed: Map = pairs.into_iter().rev().collect();
            prop_assert_eq!(map, reversed);
        }
    }
}
