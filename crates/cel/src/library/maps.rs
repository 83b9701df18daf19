//! What comprehensions use to make maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Row, format_value, unfit};
use crate::budget::{Budget, Error};
use crate::value::{Key, Map, Value};

pub(super) const ROWS: &[Row] = &[
    ("cel.@mapInsert", "@mapInsert_map_map", "(map(K, V), map(K, V)) -> map(K, V)", insert_all),
    ("cel.@mapInsert", "@mapInsert_map_key_value", "(map(K, V), K, V) -> map(K, V)", insert),
];

fn insert<'a>(mut given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (Some(value), Some(key), Some(Value::Map(map))) = (given.pop(), given.pop(), given.pop()) else {
        return unfit();
    };
    let Some(key) = Key::of(&key) else { return unfit() };
    with(map, vec![(key, value)])
}

fn insert_all<'a>(mut given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (Some(Value::Map(more)), Some(Value::Map(map))) = (given.pop(), given.pop()) else { return unfit() };
    budget.work(more.len())?;
    with(map, more.entries())
}

/// The map with more entries, in place where nobody else holds it. A key that is there already is an error.
fn with<'a>(map: Map<'a>, more: Vec<(Key<'a>, Value<'a>)>) -> Result<Value<'a>, Error> {
    let mut entries: Arc<BTreeMap<Key<'a>, Value<'a>>> = match map {
        Map::Owned(entries) => entries,
        tree @ Map::Tree(..) => Arc::new(tree.entries().into_iter().collect()),
    };
    let inside = Arc::make_mut(&mut entries);
    for (key, value) in more {
        let shown = key.value();
        if inside.insert(key, value).is_some() {
            return Err(Error::new(format!("insert failed: key {} already exists", format_value(&shown))));
        }
    }
    Ok(Value::Map(Map::Owned(entries)))
}
