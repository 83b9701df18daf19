//! The objects that a binding hands to its policy.

use std::sync::Arc;

use corten_apimachinery::kind::{GroupVersionKind, KindInfo};
use corten_apimachinery::selector::label::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::AdmissionRequest;
use corten_apiserver::registry::{ListOptions, Object, Registry, Target};

use super::Shared;
use super::compiled::{Binding, ParamRef, Policy};
use crate::lookup::tree;

impl Shared {
    /// What the policy is evaluated with, one after the other; `Null` for a policy without parameters.
    ///
    /// # Errors
    /// Why the binding cannot be followed.
    pub(super) async fn params(
        &self,
        policy: &Policy,
        binding: &Binding,
        request: &AdmissionRequest,
    ) -> Result<Vec<Value>, String> {
        let (Some((version, kind)), Some(param)) = (&policy.param_kind, &binding.param) else {
            return Ok(vec![Value::Null]);
        };
        let registry = self.registry().map_err(|status| status.message)?;
        let gvk = GroupVersionKind::from_api_version(version, kind);
        let Some(kind) = registry.kinds().kind(&gvk).cloned() else {
            return Err(format!("paramKind kind `&ParamKind{{APIVersion:{version},Kind:{kind},}}` not known"));
        };
        let namespace = match (kind.namespaced(), param.namespace.as_str(), request.namespace.as_str()) {
            (false, "", _) => "",
            (false, ..) => {
                return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
            }
            (true, "", "") => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned()
                );
            }
            (true, "", own) => own,
            (true, named, _) => named,
        };
        let found = find(registry, &kind, namespace, param).await.map_err(|status| status.message)?;
        if found.is_empty() && param.denies_absence {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        found.iter().map(|object| tree(object).map_err(|status| status.message)).collect()
    }
}

async fn find(
    registry: &Registry,
    kind: &Arc<KindInfo>,
    namespace: &str,
    param: &ParamRef,
) -> Result<Vec<Arc<Object>>, Status> {
    let options = ListOptions::default();
    if param.name.is_empty() {
        let selector = LabelSelector::from_object(Some(&param.selector)).map_err(Status::internal)?;
        let mut items = registry.list(kind, namespace, &options).await?.items;
        items.retain(|object| selector.matches(&object.head.labels));
        return Ok(items);
    }
    let target = Target {
        kind: kind.clone(),
        namespace: namespace.into(),
        name: param.name.as_str().into(),
        subresource: "".into(),
    };
    match registry.get(&target, &options).await {
        Ok(shown) => Ok(vec![shown.object]),
        Err(status) if status.code == 404 => Ok(Vec::new()),
        Err(status) => Err(status),
    }
}
