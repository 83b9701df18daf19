//! StorageObjectInUseProtection: volumes, claims and attribute classes get a finalizer, so that none goes while somebody
//! uses it. A controller takes it away.

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::is;
use crate::lookup::Resource;

const FINALIZERS: [(Resource, &str); 3] = [
    (Resource { group: "", plural: "persistentvolumes" }, "kubernetes.io/pv-protection"),
    (Resource { group: "", plural: "persistentvolumeclaims" }, "kubernetes.io/pvc-protection"),
    (Resource { group: "storage.k8s.io", plural: "volumeattributesclasses" }, "kubernetes.io/vac-protection"),
];

pub struct StorageObjectInUseProtection;

impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        let finalizer = FINALIZERS.into_iter().find(|(resource, _)| is(request, *resource));
        if let Some((_, finalizer)) = finalizer.filter(|_| request.subresource.is_empty()) {
            protect(&mut request.object, finalizer);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let metadata = object.object_entry("metadata");
    match metadata.get_mut("finalizers") {
        Some(Value::Array(own)) if own.iter().any(|own| own.as_str() == Some(finalizer)) => {}
        Some(Value::Array(own)) => own.push(finalizer.into()),
        _ => {
            metadata.insert("finalizers", vec![finalizer]);
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::request;
    use crate::lookup::PODS;

    #[tokio::test]
    async fn what_is_used_gets_one_finalizer() {
        let (claims, finalizer) = FINALIZERS[1];
        let admit = async |resource, own: Value| {
            let mut request = request(resource, Operation::Create, "ns", value!({"metadata": {"finalizers": own}}));
            StorageObjectInUseProtection.mutate(&mut request).await.expect("never refused");
            request.object.at(&["metadata", "finalizers"]).cloned()
        };
        assert_eq!(admit(claims, Value::Null).await, Some(value!([finalizer])));
        assert_eq!(admit(claims, value!(["a/b"])).await, Some(value!(["a/b", finalizer])));
        assert_eq!(admit(claims, value!([finalizer])).await, Some(value!([finalizer])));
        assert_eq!(admit(PODS, value!(["a/b"])).await, Some(value!(["a/b"])));
    }
}
