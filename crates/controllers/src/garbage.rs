//! The garbage collector: what names an owner goes when its last owner has gone, and an owner that is deleted in the
//! foreground waits for what blocks it (`pkg/controller/garbagecollector`).
//!
//! It follows the metadata of everything that discovery knows, so that an owner's dependents are found in its caches.
//! Whether an owner that no cache has is really gone, the server is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use corten_apimachinery::kind::{GroupVersionKind, Propagation};
use corten_apimachinery::meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Meta};
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Head, Held, Key, Owner};
use corten_client::controller::{Controller, Mark, Next};
use corten_client::discovery::Served;
use corten_client::error::unless_gone;
use corten_client::informer::{Change, Informer, Scope};
use corten_client::{Client, Delete, Error, Informers, Patch, Resource};

use crate::Base;

/// Definitions and API services: a change of theirs changes what there is to follow.
const DEFINITIONS: Resource = Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// The key that stands for what discovery knows.
const DISCOVERY: &str = "(discovery)";

/// Discovery is asked so often besides when definitions change: groups of other servers come unannounced.
const DISCOVER_EVERY: Duration = Duration::from_secs(30);
/// A definition is served a moment after it is written.
const DISCOVER_SOON: Duration = Duration::from_millis(500);

/// Before a cache that is still filling is looked at again.
const UNTIL_SYNCED: Duration = Duration::from_millis(200);

/// Keys at the same time: most wait for one request.
const CONCURRENCY: usize = 20;

/// Upstream ignores these too: events are many, come and go by themselves, and own nothing.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

struct Collector {
    client: Client,
    informers: Informers,
    /// Every kind that is followed, by `plural.group`.
    followed: RwLock<BTreeMap<Str, Followed>>,
    mark: OnceLock<Mark>,
}

#[derive(Clone)]
struct Followed {
    served: Served,
    scope: Scope,
    objects: Informer<()>,
}

pub fn controller(base: &Base) -> Controller {
    let collector = Arc::new(Collector {
        client: (base.client_of)("generic-garbage-collector"),
        informers: base.informers.clone(),
        followed: RwLock::default(),
        mark: OnceLock::new(),
    });
    let definitions = base.informers.of::<()>(Scope::metadata(DEFINITIONS));
    let begun = collector.clone();
    Controller::new("garbage-collector", collector, reconcile)
        .begins(move |mark| {
            mark.now(discovery());
            begun.mark.get_or_init(|| mark);
        })
        .watches_for(&definitions, |_| vec![discovery()])
        .concurrency(CONCURRENCY)
}

fn discovery() -> Key {
    Key { kind: DISCOVERY.into(), ..Key::default() }
}

async fn reconcile(collector: Arc<Collector>, key: Key) -> Result<Next, Error> {
    if key.kind == DISCOVERY {
        return collector.follow().await;
    }
    let Some(followed) = collector.followed(&key.kind) else { return Ok(Next::Change) };
    let Some(item) = followed.objects.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let item = &item.head;
    let watched = Watched { standings: collector.standings(&followed, item).await?, ..collector.dependents(item) };
    let action = plan(item, &watched);
    if !watched.complete && matches!(action, Action::LetGo(_) | Action::Orphan) {
        return Ok(Next::After(UNTIL_SYNCED));
    }
    collector.carry_out(&followed, item, action, &watched).await
}

impl Collector {
    fn followed(&self, kind: &str) -> Option<Followed> {
        self.followed.read().unwrap_or_else(PoisonError::into_inner).get(kind).cloned()
    }

    fn all(&self) -> Vec<(Str, Followed)> {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        followed.iter().map(|(kind, followed)| (kind.clone(), followed.clone())).collect()
    }

