//! Delete: at once, or by marking the object for its finalizers, its dependents or its grace period
//! (`k8s.io/apiserver/pkg/registry/generic/registry` and `rest.BeforeDelete`).

use std::sync::Arc;

use corten_apimachinery::kind::{KindInfo, Propagation};
use corten_apimachinery::meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Meta, metadata_mut};
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};
use corten_store::{Entry, Expect};

use super::create::{shown, time_to_live, to_storage};
use super::engine::{Registry, not_found};
use super::get::unreadable;
use super::object::encode;
use super::storage::WriteError;
use super::{Context, DeleteOptions, Deleted, List, ListOptions, Shown, Target, key};

/// Writers that may be faster before the client is told to try again.
const CONFLICTS_MAX: usize = 100;

/// Objects that a delete of a collection lists at once.
const COLLECTION_PAGE: usize = 1_000;

impl Registry {
    /// Deletes an object, or marks it for those who have to let go of it first.
    pub async fn delete(&self, context: &Context, target: &Target, options: &DeleteOptions) -> Result<Deleted, Status> {
        let kind = &target.kind;
        if !key::is_segment(&target.name) {
            return Err(not_found(kind, &target.name));
        }
        let home = self.home(kind)?;
        let mut entry = self.0.storage.entry(&key::absolute(&home, &target.namespace, &target.name)).await?;
        for _ in 0..CONFLICTS_MAX {
            let Some(current) = entry else { return Err(not_found(kind, &target.name)) };
            match self.delete_once(context, target, &home, &current, options).await {
                Ok(deleted) => return Ok(deleted),
                Err(WriteError::Refused(status)) => return Err(status),
                Err(WriteError::Conflict(now)) => entry = now,
            }
        }
        Err(Status::modified(&kind.gvk.group, &kind.plural, &target.name))
    }

    /// Deletes all objects that are selected. Not atomic: an object that goes meanwhile is no error, a refusal ends it.
    /// Returns the objects as they were listed.
    pub async fn delete_collection(
        &self,
        context: &Context,
        kind: &Arc<KindInfo>,
        namespace: &str,
        options: &DeleteOptions,
        selection: &ListOptions,
    ) -> Result<List, Status> {
        let mut page = ListOptions { limit: selection.limit, ..selection.clone() };
        if selection.limit == 0 {
            page.limit = COLLECTION_PAGE;
        }
        let mut deleted = Vec::new();
        loop {
            let mut list = self.list(kind, namespace, &page).await?;
            for object in &list.items {
                let (namespace, name) = (object.head.namespace.clone(), object.head.name.clone());
                let target = Target { kind: kind.clone(), namespace, name, subresource: Str::default() };
                match self.delete(context, &target, options).await {
                    Err(status) if status.code != 404 => return Err(status),
                    Ok(_) | Err(_) => {}
                }
            }
            deleted.append(&mut list.items);
            if selection.limit > 0 || list.continue_token.is_empty() {
                return Ok(List { items: deleted, ..list });
            }
            page.continue_token = std::mem::take(&mut list.continue_token);
            page.resource_version.clear();
            page.revision_match = None;
        }
    }

    async fn admit_delete(
        &self,
        context: &Context,
        target: &Target,
        old: &Arc<Value>,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let mut chain = self.admission_of_delete(context, target, old.clone(), options);
        let admitted = match chain.mutate(Value::Null).await {
            Ok(object) => chain.validate(object).await,
            Err(status) => Err(status),
        };
        context.keep_warnings(chain.into_warnings());
        admitted.map(drop)
    }

    async fn delete_once(
        &self,
        context: &Context,
        target: &Target,
        home: &Arc<KindInfo>,
        entry: &Entry,
        options: &DeleteOptions,
    ) -> Result<Deleted, WriteError> {
        let kind = &target.kind;
        let stored = self.object_of(home, entry)?;
        let old = Shown { kind: kind.clone(), object: stored };
        let value = Arc::new(old.to_value().map_err(|error| unreadable(&entry.key, &error))?);
        check_preconditions(kind, &value, options)?;
        self.admit_delete(context, target, &value, options).await?;
        let mut new = Value::clone(&value);
        match plan(kind, &mut new, options, self.0.clock.now_s()) {
            Plan::Pending => Ok(answer(kind, &value, || old)),
            Plan::Now => {
                let revision = if options.dry_run {
                    entry.mod_revision
                } else {
                    let revision = self.0.storage.delete(entry.key.clone(), entry.mod_revision).await?;
                    self.after_delete(kind, &new).await;
                    revision
                };
                let next = to_storage(kind, &new)?;
                Ok(answer(kind, &new, || shown(kind, home, &next, revision)))
            }
            Plan::Mark => {
                let next = to_storage(kind, &new)?;
                let revision = if options.dry_run || new == *value {
                    entry.mod_revision
                } else {
                    let expect = Expect::Revision(entry.mod_revision);
                    self.0.storage.put(home, entry.key.clone(), expect, encode(&next), time_to_live(kind)).await?
                };
                Ok(Deleted::Object(shown(kind, home, &next, revision)))
            }
        }
    }
}

