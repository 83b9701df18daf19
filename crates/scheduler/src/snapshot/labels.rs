//! Node labels in columns: one a key, with the number of the value at each node.

use ahash::AHashMap;
use corten_apimachinery::value::Str;

use super::Node;
use crate::counts::ABSENT;
use crate::pool::{Pool, Slot};
use crate::view::Labels;

#[derive(Clone, Debug)]
pub(crate) struct LabelColumns {
    keys: AHashMap<Str, usize>,
    columns: Vec<Vec<Slot>>,
    /// Values of all keys together, so that one number means one text everywhere.
    values: Pool<Str>,
}

impl Default for LabelColumns {
    fn default() -> Self {
        let mut values = Pool::default();
        // A label cannot have this value, so no node shares the number by accident.
        assert_eq!(values.acquire(&Str::const_new("\0absent")), ABSENT, "the first number of a pool is 0");
        Self { keys: AHashMap::new(), columns: Vec::new(), values }
    }
}

impl LabelColumns {
    pub(crate) fn column_of(&self, key: &str) -> Option<usize> {
        self.keys.get(key).copied()
    }

    pub(crate) fn value(&self, column: usize, node: Node) -> Slot {
        self.columns[column].get(node).copied().unwrap_or(ABSENT)
    }

    pub(crate) fn text(&self, value: Slot) -> Option<&str> {
        (value != ABSENT).then(|| self.values.get(value).as_str())
    }

    pub(crate) fn value_of(&self, text: &str) -> Option<Slot> {
        self.values.find(text)
    }

    /// One more than the largest number of a value.
    pub(crate) fn values_bound(&self) -> usize {
        self.values.bound()
    }

    pub(super) fn set(&mut self, node: Node, labels: &Labels) {
        for (key, value) in labels {
            let next = self.columns.len();
            let column = *self.keys.entry(key.clone()).or_insert(next);
            if column == next {
                self.columns.push(Vec::new());
            }
            let slot = self.values.acquire(value);
            let column = &mut self.columns[column];
            if column.len() <= node {
                column.resize(node + 1, ABSENT);
            }
            column[node] = slot;
        }
    }

    pub(super) fn clear(&mut self, node: Node, labels: &Labels) {
        for (key, _) in labels {
            let column = &mut self.columns[self.keys[key]];
            self.values.release(std::mem::replace(&mut column[node], ABSENT));
        }
    }
}