    /// Follows what is served, and no more what is not.
    async fn follow(self: &Arc<Self>) -> Result<Next, Error> {
        let discovered = self.client.discover().await?;
        let wanted = discovered.served.into_iter().filter(is_collectable);
        let wanted: BTreeMap<Str, Served> = wanted.map(|served| (kind_of(&served.resource), served)).collect();
        let known = self.all();
        let changed = known.iter().any(|(kind, _)| !wanted.contains_key(kind)) || known.len() != wanted.len();
        for (kind, gone) in known.iter().filter(|(kind, old)| wanted.get(kind) != Some(&old.served)) {
            self.informers.end::<()>(&gone.scope);
            self.followed.write().unwrap_or_else(PoisonError::into_inner).remove(kind);
        }
        for (kind, served) in wanted {
            if self.followed(&kind).is_none() {
                let scope = Scope::metadata(served.resource.clone());
                let objects = self.informers.of::<()>(scope.clone());
                let followed = Followed { served, scope, objects: objects.clone() };
                self.followed.write().unwrap_or_else(PoisonError::into_inner).insert(kind.clone(), followed);
                let collector = self.clone();
                objects.subscribe(move |change| collector.noted(&kind, change));
            }
        }
        Ok(Next::After(if changed { DISCOVER_SOON } else { DISCOVER_EVERY }))
    }

    /// Marks what a change of an object may concern.
    fn noted(&self, kind: &Str, change: &Change<'_, ()>) {
        let Some(mark) = self.mark.get() else { return };
        let head = &change.held().head;
        if change.new.is_some() && (!head.owners.is_empty() || head.deleting) {
            mark.now(Key { kind: kind.clone(), ..head.key() });
        }
        let ends = change.new.is_none();
        let begins_to_end = head.deleting && change.old.is_none_or(|old| !old.head.deleting);
        if ends || begins_to_end {
            for (kind, dependent) in self.dependents(head).dependents {
                mark.now(Key { kind, ..dependent.key() });
            }
        }
        // An owner may wait for this one.
        let before = change.old.map(|old| &old.head.owners[..]).unwrap_or_default();
        for owner in before.iter().chain(&head.owners) {
            if let Some((kind, held)) = self.held_owner(owner, &head.namespace).filter(|(_, held)| held.head.deleting) {
                mark.now(Key { kind, ..held.head.key() });
            }
        }
    }

    /// Everything that names an owner, in all caches.
    fn dependents(&self, owner: &Head) -> Watched {
        let mut watched = Watched { standings: Vec::new(), dependents: Vec::new(), complete: true };
        for (kind, followed) in self.all() {
            watched.complete &= followed.objects.is_synced();
            let owned = followed.objects.cache().owned_by(&owner.uid);
            watched.dependents.extend(owned.iter().map(|held| (kind.clone(), held.head.clone())));
        }
        watched
    }

    /// The kind that an owner reference means, in whatever version.
    fn kind_of_owner(&self, owner: &Owner) -> Option<(Str, Followed)> {
        let gvk = GroupVersionKind::from_api_version(&owner.api_version, &owner.kind);
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = followed.iter();
        let found = all.find(|(_, of)| of.served.kind == gvk.kind && of.served.resource.group == gvk.group);
        found.map(|(kind, followed)| (kind.clone(), followed.clone()))
    }

    fn held_owner(&self, owner: &Owner, namespace: &str) -> Option<(Str, Arc<Held<()>>)> {
        let (kind, followed) = self.kind_of_owner(owner)?;
        let namespace = if followed.served.namespaced { namespace } else { "" };
        let held = followed.objects.cache().get(namespace, &owner.name)?;
        (held.head.uid == owner.uid).then_some((kind, held))
    }

    /// How each owner of an item stands.
    async fn standings(&self, item_kind: &Followed, item: &Head) -> Result<Vec<Standing>, Error> {
        let mut standings = Vec::with_capacity(item.owners.len());
        for owner in &item.owners {
            standings.push(self.standing(item_kind, item, owner).await?);
        }
        Ok(standings)
    }

