//! Admission: what may change or refuse a write after it was authorized. Plugins are the binary's; the order is theirs.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use futures_core::future::BoxFuture;

use crate::auth::User;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store.
pub struct AdmissionRequest {
    pub user: Arc<User>,
    pub kind: Arc<KindInfo>,
    /// Empty for the main endpoint.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty on create with `generateName`.
    pub name: String,
    pub operation: Operation,
    /// The object as it would be written; `Null` on delete.
    pub object: Value,
    /// The stored object on update and delete.
    pub old: Option<Arc<Value>>,
    pub dry_run: bool,
    /// Texts for `Warning:` headers of the answer.
    pub warnings: Vec<String>,
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
