//! What a token says: whose it is, for whom, until when, and the object with which it goes.

use corten_apimachinery::value::{Map, Str, Value};

use super::ISSUER;
use crate::rbac::rule::strings;

/// An object that a token names: one of that name may have come later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: Str,
    pub(super) uid: Str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) id: Str,
    pub(super) audiences: Vec<Str>,
    pub(super) issued_s: i64,
    pub(super) not_before_s: i64,
    pub(super) expires_s: i64,
    pub(super) namespace: Str,
    pub(super) account: Reference,
    pub(super) pod: Option<Reference>,
    pub(super) secret: Option<Reference>,
    pub(super) node: Option<Reference>,
    /// A pod's token that is still taken after this is one that its program should have read anew.
    pub(super) warn_after_s: Option<i64>,
}

const KUBERNETES: &str = "kubernetes.io";

impl Reference {
    fn read(value: &Value) -> Self {
        Self { name: value.str_at(&["name"]).into(), uid: value.str_at(&["uid"]).into() }
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (field, text) in [("name", &self.name), ("uid", &self.uid)] {
            if !text.is_empty() {
                map.insert(field, text.clone());
            }
        }
        Value::Object(map)
    }
}

impl Claims {
    /// The user name of the account.
    pub(super) fn subject(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.account.name)
    }

    pub(super) fn read(claims: &Value) -> Self {
        let own = |path: &[&str]| claims.get(KUBERNETES).and_then(|own| own.at(path));
        let reference = |kind: &str| own(&[kind]).map(Reference::read);
        let time = |field: &str| claims.i64_at(&[field]).unwrap_or_default();
        // One audience may stand there without a list.
        let audiences = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            many => strings(many),
        };
        Self {
            id: claims.str_at(&["jti"]).into(),
            audiences,
            issued_s: time("iat"),
            not_before_s: time("nbf"),
            expires_s: time("exp"),
            namespace: own(&["namespace"]).and_then(Value::as_str).unwrap_or_default().into(),
            account: reference("serviceaccount").unwrap_or_default(),
            pod: reference("pod"),
            secret: reference("secret"),
            node: reference("node"),
            warn_after_s: own(&["warnafter"]).and_then(Value::as_i64),
        }
    }

    pub(super) fn to_value(&self) -> Value {
        let mut own = Map::new();
        own.insert("namespace", self.namespace.clone());
        if let Some(node) = &self.node {
            own.insert("node", node.to_value());
        }
        if let Some(pod) = &self.pod {
            own.insert("pod", pod.to_value());
        }
        if let Some(secret) = &self.secret {
            own.insert("secret", secret.to_value());
        }
        own.insert("serviceaccount", self.account.to_value());
        if let Some(after_s) = self.warn_after_s {
            own.insert("warnafter", after_s);
        }
        let mut claims = Map::new();
        claims.insert("aud", self.audiences.clone());
        claims.insert("exp", self.expires_s);
        claims.insert("iat", self.issued_s);
        claims.insert("iss", ISSUER);
        claims.insert("jti", self.id.clone());
        claims.insert(KUBERNETES, own);
        claims.insert("nbf", self.not_before_s);
        claims.insert("sub", self.subject());
        Value::Object(claims)
    }
}
