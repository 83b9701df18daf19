//! Which requests rules of admission are about: resources, operations, scopes, and selectors of namespaces and objects.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::label::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{AdmissionRequest, Operation};
use corten_apiserver::registry::KindSet;

use crate::lookup::{Lookup, NAMESPACES};

/// What `matchConstraints` of a policy or `matchResources` of a binding say.
#[derive(Debug)]
pub(crate) struct Constraints {
    /// Where they are of a binding, none means all.
    rules: Vec<Rule>,
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
            _ => true,
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

impl Constraints {
    pub(crate) fn read(of: &Value) -> Self {
        let selector = |field: &str| {
            let selector = of.get(field).filter(|selector| !selector.is_null());
            // An absent selector selects all here.
            selector.map_or_else(
                || Ok(LabelSelector::everything()),
                |selector| LabelSelector::from_object(Some(selector)).map_err(|error| error.to_string()),
            )
        };
        Self {
            rules: rules(of, "resourceRules"),
            excluded: rules(of, "excludeResourceRules"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            equivalent: of.str_at(&["matchPolicy"]) != "Exact",
        }
    }

    /// As a request for which kind a request is seen; `None`: it is not.
    pub(crate) async fn seen(
        &self,
        request: &AdmissionRequest,
        kinds: &KindSet,
        lookup: &dyn Lookup,
    ) -> Result<Option<Arc<KindInfo>>, Status> {
        if !self.in_namespace(request, lookup).await? || !self.selects_object(request)? {
            return Ok(None);
        }
        if self.kind_for(&self.excluded, request, kinds).is_some() {
            return Ok(None);
        }
        if self.rules.is_empty() {
            return Ok(Some(request.kind.clone()));
        }
        Ok(self.kind_for(&self.rules, request, kinds))
    }

    fn kind_for(&self, rules: &[Rule], request: &AdmissionRequest, kinds: &KindSet) -> Option<Arc<KindInfo>> {
        if rules.iter().any(|rule| rule.matches(request, &request.kind)) {
            return Some(request.kind.clone());
        }
        if !self.equivalent || request.kind.storage_prefix.is_empty() {
            return None;
        }
        let equivalent: Vec<&Arc<KindInfo>> = kinds
            .iter()
            .filter(|kind| kind.storage_prefix == request.kind.storage_prefix && kind.gvk != request.kind.gvk)
            .filter(|kind| kind.is_resource() && !kind.verbs.is_empty())
            .filter(|kind| request.subresource.is_empty() || kind.subresource(&request.subresource).is_some())
            .collect();
        let found = rules.iter().find_map(|rule| equivalent.iter().find(|kind| rule.matches(request, kind)));
        found.map(|kind| (*kind).clone())
    }

    async fn in_namespace(&self, request: &AdmissionRequest, lookup: &dyn Lookup) -> Result<bool, Status> {
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        let is_one = is_namespace(&request.kind);
        let name = if is_one { &request.name } else { &request.namespace };
        if selector.is_empty() || (name.is_empty() && !is_one) {
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
