//! How plugins read objects of other kinds. A trait, so that their rules are tested without a server.

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::registry::Object;
use futures_core::future::BoxFuture;

/// Which kind: group and plural name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    pub group: &'static str,
    pub plural: &'static str,
}

pub const NAMESPACES: Resource = Resource { group: "", plural: "namespaces" };
pub const PODS: Resource = Resource { group: "", plural: "pods" };
pub const PRIORITY_CLASSES: Resource = Resource { group: "scheduling.k8s.io", plural: "priorityclasses" };

pub trait Lookup: Send + Sync {
    /// The newest state of an object; `None` where there is none. `namespace` is empty for cluster-scoped kinds.
    fn get<'a>(
        &'a self,
        resource: Resource,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, Status>>;

    /// All objects of a kind.
    fn list(&self, resource: Resource) -> BoxFuture<'_, Result<Vec<Arc<Object>>, Status>>;
}

/// The tree of a stored object.
pub fn tree(object: &Object) -> Result<Value, Status> {
    let parsed = json::parse(&object.json);
    parsed.map(|parsed| parsed.value).map_err(|error| {
        Status::internal(format_args!("the stored object {} cannot be read: {error}", object.head.name))
    })
}
