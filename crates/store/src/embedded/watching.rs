//! A watch: a cursor into the history of whatever view is newest. It holds no view and has no queue that the writer
//! fills, so a reader that stops reading costs nothing and is told so when history has passed it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;

use super::published::{Newest, Published};
use crate::{Event, Revision, StoreError, WatchStream, Watched};

/// Events looked at before others may run.
const SCAN_MAX: usize = 1024;

struct Cursor {
    published: Arc<Published>,
    newest: watch::Receiver<Newest>,
    prefix: Bytes,
    /// Up to here events were looked at.
    seen: Revision,
    /// Up to here the reader knows that it misses nothing.
    told: Revision,
    /// Events found by the last look.
    found: VecDeque<Arc<Event>>,
    ended: bool,
}

/// Watches from a revision that the caller has checked.
pub(crate) fn watch(published: Arc<Published>, prefix: &[u8], from: Revision) -> WatchStream {
    let cursor = Cursor {
        newest: published.newest(),
        published,
        prefix: Bytes::copy_from_slice(prefix),
        seen: from,
        // So the reader is told at once when it is already up to date.
        told: from - 1,
        found: VecDeque::new(),
        ended: false,
    };
    Box::pin(stream::unfold(cursor, async |mut cursor| Some((cursor.next().await?, cursor))))
}

impl Cursor {
    async fn next(&mut self) -> Option<Result<Watched, StoreError>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.found.pop_front() {
                self.told = event.revision;
                return Some(Ok(Watched::Event(event)));
            }
            let newest = *self.newest.borrow_and_update();
            match self.look() {
                Err(error) => return self.end(error),
                Ok(Look::Found) => {}
                Ok(Look::More) => tokio::task::yield_now().await,
                Ok(Look::CaughtUp) if self.told < self.seen => {
                    self.told = self.seen;
                    return Some(Ok(Watched::Progress(self.seen)));
                }
                Ok(Look::CaughtUp) if newest.closed => return self.end(StoreError::Closed),
                // An error means that the store is gone, and with it whoever could write.
                Ok(Look::CaughtUp) => self.ended = self.newest.changed().await.is_err(),
            }
        }
    }

    fn look(&mut self) -> Result<Look, StoreError> {
        let view = self.published.view();
        if self.seen < view.floor {
            return Err(StoreError::Compacted { floor: view.floor });
        }
        for event in view.events_after(self.seen, SCAN_MAX) {
            self.seen = event.revision;
            if event.key.starts_with(&self.prefix) {
                self.found.push_back(event.clone());
            }
        }
        Ok(match (self.found.is_empty(), self.seen == view.revision) {
            (false, _) => Look::Found,
            (true, true) => Look::CaughtUp,
            (true, false) => Look::More,
        })
    }

    fn end(&mut self, error: StoreError) -> Option<Result<Watched, StoreError>> {
        self.ended = true;
        Some(Err(error))
    }
}

enum Look {
    Found,
    CaughtUp,
    /// Nothing of interest so far.
    More,
}
