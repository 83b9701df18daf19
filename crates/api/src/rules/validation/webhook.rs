//! Admission webhooks: which requests they see and where they are called.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, domain, expressions, reasons, same};

const CONDITIONS_MAX: usize = 64;
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];

pub(crate) fn validating(validation: Validation<'_>, errors: &mut FieldErrors) {
    webhooks(validation, false, errors);
}

pub(crate) fn mutating(validation: Validation<'_>, errors: &mut FieldErrors) {
    webhooks(validation, true, errors);
}

fn webhooks(validation: Validation<'_>, mutating: bool, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    // Conditions that are stored already are not looked at again.
    let former = validation.old.and_then(|old| old.get("webhooks"));
    let unchanged = validation.old.is_some() && same(former, validation.object.get("webhooks"));
    for hook in At::root(validation.object).each("webhooks") {
        webhook(&hook, mutating, errors);
        match_conditions(&hook, (!unchanged).then_some(false), errors);
        review_versions(&hook, errors);
        let name = hook.text("name");
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&hook.path("name"), name);
        }
    }
}

fn webhook(hook: &At<'_>, mutating: bool, errors: &mut FieldErrors) {
    domain::qualified(&hook.path("name"), hook.text("name"), errors);
    for rule in hook.each("rules") {
        self::rule(&rule, errors);
    }
    hook.one_of("failurePolicy", FAILURE_POLICIES, errors);
    hook.one_of("matchPolicy", MATCH_POLICIES, errors);
    if !hook.given("sideEffects") {
        errors.required(&hook.path("sideEffects"), "must specify one of None, NoneOnDryRun");
    }
    hook.one_of("sideEffects", &["None", "NoneOnDryRun"], errors);
    if let Some(timeout) = hook.int("timeoutSeconds").filter(|timeout| !(1..=30).contains(timeout)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&hook.path("timeoutSeconds"), timeout, detail);
    }
    hook.selector("namespaceSelector", errors);
    hook.selector("objectSelector", errors);
    if mutating {
        hook.one_of("reinvocationPolicy", &["IfNeeded", "Never"], errors);
    }
    let client = hook.object_or_empty("clientConfig");
    match (client.get("url").and_then(Value::as_str), client.object("service")) {
        (Some(address), None) => url(address, &client.path("url"), errors),
        (None, Some(service)) => self::service(&service, errors),
        _ => errors.required(&client.path, "exactly one of url or service is required"),
    }
}

pub(super) fn rule(rule: &At<'_>, errors: &mut FieldErrors) {
    let operations = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    items(rule, "operations", "operations", errors);
    for (operation, path) in rule.texts("operations").filter(|(operation, _)| !operations.contains(operation)) {
        errors.not_supported(&path, operation, &operations);
    }
    items(rule, "apiGroups", "API groups", errors);
    items(rule, "apiVersions", "API versions", errors);
    for (_, path) in rule.texts("apiVersions").filter(|(version, _)| version.is_empty()) {
        errors.required(&path, "");
    }
    resources(rule, errors);
    rule.one_of("scope", &["*", "Cluster", "Namespaced"], errors);
}

/// A list that is not empty, and in which `*` stands alone.
fn items(rule: &At<'_>, field: &str, what: &str, errors: &mut FieldErrors) {
    let all = rule.items(field);
    if all.is_empty() {
        errors.required(&rule.path(field), "");
    }
    if all.len() > 1 && rule.texts(field).any(|(item, _)| item == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&rule.path(field), rule.value(field), detail);
    }
}

fn resources(rule: &At<'_>, errors: &mut FieldErrors) {
    let path = rule.path("resources");
    let count = rule.items("resources").len();
    if count == 0 {
        errors.required(&path, "");
    }
    let (mut whole, mut of_all) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut all, mut plain) = (false, false, false);
    for (resource, path) in rule.texts("resources") {
        if resource.is_empty() {
            errors.required(&path, "");
            continue;
        }
        everything |= resource == "*/*";
        all |= resource == "*";
        let Some((name, sub)) = resource.split_once('/') else {
            plain = resource != "*";
            continue;
        };
        if whole.contains(name) {
            let detail = format!("if '{name}/*' is present, must not specify {resource}");
            errors.invalid(&path, resource, detail);
        }
        if of_all.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {resource}");
            errors.invalid(&path, resource, detail);
        }
        if sub == "*" {
            whole.insert(name);
        }
        if name == "*" {
            of_all.insert(sub);
        }
    }
    if count > 1 && everything {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(&path, rule.value("resources"), detail);
    }
    if all && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(&path, rule.value("resources"), detail);
    }
}

