//! Admission policies and their bindings.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;

use super::expressions::Policy;
use super::{At, reasons, same, webhook};

pub(crate) fn validating(validation: Validation<'_>, errors: &mut FieldErrors) {
    if !validation.subresource.is_empty() {
        return;
    }
    let spec = At::root(validation.object).object_or_empty("spec");
    policy(&spec, compiles_conditions(&validation), errors);
    let mut expressions = Policy::new(&spec);
    expressions.variables(&spec, errors);
    let missing = "validations or auditAnnotations must contain at least one item";
    if spec.items("validations").is_empty() && spec.items("auditAnnotations").is_empty() {
        errors.required(&spec.path("validations"), missing);
        errors.required(&spec.path("auditAnnotations"), missing);
    }
    for rule in spec.each("validations") {
        expressions.validation(&rule, errors);
        rule.one_of("reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"], errors);
    }
    let name = validation.object.str_at(&["metadata", "name"]);
    for note in spec.each("auditAnnotations") {
        expressions.annotation(&note, name, errors);
    }
}

pub(crate) fn mutating(validation: Validation<'_>, errors: &mut FieldErrors) {
    let spec = At::root(validation.object).object_or_empty("spec");
    policy(&spec, compiles_conditions(&validation), errors);
    Policy::new(&spec).variables(&spec, errors);
}

/// Conditions that are stored already are not looked at again.
fn compiles_conditions(validation: &Validation<'_>) -> bool {
    let path = ["spec", "matchConditions"];
    validation.old.is_none_or(|old| !same(old.at(&path), validation.object.at(&path)))
}

pub(crate) fn validating_binding(validation: Validation<'_>, errors: &mut FieldErrors) {
    let spec = At::root(validation.object).object_or_empty("spec");
    binding(&spec, errors);
    let known = ["Audit", "Deny", "Warn"];
    let mut actions = BTreeSet::new();
    for (action, path) in spec.texts("validationActions") {
        if !known.contains(&action) {
            errors.not_supported(&path, action, &known);
        }
        if !actions.insert(action) {
            errors.duplicate(&path, action);
        }
    }
    let path = spec.path("validationActions");
    if actions.contains("Deny") && actions.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                      API response and headers serves no purpose)";
        errors.invalid(&path, spec.value("validationActions"), detail);
    }
    if actions.is_empty() {
        errors.required(&path, "at least one validation action is required");
    }
}

pub(crate) fn mutating_binding(validation: Validation<'_>, errors: &mut FieldErrors) {
    binding(&At::root(validation.object).object_or_empty("spec"), errors);
}

fn policy(spec: &At<'_>, compiles: bool, errors: &mut FieldErrors) {
    if spec.given("failurePolicy") {
        spec.one_of("failurePolicy", webhook::FAILURE_POLICIES, errors);
    } else {
        errors.required(&spec.path("failurePolicy"), "");
    }
    if let Some(kind) = spec.object("paramKind") {
        param_kind(&kind, errors);
    }
    match spec.object("matchConstraints") {
        None => errors.required(&spec.path("matchConstraints"), ""),
        Some(constraints) => {
            webhook::match_resources(&constraints, errors);
            if constraints.items("resourceRules").is_empty() {
                errors.required(&constraints.path("resourceRules"), "");
            }
        }
    }
    webhook::match_conditions(spec, compiles.then(|| spec.object("paramKind").is_some()), errors);
}

fn param_kind(kind: &At<'_>, errors: &mut FieldErrors) {
    let path = kind.path("apiVersion");
    if kind.require("apiVersion", errors) {
        version(kind.text("apiVersion"), &path, errors);
    }
    if kind.require("kind", errors) {
        let refused = name::dns1035_label(&kind.text("kind").to_lowercase());
        if !refused.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", refused.join(","));
            errors.invalid(&kind.path("kind"), kind.text("kind"), detail);
        }
    }
}

fn version(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    if version.contains('/') {
        errors.invalid(path, text, format!("unexpected GroupVersion string: {text}"));
        return;
    }
    let refused = name::dns1123_subdomain(group);
    if !group.is_empty() && !refused.is_empty() {
        errors.invalid(path, group, refused.join(","));
    }
    let refused = name::dns1035_label(version);
    if version.is_empty() {
        errors.invalid(path, text, "version must be specified");
    } else if !refused.is_empty() {
        errors.invalid(path, version, refused.join(","));
    }
}

fn binding(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.require_named("policyName", name::dns1123_subdomain, errors);
    if let Some(reference) = spec.object("paramRef") {
        param_reference(&reference, errors);
    }
    if let Some(resources) = spec.object("matchResources") {
        webhook::match_resources(&resources, errors);
    }
}

fn param_reference(reference: &At<'_>, errors: &mut FieldErrors) {
    let exclusive = "name and selector are mutually exclusive";
    let (name, selects) = (reference.text("name"), reference.given("selector"));
    if !name.is_empty() {
        reasons(&reference.path("name"), name, name::path_segment(name), errors);
        if selects {
            errors.forbidden(&reference.path("name"), exclusive);
        }
    }
    reference.selector("selector", errors);
    if selects && !name.is_empty() {
        errors.forbidden(&reference.path("selector"), exclusive);
    }
    if !selects && name.is_empty() {
        errors.required(&reference.path, "one of name or selector must be specified");
    }
    reference.require_one_of("parameterNotFoundAction", &["Deny", "Allow"], errors);
}
