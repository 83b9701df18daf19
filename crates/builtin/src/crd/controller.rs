//! Keeps the served kinds in step with the stored definitions. Level-triggered: any change says "look at all of them
//! again"; what is served and what stands in their status follows from the whole set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_apimachinery::kind::{GroupVersionKind, KindInfo};
use corten_apimachinery::meta::metadata_mut;
use corten_apimachinery::schema::ObjectSchema;
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};
use corten_apiserver::auth::User;
use corten_apiserver::registry::{Body, Context, DeleteOptions, ListOptions, Registry, Target, WriteOptions};
use corten_stdx::clock::Clock;
use corten_stdx::task::{Stopped, Tasks};
use tokio::sync::watch;

use super::accept::{self, CLEANUP_FINALIZER, Verdict};
use super::kinds;
use crate::follow::{Seen, follow};

pub const GROUP: &str = "apiextensions.k8s.io";
pub(crate) const RESOURCE: &str = "customresourcedefinitions";

/// Under this name the controller's writes stand in managed fields.
const MANAGER: &str = "corten";

/// Pause before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves what the stored definitions declare. Cheap to clone.
#[derive(Clone)]
pub struct CustomResources(Arc<Parts>);

struct Parts {
    registry: Registry,
    definitions: Arc<KindInfo>,
    user: Arc<User>,
    clock: Clock,
    metadata: Arc<dyn ObjectSchema>,
    stored: Mutex<BTreeMap<Str, Arc<Value>>>,
    /// What was made of each definition, to leave alone what has not changed: its uid and generation.
    served: Mutex<BTreeMap<Str, Served>>,
}

struct Served {
    of: (Str, i64),
    kinds: Vec<GroupVersionKind>,
}

