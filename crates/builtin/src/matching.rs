//! Which requests rules of admission are about (those of webhooks, policies and bindings): resources, operations, scopes,
//! and selectors of namespaces and objects.

mod seen;

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::label::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{AdmissionRequest, Operation};
use corten_apiserver::registry::KindSet;

use crate::lookup::{Lookup, NAMESPACES};
pub(crate) use seen::{SeenAs, convert};

/// What steers admission is not admitted by it: nobody could mend a rule that refuses its own removal.
const EXEMPT: [&str; 6] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Whether no rule sees a request.
pub(crate) fn is_exempt(request: &AdmissionRequest) -> bool {
    let kind = &request.kind.gvk;
    kind.group == "admissionregistration.k8s.io" && EXEMPT.contains(&kind.kind.as_str())
}

/// What a webhook, `matchConstraints` of a policy or `matchResources` of a binding say.
#[derive(Debug)]
pub(crate) struct Constraints {
    rules: Vec<Rule>,
    /// Without rules all requests match, not none.
    all_without_rules: bool,
    excluded: Vec<Rule>,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
    /// Whether a request for another version of the same objects matches too.
    equivalent: bool,
}

#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    scope: String,
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let texts = |field: &str| {
            let all = rule.get(field).and_then(Value::as_array).unwrap_or_default();
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            scope: rule.str_at(&["scope"]).to_owned(),
        }
    }

    /// Whether a request matches that is made as one of a kind.
    fn matches(&self, request: &AdmissionRequest, kind: &KindInfo) -> bool {
        let any = |of: &[String], own: &str| of.iter().any(|item| item == "*" || item == own);
        let namespaced = !is_namespace(kind) && !request.namespace.is_empty();
        let in_scope = match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            scope => matches!(scope, "" | "*"),
        };
        in_scope
            && any(&self.operations, request.operation.as_str())
            && any(&self.groups, &kind.gvk.group)
            && any(&self.versions, &kind.gvk.version)
            && self.resources.iter().any(|item| {
                let (resource, subresource) = item.split_once('/').unwrap_or((item, ""));
                (resource == "*" || resource == kind.plural)
                    && (subresource == "*" || subresource == request.subresource)
            })
            && (self.names.is_empty() || self.names.contains(&request.name))
    }
}

/// Whether it is the kind of namespaces, which are in themselves.
pub(crate) fn is_namespace(kind: &KindInfo) -> bool {
    kind.gvk.group == NAMESPACES.group && kind.plural == NAMESPACES.plural
}

fn rules(of: &Value, field: &str) -> Vec<Rule> {
    of.get(field).and_then(Value::as_array).unwrap_or_default().iter().map(Rule::read).collect()
}

/// The namespace of a request: a namespace is in itself.
pub(crate) fn namespace_of(request: &AdmissionRequest) -> &str {
    if is_namespace(&request.kind) { &request.name } else { &request.namespace }
}

impl Constraints {
    /// Those of a policy or of a binding.
    pub(crate) fn of_resources(of: &Value) -> Self {
        Self {
            all_without_rules: true,
            excluded: rules(of, "excludeResourceRules"),
            equivalent: of.str_at(&["matchPolicy"]) != "Exact",
            ..Self::with(of, rules(of, "resourceRules"))
        }
    }

    pub(crate) fn of_webhook(of: &Value) -> Self {
        Self { equivalent: of.str_at(&["matchPolicy"]) == "Equivalent", ..Self::with(of, rules(of, "rules")) }
    }

    fn with(of: &Value, rules: Vec<Rule>) -> Self {
        let selector = |field: &str| {
            let selector = of.get(field).filter(|selector| !selector.is_null());
            // An absent selector selects all here.
            selector.map_or_else(
                || Ok(LabelSelector::everything()),
                |selector| LabelSelector::from_object(Some(selector)).map_err(|error| error.to_string()),
            )
        };
        Self {
            rules,
            all_without_rules: false,
            excluded: Vec::new(),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            equivalent: false,
        }
    }

    /// As what a request is seen; `None`: it is not. A selector that cannot be asked fails a request only where nothing else
    /// leaves it out.
    pub(crate) async fn seen(
        &self,
        request: &AdmissionRequest,
        kinds: &KindSet,
        lookup: &dyn Lookup,
    ) -> Result<Option<SeenAs>, Status> {
        let kind = match self.rules.is_empty() && self.all_without_rules {
            true => Some(request.kind.clone()),
            false => self.kind_for(&self.rules, request, kinds),
        };
        let Some(kind) = kind else { return Ok(None) };
        if self.kind_for(&self.excluded, request, kinds).is_some() {
            return Ok(None);
        }
        let namespace = self.in_namespace(request, lookup).await;
        let object = self.selects_object(request);
        if namespace == Ok(false) || object == Ok(false) {
            return Ok(None);
        }
        namespace?;
        object?;
        Ok(Some(SeenAs::new(kind, request)))
    }

    fn kind_for(&self, rules: &[Rule], request: &AdmissionRequest, kinds: &KindSet) -> Option<Arc<KindInfo>> {
        if rules.iter().any(|rule| rule.matches(request, &request.kind)) {
            return Some(request.kind.clone());
        }
        if !self.equivalent || rules.is_empty() || request.kind.storage_prefix.is_empty() {
            return None;
        }
        let equivalent: Vec<&Arc<KindInfo>> = kinds
            .iter()
            .filter(|kind| kind.storage_prefix == request.kind.storage_prefix && kind.gvk != request.kind.gvk)
            .filter(|kind| kind.is_resource() && !kind.verbs.is_empty())
            .filter(|kind| request.subresource.is_empty() || kind.subresource(&request.subresource).is_some())
            .collect();
        // Earlier rules come first, whatever the order of the kinds.
        let found = rules.iter().find_map(|rule| equivalent.iter().find(|kind| rule.matches(request, kind)));
        found.map(|kind| (*kind).clone())
    }

    async fn in_namespace(&self, request: &AdmissionRequest, lookup: &dyn Lookup) -> Result<bool, Status> {
        let (is_one, name) = (is_namespace(&request.kind), namespace_of(request));
        if name.is_empty() && !is_one {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if is_one && request.subresource.is_empty() && written {
            return Ok(selects(selector, &request.object));
        }
        match lookup.get(NAMESPACES, "", name).await? {
            Some(namespace) => Ok(selector.matches(&namespace.head.labels)),
            None => Err(Status::not_found("", NAMESPACES.plural, name)),
        }
    }

    fn selects_object(&self, request: &AdmissionRequest) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        let old = request.old.as_deref();
        Ok(selector.is_empty() || selects(selector, &request.object) || old.is_some_and(|old| selects(selector, old)))
    }
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
