//! Reviews: objects that are questions and are never stored. May I, may they, what may I, who am I
//! (`authorization.k8s.io/v1`, `authentication.k8s.io/v1`).

mod connector;
mod selectors;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_apiserver::auth::{Attributes, AuthzTarget, User};

pub use connector::register;

use crate::rbac::rule::{Rule, strings};
use crate::rbac::{MASTERS, Rbac};

const AUTHORIZATION: &str = "authorization.k8s.io";

/// The kinds of review, by their resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    SelfSubjectAccess,
    SubjectAccess,
    LocalSubjectAccess,
    SelfSubjectRules,
    SelfSubject,
}

impl Review {
    pub const ALL: [Review; 5] = [
        Self::SelfSubjectAccess,
        Self::SubjectAccess,
        Self::LocalSubjectAccess,
        Self::SelfSubjectRules,
        Self::SelfSubject,
    ];

    pub fn kind(self) -> &'static str {
        match self {
            Self::SelfSubjectAccess => "SelfSubjectAccessReview",
            Self::SubjectAccess => "SubjectAccessReview",
            Self::LocalSubjectAccess => "LocalSubjectAccessReview",
            Self::SelfSubjectRules => "SelfSubjectRulesReview",
            Self::SelfSubject => "SelfSubjectReview",
        }
    }
}

impl Review {
    pub fn group(self) -> &'static str {
        match self {
            Self::SelfSubject => "authentication.k8s.io",
            _ => AUTHORIZATION,
        }
    }

    pub fn resource(self) -> String {
        format!("{}s", self.kind().to_lowercase())
    }
}

/// Answers a review: the object that was sent, with its status. `namespace` is the request's, `now` an RFC 3339 time.
pub fn answer(
    rbac: &Rbac,
    review: Review,
    user: &User,
    namespace: &str,
    mut object: Value,
    now: &str,
) -> Result<Value, Status> {
    let status = match review {
        Review::SelfSubjectAccess => {
            check_access(review, &object)?;
            access(rbac, user, object.get("spec"))
        }
        Review::SubjectAccess | Review::LocalSubjectAccess => {
            check_access(review, &object)?;
            if review == Review::LocalSubjectAccess && object.str_at(&["metadata", "namespace"]) != namespace {
                let why = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
                return Err(Status::bad_request(why));
            }
            access(rbac, &subject(&object), object.get("spec"))
        }
        Review::SelfSubjectRules => match object.str_at(&["spec", "namespace"]) {
            "" => return Err(Status::bad_request("no namespace on request")),
            namespace => {
                let status = rules(rbac, user, namespace);
                object.object_entry("metadata").retain(|_, _| false);
                object.object_entry("spec").retain(|_, _| false);
                status
            }
        },
        Review::SelfSubject => {
            let metadata = object.object_entry("metadata");
            metadata.retain(|_, _| false);
            metadata.insert("creationTimestamp", now);
            value!({"userInfo": (user_info(user))})
        }
    };
    object.as_object_mut().map(|map| map.insert("status", status));
    Ok(object)
}

fn check_access(review: Review, object: &Value) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let spec = FieldPath::new("spec");
    let part = |field| object.at(&["spec", field]);
    let (resource, path) = (part("resourceAttributes"), part("nonResourceAttributes"));
    if let (Some(_), Some(path)) = (resource, path) {
        let why = "cannot be specified in combination with resourceAttributes";
        errors.invalid(&spec.child("nonResourceAttributes"), in_go(path), why);
    }
    if resource.is_none() && path.is_none() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&spec.child("resourceAttributes"), Value::Null, why);
    }
    let nobody = object.str_at(&["spec", "user"]).is_empty() && strings(part("groups")).is_empty();
    if review != Review::SelfSubjectAccess && nobody {
        errors.invalid(&spec.child("user"), "", "at least one of user or group must be specified");
    }
    if let Some(resource) = resource {
        selectors::check(resource, &mut errors);
    }
    check_metadata(review, object, &mut errors);
    if review == Review::LocalSubjectAccess {
        let own = resource.map(|resource| resource.str_at(&["namespace"]));
        if let Some(own) = own.filter(|own| *own != object.str_at(&["metadata", "namespace"])) {
            errors.invalid(&spec.children(&["resourceAttributes", "namespace"]), own, "must match metadata.namespace");
        }
        if let Some(path) = path {
            errors.invalid(&spec.child("nonResourceAttributes"), in_go(path), "disallowed on this kind of request");
        }
    }
    // Upstream's refusal names no kind.
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(AUTHORIZATION, "", "", &errors)) }
}