impl CustomResources {
    /// `metadata` is the schema of an `ObjectMeta`; `user` the in-process identity of the controller's writes.
    pub fn new(
        registry: Registry,
        user: Arc<User>,
        clock: Clock,
        metadata: Arc<dyn ObjectSchema>,
    ) -> Result<Self, Status> {
        let definitions = registry.kinds().resource(GROUP, "v1", RESOURCE).cloned();
        let definitions =
            definitions.ok_or_else(|| Status::internal("the kind of custom resource definitions is not served"))?;
        let (stored, served) = (Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Parts { registry, definitions, user, clock, metadata, stored, served })))
    }

    /// Starts following the definitions. The receiver's number is 0 until all that were stored at the start are served.
    pub fn start(&self, tasks: &Tasks) -> watch::Receiver<u64> {
        let (changed, changes) = watch::channel(0_u64);
        let (settled, settles) = watch::channel(0_u64);
        let (this, stopped) = (self.clone(), tasks.stopped());
        tasks.spawn("custom-resources-feed", async move {
            let Parts { registry, definitions, .. } = &*this.0;
            follow(registry, definitions, stopped, |seen| {
                this.note(seen);
                changed.send_modify(|count| *count += 1);
            })
            .await;
        });
        tasks.spawn("custom-resources", self.clone().run(changes, settled, tasks.stopped()));
        settles
    }

    fn note(&self, seen: Seen) {
        let mut stored = self.0.stored.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Seen::All(all) => *stored = all.into_iter().map(|value| (name_of(&value), Arc::new(value))).collect(),
            Seen::Now(value) => {
                stored.insert(name_of(&value), Arc::new(value));
            }
            Seen::Gone(value) => {
                stored.remove(&name_of(&value));
            }
        }
    }

    async fn run(self, mut changes: watch::Receiver<u64>, settled: watch::Sender<u64>, mut stopped: Stopped) {
        loop {
            tokio::select! {
                biased;
                () = stopped.wait() => return,
                // An error: the feed has ended, and so has everything to look at.
                seen = changes.changed() => if seen.is_err() { return },
            }
            while let Err(status) = self.settle().await {
                tracing::warn!(error = %status, "custom resource definitions are not settled");
                tokio::select! {
                    () = stopped.wait() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            settled.send_modify(|count| *count += 1);
        }
    }

    /// Brings kinds, statuses and dying definitions to what follows from the whole set. A conflict is no failure: the
    /// change that caused it brings us back.
    async fn settle(&self) -> Result<(), Status> {
        let stored: Vec<Arc<Value>> = {
            let stored = self.0.stored.lock().unwrap_or_else(PoisonError::into_inner);
            stored.values().cloned().collect()
        };
        let now = Time::from_seconds(self.0.clock.now_s()).to_rfc3339();
        let verdicts = accept::judge(stored.iter().map(|definition| &**definition), &now);
        let definition = |name: &Str| stored.iter().find(|definition| name_of(definition) == *name);
        self.retire(&verdicts);
        let mut outcome = Ok(());
        for verdict in verdicts {
            let Some(definition) = definition(&verdict.name) else { continue };
            // One that cannot be settled does not hold up the others.
            let settled = self.settle_one(definition, verdict).await;
            outcome = outcome.and(settled);
        }
        outcome
    }

    async fn settle_one(&self, definition: &Value, mut verdict: Verdict) -> Result<(), Status> {
        if verdict.serve
            && let Err(refusal) = self.serve(definition)
        {
            tracing::warn!(name = %verdict.name, %refusal, "a stored definition cannot be served");
            verdict.status = None;
        }
        if let Some(status) = verdict.status {
            let mut wanted = definition.clone();
            wanted.as_object_mut().map(|object| object.insert("status", status));
            return self.write(&wanted, "status").await;
        }
        if definition.at(&["metadata", "deletionTimestamp"]).is_some() {
            return self.finish(definition).await;
        }
        Ok(())
    }

    /// Installs the kinds of a definition, unless it is the one that is served already.
    fn serve(&self, definition: &Value) -> Result<(), String> {
        let name = name_of(definition);
        let of = identity(definition);
        let mut served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.get(&name).is_some_and(|served| served.of == of) {
            return Ok(());
        }
        let kinds = kinds::kinds_of(definition, &self.0.metadata).map_err(|errors| errors.to_string())?;
        let own: Vec<GroupVersionKind> = kinds.iter().map(|kind| kind.gvk.clone()).collect();
        let before = served.insert(name, Served { of, kinds: own.clone() });
        let gone: Vec<_> =
            before.into_iter().flat_map(|before| before.kinds).filter(|gvk| !own.contains(gvk)).collect();
        self.0.registry.install(kinds);
        if !gone.is_empty() {
            self.0.registry.remove(&gone);
        }
        Ok(())
    }

    /// Serves no longer what is not declared any more, or must not be.
    fn retire(&self, verdicts: &[Verdict]) {
        let mut served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        served.retain(|name, entry| {
            let keep = verdicts.iter().any(|verdict| verdict.name == *name && verdict.serve);
            if !keep {
                gone.append(&mut entry.kinds);
            }
            keep
        });
        if !gone.is_empty() {
            self.0.registry.remove(&gone);
        }
    }

    /// Deletes the objects of a dying definition, then lets it go.
    async fn finish(&self, definition: &Value) -> Result<(), Status> {
        let finalizers = definition.at(&["metadata", "finalizers"]).and_then(Value::as_array).unwrap_or_default();
        if !finalizers.iter().any(|own| own.as_str() == Some(CLEANUP_FINALIZER)) {
            return Ok(());
        }
        if !self.empty(definition).await? {
            // Objects with finalizers of their own: their end is no change of the definition, so ask again.
            return Err(Status::conflict(GROUP, RESOURCE, &name_of(definition), "its objects are not gone yet"));
        }
        let mut wanted = definition.clone();
        let others: Vec<Value> =
            finalizers.iter().filter(|own| own.as_str() != Some(CLEANUP_FINALIZER)).cloned().collect();
        if others.is_empty() {
            metadata_mut(&mut wanted).remove("finalizers");
        } else {
            metadata_mut(&mut wanted).insert("finalizers", others);
        }
        self.write(&wanted, "").await
    }

    /// Deletes all objects of a definition; whether none is left.
    async fn empty(&self, definition: &Value) -> Result<bool, Status> {
        let group = definition.str_at(&["spec", "group"]);
        let plural = definition.str_at(&["spec", "names", "plural"]);
        let set = self.0.registry.kinds();
        let Some(kind) = set.iter().find(|kind| kind.gvk.group == group && kind.plural == plural) else {
            // Its names were never accepted: what is stored there, if anything, belongs to another.
            return Ok(true);
        };
        let all = ListOptions::default();
        self.0.registry.delete_collection(&self.context(), kind, "", &DeleteOptions::default(), &all).await?;
        Ok(self.0.registry.list(kind, "", &all).await?.items.is_empty())
    }

    async fn write(&self, wanted: &Value, subresource: &str) -> Result<(), Status> {
        let target = Target {
            kind: self.0.definitions.clone(),
            namespace: Str::default(),
            name: name_of(wanted),
            subresource: subresource.into(),
        };
        let body = Body::from(wanted.clone());
        match self.0.registry.update(&self.context(), &target, body, WriteOptions::default()).await {
            // Changed or gone meanwhile: that change brings us back.
            Err(status) if matches!(status.code, 404 | 409) => Ok(()),
            done => done.map(drop),
        }
    }

    fn context(&self) -> Context {
        Context::new(self.0.user.clone(), MANAGER)
    }
}

fn name_of(definition: &Value) -> Str {
    definition.str_at(&["metadata", "name"]).into()
}

fn identity(definition: &Value) -> (Str, i64) {
    let uid = definition.str_at(&["metadata", "uid"]).into();
    (uid, definition.i64_at(&["metadata", "generation"]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apiserver::registry::Deleted;
    use corten_stdx::random::Random;
    use corten_store::model::ModelStore;

    use super::*;
    use crate::seal::{Keyring, Sealing};

    struct Server {
        registry: Registry,
        user: Arc<User>,
        tasks: Tasks,
    }

    fn server() -> Server {
        let clock = Clock::manual(1_767_225_600_000);
        let tasks = Tasks::new();
        let store = Arc::new(ModelStore::new(clock.clone()));
        let keys = Keyring::parse(&Keyring::new_line(&Random::seeded(1))).expect("a key");
        let sealer = Arc::new(Sealing::new(keys, &["secrets"]));
        let registry = Registry::new(store, clock.clone(), Random::seeded(2), Vec::new(), sealer, &tasks);
        registry.install(corten_api::kinds());
        let user = Arc::new(User::default());
        let resources =
            CustomResources::new(registry.clone(), user.clone(), clock, corten_api::metadata_schema()).expect("served");
        drop(resources.start(&tasks));
        Server { registry, user, tasks }
    }

    fn definition(plural: &str, kind: &str, version: &str) -> Value {
        value!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": (format!("{plural}.example.com"))},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                "versions": [{"name": version, "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {
                            "size": {"type": "integer", "minimum": 1, "default": 2}
                        }},
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
                    }}}}]
            }
        })
    }

    impl Server {
        fn target(&self, group: &str, version: &str, plural: &str, name: &str) -> Option<Target> {
            let kind = self.registry.kinds().resource(group, version, plural).cloned()?;
            let namespace = if kind.namespaced() { "shop" } else { "" };
            Some(Target { kind, namespace: namespace.into(), name: name.into(), subresource: "".into() })
        }

        async fn create(&self, target: &Target, value: Value) -> Result<Value, Status> {
            let context = Context::new(self.user.clone(), "test");
            let body = Body::from(value);
            let written = self.registry.create(&context, target, body, WriteOptions::default()).await?;
            Ok(written.object.to_value().expect("readable"))
        }

        async fn delete(&self, target: &Target) -> Deleted {
            let context = Context::new(self.user.clone(), "test");
            self.registry.delete(&context, target, &DeleteOptions::default()).await.expect("deleted")
        }

        async fn define(&self, definition: Value) -> Target {
            let target = self.target(GROUP, "v1", RESOURCE, definition.str_at(&["metadata", "name"])).expect("served");
            self.create(&target, definition).await.expect("defined");
            target
        }

        async fn get(&self, target: &Target) -> Result<Value, Status> {
            let shown = self.registry.get(target, &ListOptions::default()).await?;
            Ok(shown.to_value().expect("readable"))
        }

        async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
            let found = async {
                loop {
                    match look().await {
                        Some(found) => return found,
                        None => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("never: {what}"))
        }

        async fn established(&self, target: &Target) {
            let established = async || {
                let stored = self.get(target).await.ok()?;
                accept::is_true(&stored, "Established").then_some(())
            };
            self.until("established", established).await;
        }
    }

    #[tokio::test]
    async fn a_definition_makes_a_kind_and_takes_it_along_when_it_goes() {
        let server = server();
        let defined = server.define(definition("widgets", "Widget", "v1")).await;
        server.established(&defined).await;
        let target = server.target("example.com", "v1", "widgets", "a").expect("served once established");
        let widget = value!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {}});
        let created = server.create(&target, widget).await.expect("created");
        assert_eq!(created.i64_at(&["spec", "size"]), Some(2), "defaults come from the schema");
        let small = value!({
            "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "b"}, "spec": {"size": 0}
        });
        let other = server.target("example.com", "v1", "widgets", "b").expect("served");
        let refused = server.create(&other, small).await.expect_err("too small");
        assert_eq!(
            refused.message,
            "Widget.example.com \"b\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater \
             than or equal to 1"
        );

        server.delete(&defined).await;
        server.until("the definition is gone", async || server.get(&defined).await.err()).await;
        let gone = async || server.target("example.com", "v1", "widgets", "a").is_none().then_some(());
        server.until("the kind is gone", gone).await;
        // Defined again, nothing of before is left.
        let defined = server.define(definition("widgets", "Widget", "v1")).await;
        server.established(&defined).await;
        let target = server.target("example.com", "v1", "widgets", "a").expect("served");
        assert_eq!(server.get(&target).await.expect_err("deleted with its definition").code, 404);
        assert_eq!(server.tasks.stop(Duration::from_secs(5)).await, 0);
    }

    #[tokio::test]
    async fn names_that_are_taken_are_served_when_they_get_free() {
        let server = server();
        let first = server.define(definition("widgets", "Widget", "v1")).await;
        server.established(&first).await;
        let second = server.define(definition("gadgets", "Widget", "v1")).await;
        let refused = async || {
            let stored = server.get(&second).await.ok()?;
            let conditions = stored.at(&["status", "conditions"])?.as_array()?.to_vec();
            conditions.into_iter().find(|have| have.str_at(&["type"]) == "NamesAccepted")
        };
        let condition = server.until("judged", refused).await;
        assert_eq!(condition.str_at(&["status"]), "False");
        assert!(server.target("example.com", "v1", "gadgets", "a").is_none());
        server.delete(&first).await;
        server.established(&second).await;
        assert!(server.target("example.com", "v1", "gadgets", "a").is_some());
        assert_eq!(server.tasks.stop(Duration::from_secs(5)).await, 0);
    }
}
