//! The last changes of one cache, shared by all its watchers: each holds a position, none a queue.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use corten_apimachinery::value::Str;
use corten_store::Revision;

use crate::registry::Object;
use crate::registry::object::ObjectError;

/// Changes kept for watchers; who is further behind is sent to the store's history or told to start again.
pub(super) const CHANGES_MAX: usize = 4096;

/// One change of one object.
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) key: Str,
    pub(crate) after: After,
    pub(crate) before: Option<Arc<Object>>,
    last: OnceLock<Option<Arc<Object>>>,
}

/// The object after a change.
pub(crate) enum After {
    Put(Arc<Object>),
    Gone,
    /// It is there but cannot be read: watchers are told, not kept in ignorance.
    Broken(ObjectError),
}

impl Change {
    pub(crate) fn new(revision: Revision, key: Str, after: After, before: Option<Arc<Object>>) -> Arc<Self> {
        Arc::new(Self { revision, key, after, before, last: OnceLock::new() })
    }

    /// The object before the change under the change's revision: what `DELETED` carries. Made once for all watchers.
    pub(crate) fn last(&self) -> Option<&Arc<Object>> {
        let make = |before: &Arc<Object>| {
            let Object { json, splice, head, .. } = &**before;
            Arc::new(Object { json: json.clone(), splice: *splice, revision: self.revision, head: head.clone() })
        };
        self.last.get_or_init(|| self.before.as_ref().map(make)).as_ref()
    }
}

/// A bounded sequence of changes. Positions are numbers that only rise.
pub(super) struct Ring {
    changes: VecDeque<Arc<Change>>,
    /// Position of the first change kept.
    first: u64,
    /// Every change of this cache after this revision is in the ring.
    floor: Revision,
}

impl Ring {
    pub(super) fn new(floor: Revision) -> Self {
        Self { changes: VecDeque::new(), first: 0, floor }
    }

    pub(super) fn push(&mut self, change: Arc<Change>) {
        if self.changes.len() == CHANGES_MAX
            && let Some(oldest) = self.changes.pop_front()
        {
            self.first += 1;
            self.floor = oldest.revision;
        }
        self.changes.push_back(change);
    }

    /// The position behind the last change.
    pub(super) fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    /// The position of the first change after a revision, which must not be below the floor.
    pub(super) fn after(&self, revision: Revision) -> u64 {
        self.first + self.changes.partition_point(|change| change.revision <= revision) as u64
    }

    /// Up to `limit` changes from a position; `None` if that has left the ring.
    pub(super) fn from(&self, position: u64, limit: usize) -> Option<Vec<Arc<Change>>> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        Some(self.changes.iter().skip(skip).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_eviction() {
        let mut ring = Ring::new(10);
        for revision in 11..=(11 + CHANGES_MAX as u64) {
            ring.push(Change::new(revision, "k".into(), After::Gone, None));
        }
        assert_eq!((ring.floor(), ring.end()), (11, CHANGES_MAX as u64 + 1));
        assert!(ring.from(0, 1).is_none(), "the first change has left the ring");
        let position = ring.after(20);
        assert_eq!(ring.from(position, 2).unwrap().iter().map(|c| c.revision).collect::<Vec<_>>(), [21, 22]);
        assert!(ring.from(ring.end(), 9).unwrap().is_empty());
    }
}