    async fn standing(&self, item_kind: &Followed, item: &Head, owner: &Owner) -> Result<Standing, Error> {
        if let Some((_, held)) = self.held_owner(owner, &item.namespace) {
            return Ok(standing_of(&held.head));
        }
        let Some((_, of)) = self.kind_of_owner(owner) else {
            let Owner { api_version, kind, .. } = owner;
            return Err(Error::Shape(format!(
                "the kind {kind} of {api_version}, an owner of {}, is not served",
                item.name
            )));
        };
        // A cluster-wide object cannot be owned by one in a namespace: nobody can tell which is meant.
        if of.served.namespaced && !item_kind.served.namespaced {
            return Ok(Standing::Solid);
        }
        let namespace = if of.served.namespaced { item.namespace.as_str() } else { "" };
        let live = unless_gone(self.client.get(&of.served.resource, namespace, &owner.name).await)?;
        let live = live.map(|live| Head::of(&live)).filter(|live| live.uid == owner.uid);
        Ok(live.map_or(Standing::Absent, |live| standing_of(&live)))
    }

    async fn carry_out(&self, of: &Followed, item: &Head, action: Action, watched: &Watched) -> Result<Next, Error> {
        let resource = &of.served.resource;
        match action {
            Action::Nothing => {}
            Action::LetGo(finalizer) => self.remove_finalizer(resource, item, finalizer).await?,
            Action::Delete(propagation) => {
                let live = unless_gone(self.client.get(resource, &item.namespace, &item.name).await)?;
                let Some(live) = live.map(|live| Head::of(&live)).filter(|live| live.uid == item.uid) else {
                    return Ok(Next::Change);
                };
                if live.owners != item.owners {
                    // Somebody has adopted it meanwhile; the cache will tell.
                    return Ok(Next::After(UNTIL_SYNCED));
                }
                let uid = Some(item.uid.clone());
                let exactly =
                    Delete { uid, revision: Some(live.revision), propagation: Some(propagation), ..Delete::default() };
                unless_gone(self.client.delete(resource, &item.namespace, &item.name, &exactly).await)?;
            }
            Action::Disown(uids) => {
                self.rewrite_owners(resource, item, |owner| !uids.iter().any(|gone| gone == owner), false).await?
            }
            Action::Unblock(propagation) => {
                self.rewrite_owners(resource, item, |_| true, true).await?;
                let delete = Delete { propagation: Some(propagation), ..Delete::of(&item.uid) };
                unless_gone(self.client.delete(resource, &item.namespace, &item.name, &delete).await)?;
            }
            Action::Orphan => {
                for (kind, dependent) in &watched.dependents {
                    let Some(of) = self.followed(kind) else { continue };
                    let uid = item.uid.as_str();
                    self.rewrite_owners(&of.served.resource, dependent, |owner| owner != uid, false).await?;
                }
                self.remove_finalizer(resource, item, FINALIZER_ORPHAN).await?;
            }
            Action::DeleteDependents => {
                let mark = self.mark.get();
                for (kind, dependent) in watched.dependents.iter().filter(|(_, dependent)| !dependent.deleting) {
                    if let Some(mark) = mark {
                        mark.now(Key { kind: kind.clone(), ..dependent.key() });
                    }
                }
            }
        }
        Ok(Next::Change)
    }

    /// Takes out references to owners, or clears their hold; on what is there now.
    async fn rewrite_owners(
        &self,
        resource: &Resource,
        item: &Head,
        keep: impl Fn(&str) -> bool,
        unblock: bool,
    ) -> Result<(), Error> {
        let Some(live) = unless_gone(self.client.get(resource, &item.namespace, &item.name).await)? else {
            return Ok(());
        };
        let meta = Meta::of(&live);
        if meta.uid() != item.uid {
            return Ok(());
        }
        let references = live.at(&["metadata", "ownerReferences"]).and_then(Value::as_array).unwrap_or_default();
        let kept = references.iter().filter(|reference| keep(reference.str_at(&["uid"]))).map(|reference| {
            let mut reference = reference.clone();
            if let Some(map) = reference.as_object_mut().filter(|_| unblock) {
                map.insert("blockOwnerDeletion", false);
            }
            reference
        });
        let kept: Vec<Value> = kept.collect();
        if kept == references {
            return Ok(());
        }
        self.patch_metadata(resource, meta, "ownerReferences", kept).await
    }

