//! How plugins read objects of other kinds. A trait, so that their rules are tested without a server.

use std::sync::{Arc, OnceLock};

use corten_apimachinery::json;
use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::registry::{ListOptions, Object, Registry, Target};
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

/// Reads from a registry that is made after the plugins it is given. Keeps the registry alive.
#[derive(Default)]
pub struct FromRegistry(OnceLock<Registry>);

impl FromRegistry {
    /// Names the registry; once.
    pub fn set(&self, registry: Registry) {
        assert!(self.0.set(registry).is_ok(), "the registry of a lookup is named once");
    }

    /// The registry, and the stored version of a kind in it.
    pub(crate) fn kind(&self, resource: Resource) -> Result<(&Registry, Arc<KindInfo>), Status> {
        let registry = self.0.get().ok_or_else(|| Status::unavailable("the server is starting"))?;
        Ok((registry, kind_of(registry, resource)?))
    }
}

/// The stored version of a kind, which needs no conversion.
pub fn kind_of(registry: &Registry, resource: Resource) -> Result<Arc<KindInfo>, Status> {
    let kinds = registry.kinds();
    let mut served = kinds.iter().filter(|kind| kind.gvk.group == resource.group && kind.plural == resource.plural);
    let kind = served.find(|kind| kind.convert.is_none() && !kind.verbs.is_empty()).cloned();
    kind.ok_or_else(|| Status::internal(format_args!("the kind {} is not served", resource.plural)))
}

impl Lookup for FromRegistry {
    fn get<'a>(
        &'a self,
        resource: Resource,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, Status>> {
        Box::pin(async move {
            let (registry, kind) = self.kind(resource)?;
            let target = Target { kind, namespace: namespace.into(), name: name.into(), subresource: "".into() };
            match registry.get(&target, &ListOptions::default()).await {
                Ok(shown) => Ok(Some(shown.object)),
                Err(status) if status.code == 404 => Ok(None),
                Err(status) => Err(status),
            }
        })
    }

    fn list(&self, resource: Resource) -> BoxFuture<'_, Result<Vec<Arc<Object>>, Status>> {
        Box::pin(async move {
            let (registry, kind) = self.kind(resource)?;
            Ok(registry.list(&kind, "", &ListOptions::default()).await?.items)
        })
    }
}

/// The tree of a stored object.
pub fn tree(object: &Object) -> Result<Value, Status> {
    let parsed = json::parse(&object.json);
    parsed.map(|parsed| parsed.value).map_err(|error| {
        Status::internal(format_args!("the stored object {} cannot be read: {error}", object.head.name))
    })
}
