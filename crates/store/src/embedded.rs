//! The embedded engine: a write-ahead log, the objects in memory, snapshots in the background.
//!
//! * [`frame`] and [`record`] are the format on disk, [`layout`] the names of files, [`disk`] the calls below.
//! * [`log`] and [`segment`] write and read the log, [`snapshot`] and [`upkeep`] snapshots, [`recover`] opens a store.
//! * [`view`] is the store at one revision with the history behind it; [`window`] decides how much history there is.
//! * [`core`] makes writes durable and publishes views through [`published`]; [`writer`] is its thread.
//! * [`watching`] is a watch, [`verify`] checks the files of a store that is not running, [`copy`] is backups.
//!
//! A write is answered when its frame is flushed. All writes that wait while the disk flushes share the next flush.
//! Reads take the newest durable view and never wait for the writer. Why it is built this way is in
//! docs/adr/0001-embedded-store.md.

pub mod copy;
mod core;
mod damage;
pub mod disk;
mod frame;
mod layout;
mod limits;
mod log;
mod published;
mod record;
mod recover;
mod reserve;
mod segment;
mod snapshot;
mod upkeep;
mod verify;
mod view;
mod watching;
mod window;
mod writer;

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};

pub use self::damage::Damage;
pub use self::layout::FormatError;
pub use self::limits::{Limits, Options};
pub use self::record::read_payload;
pub use self::recover::OpenError;
pub use self::verify::{FileKind, FileReport, Report, verify};

use self::core::{Core, Write};
use self::disk::Disk;
use self::published::Published;
use self::view::View;
use self::writer::{Ask, Request};
use crate::digest::Digest;
use crate::{
    At, Change, Committed, Entry, Expect, FUTURE_WAIT, Page, REVISION_FIRST, Revision, Store, StoreError, StoreStatus,
    WatchStream, check_size,
};

/// A store in a directory. Dropping it closes it and waits for that.
#[derive(Debug)]
pub struct EmbeddedStore {
    published: Arc<Published>,
    /// Places in the writer's queue.
    places: Arc<Semaphore>,
    requests: Option<SyncSender<Request>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, or makes one there. Reads all of it, so it takes a while (150 ms for 100,000
    /// objects of 1 KiB); call it where that blocks nobody.
    pub fn open(disk: impl Disk, options: Options) -> Result<Self, OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let lock = disk.lock().map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => OpenError::Io(error),
        })?;
        let recovered = recover::open(&*disk, &options)?;
        let limits = options.limits.clone();
        let (core, published) = Core::new(disk, options, recovered)?;
        // As many as there are places: to send never blocks.
        let (requests, queue) = sync_channel(limits.queue_writes_max);
        let places = Arc::new(Semaphore::new(limits.queue_writes_max));
        let for_writer = published.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(core, &queue, &limits, for_writer, lock))?;
        Ok(Self { published, places, requests: Some(requests), thread: Mutex::new(Some(thread)) })
    }

    /// Deletes the keys whose time is over now. The store does it by itself when the system's clock gets there; with a
    /// clock that is moved by hand this is how the store learns of it.
    pub async fn expire(&self) -> Result<(), StoreError> {
        self.ask(Ask::Expire).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, StoreError> {
        let permit = self.places.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        requests.try_send(Request { ask: ask(reply), permit }).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| match self.published.alarm() {
            // The writer answers whatever it has begun, unless it panics.
            Some(_) => StoreError::Indeterminate("the writer failed".to_owned()),
            None => StoreError::Closed,
        })
    }

    async fn view_at(&self, at: At) -> Result<(Arc<View>, Revision), StoreError> {
        if let At::AtLeast(revision) = at {
            self.wait_for(revision, FUTURE_WAIT).await?;
        }
        let view = self.published.view();
        let revision = match at {
            At::Exact(revision) => revision,
            At::Latest | At::AtLeast(_) => view.revision,
        };
        view.check(revision)?;
        Ok((view, revision))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.requests = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer's thread panicked");
        }
    }
}

impl Store for EmbeddedStore {
    fn status(&self) -> StoreStatus {
        let view = self.published.view();
        StoreStatus {
            revision: view.revision,
            floor: view.floor,
            objects: view.object_count() as u64,
            disk_bytes: self.published.disk_bytes(),
            alarm: self.published.alarm(),
        }
    }

    fn get(&self, key: &[u8], at: At) -> BoxFuture<'_, Result<(Option<Arc<Entry>>, Revision), StoreError>> {
        let key = Bytes::copy_from_slice(key);
        Box::pin(async move {
            let (view, revision) = self.view_at(at).await?;
            Ok((view.get(&key, revision), revision))
        })
    }

    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: At,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        let (prefix, after) = (Bytes::copy_from_slice(prefix), after.map(Bytes::copy_from_slice));
        Box::pin(async move {
            let (view, revision) = self.view_at(at).await?;
            Ok(view.list(&prefix, after.as_deref(), limit, revision))
        })
    }

    fn write(&self, key: Bytes, expect: Expect, change: Change) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            check_size(&key, &change)?;
            self.ask(|reply| Ask::Write(Write { key, expect, change }, reply)).await?
        })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<WatchStream, StoreError> {
        let from = from.max(REVISION_FIRST);
        self.published.view().check(from)?;
        Ok(watching::watch(self.published.clone(), prefix, from))
    }

    fn wait_for(&self, revision: Revision, limit: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut newest = self.published.newest();
            let reached = newest.wait_for(|newest| newest.revision >= revision);
            match tokio::time::timeout(limit, reached).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(StoreError::Future { current: self.published.view().revision }),
            }
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.ask(|reply| Ask::Compact(revision, reply)).await? })
    }

    fn hash(&self) -> BoxFuture<'_, Result<(Revision, u64), StoreError>> {
        /// Entries between two chances for others to run.
        const STEP: usize = 4096;
        Box::pin(async move {
            let view = self.published.view();
            let mut digest = Digest::new();
            for (at, entry) in view.objects().enumerate() {
                if at % STEP == STEP - 1 {
                    tokio::task::yield_now().await;
                }
                digest.entry(entry);
            }
            Ok((view.revision, digest.finish()))
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            match self.ask(Ask::Close).await {
                // Closed before.
                Err(StoreError::Closed) if self.published.closed() => Ok(()),
                result => result,
            }
        })
    }
}
