//! Single objects.

use std::sync::Arc;

use corten_apimachinery::kind::{KindInfo, Serve};
use corten_apimachinery::status::Status;
use corten_store::Entry;

use super::engine::{Registry, not_found};
use super::object::ObjectError;
use super::options::parse_revision;
use super::update::serve_of;
use super::{ListOptions, Object, Shown, Target, key};

impl Registry {
    /// The object that a request names, or a generic subresource of it.
    pub async fn get(&self, target: &Target, options: &ListOptions) -> Result<Shown, Status> {
        let object = match parse_revision(&options.resource_version)? {
            None => self.newest_object(target).await?,
            Some(revision) => self.cached_object(target, revision).await?,
        };
        self.show(target, object)
    }

    /// An object as the subresource that was asked for.
    pub(super) fn show(&self, target: &Target, object: Arc<Object>) -> Result<Shown, Status> {
        let kind = target.kind.clone();
        match serve_of(target)? {
            Some(Serve::Scale(paths)) => self.show_scale(target, paths, &Shown { kind, object }),
            _ => Ok(Shown { kind, object }),
        }
    }

    /// The object as it is in the store at this moment.
    async fn newest_object(&self, target: &Target) -> Result<Arc<Object>, Status> {
        let home = self.home(&target.kind)?;
        if !key::is_segment(&target.name) {
            return Err(not_found(&target.kind, &target.name));
        }
        let entry = self.0.storage.entry(&key::absolute(&home, &target.namespace, &target.name)).await?;
        let entry = entry.ok_or_else(|| not_found(&target.kind, &target.name))?;
        self.object_of(&home, &entry)
    }

    /// The entry's object: the cache's where that is as new, which saves reading its head.
    pub(super) fn object_of(&self, home: &Arc<KindInfo>, entry: &Entry) -> Result<Arc<Object>, Status> {
        let relative = entry.key.get(home.storage_prefix.len() + 1..).and_then(|key| std::str::from_utf8(key).ok());
        let cached = self.0.caches.existing(&home.storage_prefix).zip(relative);
        let cached = cached.and_then(|(cache, relative)| cache.peek(relative));
        match cached.filter(|object| object.revision == entry.mod_revision) {
            Some(object) => Ok(object),
            None => self.0.storage.open(home, entry).map(Arc::new),
        }
    }

    /// The object in any state that is not older than a revision.
    async fn cached_object(&self, target: &Target, revision: u64) -> Result<Arc<Object>, Status> {
        let home = self.home(&target.kind)?;
        let (_, snapshot) = self.0.caches.snapshot(&home, Some(revision)).await?;
        let relative = key::relative(&home, &target.namespace, &target.name);
        match snapshot.object(&home, &relative)? {
            Some(object) => Ok(object),
            None => Err(not_found(&target.kind, &target.name)),
        }
    }
}

/// The refusal to show an object whose stored bytes cannot be read.
pub(super) fn unreadable(key: &[u8], error: &ObjectError) -> Status {
    crate::cache::unreadable_object(key, error)
}
