//! The `Status` object: every refusal of the API server, with upstream's reasons and texts
//! (`k8s.io/apimachinery/pkg/api/errors`).

use std::fmt;

use crate::field::FieldErrors;
use crate::value;
use crate::value::{Map, Str, Value};

/// A refusal, or (with code 200 or 201) the answer to a request that has no object to return.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: u16,
    /// `NotFound`, `Conflict`, …; empty for success and where upstream gives none.
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// `metadata.continue` of an expired list, with which the client may go on at a new revision.
    pub continue_token: Option<String>,
}

/// `status.details`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: Str,
    pub group: Str,
    /// The resource or kind, as upstream fills it for each reason.
    pub kind: Str,
    pub uid: Str,
    pub causes: Vec<Cause>,
    pub retry_after_s: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    pub reason: Str,
    pub message: String,
    pub field: String,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self { code, reason, message, details: None, continue_token: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = Details { name: name.into(), group: group.into(), kind: kind.into(), ..Details::default() };
        self.details = Some(Box::new(details));
        self
    }

    /// `pods "a" not found`. `resource` is the plural, `group` may be empty.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self::new(404, "NotFound", message).about(group, resource, name)
    }

    /// The answer to a path that names no resource: upstream's generic text.
    pub fn unknown_path() -> Self {
        let mut status = Self::new(404, "NotFound", "the server could not find the requested resource".to_owned());
        status.details = Some(Box::new(Details::default()));
        status
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// `Operation cannot be fulfilled on pods "a": …`.
    pub fn conflict(group: &str, resource: &str, name: &str, cause: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {cause}", qualified(group, resource));
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// A write that is based on an older revision than the stored one.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// `Pod "a" is invalid: …`; `kind` is the singular kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &FieldErrors) -> Self {
        let mut message = format!("{} {name:?} is invalid", qualified(group, kind));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&errors.to_string());
        }
        let mut status = Self::new(422, "Invalid", message).about(group, kind, name);
        let causes = errors.iter().map(|error| Cause {
            reason: error.kind.reason().into(),
            message: error.body(),
            field: if error.field.is_empty() { "<nil>".to_owned() } else { error.field.clone() },
        });
        status.details.as_mut().expect("set by about").causes = causes.collect();
        status
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into())
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".to_owned())
    }

    /// `pods "a" is forbidden: …`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = match (what.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    pub fn method_not_allowed(group: &str, resource: &str, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {:?}", qualified(group, resource));
        Self::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    pub fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message.into())
    }

    /// A revision that is no longer kept: list or watch again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message.into())
    }

    /// A revision that the store has not reached yet.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut status = Self::new(504, "Timeout", message);
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        status.details = Some(Box::new(Details { causes: vec![cause], retry_after_s: 1, ..Details::default() }));
        status
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_s: i64) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message.into());
        status.details = Some(Box::new(Details { retry_after_s, ..Details::default() }));
        status
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message.into())
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        let text = message.to_string();
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {text}"));
        let cause = Cause { message: text, ..Cause::default() };
        status.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
        status
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message.into())
    }

    /// The answer to a delete that returns no object.
    pub fn success(group: &str, resource: &str, name: &str, uid: &str) -> Self {
        let mut status = Self::new(200, "", String::new()).about(group, resource, name);
        status.details.as_mut().expect("set by about").uid = uid.into();
        status
    }

    /// Adds one cause, as `details.causes` of a namespace that is being deleted.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = Cause { reason: reason.into(), message: message.into(), field: field.to_owned() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    /// Reads a refusal as a client got it; `None` for other objects. A reason that upstream does not have is `Unknown`.
    pub fn from_value(object: &Value) -> Option<Self> {
        if object.str_at(&["kind"]) != "Status" {
            return None;
        }
        let reason = match object.str_at(&["reason"]) {
            "" => "",
            sent => REASONS.into_iter().find(|reason| *reason == sent).unwrap_or("Unknown"),
        };
        let code = object.i64_at(&["code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(200);
        let mut status = Self::new(code, reason, object.str_at(&["message"]).to_owned());
        status.details = object.get("details").map(|details| Box::new(Details::from_value(details)));
        let token = object.str_at(&["metadata", "continue"]);
        status.continue_token = (!token.is_empty()).then(|| token.to_owned());
        Some(status)
    }

    /// The object as it goes over the wire.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue", token.as_str());
        }
        let mut object = Map::new();
        object.insert("kind", "Status");
        object.insert("apiVersion", "v1");
        object.insert("metadata", metadata);
        object.insert("status", if self.code < 400 { "Success" } else { "Failure" });
        if !self.message.is_empty() {
            object.insert("message", self.message.as_str());
        }
        if !self.reason.is_empty() {
            object.insert("reason", self.reason);
        }
        if let Some(details) = &self.details {
            object.insert("details", details.to_value());
        }
        if self.code >= 400 {
            object.insert("code", i64::from(self.code));
        }
        Value::Object(object)
    }
}

/// Upstream's reasons (`k8s.io/apimachinery/pkg/apis/meta/v1`).
const REASONS: [&str; 20] = [
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "AlreadyExists",
    "Conflict",
    "Gone",
    "Invalid",
    "ServerTimeout",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "BadRequest",
    "MethodNotAllowed",
    "NotAcceptable",
    "RequestEntityTooLarge",
    "UnsupportedMediaType",
    "InternalError",
    "Expired",
    "ServiceUnavailable",
    "Unknown",
];

impl Details {
    fn from_value(value: &Value) -> Self {
        let text = |field| value.str_at(&[field]).into();
        let causes = value.get("causes").and_then(Value::as_array).unwrap_or_default();
        Self {
            name: text("name"),
            group: text("group"),
            kind: text("kind"),
            uid: text("uid"),
            causes: causes.iter().map(Cause::from_value).collect(),
            retry_after_s: value.i64_at(&["retryAfterSeconds"]).unwrap_or_default(),
        }
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        let texts = [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)];
        for (key, text) in texts {
            if !text.is_empty() {
                map.insert(key, text.clone());
            }
        }
        if !self.causes.is_empty() {
            map.insert("causes", self.causes.iter().map(Cause::to_value).collect::<Vec<_>>());
        }
        if self.retry_after_s != 0 {
            map.insert("retryAfterSeconds", self.retry_after_s);
        }
        Value::Object(map)
    }
}

impl Cause {
    fn from_value(value: &Value) -> Self {
        let text = |field| value.str_at(&[field]);
        Self { reason: text("reason").into(), message: text("message").into(), field: text("field").into() }
    }

    fn to_value(&self) -> Value {
        let mut cause = value!({});
        let map = cause.as_object_mut().expect("made an object above");
        for (key, text) in [("reason", self.reason.as_str()), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                map.insert(key, text);
            }
        }
        cause
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `deployments.apps`, or `pods` in the core group.
fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        let mut errors = FieldErrors::default();
        errors.required(&crate::field::FieldPath::new("spec"), "");
        let refusals = [
            Status::not_found("apps", "deployments", "a"),
            Status::invalid("", "Pod", "a", &errors),
            Status::too_large_resource_version(5, 4),
            Status::expired("old").with_continue("next".to_owned()),
        ];
        for refusal in refusals {
            assert_eq!(Status::from_value(&refusal.to_value()), Some(refusal));
        }
        let strange = value!({"kind": "Status", "reason": "Tired", "code": 599_i64});
        assert_eq!(Status::from_value(&strange).map(|status| (status.code, status.reason)), Some((599, "Unknown")));
        assert_eq!(Status::from_value(&value!({"kind": "Pod"})), None);
    }
}
