//! Following a kind: its objects as they are, then every change, without end. A watch that breaks is begun anew with a
//! whole snapshot, so a follower never acts on a state that has lost something.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::registry::{ListOptions, Registry, RevisionMatch, Shown, WatchEvent};
use corten_stdx::task::Stopped;
use futures_util::StreamExt as _;

/// Pause before a broken watch is begun anew.
const PAUSE: Duration = Duration::from_millis(100);

/// What a follower is told.
pub enum Seen {
    /// These are all objects of the kind.
    All(Vec<Value>),
    Now(Value),
    Gone(Value),
}

/// Follows a kind until it is told to stop.
pub async fn follow(
    registry: &Registry,
    kind: &Arc<KindInfo>,
    mut stopped: Stopped,
    mut tell: impl FnMut(Seen) + Send,
) {
    loop {
        tokio::select! {
            biased;
            () = stopped.wait() => return,
            ended = once(registry, kind, &mut tell) => {
                if let Err(status) = ended {
                    tracing::warn!(kind = %kind.gvk, error = %status, "a watch ended and is begun anew");
                }
            }
        }
        tokio::select! {
            () = stopped.wait() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// One watch, from its snapshot to its end.
async fn once(registry: &Registry, kind: &Arc<KindInfo>, tell: &mut (impl FnMut(Seen) + Send)) -> Result<(), Status> {
    let options = ListOptions {
        allow_bookmarks: true,
        send_initial_events: Some(true),
        revision_match: Some(RevisionMatch::NotOlderThan),
        ..ListOptions::default()
    };
    let mut events = registry.watch(kind, "", &options).await?;
    let mut initial = Some(Vec::new());
    while let Some(event) = events.next().await {
        if let ControlFlow::Break(ended) = step(event, &mut initial, tell) {
            return ended;
        }
    }
    Ok(())
}

/// One event; `initial` collects the snapshot until its end is announced.
fn step(
    event: WatchEvent,
    initial: &mut Option<Vec<Value>>,
    tell: &mut (impl FnMut(Seen) + Send),
) -> ControlFlow<Result<(), Status>> {
    let (shown, gone) = match event {
        WatchEvent::Error(status) => return ControlFlow::Break(Err(status)),
        WatchEvent::Bookmark { initial_events_end, .. } => {
            if let Some(all) = initial.take_if(|_| initial_events_end) {
                tell(Seen::All(all));
            }
            return ControlFlow::Continue(());
        }
        WatchEvent::Added(shown) | WatchEvent::Modified(shown) => (shown, false),
        WatchEvent::Deleted(shown) => (shown, true),
    };
    let value = match shown.to_value() {
        Ok(value) => value,
        Err(error) => return ControlFlow::Break(Err(unreadable(&shown, &error))),
    };
    match initial {
        Some(all) => all.push(value),
        None => tell(if gone { Seen::Gone(value) } else { Seen::Now(value) }),
    }
    ControlFlow::Continue(())
}

fn unreadable(shown: &Shown, error: &dyn std::fmt::Display) -> Status {
    let head = &shown.object.head;
    Status::internal(format_args!("the stored object {}/{} cannot be read: {error}", head.namespace, head.name))
}