/// What a delete comes to.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// The object goes.
    Now,
    /// The object is written with a deletion timestamp.
    Mark,
    /// It is being deleted already, and nothing changes.
    Pending,
}

/// Decides what happens to an object and makes it so in `value`.
fn plan(kind: &KindInfo, value: &mut Value, options: &DeleteOptions, now_s: i64) -> Plan {
    if let Some(begin) = kind.strategy.begin_delete.filter(|_| deletion_s(value).is_none()) {
        begin(value, now_s);
    }
    // Negative periods mean one second.
    let asked = options.grace_period_s.map(|period| if period < 0 { 1 } else { period });
    let graceful = match grace(kind, value, asked, now_s) {
        Grace::None => false,
        Grace::Pending => return Plan::Pending,
        Grace::Period { seconds, until_s } => {
            mark(value, seconds, until_s);
            seconds > 0
        }
    };
    set_dependents_finalizer(kind, value, options.propagation);
    if kind.strategy.hold.is_some_and(|hold| hold(value)) {
        // The kind's own way of waiting, which knows no period.
        metadata_mut(value).insert_if_absent("deletionTimestamp", || Time::from_seconds(now_s).to_rfc3339().into());
        return Plan::Mark;
    }
    let held = Meta::of(value).finalizers().next().is_some();
    match (graceful, held) {
        (true, _) => Plan::Mark,
        (false, false) => Plan::Now,
        (false, true) => {
            let since_s = deletion_s(value).map_or(now_s, |since_s| since_s.min(now_s));
            mark(value, 0, since_s);
            Plan::Mark
        }
    }
}

enum Grace {
    None,
    /// A delete with a period that is no longer than the one asked for is under way.
    Pending,
    Period {
        seconds: i64,
        until_s: i64,
    },
}

/// The grace period of this delete, for kinds whose objects somebody has to stop first.
fn grace(kind: &KindInfo, value: &Value, asked: Option<i64>, now_s: i64) -> Grace {
    let Some(graceful) = kind.strategy.graceful else { return Grace::None };
    let Some(until_s) = deletion_s(value) else {
        let seconds = graceful(value, asked);
        return Grace::Period { seconds, until_s: now_s + seconds };
    };
    let current = Meta::of(value).deletion_grace_period_seconds().unwrap_or_default();
    let current = if current < 0 { 1 } else { current };
    match asked {
        _ if current == 0 => Grace::None,
        None => Grace::Pending,
        Some(period) if period >= current => Grace::Pending,
        Some(period) => {
            let shortened_s = until_s - current + period;
            match shortened_s < now_s {
                // The period is over already; whoever stops the object still gets to see a delete that is not forced.
                true => Grace::Period { seconds: period.min(1), until_s: now_s },
                false => Grace::Period { seconds: period, until_s: shortened_s },
            }
        }
    }
}

/// Sets the deletion timestamp; the first time the object's generation rises, since what is wanted of it changes.
fn mark(value: &mut Value, grace_s: i64, until_s: i64) {
    let meta = Meta::of(value);
    let first = meta.deletion_timestamp().is_none();
    let generation = meta.generation();
    let metadata = metadata_mut(value);
    if first && generation > 0 {
        metadata.insert("generation", generation + 1);
    }
    metadata.insert("deletionTimestamp", Time::from_seconds(until_s).to_rfc3339());
    metadata.insert("deletionGracePeriodSeconds", grace_s);
}

/// Unix seconds of the deletion timestamp.
fn deletion_s(value: &Value) -> Option<i64> {
    let time = Meta::of(value).deletion_timestamp().map(Time::parse)?;
    Some(time.expect("the server wrote it").seconds)
}

/// Adds or removes the finalizers by which the garbage collector learns what to do with dependents: as the request
/// says, else as the object's finalizers say already, else by the kind's default.
fn set_dependents_finalizer(kind: &KindInfo, value: &mut Value, asked: Option<Propagation>) {
    let own: Vec<Str> = Meta::of(value).finalizers().map(Str::from).collect();
    let from_object = own.iter().find_map(|finalizer| match finalizer.as_str() {
        FINALIZER_ORPHAN => Some(Propagation::Orphan),
        FINALIZER_FOREGROUND => Some(Propagation::Foreground),
        _ => None,
    });
    let by_default = match kind.strategy.default_propagation {
        Propagation::Orphan => Propagation::Orphan,
        Propagation::Background | Propagation::Foreground => Propagation::Background,
    };
    let wanted = match asked.or(from_object).unwrap_or(by_default) {
        Propagation::Orphan => Some(FINALIZER_ORPHAN),
        Propagation::Foreground => Some(FINALIZER_FOREGROUND),
        Propagation::Background => None,
    };
    let others = own.iter().filter(|own| !matches!(own.as_str(), FINALIZER_ORPHAN | FINALIZER_FOREGROUND));
    let finalizers: Vec<Str> = others.cloned().chain(wanted.map(Str::from)).collect();
    let metadata = metadata_mut(value);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else if finalizers != own {
        metadata.insert("finalizers", finalizers);
    }
}

