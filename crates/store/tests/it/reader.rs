//! Reads a watch step by step, with a limit on every step.

use std::sync::Arc;
use std::time::Duration;

use corten_store::{Event, Revision, Store, StoreError, WatchStream, Watched};
use futures_util::StreamExt as _;

const STEP: Duration = Duration::from_secs(10);

pub(crate) async fn next(stream: &mut WatchStream) -> Option<Result<Watched, StoreError>> {
    tokio::time::timeout(STEP, stream.next()).await.expect("the watch yields something in time")
}

/// The events up to the point where nothing at or below `until` is missing.
pub(crate) async fn events_until(stream: &mut WatchStream, until: Revision) -> Result<Vec<Arc<Event>>, StoreError> {
    let mut events = Vec::new();
    loop {
        let reached = match next(stream).await.expect("the watch goes on")? {
            Watched::Progress(revision) => revision,
            Watched::Event(event) => {
                let revision = event.revision;
                events.push(event);
                revision
            }
        };
        if reached >= until {
            return Ok(events);
        }
    }
}

pub(crate) async fn history(
    store: &dyn Store,
    prefix: &str,
    from: Revision,
    until: Revision,
) -> Result<Vec<Arc<Event>>, StoreError> {
    if from == until {
        return Ok(Vec::new());
    }
    events_until(&mut store.watch(prefix.as_bytes(), from)?, until).await
}
