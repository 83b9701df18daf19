//! The registry's side of the store: sealing, and the store's errors as refusals.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_store::{At, Change, Entry, Expect, Revision, Store, StoreError};

use super::Object;
use super::object::ObjectError;
use super::seal::Sealer;
use crate::around::Outcome;

/// Turns stored entries into objects. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Opener(Arc<dyn Sealer>);

impl Opener {
    pub(crate) fn new(sealer: Arc<dyn Sealer>) -> Self {
        Self(sealer)
    }

    pub(crate) fn open(&self, home: &KindInfo, entry: &Entry) -> Result<Object, ObjectError> {
        let json = self.0.open(&home.group_resource(), &entry.key, entry.value.clone())?;
        Object::decode(json, entry.mod_revision, &home.selectable_fields)
    }

    fn seal(&self, home: &KindInfo, key: &[u8], plain: Bytes) -> Result<Bytes, ObjectError> {
        Ok(self.0.seal(&home.group_resource(), key, plain)?)
    }
}

/// Reads and conditional writes of single objects.
pub(crate) struct Storage {
    store: Arc<dyn Store>,
    opener: Opener,
}

/// Why a write did not happen.
pub(crate) enum WriteError {
    /// The key is not as expected but like this; the caller may look again.
    Conflict(Option<Arc<Entry>>),
    Refused(Status),
}

impl WriteError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Conflict(_) => Outcome::Refused,
            Self::Refused(status) => Outcome::of(Some(status)),
        }
    }
}

impl From<Status> for WriteError {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl Storage {
    pub(crate) fn new(store: Arc<dyn Store>, opener: Opener) -> Self {
        Self { store, opener }
    }

    /// The newest state of a key, everything acknowledged included.
    pub(crate) async fn entry(&self, key: &[u8]) -> Result<Option<Arc<Entry>>, Status> {
        let (entry, _) = self.store.get(key, At::Latest).await.map_err(|error| refusal(&error))?;
        Ok(entry)
    }

    pub(crate) fn open(&self, home: &KindInfo, entry: &Entry) -> Result<Object, Status> {
        self.opener.open(home, entry).map_err(|error| crate::cache::unreadable_object(&entry.key, &error))
    }

    /// Writes if the key is as expected; answers when the write is durable.
    pub(crate) async fn put(
        &self,
        home: &KindInfo,
        key: Bytes,
        expect: Expect,
        plain: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError> {
        let sealed = self.opener.seal(home, &key, plain).map_err(Status::internal)?;
        self.write(key, expect, Change::Put { value: sealed, ttl }).await
    }

    /// Deletes if the key is at a revision; answers the revision of the deletion.
    pub(crate) async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, WriteError> {
        self.write(key, Expect::Revision(expected), Change::Delete).await
    }

    async fn write(&self, key: Bytes, expect: Expect, change: Change) -> Result<Revision, WriteError> {
        match self.store.write(key, expect, change).await {
            Ok(committed) => Ok(committed.revision),
            Err(StoreError::Conflict { current }) => Err(WriteError::Conflict(current)),
            Err(error) => Err(WriteError::Refused(refusal(&error))),
        }
    }
}

/// A store's error as an answer to a client.
pub(crate) fn refusal(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StoreError::TooLarge { size, size_max } => {
            Status::too_large(format!("the object has {size} bytes, more than {size_max}"))
        }
        StoreError::Indeterminate(_) => Status::timeout("the outcome of the write is unknown"),
        StoreError::NoSpace | StoreError::ReadOnly | StoreError::Closed => Status::unavailable(error.to_string()),
        StoreError::Conflict { .. } | StoreError::Future { .. } | StoreError::Corrupt(_) => Status::internal(error),
    }
}
