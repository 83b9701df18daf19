//! Update: from the stored object and what a request makes of it to one conditional write.
//!
//! `PUT`, patches and the scale subresource share this path; they differ in how the new object comes about. Every write
//! is based on the entry that the new object was made from. Where somebody else was faster, the object is made anew
//! from what is there then; a request that insists on a revision fails at that.

use std::sync::Arc;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::{KindInfo, ScalePaths, Serve, Write};
use corten_apimachinery::managed;
use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_store::{Entry, Expect};

use super::admit::Chain;
use super::create::{New, check, shown, time_to_live, to_storage};
use super::engine::{Registry, not_found};
use super::get::unreadable;
use super::object::encode;
use super::scale::{check_scale, scale_of, set_replicas};
use super::storage::WriteError;
use super::{Body, Context, Object, Shown, Target, WriteOptions, Written};
use super::{conform, fields, key, metadata};
use crate::admission::Operation;
use crate::around::Outcome;

/// Writers that may be faster before the client is told to try again. Upstream goes on until the request's deadline;
/// this is about as far as that gets it.
const CONFLICTS_MAX: usize = 100;

/// One write of an object that exists.
pub(super) struct Rewrite<'a> {
    pub(super) registry: &'a Registry,
    pub(super) context: &'a Context,
    pub(super) target: &'a Target,
    pub(super) options: WriteOptions,
    pub(super) recorded: Recorded,
    /// Where the endpoint shows a scale: that is what admission sees.
    pub(super) scale: Option<&'a ScalePaths>,
}

/// What a write replaces, and the chain that has changed its successor.
struct Before<'a> {
    stored: Arc<Object>,
    /// The stored object in the target's version.
    old: Arc<Value>,
    chain: Chain<'a>,
}

/// Whether a new object's managed fields say already who owns what (it was applied), or the write is still to be
/// recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Already,
    NotYet,
}

/// How the new object is made from the stored one (both in the target's version); may add warnings.
pub(super) trait Make: Fn(&Value, &mut Vec<String>) -> Result<Value, Status> + Send + Sync {}

impl<F: Fn(&Value, &mut Vec<String>) -> Result<Value, Status> + Send + Sync> Make for F {}

impl Registry {
    /// Replaces an object, or what a subresource shows of it.
    pub async fn update(
        &self,
        context: &Context,
        target: &Target,
        body: Body,
        options: WriteOptions,
    ) -> Result<Written, Status> {
        let kind = &target.kind;
        if let Some(Serve::Scale(paths)) = serve_of(target)? {
            return self.update_scale(context, target, paths, body, options).await;
        }
        let (mut value, mut warnings) = conform::conform(&self.kinds(), kind, body, options.field_validation)?;
        settle_identity(target, &mut value)?;
        kind.schema.default(&mut value);
        warnings.extend(metadata::dedup_owners(&mut value, false));
        let make = |_: &Value, told: &mut Vec<String>| {
            told.extend(warnings.iter().cloned());
            Ok(value.clone())
        };
        let rewrite = Rewrite { registry: self, context, target, options, recorded: Recorded::NotYet, scale: None };
        match rewrite.run(&make).await? {
            Some(written) => Ok(written),
            None if kind.strategy.create_on_update && target.subresource.is_empty() => {
                if !Meta::of(&value).uid().is_empty() {
                    return Err(uid_mismatch(target, Meta::of(&value).uid(), ""));
                }
                metadata_mut(&mut value).remove("resourceVersion");
                let new = New { value, warnings, recorded: Recorded::NotYet };
                self.create_conformed(context, target, new, options).await
            }
            None => Err(not_found(kind, &target.name)),
        }
    }
}

