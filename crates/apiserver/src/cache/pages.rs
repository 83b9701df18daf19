//! Snapshots that a client is paging through: all pages of a list show one revision.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use corten_store::Revision;

use super::Snapshot;

/// How long a list can be continued; as long as upstream's etcd keeps a revision.
pub(crate) const PAGE_AGE_MS_MAX: i64 = 5 * 60 * 1000;

/// Lists in progress on one cache; the oldest gives way, and its client is sent to the store or told to go on
/// inconsistently.
const PAGES_MAX: usize = 64;

#[derive(Default)]
pub(crate) struct Pages(Mutex<VecDeque<Kept>>);

struct Kept {
    snapshot: Snapshot,
    kept_at_ms: i64,
}

impl Pages {
    /// Keeps a snapshot for the pages that follow.
    pub(crate) fn keep(&self, snapshot: &Snapshot, now_ms: i64) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop_old(&mut pages, now_ms);
        if pages.iter().any(|kept| kept.snapshot.revision == snapshot.revision) {
            return;
        }
        if pages.len() == PAGES_MAX {
            pages.pop_front();
        }
        pages.push_back(Kept { snapshot: snapshot.clone(), kept_at_ms: now_ms });
    }

    pub(crate) fn find(&self, revision: Revision, now_ms: i64) -> Option<Snapshot> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop_old(&mut pages, now_ms);
        pages.iter().find(|kept| kept.snapshot.revision == revision).map(|kept| kept.snapshot.clone())
    }

    /// Lets go of what is too old, so that nobody's forgotten list holds memory.
    pub(crate) fn expire(&self, now_ms: i64) {
        drop_old(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), now_ms);
    }
}

fn drop_old(pages: &mut VecDeque<Kept>, now_ms: i64) {
    while pages.front().is_some_and(|kept| now_ms - kept.kept_at_ms > PAGE_AGE_MS_MAX) {
        pages.pop_front();
    }
}
