//! What has to be looked at again: a set, so that a thousand changes of one object are one look, and nothing is ever
//! dropped for want of room.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use corten_client::cache::Key;
use tokio::sync::Notify;

use crate::sources::Kind;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Pod(Key),
    /// An object that pods take something from.
    Source(Kind, Key),
}

#[derive(Debug, Default)]
pub(crate) struct Marks {
    set: Mutex<BTreeSet<Mark>>,
    news: Notify,
}

impl Marks {
    pub(crate) fn put(&self, mark: Mark) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).insert(mark);
        self.news.notify_one();
    }

    /// Resolves with everything that was marked, as soon as there is something.
    pub(crate) async fn take(&self) -> BTreeSet<Mark> {
        loop {
            let taken = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.news.notified().await;
        }
    }
}