impl Rewrite<'_> {
    /// Writes what `make` makes of the stored object; `None` where there is none.
    pub(super) async fn run(&self, make: &dyn Make) -> Result<Option<Written>, Status> {
        let target = self.target;
        let kind = &target.kind;
        if !key::is_segment(&target.name) {
            return Ok(None);
        }
        let home = self.registry.home(kind)?;
        let key = key::absolute(&home, &target.namespace, &target.name);
        let mut entry = self.registry.0.storage.entry(&key).await?;
        for _ in 0..CONFLICTS_MAX {
            let Some(current) = entry else { return Ok(None) };
            let mut warnings = Vec::new();
            match self.once(&home, &current, make, &mut warnings).await {
                Ok(object) => return Ok(Some(Written { object, created: false, warnings })),
                Err(WriteError::Refused(status)) => {
                    self.context.keep_warnings(warnings);
                    return Err(status);
                }
                Err(WriteError::Conflict(now)) => entry = now,
            }
        }
        Err(Status::modified(&kind.gvk.group, &kind.plural, &target.name))
    }

    async fn once(
        &self,
        home: &Arc<KindInfo>,
        entry: &Entry,
        make: &dyn Make,
        warnings: &mut Vec<String>,
    ) -> Result<Shown, WriteError> {
        let kind = &self.target.kind;
        let stored = self.registry.object_of(home, entry)?;
        let old = Shown { kind: kind.clone(), object: stored.clone() };
        let old = Arc::new(old.to_value().map_err(|error| unreadable(&entry.key, &error))?);
        let mut new = make(&old, warnings)?;
        self.check_preconditions(&mut new, &old)?;
        let (context, target) = (self.context, self.target);
        if self.recorded == Recorded::NotYet {
            fields::record(context, target, Some(&old), &mut new, self.registry.now());
        }
        let dry_run = self.options.dry_run;
        let shown = self.scale.map_or_else(|| old.clone(), |paths| Arc::new(scale_of(paths, &old)));
        let mut chain = self.registry.admission(context, target, Operation::Update, Some(shown), dry_run);
        if !chain.is_empty() {
            new = match self.mutate(&mut chain, new).await {
                Ok(new) => new,
                Err(status) => {
                    warnings.extend(chain.into_warnings());
                    return Err(status.into());
                }
            };
            kind.schema.default(&mut new);
            warnings.extend(metadata::dedup_owners(&mut new, true));
        }
        let around = self.registry.around(kind).filter(|_| target.subresource.is_empty());
        let begun = match around {
            Some(around) => Some(around.update(&mut new, &old, dry_run).await?),
            None => None,
        };
        let written = self.settle(home, entry, Before { stored, old, chain }, new, warnings).await;
        if let Some(begun) = begun {
            begun.end(written.as_ref().err().map_or(Outcome::Written, WriteError::outcome)).await;
        }
        written
    }

    async fn mutate(&self, chain: &mut Chain<'_>, mut new: Value) -> Result<Value, Status> {
        let Some(paths) = self.scale else { return chain.mutate(new).await };
        let scale = chain.mutate(scale_of(paths, &new)).await?;
        check_scale(&*self.registry.scale_kind(self.target)?, &scale)?;
        set_replicas(paths, &mut new, &scale);
        Ok(new)
    }

    async fn validate(&self, chain: &mut Chain<'_>, new: Value) -> Result<Value, Status> {
        let Some(paths) = self.scale else { return chain.validate(new).await };
        chain.validate(scale_of(paths, &new)).await.map(|_| new)
    }

    /// Prepares, checks and stores the new object.
    async fn settle(
        &self,
        home: &Arc<KindInfo>,
        entry: &Entry,
        before: Before<'_>,
        mut new: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Shown, WriteError> {
        let (kind, Before { stored, old, mut chain }) = (&self.target.kind, before);
        let write = self.registry.write(self.context, &self.target.subresource, Some(&old));
        prepare(self.target, &mut new, &old, &write)?;
        warnings.extend(check(kind, &new, Some(&old), &self.target.subresource)?);
        let validated = self.validate(&mut chain, new).await;
        warnings.extend(chain.into_warnings());
        new = validated?;
        // As after a create.
        kind.schema.default(&mut new);
        match same(&old, &mut new) && !completes_deletion(kind, &new) {
            true => Ok(Shown { kind: kind.clone(), object: stored }),
            false => self.commit(home, entry, &new).await,
        }
    }

    /// A body's UID and revision, where it has them, are the stored object's.
    fn check_preconditions(&self, new: &mut Value, old: &Value) -> Result<(), Status> {
        let kind = &self.target.kind;
        let (meta, stored) = (Meta::of(new), Meta::of(old));
        if !meta.uid().is_empty() && meta.uid() != stored.uid() {
            return Err(uid_mismatch(self.target, meta.uid(), stored.uid()));
        }
        match meta.resource_version() {
            "" | "0" if kind.strategy.unconditional_update => {
                metadata_mut(new).insert("resourceVersion", stored.resource_version());
                Ok(())
            }
            "" | "0" => {
                let mut errors = FieldErrors::default();
                let path = FieldPath::new("metadata").child("resourceVersion");
                errors.invalid(&path, 0, "must be specified for an update");
                Err(Status::invalid(&kind.gvk.group, &kind.plural, &self.target.name, &errors))
            }
            same if same == stored.resource_version() => Ok(()),
            _ => Err(Status::modified(&kind.gvk.group, &kind.plural, &self.target.name)),
        }
    }

    /// One conditional write: the new object, or the deletion that it completes.
    pub(super) async fn commit(&self, home: &Arc<KindInfo>, entry: &Entry, new: &Value) -> Result<Shown, WriteError> {
        let kind = &self.target.kind;
        let storage = &self.registry.0.storage;
        let next = to_storage(kind, new)?;
        if completes_deletion(kind, new) {
            if !self.options.dry_run {
                storage.delete(entry.key.clone(), entry.mod_revision).await?;
                self.registry.after_delete(kind, new).await;
            }
            return Ok(shown(kind, home, &next, entry.mod_revision));
        }
        if self.options.dry_run {
            return Ok(shown(kind, home, &next, entry.mod_revision));
        }
        let expect = Expect::Revision(entry.mod_revision);
        let revision = storage.put(home, entry.key.clone(), expect, encode(&next), time_to_live(kind)).await?;
        Ok(shown(kind, home, &next, revision))
    }
}

