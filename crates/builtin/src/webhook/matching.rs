//! Which requests a webhook sees, and as which of the equivalent resources.

use std::sync::Arc;

use corten_apimachinery::kind::{GroupVersionKind, KindInfo};
use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::label::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{AdmissionRequest, Operation};

use super::hook::Hook;
use super::{Shared, review};
use crate::lookup::NAMESPACES;
use crate::policy::{Circumstances, hold};

/// What steers admission is not admitted by it: nobody could mend a webhook that refuses its own removal.
const EXEMPT: [&str; 6] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Whether no webhook sees a request.
pub(super) fn is_exempt(request: &AdmissionRequest) -> bool {
    let kind = &request.kind.gvk;
    kind.group == "admissionregistration.k8s.io" && EXEMPT.contains(&kind.kind.as_str())
}

/// One of `rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

impl Rule {
    pub(super) fn read(rule: &Value) -> Self {
        let texts = |field: &str| {
            let all = rule.get(field).and_then(Value::as_array).unwrap_or_default();
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            scope: rule.str_at(&["scope"]).to_owned(),
        }
    }

    /// Whether a request matches that is made as one of a kind.
    fn matches(&self, request: &AdmissionRequest, kind: &KindInfo) -> bool {
        let any = |of: &[String], own: &str| of.iter().any(|item| item == "*" || item == own);
        self.in_scope(request, kind)
            && any(&self.operations, request.operation.as_str())
            && any(&self.groups, &kind.gvk.group)
            && any(&self.versions, &kind.gvk.version)
            && self.resources.iter().any(|item| {
                let (resource, subresource) = item.split_once('/').unwrap_or((item, ""));
                (resource == "*" || resource == kind.plural)
                    && (subresource == "*" || subresource == request.subresource)
            })
    }

    fn in_scope(&self, request: &AdmissionRequest, kind: &KindInfo) -> bool {
        let namespaced = !is_namespace(kind) && !request.namespace.is_empty();
        match self.scope.as_str() {
            "" | "*" => true,
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => false,
        }
    }
}

pub(super) fn is_namespace(kind: &KindInfo) -> bool {
    kind.gvk.group == NAMESPACES.group && kind.plural == NAMESPACES.plural
}

/// The namespace of a request as webhooks see it: a namespace is in itself.
pub(super) fn namespace_of(request: &AdmissionRequest) -> &str {
    if is_namespace(&request.kind) { &request.name } else { &request.namespace }
}

/// As what a webhook sees a request.
#[derive(Clone)]
pub(super) struct Seen {
    /// The kind that the path names, or one that is stored as the same.
    pub(super) kind: Arc<KindInfo>,
    /// The kind of the objects, which a subresource may have of its own.
    pub(super) body: GroupVersionKind,
}

impl Shared {
    /// As what a webhook is to be called for a request; `None`: it is not.
    pub(super) async fn seen_by(&self, hook: &Hook, request: &AdmissionRequest) -> Result<Option<Seen>, Status> {
        let Some(kind) = self.kind_for(hook, request) else { return Ok(None) };
        let body = kind.subresource(&request.subresource).map_or(&kind.gvk, |own| &own.gvk).clone();
        let namespace = self.in_namespace(hook, request).await;
        if namespace == Ok(false) {
            return Ok(None);
        }
        let object = selects_object(hook, request);
        if object == Ok(false) {
            return Ok(None);
        }
        namespace?;
        object?;
        let seen = Seen { kind, body };
        Ok(self.conditions_hold(hook, request, &seen)?.then_some(seen))
    }

    fn kind_for(&self, hook: &Hook, request: &AdmissionRequest) -> Option<Arc<KindInfo>> {
        let matches = |kind: &KindInfo| hook.rules.iter().any(|rule| rule.matches(request, kind));
        if matches(&request.kind) {
            return Some(request.kind.clone());
        }
        if !hook.equivalent || request.kind.storage_prefix.is_empty() {
            return None;
        }
        let kinds = self.registry.get()?.kinds();
        let equivalent: Vec<&Arc<KindInfo>> = kinds
            .iter()
            .filter(|kind| kind.storage_prefix == request.kind.storage_prefix && kind.gvk != request.kind.gvk)
            .filter(|kind| kind.is_resource() && !kind.verbs.is_empty())
            .filter(|kind| request.subresource.is_empty() || kind.subresource(&request.subresource).is_some())
            .collect();
        // Earlier rules come first, whatever the order of the kinds.
        let found = hook.rules.iter().find_map(|rule| equivalent.iter().find(|kind| rule.matches(request, kind)));
        found.map(|kind| (*kind).clone())
    }

    async fn in_namespace(&self, hook: &Hook, request: &AdmissionRequest) -> Result<bool, Status> {
        let name = namespace_of(request);
        if name.is_empty() && !is_namespace(&request.kind) {
            return Ok(true);
        }
        let selector = hook.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let own = is_namespace(&request.kind)
            && request.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update);
        if own {
            return Ok(selects(selector, &request.object));
        }
        match self.ground.lookup.get(NAMESPACES, "", name).await? {
            Some(namespace) => Ok(selector.matches(&namespace.head.labels)),
            None => Err(Status::not_found("", NAMESPACES.plural, name)),
        }
    }

    fn conditions_hold(&self, hook: &Hook, request: &AdmissionRequest, seen: &Seen) -> Result<bool, Status> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let old_object = match &request.old {
            Some(old) => self.as_seen(old, request, seen)?,
            None => Value::Null,
        };
        let on = Circumstances {
            request: review::head(request, seen, ""),
            object: self.as_seen(&request.object, request, seen)?,
            old_object,
            namespace: Value::Null,
        };
        match hold(&hook.conditions, &on, &self.ground.rbac, request) {
            Ok(hold) => Ok(hold),
            Err(_) if hook.ignore_failures => Ok(false),
            Err(why) => {
                let kind = &request.kind;
                Err(Status::forbidden(&kind.gvk.group, &kind.plural, &request.name, &why))
            }
        }
    }

    /// An object of a request in the form in which a webhook sees it.
    pub(super) fn as_seen(&self, object: &Value, request: &AdmissionRequest, seen: &Seen) -> Result<Value, Status> {
        if object.is_null() || seen.body == *request.body() {
            return Ok(object.clone());
        }
        convert(object.clone(), &request.kind, &seen.kind)
    }
}

