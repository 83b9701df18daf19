//! What the writer publishes and readers take: the newest durable view, and the news that there is one.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::view::View;
use crate::{Alarm, Revision};

#[derive(Debug)]
pub(crate) struct Published {
    /// Locked for the time of one pointer's copy.
    view: RwLock<Arc<View>>,
    newest: watch::Sender<Newest>,
    disk_bytes: AtomicU64,
    alarm: AtomicU8,
}

/// What waiting readers are woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) revision: Revision,
    /// Nothing comes after it.
    pub(crate) closed: bool,
}

impl Published {
    pub(crate) fn new(view: View) -> Self {
        Self {
            newest: watch::Sender::new(Newest { revision: view.revision, closed: false }),
            view: RwLock::new(Arc::new(view)),
            disk_bytes: AtomicU64::new(0),
            alarm: AtomicU8::new(0),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn newest(&self) -> watch::Receiver<Newest> {
        self.newest.subscribe()
    }

    pub(crate) fn closed(&self) -> bool {
        self.newest.borrow().closed
    }

    pub(crate) fn publish(&self, view: View) {
        let revision = view.revision;
        let view = Arc::new(view);
        // The old view may be the last holder of much; it is dropped after the lock.
        let before = std::mem::replace(&mut *self.view.write().unwrap_or_else(PoisonError::into_inner), view);
        drop(before);
        self.newest.send_if_modified(|newest| std::mem::replace(&mut newest.revision, revision) != revision);
    }

    pub(crate) fn close(&self) {
        self.newest.send_modify(|newest| newest.closed = true);
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn alarm(&self) -> Option<Alarm> {
        match self.alarm.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Alarm::NoSpace),
            _ => Some(Alarm::ReadOnly),
        }
    }

    pub(crate) fn set_alarm(&self, alarm: Option<Alarm>) {
        let code = match alarm {
            None => 0,
            Some(Alarm::NoSpace) => 1,
            Some(Alarm::ReadOnly) => 2,
        };
        self.alarm.store(code, Ordering::Release);
    }
}