/// How a target's subresource is served; `None` for the object itself.
pub(super) fn serve_of(target: &Target) -> Result<Option<&Serve>, Status> {
    if target.subresource.is_empty() {
        return Ok(None);
    }
    match target.kind.subresource(&target.subresource).map(|sub| &sub.serve) {
        None | Some(Serve::Handler) => Err(Status::unknown_path()),
        generic => Ok(generic),
    }
}

/// The body's name and namespace are the URL's.
pub(super) fn settle_identity(target: &Target, value: &mut Value) -> Result<(), Status> {
    metadata::settle_namespace(&target.kind, &target.namespace, value)?;
    let (asked, name) = (&target.name, Meta::of(value).name());
    if name.is_empty() {
        let why = format!("the name of the object ({asked} based on URL) was undeterminable: name must be provided");
        return Err(Status::bad_request(why));
    }
    if name != asked.as_str() {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({asked})");
        return Err(Status::bad_request(why));
    }
    Ok(())
}

/// What the request may not change is as stored; what follows from the change is derived.
fn prepare(target: &Target, new: &mut Value, old: &Value, write: &Write<'_>) -> Result<(), Status> {
    let kind = &target.kind;
    metadata::settle_namespace(kind, &target.namespace, new)?;
    let serve = serve_of(target)?;
    match serve {
        None if kind.strategy.status => take_over(new, old, "status"),
        None => {}
        Some(Serve::Status) => {
            let mut whole = old.clone();
            for part in ["metadata", "status"] {
                take_over(&mut whole, new, part);
            }
            *new = whole;
            if kind.strategy.status_keeps_metadata {
                metadata::keep_user_fields(new, old);
            }
        }
        Some(Serve::Part(filter)) => filter(new, old),
        Some(Serve::Scale(_) | Serve::Handler) => {}
    }
    metadata::keep_system_fields(new, old);
    if let Some(prepare) = kind.strategy.prepare.filter(|_| serve.is_none()) {
        prepare(new, Some(old));
        kind.schema.default(new);
    }
    if let Some(settle) = kind.strategy.settle {
        settle(new, write);
    }
    let generation = Meta::of(old).generation();
    if kind.strategy.generation && Meta::of(new).generation() == generation && differs_in_intent(new, old) {
        metadata_mut(new).insert("generation", generation + 1);
    }
    Ok(())
}

