//! What policies' results mean for the request: refused, warned about, noted.

use corten_apimachinery::json;
use corten_apimachinery::status::{Cause, Details, Status};
use corten_apimachinery::value;
use corten_apiserver::admission::AdmissionRequest;

use super::compiled::{Binding, Policy};
use super::validate::{Denied, Results};
use crate::admission::forbidden;

/// Of one note in the audit log.
const NOTE_BYTES_MAX: usize = 10 * 1024;
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// What policies have refused, in their order; the first is told.
#[derive(Default)]
pub(super) struct Denials(Vec<(String, String)>);

impl Denials {
    fn deny(&mut self, policy: &Policy, binding: Option<&Binding>, message: &str, reason: &str) {
        let with = binding.map_or_else(String::new, |binding| format!(" with binding '{}'", binding.name));
        self.0.push((
            format!("ValidatingAdmissionPolicy '{}'{with} denied request: {message}", policy.name),
            reason.to_owned(),
        ));
    }

    /// A policy or a binding that cannot be followed refuses, unless the policy lets failures pass.
    pub(super) fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str) {
        if !policy.ignores_failures {
            let what = if binding.is_some() { "binding" } else { "policy" };
            self.deny(policy, binding, &format!("failed to configure {what}: {why}"), "");
        }
    }

    /// Does with a policy's results what the binding says.
    pub(super) fn take(
        &mut self,
        policy: &Policy,
        binding: &Binding,
        results: Results,
        request: &mut AdmissionRequest,
        notes: &mut Vec<(String, String)>,
    ) {
        for denied in &results.denied {
            for action in &binding.actions {
                match action.as_str() {
                    "Deny" => self.deny(policy, Some(binding), &denied.message, &denied.reason),
                    "Warn" => request.warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        policy.name, binding.name, denied.message
                    )),
                    "Audit" => request.annotations.push((FAILURE.to_owned(), failure(policy, binding, denied))),
                    _ => {}
                }
            }
        }
        for (key, value) in results.annotations {
            match value {
                Ok(mut value) => {
                    let end = (0..=value.len().min(NOTE_BYTES_MAX)).rev().find(|end| value.is_char_boundary(*end));
                    value.truncate(end.unwrap_or_default());
                    if !notes.contains(&(key.clone(), value.clone())) {
                        notes.push((key, value));
                    }
                }
                Err(why) => self.deny(policy, Some(binding), &why, ""),
            }
        }
    }

    /// The refusal, if there is one.
    pub(super) fn settle(self, request: &AdmissionRequest) -> Result<(), Status> {
        let Some((message, reason)) = self.0.into_iter().next() else { return Ok(()) };
        let (code, reason) = match reason.as_str() {
            "Unauthorized" => (401, "Unauthorized"),
            "Forbidden" => (403, "Forbidden"),
            "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
            _ => (422, "Invalid"),
        };
        let mut status = forbidden(request, &message);
        status.code = code;
        status.reason = reason;
        let details = status.details.get_or_insert_with(Box::<Details>::default);
        details.causes.push(Cause { message, ..Cause::default() });
        Err(status)
    }
}

fn failure(policy: &Policy, binding: &Binding, denied: &Denied) -> String {
    let failure = value!([{
        "message": (denied.message.as_str()),
        "policy": (policy.name.as_str()),
        "binding": (binding.name.as_str()),
        "expressionIndex": (denied.index as i64),
        "validationActions": (binding.actions.iter().map(String::as_str).collect::<Vec<_>>())
    }]);
    json::to_string(&failure)
}

/// Notes what the policy's own expressions gave for the audit log; several bindings' values of a key are one text.
pub(super) fn publish(policy: &Policy, notes: Vec<(String, String)>, request: &mut AdmissionRequest) {
    let mut keys: Vec<String> = notes.iter().map(|(key, _)| key.clone()).collect();
    keys.dedup();
    for key in keys {
        let values: Vec<&str> =
            notes.iter().filter(|(each, _)| *each == key).map(|(_, value)| value.as_str()).collect();
        request.annotations.push((format!("{}/{key}", policy.name), values.join(", ")));
    }
}
