//! The roles and bindings of the cluster, arranged by subject so that a decision reads only what concerns its user.
//! Pure: fed object by object from watches, asked by the authorizer and the escalation check.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use ahash::HashMap;
use corten_apimachinery::value::{Str, Value};
use corten_apiserver::auth::User;

use super::rule::{Rule, rules_of};

/// The four kinds, as their resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

/// Namespace (empty for cluster-wide objects) and name.
type Key = (Str, Str);

#[derive(Debug, Default)]
pub struct Index {
    /// Cluster roles stand under the empty namespace.
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: BTreeMap<Key, Binding>,
    /// Binding names by namespace and subject.
    by_subject: HashMap<(Str, Subject), BTreeSet<Str>>,
}

#[derive(Debug)]
struct Binding {
    role: RoleRef,
    subjects: Vec<(Subject, String)>,
}

/// What a binding points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRef {
    pub kind: Str,
    pub name: Str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(Str),
    Group(Str),
}

/// A rule that applies to a user, or why the rules of a binding could not be found.
pub enum Found<'a> {
    Rule { rule: &'a Rule, source: &'a dyn Fn() -> String },
    Missing(String),
}

impl Policy {
    pub const ALL: [Policy; 4] = [Self::Role, Self::ClusterRole, Self::RoleBinding, Self::ClusterRoleBinding];

    pub fn resource(self) -> &'static str {
        match self {
            Self::Role => "roles",
            Self::ClusterRole => "clusterroles",
            Self::RoleBinding => "rolebindings",
            Self::ClusterRoleBinding => "clusterrolebindings",
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Self::Role => "Role",
            Self::ClusterRole => "ClusterRole",
            Self::RoleBinding => "RoleBinding",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
        }
    }

    fn is_role(self) -> bool {
        matches!(self, Self::Role | Self::ClusterRole)
    }
}

impl RoleRef {
    pub fn of(binding: &Value) -> Self {
        Self { kind: binding.str_at(&["roleRef", "kind"]).into(), name: binding.str_at(&["roleRef", "name"]).into() }
    }

    /// Where the role stands for a binding in a namespace.
    fn key(&self, namespace: &str) -> Result<Key, String> {
        match self.kind.as_str() {
            "ClusterRole" => Ok((Str::default(), self.name.clone())),
            "Role" if !namespace.is_empty() => Ok((namespace.into(), self.name.clone())),
            "Role" => Err("must provide namespace when getting role".to_owned()),
            kind => Err(format!("unsupported role reference kind: {kind:?}")),
        }
    }
}

impl Index {
    /// Takes over an object as it is now.
    pub fn apply(&mut self, policy: Policy, object: &Value) {
        let key = (object.str_at(&["metadata", "namespace"]).into(), object.str_at(&["metadata", "name"]).into());
        if policy.is_role() {
            self.roles.insert(key, rules_of(object).into());
            return;
        }
        self.remove_binding(&key);
        let subjects = object.get("subjects").and_then(Value::as_array).unwrap_or_default();
        let subjects: Vec<_> = subjects.iter().filter_map(|subject| Subject::of(subject, &key.0)).collect();
        for (subject, _) in &subjects {
            self.by_subject.entry((key.0.clone(), subject.clone())).or_default().insert(key.1.clone());
        }
        self.bindings.insert(key, Binding { role: RoleRef::of(object), subjects });
    }

    pub fn delete(&mut self, policy: Policy, namespace: &str, name: &str) {
        let key = (namespace.into(), name.into());
        if policy.is_role() {
            self.roles.remove(&key);
        } else {
            self.remove_binding(&key);
        }
    }

    /// Forgets all objects of a kind, before they are listed anew.
    pub fn clear(&mut self, policy: Policy) {
        let of_cluster = matches!(policy, Policy::ClusterRole | Policy::ClusterRoleBinding);
        if policy.is_role() {
            self.roles.retain(|key, _| key.0.is_empty() != of_cluster);
        } else {
            self.bindings.retain(|key, _| key.0.is_empty() != of_cluster);
            self.by_subject.retain(|key, _| key.0.is_empty() != of_cluster);
        }
    }

