//! The revisioned key-value store under the API server.
//!
//! One trait, [`Store`]: conditional writes only, one global revision, prefix lists at a revision, watches from a
//! revision. Writes and watch events are one log, so a watch resumes over a restart. Semantics follow etcd's
//! (https://etcd.io/docs/v3.6/learning/api_guarantees/); the embedded engine keeps them with a write-ahead log and the
//! objects in memory.

mod digest;
pub mod embedded;
pub mod model;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;

/// A point in the store's one history. Starts at 1; every write takes the next one. 0 is "before everything".
pub type Revision = u64;

/// The revision of a new store. Its first write gets the next one.
pub const REVISION_FIRST: Revision = 1;

/// One key's state at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of the write that made the key.
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
    /// Writes since the key was made, this one included.
    pub version: u64,
    /// Unix milliseconds after which the store deletes the key by itself.
    pub expires_at_ms: Option<u64>,
}

/// Which state a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Everything acknowledged before the call began.
    Latest,
    /// This revision or a later one; waits for it up to [`FUTURE_WAIT`].
    AtLeast(Revision),
    /// Exactly this revision.
    Exact(Revision),
}

/// A page of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In key order.
    pub entries: Vec<Arc<Entry>>,
    /// The revision that the page shows.
    pub revision: Revision,
    /// Keys of the prefix behind the page's last one.
    pub remaining: u64,
}

/// What a write requires of the key; there is no unconditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    Revision(Revision),
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put { value: Bytes, ttl: Option<Duration> },
    Delete,
}

/// A write that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub revision: Revision,
    /// The key before the write.
    pub previous: Option<Arc<Entry>>,
}

/// One change, as watches deliver it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub key: Bytes,
    /// The key after the change; `None`: deleted.
    pub entry: Option<Arc<Entry>>,
    /// The key before the change; `None`: created by it.
    pub previous: Option<Arc<Entry>>,
}

/// What a watch yields, in revision order, without gap or duplicate, durable events only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    Event(Arc<Event>),
    /// Nothing at or below this revision is missing.
    Progress(Revision),
}

pub type WatchStream = Pin<Box<dyn Stream<Item = Result<Watched, StoreError>> + Send>>;

/// The store's state, for start-up, metrics and operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The last durable revision.
    pub revision: Revision,
    /// Reads and watches below it are refused.
    pub floor: Revision,
    pub objects: u64,
    pub disk_bytes: u64,
    /// Why writes are refused, if they are.
    pub alarm: Option<Alarm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The disk is full: puts are refused, deletes pass.
    NoSpace,
    /// A flush failed: what is on disk is unknown, so the store is read-only until it is opened again.
    ReadOnly,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The write's expectation did not hold. Carries the key as it is, so that the caller need not read again.
    #[error("the key is not at the expected revision")]
    Conflict { current: Option<Arc<Entry>> },
    #[error("revision is compacted; the oldest one kept is {floor}")]
    Compacted { floor: Revision },
    #[error("revision is in the future; the newest one is {current}")]
    Future { current: Revision },
    #[error("the disk of the store is full; free space or delete objects")]
    NoSpace,
    #[error("the store is read-only after a failed flush; restart to verify it")]
    ReadOnly,
    /// Whether the write took place is unknown; read before trying again.
    #[error("the outcome of the write is unknown: {0}")]
    Indeterminate(String),
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    #[error("the key or value has {size} bytes, more than {size_max}")]
    TooLarge { size: usize, size_max: usize },
    #[error("the store is closed")]
    Closed,
}

/// The largest value that any engine accepts (etcd's `--max-request-bytes` is of this order).
pub const VALUE_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The longest key that any engine accepts.
pub const KEY_BYTES_MAX: usize = 4096;

/// How long a read waits for a revision that is not there yet (upstream's watch cache waits as long).
pub const FUTURE_WAIT: Duration = Duration::from_secs(3);

fn check_size(key: &[u8], change: &Change) -> Result<(), StoreError> {
    let value_bytes = match change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
    };
    for (size, size_max) in [(key.len(), KEY_BYTES_MAX), (value_bytes, VALUE_BYTES_MAX)] {
        if size > size_max {
            return Err(StoreError::TooLarge { size, size_max });
        }
    }
    Ok(())
}

/// A revisioned key-value store. All methods may be called concurrently; reads are linearizable unless `At` says
/// otherwise.
pub trait Store: Send + Sync + 'static {
    fn status(&self) -> StoreStatus;

    /// The key at a state; `None` where it does not exist there.
    fn get(&self, key: &[u8], at: At) -> BoxFuture<'_, Result<(Option<Arc<Entry>>, Revision), StoreError>>;

    /// Up to `limit` keys (0: all) that start with `prefix` and come after `after`, in key order.
    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: At,
    ) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Writes if the expectation holds, and answers when the write is durable. A dropped future does not undo it.
    /// A deletion that expects absence never holds.
    fn write(&self, key: Bytes, expect: Expect, change: Change) -> BoxFuture<'_, Result<Committed, StoreError>>;

    /// Changes of keys with `prefix` after revision `from` (exclusive), then goes on with new ones. Whenever the reader
    /// has caught up with revisions that brought it no event, [`Watched::Progress`] says so; the first time at once.
    /// Fails with [`StoreError::Compacted`] at once or later, when the reader has fallen behind the kept history, and
    /// with [`StoreError::Future`] where `from` is newer than the store. After [`Store::close`] the stream delivers what
    /// is left and ends with [`StoreError::Closed`].
    fn watch(&self, prefix: &[u8], from: Revision) -> Result<WatchStream, StoreError>;

    /// Waits until the revision is durable and visible to reads.
    fn wait_for(&self, revision: Revision, limit: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Lets the store forget history up to `revision`; it may keep more, or forget earlier by its own limits.
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// A hash over all keys, values and revisions at the current revision, equal for equal content on every engine.
    fn hash(&self) -> BoxFuture<'_, Result<(Revision, u64), StoreError>>;

    /// Ends writes, flushes, and leaves an end marker. Idempotent.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}