/// A path as upstream's refusals print it: with the names of its own form.
fn in_go(path: &Value) -> Value {
    value!({"Path": (path.str_at(&["path"])), "Verb": (path.str_at(&["verb"]))})
}

/// A question about access has no metadata but what the server says of it.
fn check_metadata(review: Review, object: &Value, errors: &mut FieldErrors) {
    let (except, why) = match review {
        Review::LocalSubjectAccess => ("namespace", "must be empty except for namespace"),
        _ => ("", "must be empty"),
    };
    let metadata = object.get("metadata").and_then(Value::as_object);
    let said = metadata.into_iter().flat_map(Map::iter).filter(|(key, _)| *key != "managedFields" && *key != except);
    if said.count() > 0 {
        errors.invalid(&FieldPath::new("metadata"), object.get("metadata").cloned().unwrap_or_default(), why);
    }
}

/// The user that a review asks about.
fn subject(object: &Value) -> User {
    let text = |field| object.str_at(&["spec", field]).into();
    let extra = object.at(&["spec", "extra"]).and_then(Value::as_object);
    let extra = extra.into_iter().flat_map(Map::iter).map(|(key, texts)| (key.clone(), strings(Some(texts))));
    User {
        name: text("user"),
        uid: text("uid"),
        groups: strings(object.at(&["spec", "groups"])),
        extra: extra.collect(),
    }
}

fn access(rbac: &Rbac, user: &User, spec: Option<&Value>) -> Value {
    let part = |field| spec.and_then(|spec| spec.get(field));
    let (verb, target) = match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(resource), _) => {
            let text = |field| resource.str_at(&[field]);
            let target = AuthzTarget::Resource {
                group: text("group"),
                version: text("version"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
            };
            (text("verb"), target)
        }
        (None, path) => {
            let text = |field| path.map_or("", |path| path.str_at(&[field]));
            (text("verb"), AuthzTarget::Path(text("path")))
        }
    };
    if user.in_group(MASTERS) {
        return value!({"allowed": true});
    }
    let (allowed, reason) = match rbac.explain(&Attributes { user, verb, target }) {
        Ok(reason) => (true, reason),
        Err(reason) => (false, reason),
    };
    let mut status = Map::new();
    status.insert("allowed", allowed);
    if !reason.is_empty() {
        status.insert("reason", reason);
    }
    Value::Object(status)
}

fn rules(rbac: &Rbac, user: &User, namespace: &str) -> Value {
    let (rules, missing) = rbac.read(|index| index.rules_for(user, namespace));
    let of_resources = rules.iter().filter(|rule| !rule.resources.is_empty());
    let of_resources: Vec<Value> =
        of_resources.map(|rule| Rule { non_resource_urls: Vec::new(), ..rule.clone() }.to_value()).collect();
    let of_paths = rules.iter().filter(|rule| !rule.non_resource_urls.is_empty());
    let of_paths: Vec<Value> = of_paths
        .map(|rule| value!({"verbs": (rule.verbs.clone()), "nonResourceURLs": (rule.non_resource_urls.clone())}))
        .collect();
    let mut status = Map::new();
    status.insert("resourceRules", of_resources);
    status.insert("nonResourceRules", of_paths);
    status.insert("incomplete", false);
    match missing.as_slice() {
        [] => {}
        [one] => {
            status.insert("evaluationError", one.as_str());
        }
        many => {
            status.insert("evaluationError", format!("[{}]", many.join(", ")));
        }
    }
    Value::Object(status)
}