    fn remove_binding(&mut self, key: &Key) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for (subject, _) in binding.subjects {
            let at = (key.0.clone(), subject);
            if let Some(names) = self.by_subject.get_mut(&at) {
                names.remove(&key.1);
                if names.is_empty() {
                    self.by_subject.remove(&at);
                }
            }
        }
    }

    /// The rules of a role that a binding in `namespace` (empty: a cluster-wide binding) names.
    pub fn rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let key = role.key(namespace)?;
        let lower = role.kind.to_lowercase();
        let missing = || format!("{lower}.rbac.authorization.k8s.io {:?} not found", role.name);
        self.roles.get(&key).cloned().ok_or_else(missing)
    }

    /// Shows every rule that applies to a user in a namespace, cluster-wide bindings first, until the visitor breaks.
    pub fn visit(&self, user: &User, namespace: &str, visitor: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) {
        let scopes = if namespace.is_empty() { &[""][..] } else { &["", namespace] };
        for scope in scopes {
            for name in self.bindings_for(user, scope) {
                if self.visit_binding(user, scope, name, visitor).is_break() {
                    return;
                }
            }
        }
    }

    fn visit_binding(
        &self,
        user: &User,
        scope: &str,
        name: &Str,
        visitor: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let binding = &self.bindings[&(Str::from(scope), name.clone())];
        let rules = match self.rules(&binding.role, scope) {
            Ok(rules) => rules,
            Err(why) => return visitor(Found::Missing(why)),
        };
        let source = || binding.describe(user, scope, name);
        for rule in rules.iter() {
            visitor(Found::Rule { rule, source: &source })?;
        }
        ControlFlow::Continue(())
    }

    /// Names of the bindings of a scope that name the user or one of its groups, in order.
    fn bindings_for(&self, user: &User, scope: &str) -> BTreeSet<&Str> {
        let own = std::iter::once(Subject::User(user.name.clone()));
        let subjects = own.chain(user.groups.iter().cloned().map(Subject::Group));
        subjects.filter_map(|subject| self.by_subject.get(&(scope.into(), subject))).flatten().collect()
    }

    /// All rules of a user in a namespace, and what could not be resolved.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        self.visit(user, namespace, &mut |found| {
            match found {
                Found::Rule { rule, .. } => rules.push(rule.clone()),
                Found::Missing(why) => missing.push(why),
            }
            ControlFlow::Continue(())
        });
        (rules, missing)
    }
}

impl Subject {
    /// The subject and how messages name it. A service account is the user `system:serviceaccount:NAMESPACE:NAME`;
    /// without a namespace it is one of the binding's, and nobody in a cluster-wide binding.
    fn of(subject: &Value, binding_namespace: &str) -> Option<(Self, String)> {
        let name = subject.str_at(&["name"]);
        match subject.str_at(&["kind"]) {
            "User" => Some((Self::User(name.into()), format!("User {name:?}"))),
            "Group" => Some((Self::Group(name.into()), format!("Group {name:?}"))),
            "ServiceAccount" => {
                let own = subject.str_at(&["namespace"]);
                let namespace = if own.is_empty() { binding_namespace } else { own };
                let user = format!("system:serviceaccount:{namespace}:{name}");
                let shown = format!("ServiceAccount {:?}", format!("{name}/{namespace}"));
                (!namespace.is_empty()).then(|| (Self::User(user.into()), shown))
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => *name == user.name,
            Self::Group(name) => user.in_group(name),
        }
    }
}

impl Binding {
    /// `RoleBinding "a/ns" of Role "b" to User "c"`, as access reviews give the reason.
    fn describe(&self, user: &User, scope: &str, name: &str) -> String {
        let subject = self.subjects.iter().find(|(subject, _)| subject.is(user)).map_or("", |(_, shown)| shown);
        let (kind, shown) = if scope.is_empty() {
            ("ClusterRoleBinding", format!("{name:?}"))
        } else {
            ("RoleBinding", format!("{:?}", format!("{name}/{scope}")))
        };
        format!("{kind} {shown} of {} {:?} to {subject}", self.role.kind, self.role.name)
    }
}
