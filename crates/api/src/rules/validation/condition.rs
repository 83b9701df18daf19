//! Conditions of the common form (`meta/v1.Condition`).

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;

use super::{At, reasons};

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// The conditions of a status.
pub(crate) fn all(status: &At<'_>, errors: &mut FieldErrors) {
    let mut known = Vec::new();
    for condition in status.each("conditions") {
        let kind = condition.text("type");
        if known.contains(&kind) {
            errors.duplicate(&condition.path("type"), kind);
        } else {
            known.push(kind);
        }
        self::condition(&condition, errors);
    }
}

fn condition(condition: &At<'_>, errors: &mut FieldErrors) {
    let kind = condition.text("type");
    reasons(&condition.path("type"), kind, name::qualified_name(kind), errors);
    let status = condition.text("status");
    if !["False", "True", "Unknown"].contains(&status) {
        errors.not_supported(&condition.path("status"), status, &["False", "True", "Unknown"]);
    }
    if let Some(generation @ ..0) = condition.int("observedGeneration") {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&condition.path("observedGeneration"), generation, detail);
    }
    if !condition.given("lastTransitionTime") {
        errors.required(&condition.path("lastTransitionTime"), "");
    }
    reason(condition, errors);
    if condition.text("message").len() > MESSAGE_BYTES_MAX {
        errors.too_long(&condition.path("message"), MESSAGE_BYTES_MAX);
    }
}

fn reason(condition: &At<'_>, errors: &mut FieldErrors) {
    let (reason, path) = (condition.text("reason"), condition.path("reason"));
    if reason.is_empty() {
        errors.required(&path, "");
        return;
    }
    let bytes = reason.as_bytes();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let formed = bytes[0].is_ascii_alphabetic()
        && bytes.iter().all(|byte| word(byte) || b",:".contains(byte))
        && bytes.last().is_some_and(word);
    if !formed {
        let text = "a condition reason must start with alphabetic character, optionally followed by a string of \
                    alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
        let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
        errors.invalid(&path, reason, name::pattern(text, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples));
    }
    if reason.len() > REASON_BYTES_MAX {
        errors.too_long(&path, REASON_BYTES_MAX);
    }
}
