//! Nobody grants what they do not hold: writes of roles and bindings are refused unless the writer holds every
//! permission in them, or the verbs `escalate` (roles) and `bind` (bindings). An admission plugin, as it needs the
//! objects as they will be written; texts are upstream's (`pkg/registry/rbac`).

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_apiserver::auth::User;
use futures_core::future::BoxFuture;

use super::GROUP;
use super::authorizer::{MASTERS, Rbac};
use super::index::{Policy, RoleRef};
use super::rule::{Rule, describe, quoted, rules_of, uncovered};

pub struct Escalation {
    rbac: Rbac,
    /// The in-process identity that writes the defaults and aggregated rules. Recognised by being this very value, which
    /// no credential of a request can bring about.
    trusted: Arc<User>,
}

impl Escalation {
    pub fn new(rbac: Rbac, trusted: Arc<User>) -> Self {
        Self { rbac, trusted }
    }

    fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let Some(policy) = policy_of(request) else { return Ok(()) };
        if request.user.in_group(MASTERS) || Arc::ptr_eq(&request.user, &self.trusted) {
            return Ok(());
        }
        if request.old.as_ref().is_some_and(|old| differs_for_collection_only(&request.object, old)) {
            return Ok(());
        }
        match policy {
            Policy::Role | Policy::ClusterRole => self.check_role(policy, request),
            Policy::RoleBinding | Policy::ClusterRoleBinding => self.check_binding(policy, request),
        }
    }

    fn check_role(&self, policy: Policy, request: &AdmissionRequest) -> Result<(), Status> {
        // As upstream: a create is asked for without a name, so a permission on named roles alone does not cover it.
        let name = if request.operation == Operation::Create { "" } else { &request.name };
        if self.rbac.may(&request.user, "escalate", policy.resource(), &request.namespace, name) {
            return Ok(());
        }
        self.check_rules(policy, request, &rules_of(&request.object))?;
        let aggregates = aggregates(&request.object) || request.old.as_ref().is_some_and(|old| aggregates(old));
        if aggregates && !self.missing(request, &[Rule::all_resources(), Rule::all_paths()]).0.is_empty() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(Status::forbidden(GROUP, policy.resource(), &request.name, why));
        }
        Ok(())
    }

    fn check_binding(&self, policy: Policy, request: &AdmissionRequest) -> Result<(), Status> {
        let role = RoleRef::of(&request.object);
        let resource = match role.kind.as_str() {
            "ClusterRole" => Policy::ClusterRole.resource(),
            "Role" => Policy::Role.resource(),
            // Refused by the object's own validation.
            _ => return Ok(()),
        };
        if self.rbac.may(&request.user, "bind", resource, &request.namespace, &role.name) {
            return Ok(());
        }
        let Ok(rules) = self.rbac.read(|index| index.rules(&role, &request.namespace)) else {
            return Err(Status::not_found(GROUP, &role.kind.to_lowercase(), &role.name));
        };
        self.check_rules(policy, request, &rules)
    }

    fn check_rules(&self, policy: Policy, request: &AdmissionRequest, wanted: &[Rule]) -> Result<(), Status> {
        let (missing, unresolved) = self.missing(request, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let user = &request.user;
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            quoted(&user.groups),
            describe(&missing)
        );
        if !unresolved.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", unresolved.join(", ")));
        }
        Err(Status::forbidden(GROUP, policy.resource(), &request.name, &why))
    }

    /// What the writer does not hold, and which of its bindings could not be resolved.
    fn missing(&self, request: &AdmissionRequest, wanted: &[Rule]) -> (Vec<Rule>, Vec<String>) {
        let (held, unresolved) = self.rbac.read(|index| index.rules_for(&request.user, &request.namespace));
        (uncovered(&held, wanted), unresolved)
    }
}

impl Admission for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(self.check(request)))
    }
}

fn policy_of(request: &AdmissionRequest) -> Option<Policy> {
    let ours = request.kind.gvk.group == GROUP && request.subresource.is_empty();
    Policy::ALL.into_iter().find(|policy| ours && policy.resource() == request.kind.plural)
}

fn aggregates(role: &Value) -> bool {
    let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]);
    selectors.and_then(Value::as_array).is_some_and(|selectors| !selectors.is_empty())
}

