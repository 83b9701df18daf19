//! The registry itself: what all verbs share.

use std::sync::{Arc, OnceLock};

use corten_apimachinery::kind::{GroupVersionKind, KindInfo, Write, Writer};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::Store;
use tokio::sync::watch;

use super::Context;
use super::kinds::KindSet;
use super::seal::Sealer;
use super::storage::{Opener, Storage};
use crate::admission::Admission;
use crate::around::{Around, Arounds};
use crate::cache::Caches;

/// One path for every kind from a decoded body to the store and back. Cheap to clone; the verbs are its methods.
#[derive(Clone)]
pub struct Registry(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) storage: Storage,
    pub(super) store: Arc<dyn Store>,
    pub(super) opener: Opener,
    pub(super) caches: Caches,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) admission: Vec<Arc<dyn Admission>>,
    arounds: OnceLock<Arounds>,
    kinds: watch::Sender<Arc<KindSet>>,
}

impl Registry {
    /// A registry without kinds over a store. Runs the feed of its watch cache in `tasks`.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        random: Random,
        admission: Vec<Arc<dyn Admission>>,
        sealer: Arc<dyn Sealer>,
        tasks: &Tasks,
    ) -> Self {
        let opener = Opener::new(sealer);
        let caches = Caches::start(store.clone(), opener.clone(), clock.clone(), tasks);
        let storage = Storage::new(store.clone(), opener.clone());
        let kinds = watch::Sender::new(Arc::new(KindSet::default()));
        let arounds = OnceLock::new();
        Self(Arc::new(Parts { storage, store, opener, caches, clock, random, admission, arounds, kinds }))
    }

    /// Names what is done around the writes of some kinds; once, before the first of them is written. What it does it
    /// does by this registry, which is why it comes after.
    pub fn set_arounds(&self, arounds: Arounds) {
        assert!(self.0.arounds.set(arounds).is_ok(), "what is done around writes is named once");
    }

    /// What is done around the writes of a kind.
    pub(super) fn around(&self, kind: &KindInfo) -> Option<&Arc<dyn Around>> {
        self.0.arounds.get()?.find(&kind.gvk.group, &kind.plural)
    }

    /// The kinds served at this moment.
    pub fn kinds(&self) -> Arc<KindSet> {
        self.0.kinds.borrow().clone()
    }

    /// The kinds served, and word of every change: what discovery and OpenAPI are rebuilt by.
    pub fn watch_kinds(&self) -> watch::Receiver<Arc<KindSet>> {
        self.0.kinds.subscribe()
    }

    /// Adds kinds, or replaces those of the same group, version and kind. Watches on what they store end, and go on
    /// with the new record when the client comes back.
    pub fn install(&self, kinds: impl IntoIterator<Item = impl Into<Arc<KindInfo>>>) {
        let kinds: Vec<Arc<KindInfo>> = kinds.into_iter().map(Into::into).collect();
        let prefixes = KindSet::prefixes(&kinds);
        self.0.kinds.send_modify(|set| *set = Arc::new(set.with(kinds)));
        self.close_caches(&prefixes);
    }

    /// Serves some kinds no longer. What is stored of them stays.
    pub fn remove(&self, kinds: &[GroupVersionKind]) {
        let set = self.kinds();
        let prefixes = KindSet::prefixes(kinds.iter().filter_map(|gvk| set.kind(gvk)));
        self.0.kinds.send_modify(|set| *set = Arc::new(set.without(kinds)));
        self.close_caches(&prefixes);
    }

    fn close_caches(&self, prefixes: &[Str]) {
        for prefix in prefixes {
            self.0.caches.close(prefix);
        }
    }

    /// The circumstances of a write, for the rules of its kind.
    pub(super) fn write<'a>(&self, context: &'a Context, subresource: &'a str, old: Option<&'a Value>) -> Write<'a> {
        let user = &context.user;
        let user = Writer { name: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra };
        Write { subresource, old, now_s: self.0.clock.now_s(), user }
    }

    /// Tells whoever is concerned that an object is gone.
    pub(super) async fn after_delete(&self, kind: &KindInfo, object: &Value) {
        if let Some(around) = self.around(kind) {
            around.deleted(object).await;
        }
    }

    /// The record of the stored version of a kind. A kind that is not stored has no verbs here.
    pub(super) fn home(&self, kind: &Arc<KindInfo>) -> Result<Arc<KindInfo>, Status> {
        if kind.storage_prefix.is_empty() {
            return Err(Status::unknown_path());
        }
        Ok(self.kinds().home(&kind.storage_prefix).unwrap_or(kind).clone())
    }

    /// The kind of a subresource's body; the object's own for `status` and the like.
    pub(super) fn body_kind(&self, kind: &Arc<KindInfo>, gvk: &GroupVersionKind) -> Result<Arc<KindInfo>, Status> {
        if kind.gvk == *gvk {
            return Ok(kind.clone());
        }
        let found = self.kinds().kind(gvk).cloned();
        found.ok_or_else(|| Status::internal(format_args!("no kind {gvk} is installed for the subresource's body")))
    }
}

/// The refusal of an object that does not exist.
pub(super) fn not_found(kind: &KindInfo, name: &str) -> Status {
    Status::not_found(&kind.gvk.group, &kind.plural, name)
}
