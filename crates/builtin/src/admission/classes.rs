//! DefaultStorageClass and DefaultIngressClass: a claim or an ingress that names no class gets the one that is marked as
//! the default, the newest should there be several.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::is;
use crate::lookup::{Lookup, Resource, tree};

/// One kind that has classes.
struct Classed {
    plugin: &'static str,
    of: Resource,
    classes: Resource,
    /// In `spec`.
    field: &'static str,
    /// Where a class was named before there was a field for it.
    annotation: &'static str,
    /// What marks a class as the default.
    default: &'static [&'static str],
}

const STORAGE: Classed = Classed {
    plugin: "DefaultStorageClass",
    of: Resource { group: "", plural: "persistentvolumeclaims" },
    classes: Resource { group: "storage.k8s.io", plural: "storageclasses" },
    field: "storageClassName",
    annotation: "volume.beta.kubernetes.io/storage-class",
    default: &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
};

const INGRESS: Classed = Classed {
    plugin: "DefaultIngressClass",
    of: Resource { group: "networking.k8s.io", plural: "ingresses" },
    classes: Resource { group: "networking.k8s.io", plural: "ingressclasses" },
    field: "ingressClassName",
    annotation: "kubernetes.io/ingress.class",
    default: &["ingressclass.kubernetes.io/is-default-class"],
};

pub struct DefaultClass {
    kind: &'static Classed,
    lookup: Arc<dyn Lookup>,
}

impl DefaultClass {
    pub fn storage(lookup: Arc<dyn Lookup>) -> Self {
        Self { kind: &STORAGE, lookup }
    }

    pub fn ingress(lookup: Arc<dyn Lookup>) -> Self {
        Self { kind: &INGRESS, lookup }
    }

    async fn fill(&self, request: &mut AdmissionRequest) -> Result<(), Status> {
        let kind = self.kind;
        let named = |object: &Value| {
            let field = object.at(&["spec", kind.field]).is_some_and(|name| !name.is_null());
            field || object.at(&["metadata", "annotations", kind.annotation]).is_some()
        };
        if !is(request, kind.of) || !request.subresource.is_empty() || named(&request.object) {
            return Ok(());
        }
        if let Some(name) = self.default().await? {
            request.object.object_entry("spec").insert(kind.field, name);
        }
        Ok(())
    }

    async fn default(&self) -> Result<Option<Str>, Status> {
        let mut newest: Option<(String, Str)> = None;
        for class in self.lookup.list(self.kind.classes).await? {
            let class = tree(&class)?;
            let marked = |mark: &&str| class.str_at(&["metadata", "annotations", mark]) == "true";
            if !self.kind.default.iter().any(marked) {
                continue;
            }
            let created = class.str_at(&["metadata", "creationTimestamp"]).to_owned();
            let name: Str = class.str_at(&["metadata", "name"]).into();
            let newer = newest.as_ref().is_none_or(|(then, other)| (&created, other) > (then, &name));
            if newer {
                newest = Some((created, name));
            }
        }
        Ok(newest.map(|(_, name)| name))
    }
}

impl Admission for DefaultClass {
    fn name(&self) -> &'static str {
        self.kind.plugin
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.fill(request))
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::{Cluster, request};

    fn class(name: &str, created: &str, annotation: &str) -> (Resource, Value) {
        let mut annotations = value!({});
        annotations.as_object_mut().expect("an object").insert(annotation, "true");
        let metadata = value!({"name": name, "creationTimestamp": created, "annotations": annotations});
        (STORAGE.classes, value!({"metadata": metadata}))
    }

    async fn claim(classes: Vec<(Resource, Value)>, object: Value) -> Option<Value> {
        let plugin = DefaultClass::storage(Arc::new(Cluster(classes)));
        let mut request = request(STORAGE.of, Operation::Create, "ns", object);
        plugin.mutate(&mut request).await.expect("never refused");
        request.object.at(&["spec", "storageClassName"]).cloned()
    }

    #[tokio::test]
    async fn who_names_no_class_gets_the_newest_default() {
        let marks = STORAGE.default;
        let classes = || {
            vec![
                class("old", "2026-01-01T00:00:00Z", marks[0]),
                class("b", "2026-02-01T00:00:00Z", marks[1]),
                class("a", "2026-02-01T00:00:00Z", marks[0]),
                class("unmarked", "2026-03-01T00:00:00Z", "other"),
            ]
        };
        assert_eq!(claim(classes(), value!({"spec": {}})).await, Some("a".into()));
        assert_eq!(claim(classes(), value!({"spec": {"storageClassName": ""}})).await, Some("".into()));
        let annotated = value!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "x"}}});
        assert_eq!(claim(classes(), annotated).await, None);
        assert_eq!(claim(Vec::new(), value!({"spec": {}})).await, None);
    }
}