    async fn remove_finalizer(&self, resource: &Resource, item: &Head, finalizer: &str) -> Result<(), Error> {
        let Some(live) = unless_gone(self.client.get(resource, &item.namespace, &item.name).await)? else {
            return Ok(());
        };
        let meta = Meta::of(&live);
        if meta.uid() != item.uid || !meta.finalizers().any(|own| own == finalizer) {
            return Ok(());
        }
        let others = meta.finalizers().filter(|own| *own != finalizer).map(Value::from).collect();
        self.patch_metadata(resource, meta, "finalizers", others).await
    }

    async fn patch_metadata(
        &self,
        resource: &Resource,
        meta: Meta<'_>,
        field: &str,
        items: Vec<Value>,
    ) -> Result<(), Error> {
        let mut patch = value!({"metadata": {"uid": (meta.uid()), "resourceVersion": (meta.resource_version())}});
        patch.object_entry("metadata").insert(field, items);
        let patched = self.client.patch(resource, meta.namespace(), meta.name(), "", &Patch::Merge(patch)).await;
        unless_gone(patched).map(drop)
    }
}

fn is_collectable(served: &Served) -> bool {
    let resource = &served.resource;
    let ignored = IGNORED.iter().any(|(group, plural)| resource.group == *group && resource.plural == *plural);
    !ignored && ["delete", "list", "watch"].into_iter().all(|verb| served.can(verb))
}

fn kind_of(resource: &Resource) -> Str {
    resource.to_string().into()
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Solid,
    /// There is no such object of that UID.
    Absent,
    /// It waits for its dependents to go first.
    Waiting,
}

fn standing_of(owner: &Head) -> Standing {
    if waits(owner) { Standing::Waiting } else { Standing::Solid }
}

fn waits(head: &Head) -> bool {
    head.deleting && has(head, FINALIZER_FOREGROUND)
}

fn has(head: &Head, finalizer: &str) -> bool {
    head.finalizers.iter().any(|own| own == finalizer)
}

/// What is known around an item.
struct Watched {
    /// Of its owners, in their order.
    standings: Vec<Standing>,
    dependents: Vec<(Str, Arc<Head>)>,
    /// Every cache has held everything once.
    complete: bool,
}

