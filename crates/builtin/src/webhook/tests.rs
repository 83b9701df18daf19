//! Webhooks against a server in this process that serves every built-in kind, and a real TLS server that answers.

mod calling;
mod mutating;
mod serving;
mod validating;

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_apiserver::auth::User;
use corten_apiserver::metrics::Metrics;
use corten_apiserver::registry::seal::Plain;
use corten_apiserver::registry::{Body, Context, DeleteOptions, ListOptions, Registry, Target, WriteOptions};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::model::ModelStore;
use futures_core::future::BoxFuture;

use super::{Ground, Webhooks};
use crate::lookup::FromRegistry;
use crate::rbac::Rbac;
use serving::Webhook;

const VALIDATING: &str = "ValidatingWebhookConfiguration";
const MUTATING: &str = "MutatingWebhookConfiguration";

/// Counts in an annotation how often it has run: a plugin that is built in.
struct BuiltIn;

impl Admission for BuiltIn {
    fn name(&self) -> &'static str {
        "BuiltIn"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        let runs = request.object.str_at(&["metadata", "annotations", "runs"]).len();
        let metadata = request.object.object_entry("metadata");
        metadata.object_entry("annotations").insert("runs", "x".repeat(runs + 1));
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Bench {
    registry: Registry,
    webhooks: Webhooks,
    webhook: Arc<Webhook>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    context: Context,
}

impl Bench {
    async fn new() -> Self {
        // Certificates are made for now.
        let clock = Clock::system();
        let tasks = Tasks::new();
        let lookup = Arc::new(FromRegistry::default());
        let metrics = Arc::<Metrics>::default();
        let webhooks = Webhooks::new(Ground {
            lookup: lookup.clone(),
            rbac: Rbac::default(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            random: Random::seeded(3),
            tasks: tasks.clone(),
        });
        let chain: Vec<Arc<dyn Admission>> = vec![Arc::new(BuiltIn), webhooks.mutating(), webhooks.validating()];
        let store = Arc::new(ModelStore::new(clock.clone()));
        let registry = Registry::new(store, clock, Random::seeded(2), chain, Arc::new(Plain), &tasks);
        registry.install(corten_api::kinds());
        lookup.set(registry.clone());
        webhooks.start(&registry).await.expect("started");
        let webhook = Webhook::start(&tasks).await;
        let user = User { name: "ann".into(), groups: vec!["staff".into()], ..User::default() };
        let context = Context::new(Arc::new(user), "test");
        let bench = Self { registry, webhooks, webhook, metrics, tasks, context };
        let shop = value!({"metadata": {"name": "shop", "labels": {"team": "a"}}});
        bench.create("Namespace", shop).await.expect("made");
        bench
    }

    fn target(&self, kind: &str, name: &str) -> Target {
        let kinds = self.registry.kinds();
        let mut found = kinds.iter().filter(|own| own.gvk.kind == kind && own.is_resource());
        let kind = found.find(|own| own.convert.is_none()).expect("served").clone();
        let namespace = if kind.namespaced() { "shop" } else { "" };
        Target { kind, namespace: namespace.into(), name: name.into(), subresource: "".into() }
    }

    async fn create(&self, kind: &str, value: Value) -> Result<Value, Status> {
        self.create_as(kind, value, WriteOptions::default()).await.map(|(value, _)| value)
    }

    /// The object and the warnings.
    async fn create_as(&self, kind: &str, value: Value, options: WriteOptions) -> Result<(Value, Vec<String>), Status> {
        let target = self.target(kind, "");
        let body = Body::from(value);
        let written = self.registry.create(&self.context, &target, body, options).await?;
        Ok((written.object.to_value().expect("readable"), written.warnings))
    }

    async fn config_map(&self, name: &str) -> Result<Value, Status> {
        self.create("ConfigMap", value!({"metadata": {"name": name}, "data": {"k": "v"}})).await
    }

    async fn update(&self, target: &Target, change: impl Fn(&mut Value)) -> Result<Value, Status> {
        let whole = Target { subresource: "".into(), ..target.clone() };
        let asked = if target.subresource == "scale" { target } else { &whole };
        let shown = self.registry.get(asked, &ListOptions::default()).await?;
        let mut value = shown.to_value().expect("readable");
        change(&mut value);
        let body = Body::from(value);
        let written = self.registry.update(&self.context, target, body, WriteOptions::default()).await?;
        Ok(written.object.to_value().expect("readable"))
    }

    async fn delete(&self, kind: &str, name: &str) -> Result<(), Status> {
        let target = self.target(kind, name);
        self.registry.delete(&self.context, &target, &DeleteOptions::default()).await.map(drop)
    }

    /// A webhook at a path, which sees config maps; `more` is put over it.
    fn hook(&self, path: &str, more: Value) -> Value {
        let mut hook = value!({
            "name": "hook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "url": (format!("https://{}{path}", self.webhook.address)), "caBundle": (self.webhook.bundle.clone())
            },
            "rules": [{
                "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps"]
            }]
        });
        let Value::Object(more) = more else { panic!("fields of a webhook") };
        let map: &mut Map = hook.as_object_mut().expect("made as one");
        for (key, value) in more {
            map.insert(key, value);
        }
        hook
    }

    /// Stores a configuration, and waits until it is in effect.
    async fn configure(&self, kind: &str, name: &str, hooks: Vec<Value>) {
        let more = hooks.len();
        let before = self.called(kind);
        self.create(kind, value!({"metadata": {"name": name}, "webhooks": hooks})).await.expect("a configuration");
        self.until("in effect", || self.called(kind) == before + more).await;
    }

    /// One validating webhook.
    async fn validate(&self, path: &str, more: Value) {
        self.configure(VALIDATING, "only", vec![self.hook(path, more)]).await;
    }

    fn called(&self, kind: &str) -> usize {
        let shared = &self.webhooks.0;
        if kind == MUTATING { shared.mutating.get().len() } else { shared.validating.get().len() }
    }

    async fn until(&self, what: &str, look: impl Fn() -> bool) {
        let seen = async {
            while !look() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap_or_else(|_| panic!("never {what}"));
    }

    async fn end(&self) {
        assert_eq!(self.tasks.stop(Duration::from_secs(10)).await, 0, "{:?}", self.tasks.names());
        assert_eq!(self.tasks.panics(), 0);
    }
}

/// A rule for resources of every group.
fn of(resources: &[&str], operations: &[&str]) -> Value {
    value!([{
        "operations": (operations.to_vec()), "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": (resources.to_vec())
    }])
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: u16, message: &str) {
    let status = answer.expect_err("refused");
    assert_eq!((status.code, status.message.as_str()), (code, message));
}
