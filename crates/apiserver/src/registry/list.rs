//! Lists: always one consistent state, however many pages it takes.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_store::{At, Revision, StoreError};

use super::engine::Registry;
use super::options::{self, Position};
use super::select::Selection;
use super::{List, ListOptions, RevisionMatch};
use crate::cache::{Cache, Snapshot};

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You \
    can start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

impl Registry {
    /// The objects of a kind in a namespace, or in all of them where it is empty.
    pub async fn list(&self, kind: &Arc<KindInfo>, namespace: &str, options: &ListOptions) -> Result<List, Status> {
        options::check_list(options)?;
        let home = self.home(kind);
        let selection = Selection::new(kind, &home, namespace, options)?;
        let (snapshot, start) = self.state_for(&home, options).await?;
        let from = format!("{}{start}", selection.prefix);
        let range = selection.range();
        let mut rest = snapshot.range(&home, &range, &from)?;
        let mut items = Vec::new();
        let mut last = "";
        let full = |count| options.limit > 0 && count == options.limit;
        while !full(items.len()) {
            match rest.find(|(_, object)| selection.matches(object)) {
                Some((key, object)) => {
                    items.push(object.clone());
                    last = key;
                }
                None => return Ok(page(kind, items, &snapshot)),
            }
        }
        if !rest.clone().any(|(_, object)| selection.matches(object)) {
            return Ok(page(kind, items, &snapshot));
        }
        self.0.caches.of(&home).await?.pages().keep(&snapshot, self.0.clock.now_ms());
        let start = format!("{}\0", &last[selection.prefix.len()..]).into();
        let continue_token = Position { revision: Some(snapshot.revision), start }.encode();
        let remaining = selection.is_everything().then(|| rest.count() as u64);
        Ok(List { continue_token, remaining, ..page(kind, items, &snapshot) })
    }

    /// The state that a list shows, and the key at which it begins.
    async fn state_for(&self, home: &Arc<KindInfo>, options: &ListOptions) -> Result<(Snapshot, String), Status> {
        let cache = self.0.caches.of(home).await?;
        let asked = options::parse_revision(&options.resource_version)?;
        if options.continue_token.is_empty() {
            let exact = match options.revision_match {
                Some(RevisionMatch::Exact) => true,
                Some(RevisionMatch::NotOlderThan) => false,
                None => options.limit > 0,
            };
            let snapshot = match asked {
                None => self.newest(&cache).await,
                Some(0) => cache.snapshot(self.0.caches.reached()),
                Some(revision) if exact => self.exactly(&cache, revision).await,
                Some(revision) => cache.snapshot(self.0.caches.wait(revision).await?),
            };
            return Ok((snapshot?, String::new()));
        }
        if asked.is_some_and(|revision| revision > 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let position = Position::decode(&options.continue_token)?;
        let snapshot = match position.revision {
            None => self.newest(&cache).await,
            Some(revision) => self.exactly(&cache, revision).await.map_err(|status| match status.code {
                410 => expired_page(&position),
                _ => status,
            }),
        };
        Ok((snapshot?, position.start.into()))
    }

    /// Everything that was acknowledged before the call.
    pub(super) async fn newest(&self, cache: &Cache) -> Result<Snapshot, Status> {
        cache.snapshot(self.0.caches.catch_up().await?)
    }

    /// The state at a revision: the present one if nothing has changed since, one that somebody is paging through, or
    /// the store's.
    async fn exactly(&self, cache: &Cache, revision: Revision) -> Result<Snapshot, Status> {
        if let Some(kept) = cache.pages().find(revision, self.0.clock.now_ms()) {
            return Ok(kept);
        }
        self.0.caches.wait(revision).await?;
        let present = cache.snapshot(0)?;
        if present.revision <= revision {
            return Ok(Snapshot { revision, ..present });
        }
        let prefix = format!("{}/", cache.home.storage_prefix);
        match self.0.store.list(prefix.as_bytes(), None, 0, At::Exact(revision)).await {
            Ok(page) => Ok(Snapshot::of_page(&page, &cache.home, &self.0.opener)),
            Err(StoreError::Future { current }) => Err(Status::too_large_resource_version(revision, current)),
            Err(error) => Err(super::storage::refusal(&error)),
        }
    }
}

fn page(kind: &Arc<KindInfo>, items: Vec<Arc<super::Object>>, snapshot: &Snapshot) -> List {
    let (continue_token, remaining) = (String::new(), None);
    List { kind: kind.clone(), items, revision: snapshot.revision, continue_token, remaining }
}

/// A list whose state is gone: the client may start again, or take the rest as it is now.
fn expired_page(position: &Position) -> Status {
    let rest = Position { revision: None, start: position.start.clone() };
    Status::expired(CONTINUE_EXPIRED).with_continue(rest.encode())
}
