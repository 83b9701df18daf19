//! The registry: one path for every kind from a decoded body to the store and back. What differs between kinds stands
//! in their records. This file holds the vocabulary; the verbs are one file each below.

mod admit;
mod amend;
mod conform;
mod create;
mod delete;
mod engine;
mod fields;
mod get;
pub(crate) mod key;
mod kinds;
mod list;
mod metadata;
pub(crate) mod object;
mod options;
mod patch;
mod scale;
pub mod seal;
mod select;
pub(crate) mod storage;
mod unstored;
mod update;
mod watch;

pub(crate) use admit::Asked;
pub use amend::Preconditions;
pub(crate) use conform::json_type;
pub use engine::Registry;
pub use kinds::KindSet;
pub use metadata::name_suffix;
pub use object::ObjectError;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use corten_apimachinery::json;
use corten_apimachinery::kind::{KindInfo, Propagation};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};
use corten_store::Revision;

use crate::auth::User;

/// Who writes, and under which name managed fields and the audit log know it.
#[derive(Clone, Debug)]
pub struct Context {
    pub user: Arc<User>,
    /// `?fieldManager=`, else the user agent's first part.
    pub manager: Str,
    pub sent: Sent,
    told: Told,
}

/// What a client said of its write, for admission to hand on.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// `?fieldManager=`; empty where the user agent has to serve.
    pub field_manager: Str,
    /// `?fieldValidation=`; empty where it did not say.
    pub field_validation: Str,
}

/// What a client is to be told besides what it gets from [`Written`]: of a delete, and of a write that was refused.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Context {
    pub fn new(user: Arc<User>, manager: impl Into<Str>) -> Self {
        let manager = manager.into();
        let sent = Sent { field_manager: manager.clone(), field_validation: Str::default() };
        Self { user, manager, sent, told: Told::default() }
    }

    /// The same for a write whose client said this of it.
    #[must_use]
    pub fn with_sent(self, sent: Sent) -> Self {
        Self { sent, ..self }
    }

    /// Keeps the warnings of what has no [`Written`] to carry them.
    fn keep_warnings(&self, warnings: Vec<String>) {
        self.told.0.lock().unwrap_or_else(PoisonError::into_inner).extend(warnings);
    }

    /// The warnings that were kept.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The object that a request names.
#[derive(Clone)]
pub struct Target {
    pub kind: Arc<KindInfo>,
    /// Empty for cluster-scoped kinds.
    pub namespace: Str,
    pub name: Str,
    /// Empty for the object itself.
    pub subresource: Str,
}

/// A decoded body: a tree and the duplicate fields that its text had (upstream's `duplicate field "spec.a"`).
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub value: Value,
    pub duplicates: Vec<String>,
    /// The tree with the first value of each duplicate field, where a text had any and all are looked at.
    pub first: Option<Value>,
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self { value, ..Self::default() }
    }
}

impl From<json::Parsed> for Body {
    fn from(json::Parsed { value, duplicates, first }: json::Parsed) -> Self {
        Self { value, duplicates, first }
    }
}

/// `?fieldValidation=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of create, update, patch and apply.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    /// Server-side apply over conflicts.
    pub force: bool,
}

/// A patch by its media type.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(Bytes),
    /// RFC 7386.
    Merge(Body),
    Strategic(Body),
    /// Server-side apply.
    Apply(Configuration),
}

/// What server-side apply is given, JSON being YAML too.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub value: Value,
    /// What a strict reader of YAML refuses, in upstream's words: keys that a mapping has twice.
    pub refused: Option<String>,
}

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_s: Option<i64>,
    pub propagation: Option<Propagation>,
    pub precondition_uid: Option<Str>,
    pub precondition_revision: Option<Str>,
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionMatch {
    NotOlderThan,
    Exact,
}

/// Options of get, list, watch and deletecollection, parsed but not yet checked against each other.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// As sent: `""`, `"0"` or a revision.
    pub resource_version: String,
    pub revision_match: Option<RevisionMatch>,
    pub limit: usize,
    pub continue_token: String,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout_s: Option<u64>,
}

/// One stored object: canonical JSON of the stored version without `resourceVersion`, and what is asked of it most,
/// taken out once. Shared by the cache, lists and all watchers.
#[derive(Debug)]
pub struct Object {
    /// Unsealed. Starts with `{"kind":…,"apiVersion":…,"metadata":{`.
    pub json: Bytes,
    /// Offset right behind `"metadata":{`, where `"resourceVersion":"N",` is spliced in on the way out.
    pub splice: usize,
    pub revision: Revision,
    pub head: Head,
}

/// The indexed part of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub namespace: Str,
    pub name: Str,
    pub uid: Str,
    pub labels: Vec<(Str, Str)>,
    /// Values of the kind's selectable fields, in the record's order.
    pub fields: Vec<Str>,
    /// UIDs of `metadata.ownerReferences`.
    pub owners: Vec<Str>,
    pub deleting: bool,
}

/// An object and the kind as which it is to be shown (which may be another version than the stored one).
#[derive(Clone)]
pub struct Shown {
    pub kind: Arc<KindInfo>,
    pub object: Arc<Object>,
}

/// The answer to a write.
pub struct Written {
    pub object: Shown,
    /// 201 rather than 200.
    pub created: bool,
    pub warnings: Vec<String>,
}

/// The answer to a delete.
pub enum Deleted {
    /// The object is still there (finalizers, grace period), or the kind answers with the object it had.
    Object(Shown),
    /// It is gone.
    Status(Status),
}

/// A page of a list, all at one revision.
pub struct List {
    pub kind: Arc<KindInfo>,
    pub items: Vec<Arc<Object>>,
    pub revision: Revision,
    /// Empty on the last page.
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// What a watch delivers.
pub enum WatchEvent {
    Added(Shown),
    Modified(Shown),
    Deleted(Shown),
    /// Nothing up to this revision is missing; `initial_events_end` marks the end of a streaming list (KEP-3157).
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
    /// The watch's last event.
    Error(Status),
}
