//! One webhook, read out of a configuration.

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value::Value;
use corten_cel::Type;
use corten_cel::admission::{Optional, compile, environment};

use super::caller::Caller;
use super::tls::Trust;
use crate::matching::Constraints;
use crate::policy::Ready;

/// Seconds that a webhook may take where it does not say.
const TIMEOUT_S: i64 = 10;

/// The form of review that a webhook is sent: the first one of its list that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1Beta1,
}

pub(super) struct Hook {
    pub(super) name: String,
    pub(super) configuration: String,
    /// Unlike any other's: the configuration, the name, and which one of that name.
    pub(super) id: String,
    pub(super) constraints: Constraints,
    /// Expressions that must all hold of a request before it is called.
    pub(super) conditions: Vec<Ready>,
    /// A call that fails is as if it had not been made.
    pub(super) ignore_failures: bool,
    /// `sideEffects`.
    pub(super) side_effects: String,
    /// Called again when a later one has changed the object.
    pub(super) reinvoke: bool,
    /// `None`: it knows none of the forms.
    pub(super) version: Option<ReviewVersion>,
    pub(super) timeout: Duration,
    pub(super) caller: Caller,
}

impl Hook {
    /// The webhooks of a configuration, in its order.
    pub(super) fn all(configuration: &Value, trust: &Trust) -> Vec<Arc<Self>> {
        let own = configuration.str_at(&["metadata", "name"]);
        let hooks = configuration.get("webhooks").and_then(Value::as_array).unwrap_or_default();
        let mut seen: Vec<&str> = Vec::new();
        let read = |hook| {
            let name: &str = Value::str_at(hook, &["name"]);
            let before = seen.iter().filter(|other| **other == name).count();
            seen.push(name);
            Arc::new(Self::read(own, before, hook, trust))
        };
        hooks.iter().map(read).collect()
    }

    fn read(configuration: &str, before: usize, hook: &Value, trust: &Trust) -> Self {
        let text = |field: &str| hook.str_at(&[field]).to_owned();
        let list = |field: &str| hook.get(field).and_then(Value::as_array).unwrap_or_default();
        let name = text("name");
        let version = list("admissionReviewVersions").iter().find_map(|version| match version.as_str() {
            Some("v1") => Some(ReviewVersion::V1),
            Some("v1beta1") => Some(ReviewVersion::V1Beta1),
            _ => None,
        });
        let environment = environment(Optional { params: false, authorizer: true });
        let ready = |condition: &Value| compile(&environment, condition.str_at(&["expression"]), &[Type::Bool]);
        let seconds = hook.i64_at(&["timeoutSeconds"]).unwrap_or(TIMEOUT_S);
        Self {
            id: format!("{configuration}/{name}/{before}"),
            configuration: configuration.to_owned(),
            constraints: Constraints::of_webhook(hook),
            conditions: list("matchConditions").iter().map(ready).collect(),
            ignore_failures: hook.str_at(&["failurePolicy"]) == "Ignore",
            side_effects: text("sideEffects"),
            reinvoke: hook.str_at(&["reinvocationPolicy"]) == "IfNeeded",
            version,
            timeout: Duration::from_secs(seconds.unsigned_abs()),
            caller: Caller::new(hook.get("clientConfig").unwrap_or(&Value::Null), seconds, trust),
            name,
        }
    }
}