fn check_preconditions(kind: &KindInfo, value: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let meta = Meta::of(value);
    let conflict = |why: String| Err(Status::conflict(&kind.gvk.group, &kind.gvk.kind, meta.name(), &why));
    match (&options.precondition_uid, &options.precondition_revision) {
        (Some(uid), _) if uid != meta.uid() => conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            meta.uid()
        )),
        (_, Some(revision)) if revision != meta.resource_version() => conflict(format!(
            "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            meta.resource_version()
        )),
        _ => Ok(()),
    }
}

/// The answer to a delete that is done, or under way already.
fn answer(kind: &KindInfo, value: &Value, object: impl FnOnce() -> Shown) -> Deleted {
    if kind.strategy.delete_returns_object {
        return Deleted::Object(object());
    }
    let meta = Meta::of(value);
    Deleted::Status(Status::success(&kind.gvk.group, &kind.plural, meta.name(), meta.uid()))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::testing::kinds;

    const NOW_S: i64 = 1_767_225_600;

    fn options(grace_period_s: Option<i64>, propagation: Option<Propagation>) -> DeleteOptions {
        DeleteOptions { grace_period_s, propagation, ..DeleteOptions::default() }
    }

    /// What becomes of an object: the plan, deletion timestamp, grace period, generation and finalizers.
    fn check(kind: &KindInfo, metadata: Value, options: &DeleteOptions, plan_is: Plan, expect: &str) {
        let mut value = value!({"metadata": metadata});
        let given = corten_apimachinery::json::to_string(&value);
        assert_eq!(plan(kind, &mut value, options, NOW_S), plan_is, "{given} {options:?}");
        let meta = Meta::of(&value);
        let shown = format!(
            "{} {:?} {} {}",
            meta.deletion_timestamp().unwrap_or("-"),
            meta.deletion_grace_period_seconds(),
            meta.generation(),
            meta.finalizers().collect::<Vec<_>>().join(",")
        );
        assert_eq!(shown, expect, "{given} {options:?}");
    }

    #[test]
    fn finalizers_and_propagation() {
        let kind = kinds::widget();
        let held = || value!({"generation": 1, "finalizers": ["x"]});
        check(&kind, value!({"generation": 1}), &options(None, None), Plan::Now, "- None 1 ");
        check(&kind, held(), &options(None, None), Plan::Mark, "2026-01-01T00:00:00Z Some(0) 2 x");
        let orphan = options(None, Some(Propagation::Orphan));
        check(&kind, held(), &orphan, Plan::Mark, "2026-01-01T00:00:00Z Some(0) 2 x,orphan");
        let background = options(None, Some(Propagation::Background));
        check(&kind, value!({"finalizers": ["orphan"]}), &background, Plan::Now, "- None 0 ");
        let foreground = value!({"finalizers": ["foregroundDeletion"]});
        check(&kind, foreground, &options(None, None), Plan::Mark, "2026-01-01T00:00:00Z Some(0) 0 foregroundDeletion");
        let mut orphans = kinds::widget();
        orphans.strategy.default_propagation = Propagation::Orphan;
        check(&orphans, value!({}), &options(None, None), Plan::Mark, "2026-01-01T00:00:00Z Some(0) 0 orphan");
        let mut holds = kinds::widget();
        holds.strategy.hold = Some(|_| true);
        check(&holds, value!({}), &options(None, None), Plan::Mark, "2026-01-01T00:00:00Z None 0 ");
    }

    #[test]
    fn grace_periods() {
        let mut kind = kinds::widget();
        kind.strategy.graceful = Some(|_, asked| asked.unwrap_or(30));
        let fresh = || value!({"generation": 1});
        check(&kind, fresh(), &options(None, None), Plan::Mark, "2026-01-01T00:00:30Z Some(30) 2 ");
        check(&kind, fresh(), &options(Some(5), None), Plan::Mark, "2026-01-01T00:00:05Z Some(5) 2 ");
        check(&kind, fresh(), &options(Some(-1), None), Plan::Mark, "2026-01-01T00:00:01Z Some(1) 2 ");
        check(&kind, fresh(), &options(Some(0), None), Plan::Now, "2026-01-01T00:00:00Z Some(0) 2 ");
        let leaving = || {
            let until = "2026-01-01T00:00:20Z";
            value!({"generation": 2, "deletionTimestamp": until, "deletionGracePeriodSeconds": 30})
        };
        check(&kind, leaving(), &options(None, None), Plan::Pending, "2026-01-01T00:00:20Z Some(30) 2 ");
        check(&kind, leaving(), &options(Some(30), None), Plan::Pending, "2026-01-01T00:00:20Z Some(30) 2 ");
        check(&kind, leaving(), &options(Some(15), None), Plan::Mark, "2026-01-01T00:00:05Z Some(15) 2 ");
        check(&kind, leaving(), &options(Some(5), None), Plan::Mark, "2026-01-01T00:00:00Z Some(1) 2 ");
        check(&kind, leaving(), &options(Some(0), None), Plan::Now, "2026-01-01T00:00:00Z Some(0) 2 ");
    }
}
