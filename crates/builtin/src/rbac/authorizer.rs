//! The authorizer over the index, and the short-cut for `system:masters`.

use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use corten_apiserver::auth::{Attributes, Authorizer, AuthzTarget, Decision, User};
use futures_core::future::BoxFuture;

use super::index::{Found, Index};

/// Members may do everything: the group of the administrator's certificate.
pub const MASTERS: &str = "system:masters";

/// RBAC's decisions. Cheap to clone; all clones see one index.
#[derive(Clone, Debug, Default)]
pub struct Rbac(Arc<RwLock<Index>>);

impl Rbac {
    /// Reads the index; not to be held over an await.
    pub fn read<T>(&self, with: impl FnOnce(&Index) -> T) -> T {
        // The index is changed in single steps that leave it whole, so a panic while it was locked is no reason to stop.
        with(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn write<T>(&self, with: impl FnOnce(&mut Index) -> T) -> T {
        with(&mut self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision::Allow;
        }
        match self.explain(attributes) {
            Ok(_) => Decision::Allow,
            Err(why) => Decision::NoOpinion(why),
        }
    }

    /// Which binding allows it, as a text; else why no decision was found, which may be empty.
    pub fn explain(&self, attributes: &Attributes<'_>) -> Result<String, String> {
        let namespace = match attributes.target {
            AuthzTarget::Resource { namespace, .. } => namespace,
            AuthzTarget::Path(_) => "",
        };
        let mut allowed = None;
        let mut missing: Vec<String> = Vec::new();
        self.read(|index| {
            index.visit(attributes.user, namespace, &mut |found| match found {
                Found::Rule { rule, source } if rule.allows(attributes.verb, &attributes.target) => {
                    allowed = Some(format!("RBAC: allowed by {}", source()));
                    ControlFlow::Break(())
                }
                Found::Rule { .. } => ControlFlow::Continue(()),
                Found::Missing(why) => {
                    if !missing.contains(&why) {
                        missing.push(why);
                    }
                    ControlFlow::Continue(())
                }
            });
        });
        allowed.ok_or_else(|| match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Whether the user may use a verb that no request has (`escalate`, `bind`) on a role.
    pub fn may(&self, user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let target =
            AuthzTarget::Resource { group: super::GROUP, version: "*", resource, subresource: "", namespace, name };
        self.decide(&Attributes { user, verb, target }) == Decision::Allow
    }
}

impl Authorizer for Rbac {
    fn authorize<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(self.decide(attributes)))
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;
    use crate::rbac::index::Policy;

    fn role(namespace: &str, name: &str, verb: &str, resource: &str) -> Value {
        value!({
            "metadata": {"namespace": namespace, "name": name},
            "rules": [{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]
        })
    }

    fn binding(namespace: &str, name: &str, kind: &str, role: &str, subjects: Vec<Value>) -> Value {
        value!({
            "metadata": {"namespace": namespace, "name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": subjects
        })
    }

    fn subject(kind: &str, namespace: &str, name: &str) -> Value {
        value!({"kind": kind, "namespace": namespace, "name": name})
    }

    fn cluster() -> Rbac {
        let rbac = Rbac::default();
        rbac.write(|index| {
            index.apply(Policy::ClusterRole, &role("", "reader", "get", "pods"));
            index.apply(Policy::Role, &role("shop", "writer", "create", "pods"));
            let everybody = vec![subject("Group", "", "staff"), subject("User", "", "ann")];
            index.apply(Policy::ClusterRoleBinding, &binding("", "all", "ClusterRole", "reader", everybody));
            let local = vec![subject("ServiceAccount", "", "bot"), subject("ServiceAccount", "ops", "bot")];
            index.apply(Policy::RoleBinding, &binding("shop", "w", "Role", "writer", local));
            let ghost = vec![subject("User", "", "ghost")];
            index.apply(Policy::RoleBinding, &binding("shop", "x", "Role", "absent", ghost));
        });
        rbac
    }

    fn ask(rbac: &Rbac, user: &str, groups: &[&str], verb: &str, namespace: &str) -> Result<String, String> {
        let groups = groups.iter().map(|group| (*group).into()).collect();
        let user = User { name: user.into(), groups, ..User::default() };
        let target =
            AuthzTarget::Resource { group: "", version: "v1", resource: "pods", subresource: "", namespace, name: "a" };
        rbac.explain(&Attributes { user: &user, verb, target })
    }

    #[test]
    fn bindings_reach_their_subjects_in_their_scope() {
        let rbac = cluster();
        let allowed = |text: &str| Ok(format!("RBAC: allowed by {text}"));
        assert_eq!(
            ask(&rbac, "ann", &[], "get", "any"),
            allowed(r#"ClusterRoleBinding "all" of ClusterRole "reader" to User "ann""#)
        );
        assert_eq!(
            ask(&rbac, "bob", &["staff"], "get", ""),
            allowed(r#"ClusterRoleBinding "all" of ClusterRole "reader" to Group "staff""#)
        );
        let bot = r#"RoleBinding "w/shop" of Role "writer" to ServiceAccount "bot/shop""#;
        assert_eq!(ask(&rbac, "system:serviceaccount:shop:bot", &[], "create", "shop"), allowed(bot));
        assert!(ask(&rbac, "system:serviceaccount:ops:bot", &[], "create", "shop").is_ok());
        assert_eq!(ask(&rbac, "system:serviceaccount:shop:bot", &[], "create", "ops"), Err(String::new()));
        assert_eq!(ask(&rbac, "system:serviceaccount:shop:bot", &[], "create", ""), Err(String::new()));
        let missing = r#"RBAC: role.rbac.authorization.k8s.io "absent" not found"#;
        assert_eq!(ask(&rbac, "ghost", &[], "get", "shop"), Err(missing.to_owned()));
    }

    #[test]
    fn a_change_takes_effect_and_leaves_nothing_behind() {
        let rbac = cluster();
        rbac.write(|index| {
            let only = vec![subject("User", "", "cat")];
            index.apply(Policy::ClusterRoleBinding, &binding("", "all", "ClusterRole", "reader", only));
        });
        assert!(ask(&rbac, "ann", &[], "get", "").is_err());
        assert!(ask(&rbac, "cat", &[], "get", "").is_ok());
        rbac.write(|index| index.delete(Policy::ClusterRole, "", "reader"));
        assert!(ask(&rbac, "cat", &[], "get", "").is_err_and(|why| why.contains("not found")));
        rbac.write(|index| index.clear(Policy::ClusterRoleBinding));
        assert_eq!(ask(&rbac, "cat", &[], "get", ""), Err(String::new()));
        assert!(ask(&rbac, "system:serviceaccount:shop:bot", &[], "create", "shop").is_ok(), "other kinds stay");
    }

    #[test]
    fn masters_may_everything() {
        let admin = User { name: "admin".into(), groups: vec![MASTERS.into()], ..User::default() };
        let target = AuthzTarget::Path("/anything");
        let attributes = Attributes { user: &admin, verb: "post", target };
        assert_eq!(Rbac::default().decide(&attributes), Decision::Allow);
    }
}
