//! Certificate requests: what is asked for, and the conditions that decide it. The bytes of requests and certificates
//! belong to who signs.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath, go_quoted};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::{At, same};

const SECONDS_MIN: i64 = 600;
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) fn request(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (request, old) = sides(validation);
    let stored = old.as_ref().map(|old| (old.object_or_empty("spec"), old.object_or_empty("status")));
    let spec = request.object_or_empty("spec");
    usages(&spec, stored.as_ref().map(|(spec, _)| spec), errors);
    let signer = spec.text("signerName");
    let legacy = stored.as_ref().is_some_and(|(spec, _)| spec.text("signerName") == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !legacy {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.invalid(&spec.path("signerName"), signer, detail);
    } else {
        signer_name(signer, &spec.path("signerName"), errors);
    }
    if let Some(seconds) = spec.int("expirationSeconds").filter(|seconds| *seconds < SECONDS_MIN) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&spec.path("expirationSeconds"), seconds, detail);
    }
    let status = request.object_or_empty("status");
    conditions(&status, stored.as_ref().map(|(_, status)| status), errors);
    if let Some((_, stored)) = &stored {
        update(&status, stored, validation.subresource, errors);
    }
}

/// What a stored request says wrongly already, its updates may repeat.
fn usages(spec: &At<'_>, stored: Option<&At<'_>>, errors: &mut FieldErrors) {
    if spec.items("usages").is_empty() {
        errors.required(&spec.path("usages"), "");
    }
    let unknown = |spec: &At<'_>| spec.texts("usages").any(|(usage, _)| !USAGES.contains(&usage));
    if !stored.is_some_and(unknown) {
        for (usage, path) in spec.texts("usages").filter(|(usage, _)| !USAGES.contains(usage)) {
            errors.not_supported(&path, usage, USAGES);
        }
    }
    if stored.is_none_or(|spec| repeated(spec.texts("usages")).is_empty()) {
        for (usage, path) in repeated(spec.texts("usages")) {
            errors.duplicate(&path, usage);
        }
    }
}

fn repeated<'a>(texts: impl Iterator<Item = (&'a str, FieldPath)>) -> Vec<(&'a str, FieldPath)> {
    let mut seen = BTreeSet::new();
    texts.filter(|(text, _)| !seen.insert(*text)).collect()
}

/// `example.com/signer`
fn signer_name(signer: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if signer.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, signer, detail);
        return;
    };
    if domain.len() > name::SUBDOMAIN_BYTES_MAX {
        errors.too_long(path, name::SUBDOMAIN_BYTES_MAX);
    }
    labels(domain, name::dns1123_label, path, errors);
    if !domain.contains('.') {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    labels(rest, name::dns1123_subdomain, path, errors);
}

/// The first label that is refused speaks for all.
fn labels(text: &str, rule: fn(&str) -> name::Reasons, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(label) = text.split('.').find(|label| !rule(label).is_empty()) {
        for reason in rule(label) {
            errors.invalid(path, text, format!("validating label {}: {reason}", go_quoted(label)));
        }
    }
}

fn conditions(status: &At<'_>, stored: Option<&At<'_>>, errors: &mut FieldErrors) {
    let kinds = |status: &At<'_>| -> Vec<String> {
        status.each("conditions").map(|condition| condition.text("type").to_owned()).collect()
    };
    let stored = stored.map(kinds).unwrap_or_default();
    let has = |kind: &str| stored.iter().any(|known| known == kind);
    let both = DECISIONS.into_iter().all(has);
    let twice = (1..stored.len()).any(|at| stored[..at].contains(&stored[at]));
    let mut seen = BTreeSet::new();
    for condition in status.each("conditions") {
        let (kind, state) = (condition.text("type"), condition.text("status"));
        if kind.is_empty() && !has("") {
            errors.required(&condition.path("type"), "");
        }
        let decided = DECISIONS.contains(&kind) || kind == "Failed";
        let allowed: &[&str] = if decided { &["True"] } else { &["False", "True", "Unknown"] };
        if state.is_empty() {
            errors.required(&condition.path("status"), "");
        } else if !allowed.contains(&state) {
            errors.not_supported(&condition.path("status"), state, allowed);
        }
        let other = DECISIONS.into_iter().find(|other| *other != kind && DECISIONS.contains(&kind));
        if !both && other.is_some_and(|other| seen.contains(other)) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&status.path("conditions"), kind, detail);
        }
        if !seen.insert(kind) && !twice {
            errors.duplicate(&condition.path("type"), kind);
        }
    }
}

/// Decisions stay; only the approval sets them, only the status a certificate, once.
fn update(status: &At<'_>, stored: &At<'_>, subresource: &str, errors: &mut FieldErrors) {
    let path = status.path("conditions");
    let of = |status: &At<'_>, kind: &str| -> Vec<Value> {
        let conditions = status.each("conditions").filter(|condition| condition.text("type") == kind);
        conditions.map(|condition| Value::from(condition.map.clone())).collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of(status, kind).len() < of(stored, kind).len() {
            errors.forbidden(&path, format!("updates may not remove a condition of type {}", go_quoted(kind)));
        }
    }
    for kind in DECISIONS.into_iter().filter(|_| subresource != "approval") {
        let (new, old) = (of(status, kind), of(stored, kind));
        if new.len() > old.len() {
            errors.forbidden(&path, format!("updates may not add a condition of type {}", go_quoted(kind)));
        } else if new.len() == old.len() && new != old {
            errors.forbidden(&path, format!("updates may not modify a condition of type {}", go_quoted(kind)));
        }
    }
    if !same(status.get("certificate"), stored.get("certificate")) {
        let path = status.path("certificate");
        if subresource != "status" {
            errors.forbidden(&path, "updates may not set certificate content");
        } else if !stored.text("certificate").is_empty() {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
    }
}