/// Makes one top-level field what it is in another object.
fn take_over(value: &mut Value, from: &Value, field: &str) {
    if let Some(map) = value.as_object_mut() {
        match from.get(field) {
            Some(part) => map.insert(field, part.clone()),
            None => map.remove(field),
        };
    }
}

/// Whether a write would change nothing but the times at which fields were owned. Compares trees, not bytes: the order
/// of fields says nothing.
fn same(old: &Value, new: &mut Value) -> bool {
    if new == old {
        return true;
    }
    !differs(new, old, |key| key != "metadata") && managed::settle(old, new)
}

/// Whether anything outside metadata and status is different.
fn differs_in_intent(new: &Value, old: &Value) -> bool {
    differs(new, old, |key| !matches!(key, "metadata" | "status"))
}

/// Whether two objects differ in some of their top-level fields.
fn differs(new: &Value, old: &Value, counts: impl Fn(&str) -> bool) -> bool {
    let empty = Map::new();
    let [new, old] = [new, old].map(|value| value.as_object().unwrap_or(&empty));
    let count = |map: &Map| map.keys().filter(|key| counts(key)).count();
    count(new) != count(old) || new.iter().any(|(key, value)| counts(key) && old.get(key) != Some(value))
}

/// Whether an object that is being deleted has nothing left to wait for.
fn completes_deletion(kind: &KindInfo, new: &Value) -> bool {
    let meta = Meta::of(new);
    meta.deletion_timestamp().is_some()
        && meta.finalizers().next().is_none()
        && meta.deletion_grace_period_seconds().unwrap_or_default() == 0
        && !kind.strategy.hold.is_some_and(|hold| hold(new))
}

/// Upstream's text for a body whose UID is another object's.
fn uid_mismatch(target: &Target, asked: &str, stored: &str) -> Status {
    mismatch(target, "UID", asked, stored)
}