/// One kind's form of an object as another's that is stored as the same.
pub(super) fn convert(mut object: Value, from: &KindInfo, to: &KindInfo) -> Result<Value, Status> {
    if let Some(convert) = &from.convert {
        object = (convert.to_storage)(object).map_err(Status::internal)?;
    }
    if let Some(convert) = &to.convert {
        object = (convert.from_storage)(object).map_err(Status::internal)?;
    }
    Ok(object)
}

fn selects_object(hook: &Hook, request: &AdmissionRequest) -> Result<bool, Status> {
    let selector = hook.objects.as_ref().map_err(Status::internal)?;
    let old = request.old.as_deref();
    Ok(selector.is_empty() || selects(selector, &request.object) || old.is_some_and(|old| selects(selector, old)))
}

fn selects(selector: &LabelSelector, object: &Value) -> bool {
    object.get("metadata").is_some() && selector.matches(&Meta::of(object).sorted_labels())
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::request;
    use crate::lookup::{PODS, Resource};

    /// Whether a rule matches an operation on `resource[/subresource]` in a namespace.
    fn check(rule: Value, operation: Operation, resource: (Resource, &str), namespace: &str, expect: bool) {
        let mut request = request(resource.0, operation, namespace, value!({"metadata": {"name": "a"}}));
        request.subresource = resource.1.to_owned();
        let kind = request.kind.clone();
        let seen = Rule::read(&rule).matches(&request, &kind);
        assert_eq!(seen, expect, "{} {operation:?} {resource:?}", corten_apimachinery::json::to_string(&rule));
    }

    fn rule(operations: &[&str], groups: &[&str], versions: &[&str], resources: &[&str], scope: &str) -> Value {
        value!({
            "operations": (operations.to_vec()), "apiGroups": (groups.to_vec()), "apiVersions": (versions.to_vec()),
            "resources": (resources.to_vec()), "scope": scope
        })
    }

    const NODES: Resource = Resource { group: "", plural: "nodes" };
    const JOBS: Resource = Resource { group: "batch", plural: "jobs" };

    #[test]
    fn rules() {
        use Operation::{Connect, Create, Delete, Update};
        let of = |resources: &[&str]| rule(&["*"], &["*"], &["*"], resources, "*");
        for (resources, resource, expect) in [
            (&["pods"][..], (PODS, ""), true),
            (&["pods"], (PODS, "status"), false),
            (&["pods/status"], (PODS, "status"), true),
            (&["pods/status"], (PODS, ""), false),
            (&["pods/*"], (PODS, "status"), true),
            (&["pods/*"], (PODS, ""), true),
            (&["*"], (PODS, ""), true),
            (&["*"], (PODS, "status"), false),
            (&["*/status"], (PODS, "status"), true),
            (&["*/scale"], (PODS, "status"), false),
            (&["*/*"], (PODS, "status"), true),
            (&["*/*"], (JOBS, ""), true),
            (&["nodes", "jobs"], (JOBS, ""), true),
            (&["nodes"], (JOBS, ""), false),
        ] {
            check(of(resources), Update, resource, "shop", expect);
        }
        let all = &["*"][..];
        check(rule(&["CREATE", "DELETE"], all, all, all, "*"), Create, (PODS, ""), "shop", true);
        check(rule(&["CREATE", "DELETE"], all, all, all, "*"), Delete, (PODS, ""), "shop", true);
        check(rule(&["CREATE", "DELETE"], all, all, all, "*"), Update, (PODS, ""), "shop", false);
        check(rule(&["CONNECT"], all, all, &["pods/exec"], "*"), Connect, (PODS, "exec"), "shop", true);
        check(rule(all, &["batch"], all, all, "*"), Create, (PODS, ""), "shop", false);
        check(rule(all, &["", "batch"], all, all, "*"), Create, (PODS, ""), "shop", true);
        check(rule(all, all, &["v1beta1"], all, "*"), Create, (PODS, ""), "shop", false);
        check(rule(all, all, &["v1"], all, "*"), Create, (PODS, ""), "shop", true);
    }

    #[test]
    fn scopes() {
        use Operation::Create;
        let all = &["*"][..];
        for (scope, pod, node, namespace) in [
            ("", true, true, true),
            ("*", true, true, true),
            ("Namespaced", true, false, false),
            ("Cluster", false, true, true),
        ] {
            check(rule(all, all, all, all, scope), Create, (PODS, ""), "shop", pod);
            check(rule(all, all, all, all, scope), Create, (NODES, ""), "", node);
            check(rule(all, all, all, all, scope), Create, (NAMESPACES, ""), "", namespace);
        }
    }

    #[test]
    fn what_steers_admission_is_exempt() {
        let of = |group: &'static str, kind: &'static str| {
            let resource = Resource { group, plural: kind };
            is_exempt(&request(resource, Operation::Delete, "", value!({})))
        };
        assert!(EXEMPT.into_iter().all(|kind| of("admissionregistration.k8s.io", kind)));
        assert!(!of("example.com", "MutatingWebhookConfiguration") && !of("admissionregistration.k8s.io", "Other"));
    }
}
