//! Numbers by topology: how many of something there are at each value of some node label.

use crate::pool::Slot;
use crate::snapshot::{Node, Snapshot};

/// Counts by the value of node labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// By label key: its column and a number for each value.
    keys: Vec<(usize, Vec<i64>)>,
    total: i64,
}

impl Counts {
    /// Adds to the values that nodes have; a node without the label counts nothing.
    pub(crate) fn add(&mut self, snapshot: &Snapshot, key: &str, amounts: impl Iterator<Item = (Node, i64)>) {
        let Some(column) = snapshot.labels.column_of(key) else { return };
        let mut place = self.keys.iter().position(|(known, _)| *known == column);
        for (node, amount) in amounts {
            let value = snapshot.labels.value(column, node);
            if value == ABSENT {
                continue;
            }
            let at = *place.get_or_insert_with(|| {
                self.keys.push((column, vec![0; snapshot.labels.values_bound()]));
                self.keys.len() - 1
            });
            self.keys[at].1[value as usize] += amount;
            self.total += amount;
        }
    }

    /// The count at the node's value of a label, by the label's column.
    pub(crate) fn at(&self, snapshot: &Snapshot, column: Option<usize>, node: Node) -> i64 {
        let Some(column) = column else { return 0 };
        let value = snapshot.labels.value(column, node);
        let found = self.keys.iter().find(|(known, _)| *known == column);
        found.map_or(0, |(_, counts)| counts[value as usize])
    }

    /// The sum over all labels that something was counted for.
    pub(crate) fn sum_at(&self, snapshot: &Snapshot, node: Node) -> i64 {
        self.keys.iter().map(|(column, counts)| counts[snapshot.labels.value(*column, node) as usize]).sum()
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether nothing is left, of counts that never fall below zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.total == 0
    }
}

/// The number of the value "no such label".
pub(crate) const ABSENT: Slot = 0;