#[derive(Debug, PartialEq)]
enum Action {
    Nothing,
    Delete(Propagation),
    /// Remove references to these owners.
    Disown(Vec<Str>),
    /// Clear the item's hold on its owners, as it waits for one of them in a circle, and delete it.
    Unblock(Propagation),
    /// Remove its dependents' references to it, then this finalizer of its own.
    Orphan,
    /// Its dependents are to be deleted first.
    DeleteDependents,
    /// Nothing holds it any more: remove this finalizer.
    LetGo(&'static str),
}

fn plan(item: &Head, watched: &Watched) -> Action {
    if item.deleting {
        return plan_going(item, &watched.dependents);
    }
    if watched.standings.is_empty() || watched.complete && watched.standings.iter().all(|s| *s == Standing::Solid) {
        return Action::Nothing;
    }
    let is = |wanted| watched.standings.contains(&wanted);
    if is(Standing::Solid) {
        let gone = item.owners.iter().zip(&watched.standings).filter(|(_, standing)| **standing != Standing::Solid);
        let gone: Vec<Str> = gone.map(|(owner, _)| owner.uid.clone()).collect();
        return if gone.is_empty() { Action::Nothing } else { Action::Disown(gone) };
    }
    if is(Standing::Waiting) && !watched.dependents.is_empty() {
        let circle = watched.dependents.iter().any(|(_, dependent)| waits(dependent));
        return match circle {
            true => Action::Unblock(Propagation::Foreground),
            false => Action::Delete(Propagation::Foreground),
        };
    }
    Action::Delete(if has(item, FINALIZER_ORPHAN) {
        Propagation::Orphan
    } else if has(item, FINALIZER_FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

/// An item that is being deleted already.
fn plan_going(item: &Head, dependents: &[(Str, Arc<Head>)]) -> Action {
    if has(item, FINALIZER_ORPHAN) {
        return Action::Orphan;
    }
    if !has(item, FINALIZER_FOREGROUND) {
        return Action::Nothing;
    }
    let blocks = |dependent: &Head| dependent.owners.iter().any(|owner| owner.uid == item.uid && owner.block_deletion);
    match dependents.iter().any(|(_, dependent)| blocks(dependent)) {
        true => Action::DeleteDependents,
        false => Action::LetGo(FINALIZER_FOREGROUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uid: &str, owners: &[&str], finalizers: &[&str], deleting: bool) -> Head {
        let owner = |uid: &&str| Owner {
            api_version: "v1".into(),
            kind: "Thing".into(),
            name: (*uid).into(),
            uid: (*uid).into(),
            controller: false,
            block_deletion: true,
        };
        Head {
            uid: uid.into(),
            owners: owners.iter().map(owner).collect(),
            finalizers: finalizers.iter().map(|text| Str::from(*text)).collect(),
            deleting,
            ..Head::default()
        }
    }

    fn check(item: &Head, standings: &[Standing], dependents: Vec<Head>, expect: Action) {
        let dependents = dependents.into_iter().map(|head| (Str::from("things"), head.into())).collect();
        let watched = Watched { standings: standings.to_vec(), dependents, complete: true };
        assert_eq!(plan(item, &watched), expect, "{item:?}");
    }

    #[test]
    fn items_go_with_their_last_owner() {
        use Standing::{Absent, Solid, Waiting};
        let one = head("i", &["a"], &[], false);
        check(&one, &[Solid], vec![], Action::Nothing);
        check(&one, &[Absent], vec![], Action::Delete(Propagation::Background));
        check(&one, &[Waiting], vec![], Action::Delete(Propagation::Background));
        let own = head("d", &["i"], &[], false);
        check(&one, &[Waiting], vec![own.clone()], Action::Delete(Propagation::Foreground));
        check(&one, &[Absent], vec![own], Action::Delete(Propagation::Background));
        let two = head("i", &["a", "b"], &[], false);
        check(&two, &[Absent, Solid], vec![], Action::Disown(vec!["a".into()]));
        check(&two, &[Solid, Waiting], vec![], Action::Disown(vec!["b".into()]));
        check(&two, &[Absent, Absent], vec![], Action::Delete(Propagation::Background));
        check(&head("i", &["a"], &[FINALIZER_ORPHAN], false), &[Absent], vec![], Action::Delete(Propagation::Orphan));
        check(&head("i", &["a"], &[], true), &[Absent], vec![], Action::Nothing);
        check(&head("i", &[], &[], false), &[], vec![], Action::Nothing);
    }

    #[test]
    fn an_owner_waits_for_what_blocks_it() {
        let waiting = head("o", &[], &[FINALIZER_FOREGROUND], true);
        check(&waiting, &[], vec![head("d", &["o"], &[], false)], Action::DeleteDependents);
        check(&waiting, &[], vec![head("d", &["x"], &[], false)], Action::LetGo(FINALIZER_FOREGROUND));
        check(&waiting, &[], vec![], Action::LetGo(FINALIZER_FOREGROUND));
        let orphaning = head("o", &[], &[FINALIZER_ORPHAN], true);
        check(&orphaning, &[], vec![head("d", &["o"], &[], false)], Action::Orphan);
    }

    #[test]
    fn circles_are_broken() {
        let item = head("i", &["o"], &[], false);
        let round = head("o", &["i"], &[FINALIZER_FOREGROUND], true);
        check(&item, &[Standing::Waiting], vec![round], Action::Unblock(Propagation::Foreground));
    }
}