fn review_versions(hook: &At<'_>, errors: &mut FieldErrors) {
    let path = hook.path("admissionReviewVersions");
    if hook.items("admissionReviewVersions").is_empty() {
        errors.required(&path, "must specify one of v1, v1beta1");
        return;
    }
    let mut seen = BTreeSet::new();
    for (version, path) in hook.texts("admissionReviewVersions") {
        if seen.insert(version) {
            reasons(&path, version, name::dns1035_label(version), errors);
        } else {
            errors.invalid(&path, version, "duplicate version");
        }
    }
    if !REVIEW_VERSIONS.iter().any(|known| seen.contains(known)) {
        let detail = "must include at least one of v1, v1beta1";
        errors.invalid(&path, hook.value("admissionReviewVersions"), detail);
    }
}

/// `compile` says whether expressions are compiled, and whether they may speak of parameters.
pub(super) fn match_conditions(at: &At<'_>, compile: Option<bool>, errors: &mut FieldErrors) {
    let count = at.items("matchConditions").len();
    if count > CONDITIONS_MAX {
        errors.too_many(&at.path("matchConditions"), count, CONDITIONS_MAX);
    }
    let mut names = BTreeSet::new();
    for condition in at.each("matchConditions") {
        if condition.text("expression").trim().is_empty() {
            errors.required(&condition.path("expression"), "");
        }
        if let Some(params) = compile {
            expressions::condition(&condition, params, errors);
        }
        condition.require_named("name", name::qualified_name, errors);
        let name = condition.text("name");
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&condition.path("name"), name);
        }
    }
}

/// What an admission policy or its binding looks at.
pub(super) fn match_resources(resources: &At<'_>, errors: &mut FieldErrors) {
    if resources.given("matchPolicy") {
        resources.one_of("matchPolicy", MATCH_POLICIES, errors);
    } else {
        errors.required(&resources.path("matchPolicy"), "");
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if !resources.given(field) {
            errors.required(&resources.path(field), "");
        }
        resources.selector(field, errors);
    }
    for rule in resources.each("resourceRules").chain(resources.each("excludeResourceRules")) {
        let mut names = BTreeSet::new();
        for (name, path) in rule.texts("resourceNames") {
            reasons(&path, name, name::path_segment(name), errors);
            if !names.insert(name) {
                errors.duplicate(&path, name);
            }
        }
        self::rule(&rule, errors);
    }
}

/// The parts of an address that a webhook's may not have. What no address can be is told by its first fault alone.
pub(crate) fn url(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => (scheme, rest),
        Some(("", _)) => {
            let why = format!("parse {text:?}: missing protocol scheme");
            return errors.required(path, format!("url must be a valid URL: {why}{FORM}"));
        }
        _ => ("", rest),
    };
    let authority = rest.strip_prefix("//").map(|rest| rest.split('/').next().unwrap_or_default()).unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let scheme = scheme.to_lowercase();
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

/// A service that is called, by namespace, name, port and path.
pub(crate) fn service(service: &At<'_>, errors: &mut FieldErrors) {
    // Upstream hands the two over in the other order.
    for (field, shown) in [("namespace", "name"), ("name", "namespace")] {
        if service.text(field).is_empty() {
            errors.required(&service.path(shown), "");
        }
    }
    service_port(service, errors);
    let Some(text) = service.get("path").and_then(Value::as_str) else { return };
    let path = service.path("path");
    match text {
        "" | "/" => return,
        "//" => return errors.invalid(&path, text, "segment[0] may not be empty"),
        _ => {}
    }
    if !text.starts_with('/') {
        errors.invalid(&path, text, "must start with a '/'");
    }
    let mut characters = text.chars();
    characters.next();
    let rest = characters.as_str();
    for (index, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, text, format!("segment[{index}] may not be empty"));
            continue;
        }
        for reason in name::dns1123_subdomain(step) {
            errors.invalid(&path, text, format!("segment[{index}]: {reason}"));
        }
    }
}

pub(super) fn service_port(service: &At<'_>, errors: &mut FieldErrors) {
    let port = service.int("port").unwrap_or_default();
    let refused = name::port_number(port);
    if !refused.is_empty() {
        errors.invalid(&service.path("port"), port, format!("port is not valid: {}", refused.join(", ")));
    }
}