/// Upstream's text for a precondition that the stored object does not fulfil.
pub(super) fn mismatch(target: &Target, what: &str, asked: &str, stored: &str) -> Status {
    let kind = &target.kind;
    let key = key::absolute(kind, &target.namespace, &target.name);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
         {what} in precondition: {asked}, {what} in object meta: {stored}",
        key.escape_ascii()
    );
    Status::conflict(&kind.gvk.group, &kind.plural, &target.name, &why)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use futures_util::StreamExt as _;
    use futures_util::future::join_all;

    use super::super::{ListOptions, WatchEvent};
    use super::*;
    use crate::testing::{Bench, body, context, kinds, target};

    async fn make(bench: &Bench) -> Target {
        let target = target(&bench.kind("widgets"), "a");
        let value = value!({"metadata": {"name": "a"}, "spec": {"replicas": 0}});
        bench.registry.create(&context(), &target, body(value), WriteOptions::default()).await.unwrap();
        target
    }

    /// Reads the object, adds one, writes it; starts again where somebody was faster.
    async fn add_one(bench: &Bench, target: &Target) {
        loop {
            let shown = bench.registry.get(target, &ListOptions::default()).await.unwrap();
            let mut value = shown.to_value().unwrap();
            let replicas = value.i64_at(&["spec", "replicas"]).unwrap();
            value.object_entry("spec").insert("replicas", replicas + 1);
            match bench.registry.update(&context(), target, body(value), WriteOptions::default()).await {
                Ok(_) => return,
                Err(status) => assert_eq!(status.code, 409, "{status}"),
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_writers_lose_nothing_and_all_watchers_see_the_same() {
        const WRITERS: i64 = 32;
        const EACH: i64 = 8;
        let bench = Arc::new(Bench::new([kinds::widget()]));
        let target = make(&bench).await;
        let watch = |_| async {
            let watch = bench.registry.watch(&target.kind, "default", &ListOptions::default()).await.unwrap();
            watch.take(usize::try_from(1 + WRITERS * EACH).unwrap()).map(|event| match event {
                WatchEvent::Added(shown) | WatchEvent::Modified(shown) => {
                    (shown.object.revision, shown.to_value().unwrap().i64_at(&["spec", "replicas"]).unwrap())
                }
                _ => panic!("nothing else happens"),
            })
        };
        let watches = join_all((0..4).map(watch)).await;
        let (done, mut writers) = tokio::sync::mpsc::channel::<()>(1);
        for _ in 0..WRITERS {
            let (bench, target, done) = (bench.clone(), target.clone(), done.clone());
            bench.clone().tasks.spawn("writer", async move {
                for _ in 0..EACH {
                    add_one(&bench, &target).await;
                }
                drop(done);
            });
        }
        drop(done);
        let histories: Vec<Vec<(u64, i64)>> = join_all(watches.into_iter().map(|watch| watch.collect())).await;
        assert!(writers.recv().await.is_none());
        let expected: Vec<i64> = (0..=WRITERS * EACH).collect();
        assert_eq!(histories[0].iter().map(|(_, replicas)| *replicas).collect::<Vec<_>>(), expected);
        assert!(histories[0].is_sorted_by(|a, b| a.0 < b.0));
        assert!(histories.iter().all(|history| *history == histories[0]));
        assert_eq!(bench.tasks.panics(), 0);
    }

    #[tokio::test]
    async fn scale_shows_and_sets_replicas_alone() {
        let bench = Bench::new([kinds::widget(), kinds::scale()]);
        let mut target = make(&bench).await;
        target.subresource = "scale".into();
        let shown = bench.registry.get(&target, &ListOptions::default()).await.unwrap();
        let mut scale = shown.to_value().unwrap();
        assert_eq!(scale.str_at(&["kind"]), "Scale");
        assert_eq!(scale.at(&["spec"]), Some(&Value::object()));
        assert_eq!(scale.i64_at(&["status", "replicas"]), Some(0));
        scale.object_entry("spec").insert("replicas", 3);
        let options = WriteOptions::default();
        let written = bench.registry.update(&context(), &target, body(scale.clone()), options).await.unwrap();
        assert_eq!(written.object.to_value().unwrap().i64_at(&["spec", "replicas"]), Some(3));
        target.subresource = "".into();
        let whole = bench.registry.get(&target, &ListOptions::default()).await.unwrap().to_value().unwrap();
        assert_eq!(whole.i64_at(&["spec", "replicas"]), Some(3));
        assert_eq!(whole.i64_at(&["metadata", "generation"]), Some(2));
        target.subresource = "scale".into();
        let stale = bench.registry.update(&context(), &target, body(scale.clone()), options).await;
        assert_eq!(stale.err().unwrap().code, 409);
        scale.object_entry("metadata").remove("resourceVersion");
        scale.object_entry("spec").insert("replicas", -1);
        let negative = bench.registry.update(&context(), &target, body(scale), options).await.err().unwrap();
        let message =
            r#"Scale.autoscaling "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#;
        assert_eq!((negative.code, negative.message.as_str()), (422, message));
    }
}
