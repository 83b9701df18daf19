//! Admission: what may change or refuse a write after it was authorized. Plugins are the binary's; the order is theirs.
//!
//! All plugins' mutating halves run in their order; where one of them asks for it, all of them run once more. Then the
//! object's own validation, then all validating halves. A plugin may take its time (it may ask over the network), and a
//! request under way is its own: nothing else waits for it.

use std::any::Any;
use std::sync::Arc;

use corten_apimachinery::kind::{GroupVersionKind, KindInfo, Propagation};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Str, Value};
use futures_core::future::BoxFuture;

use crate::auth::User;
use crate::registry::DeleteOptions;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// A stream or a proxied request is opened; the object is the options that the query spells.
    Connect,
}

impl Operation {
    /// As objects spell it: `CREATE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Which run of the mutating halves this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Round {
    #[default]
    First,
    /// Somebody behind has changed the object, and asked that all look at it again. The last one.
    Second,
}

/// One write on its way to the store.
pub struct AdmissionRequest {
    pub user: Arc<User>,
    /// The kind that the path names.
    pub kind: Arc<KindInfo>,
    /// Empty for the main endpoint.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty on create with `generateName`.
    pub name: String,
    pub operation: Operation,
    /// The object as it would be written, or what the endpoint shows of it (a scale); `Null` on delete.
    pub object: Value,
    /// The stored object on update and delete, in the same form.
    pub old: Option<Arc<Value>>,
    pub dry_run: bool,
    pub options: Options,
    /// Texts for `Warning:` headers of the answer.
    pub warnings: Vec<String>,
    /// What the audit log is to know, by upstream's keys.
    pub annotations: Vec<(String, String)>,
    pub round: Round,
    /// Set by a plugin that has changed the object behind the back of those before it: all run again.
    pub again: bool,
    /// What plugins keep for themselves between the rounds.
    pub kept: Kept,
}

/// The options of a write as the client sent them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `?fieldManager=`; empty where the client did not say.
    pub field_manager: Str,
    /// `?fieldValidation=`, likewise.
    pub field_validation: Str,
    /// Of a delete.
    pub delete: Option<Box<DeleteOptions>>,
}

/// Values by the name of the plugin that keeps them.
#[derive(Default)]
pub struct Kept(Vec<(&'static str, Box<dyn Any + Send + Sync>)>);

impl Kept {
    /// Takes out what a plugin has put in.
    pub fn take<T: Any>(&mut self, plugin: &'static str) -> Option<T> {
        let at = self.0.iter().position(|(name, value)| *name == plugin && value.is::<T>())?;
        let value = self.0.swap_remove(at).1.downcast::<T>();
        Some(*value.expect("its type was asked before"))
    }

    pub fn put<T: Any + Send + Sync>(&mut self, plugin: &'static str, value: T) {
        self.0.push((plugin, Box::new(value)));
    }
}

impl AdmissionRequest {
    pub fn new(user: Arc<User>, kind: Arc<KindInfo>, operation: Operation) -> Self {
        Self {
            user,
            kind,
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            operation,
            object: Value::Null,
            old: None,
            dry_run: false,
            options: Options::default(),
            warnings: Vec::new(),
            annotations: Vec::new(),
            round: Round::First,
            again: false,
            kept: Kept::default(),
        }
    }

    /// The kind of the object: for some subresources another one than the path names.
    pub fn body(&self) -> &GroupVersionKind {
        self.kind.subresource(&self.subresource).map_or(&self.kind.gvk, |own| &own.gvk)
    }

    /// The options as an object (`meta.k8s.io/v1` `CreateOptions`, `UpdateOptions`, `DeleteOptions`); `Null` where the
    /// operation has none.
    pub fn options_object(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut map = Map::new();
        map.insert("kind", kind);
        map.insert("apiVersion", "meta.k8s.io/v1");
        if self.dry_run {
            map.insert("dryRun", vec!["All"]);
        }
        let Options { field_manager, field_validation, delete } = &self.options;
        for (key, text) in [("fieldManager", field_manager), ("fieldValidation", field_validation)] {
            if !text.is_empty() && delete.is_none() {
                map.insert(key, text.clone());
            }
        }
        if let Some(delete) = delete {
            delete.write_to(&mut map);
        }
        Value::Object(map)
    }
}

impl DeleteOptions {
    fn write_to(&self, map: &mut Map) {
        if let Some(seconds) = self.grace_period_s {
            map.insert("gracePeriodSeconds", seconds);
        }
        let mut preconditions = Map::new();
        for (key, value) in [("uid", &self.precondition_uid), ("resourceVersion", &self.precondition_revision)] {
            if let Some(value) = value {
                preconditions.insert(key, value.clone());
            }
        }
        if !preconditions.is_empty() {
            map.insert("preconditions", preconditions);
        }
        let policy = self.propagation.map(|propagation| match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        });
        if let Some(policy) = policy {
            map.insert("propagationPolicy", policy);
        }
    }
}

/// One plugin. Both halves default to "no objection".
pub trait Admission: Send + Sync {
    /// Upstream's plugin name, for messages and metrics.
    fn name(&self) -> &'static str;

    fn handles(&self, operation: Operation) -> bool;

    /// May change `request.object`. Runs before the object's own validation.
    fn mutate<'a>(&'a self, _request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// May only refuse. Runs after all mutation and the object's own validation.
    fn validate<'a>(&'a self, _request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