/// A user as reviews show it.
pub(crate) fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            info.insert(field, text.clone());
        }
    }
    if !user.groups.is_empty() {
        info.insert("groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        let extra: Map = user.extra.iter().map(|(key, texts): (&Str, _)| (key.clone(), texts.clone().into())).collect();
        info.insert("extra", extra);
    }
    Value::Object(info)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::json;

    use super::*;
    use crate::rbac::{Policy, defaults};

    fn ask(review: Review, user: &User, namespace: &str, object: Value) -> Result<String, String> {
        let rbac = Rbac::default();
        rbac.write(|index| {
            for (policy, object) in defaults::objects().expect("the committed facts are readable") {
                index.apply(policy, &object);
            }
            index.apply(
                Policy::ClusterRole,
                &value!({
                    "metadata": {"name": "reader"},
                    "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
                }),
            );
            index.apply(
                Policy::RoleBinding,
                &value!({
                    "metadata": {"name": "r", "namespace": "shop"},
                    "roleRef": {"kind": "ClusterRole", "name": "reader"},
                    "subjects": [{"kind": "User", "name": "ann"}]
                }),
            );
        });
        let answer = answer(&rbac, review, user, namespace, object, "2026-01-01T00:00:00Z");
        answer.map(|object| json::to_string(object.get("status").expect("a status"))).map_err(|status| status.message)
    }

    fn user(name: &str, group: &str) -> User {
        User { name: name.into(), groups: vec![group.into()], ..User::default() }
    }

    fn get_pods(namespace: &str) -> Value {
        value!({"verb": "get", "resource": "pods", "namespace": namespace})
    }

    #[test]
    fn access_is_what_the_authorizer_says() {
        let own = |namespace| value!({"spec": {"resourceAttributes": (get_pods(namespace))}});
        let ann = user("ann", "staff");
        let yes = r#"{"allowed":true,"reason":"RBAC: allowed by RoleBinding \"r/shop\" of ClusterRole \"reader\" to User \"ann\""}"#;
        assert_eq!(ask(Review::SelfSubjectAccess, &ann, "", own("shop")).as_deref(), Ok(yes));
        assert_eq!(ask(Review::SelfSubjectAccess, &ann, "", own("ops")).as_deref(), Ok(r#"{"allowed":false}"#));
        let admin = user("root", MASTERS);
        assert_eq!(ask(Review::SelfSubjectAccess, &admin, "", own("ops")).as_deref(), Ok(r#"{"allowed":true}"#));
        let other = value!({"spec": {"user": "ann", "resourceAttributes": (get_pods("shop"))}});
        assert_eq!(ask(Review::SubjectAccess, &admin, "", other).as_deref(), Ok(yes));
        let path = value!({"spec": {"groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}}});
        assert!(ask(Review::SubjectAccess, &admin, "", path).is_ok_and(|status| status.contains("true")));
    }

    #[test]
    fn a_review_that_asks_nothing_is_refused() {
        let ann = user("ann", "staff");
        let neither = ask(Review::SelfSubjectAccess, &ann, "", value!({"spec": {}})).expect_err("refused");
        assert!(neither.contains("exactly one of nonResourceAttributes or resourceAttributes"), "{neither}");
        let nobody = value!({"spec": {"resourceAttributes": (get_pods("shop"))}});
        let nobody = ask(Review::SubjectAccess, &ann, "", nobody).expect_err("refused");
        assert!(nobody.contains("spec.user: Invalid value: \"\": at least one of user or group"), "{nobody}");
        let foreign = value!({
            "metadata": {"namespace": "shop"},
            "spec": {"user": "ann", "resourceAttributes": (get_pods("ops"))}
        });
        let foreign = ask(Review::LocalSubjectAccess, &ann, "shop", foreign).expect_err("refused");
        assert!(foreign.contains("must match metadata.namespace"), "{foreign}");
        assert_eq!(
            ask(Review::SelfSubjectRules, &ann, "", value!({"spec": {}})),
            Err("no namespace on request".to_owned())
        );
    }

    #[test]
    fn who_am_i_and_what_may_i() {
        let ann = user("ann", "staff");
        let who = ask(Review::SelfSubject, &ann, "", value!({}));
        assert_eq!(who.as_deref(), Ok(r#"{"userInfo":{"username":"ann","groups":["staff"]}}"#));
        let what = ask(Review::SelfSubjectRules, &ann, "", value!({"spec": {"namespace": "shop"}}));
        let expected = r#"{"resourceRules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}],"nonResourceRules":[],"incomplete":false}"#;
        assert_eq!(what.as_deref(), Ok(expected));
    }
}