/// Whether an update changes nothing but what the garbage collector needs.
fn differs_for_collection_only(new: &Value, old: &Value) -> bool {
    let without = |object: &Value| -> Value {
        let mut object = object.clone();
        let metadata: &mut Map = object.object_entry("metadata");
        for field in ["ownerReferences", "finalizers", "selfLink", "managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
        object
    };
    without(new) == without(old)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture;
    use crate::lookup::Resource;

    /// `ann` may read pods everywhere, grants `view` to herself by name, and holds nothing else.
    fn plugin() -> (Escalation, Arc<User>) {
        let rbac = Rbac::default();
        let role = |name: &str, rules: Value| value!({"metadata": {"name": name}, "rules": rules});
        rbac.write(|index| {
            let own = value!([
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
                {"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["view"]},
                {"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["mine"]}
            ]);
            index.apply(Policy::ClusterRole, &role("own", own));
            let secrets = value!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
            index.apply(Policy::ClusterRole, &role("view", secrets.clone()));
            index.apply(Policy::ClusterRole, &role("secret-reader", secrets));
            index.apply(
                Policy::ClusterRoleBinding,
                &value!({
                    "metadata": {"name": "ann"},
                    "roleRef": {"kind": "ClusterRole", "name": "own"},
                    "subjects": [{"kind": "User", "name": "ann"}]
                }),
            );
        });
        let trusted = Arc::new(User { name: "system:apiserver".into(), ..User::default() });
        (Escalation::new(rbac, trusted.clone()), trusted)
    }

    fn request(policy: Policy, operation: Operation, object: Value, old: Option<Value>) -> AdmissionRequest {
        let resource = Resource { group: GROUP, plural: policy.resource() };
        let mut request = fixture::request(resource, operation, "", object);
        request.old = old.map(Arc::new);
        request
    }

    fn role(resource: &str) -> Value {
        value!({
            "metadata": {"name": "mine"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]
        })
    }

    fn binding(role: &str) -> Value {
        value!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}})
    }

    fn check(policy: Policy, operation: Operation, object: Value, old: Option<Value>, expect: Result<(), &str>) {
        let seen = plugin().0.check(&request(policy, operation, object, old)).map_err(|status| status.message);
        match (&seen, expect) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) if text.contains(part) => {}
            _ => panic!("{seen:?} is not {expect:?}"),
        }
    }

    #[test]
    fn a_role_may_hold_what_its_writer_holds() {
        use Operation::{Create, Update};
        check(Policy::ClusterRole, Create, role("pods"), None, Ok(()));
        let refusal = "clusterroles.rbac.authorization.k8s.io \"mine\" is forbidden: user \"ann\" (groups=[\"staff\"]) is \
            attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}";
        check(Policy::ClusterRole, Create, role("secrets"), None, Err(refusal));
        // `escalate` on the named role covers its update, and no create.
        check(Policy::ClusterRole, Update, role("secrets"), Some(role("pods")), Ok(()));
        check(Policy::Role, Update, role("secrets"), Some(role("pods")), Err("not currently held"));
        let mut collected = role("secrets");
        collected.object_entry("metadata").insert("finalizers", value!(["example.com/f"]));
        check(Policy::Role, Update, role("secrets"), Some(collected), Ok(()));
        let mut aggregated = role("pods");
        aggregated
            .object_entry("aggregationRule")
            .insert("clusterRoleSelectors", value!([{"matchLabels": {"a": "b"}}]));
        check(
            Policy::ClusterRole,
            Create,
            aggregated,
            None,
            Err("must have cluster-admin privileges to use the aggregationRule"),
        );
    }

    #[test]
    fn a_binding_may_grant_what_its_writer_holds_or_may_bind() {
        use Operation::Create;
        check(Policy::ClusterRoleBinding, Create, binding("own"), None, Ok(()));
        check(Policy::ClusterRoleBinding, Create, binding("view"), None, Ok(()));
        check(Policy::ClusterRoleBinding, Create, binding("secret-reader"), None, Err("Resources:[\"secrets\"]"));
        check(Policy::ClusterRoleBinding, Create, binding("absent"), None, Err("\"absent\" not found"));
    }

    #[test]
    fn only_masters_and_the_server_itself_are_not_asked() {
        let (plugin, trusted) = plugin();
        let ask = |user: Arc<User>| {
            let request =
                AdmissionRequest { user, ..request(Policy::ClusterRole, Operation::Create, role("secrets"), None) };
            plugin.check(&request).is_ok()
        };
        assert!(ask(trusted.clone()));
        assert!(!ask(Arc::new((*trusted).clone())), "an equal identity is not the same one");
        assert!(ask(Arc::new(User { groups: vec![MASTERS.into()], ..User::default() })));
    }
}
