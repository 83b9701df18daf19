//! Roles and their bindings.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::selector::{LabelSelector, label};
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::{At, reasons};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) fn role(validation: Validation<'_>, errors: &mut FieldErrors) {
    for rule in At::root(validation.object).each("rules") {
        policy_rule(&rule, true, errors);
    }
}

pub(crate) fn cluster_role(validation: Validation<'_>, errors: &mut FieldErrors) {
    let role = At::root(validation.object);
    for rule in role.each("rules") {
        policy_rule(&rule, false, errors);
    }
    let Some(aggregation) = role.object("aggregationRule") else { return };
    let path = aggregation.path("clusterRoleSelectors");
    let selectors = aggregation.items("clusterRoleSelectors");
    if selectors.is_empty() {
        errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (index, selector) in selectors.iter().enumerate() {
        label::validate(selector, false, &path.index(index), errors);
        if LabelSelector::from_object(Some(selector)).is_err() {
            errors.invalid(&path.index(index), Value::Null, "invalid label selector.");
        }
    }
}

pub(crate) fn role_binding(validation: Validation<'_>, errors: &mut FieldErrors) {
    binding(validation, &["Role", "ClusterRole"], true, errors);
}

pub(crate) fn cluster_role_binding(validation: Validation<'_>, errors: &mut FieldErrors) {
    binding(validation, &["ClusterRole"], false, errors);
}

fn policy_rule(rule: &At<'_>, namespaced: bool, errors: &mut FieldErrors) {
    let given = |field| !rule.items(field).is_empty();
    if !given("verbs") {
        errors.required(&rule.path("verbs"), "verbs must contain at least one value");
    }
    if given("nonResourceURLs") {
        let mut refuse = |detail| errors.invalid(&rule.path("nonResourceURLs"), rule.value("nonResourceURLs"), detail);
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if given("apiGroups") || given("resources") || given("resourceNames") {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if !given("apiGroups") {
        errors.required(&rule.path("apiGroups"), "resource rules must supply at least one api group");
    }
    if !given("resources") {
        errors.required(&rule.path("resources"), "resource rules must supply at least one resource");
    }
}

fn binding(validation: Validation<'_>, kinds: &[&str], namespaced: bool, errors: &mut FieldErrors) {
    let (binding, old) = sides(validation);
    let role = binding.object_or_empty("roleRef");
    if role.text("apiGroup") != GROUP {
        errors.not_supported(&role.path("apiGroup"), role.text("apiGroup"), &[GROUP]);
    }
    if !kinds.contains(&role.text("kind")) {
        errors.not_supported(&role.path("kind"), role.text("kind"), kinds);
    }
    role.require_named("name", name::path_segment, errors);
    for subject in binding.each("subjects") {
        self::subject(&subject, namespaced, errors);
    }
    if let Some(old) = old {
        let old = old.object_or_empty("roleRef");
        if ["apiGroup", "kind", "name"].into_iter().any(|field| role.text(field) != old.text(field)) {
            // Upstream prints its internal form.
            let shown = value!({
                "APIGroup": (role.text("apiGroup")),
                "Kind": (role.text("kind")),
                "Name": (role.text("name"))
            });
            errors.invalid(&role.path, shown, "cannot change roleRef");
        }
    }
}

fn subject(subject: &At<'_>, namespaced: bool, errors: &mut FieldErrors) {
    let name = subject.text("name");
    subject.require("name", errors);
    let group = subject.text("apiGroup");
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                reasons(&subject.path("name"), name, name::dns1123_subdomain(name), errors);
            }
            if !group.is_empty() {
                errors.not_supported(&subject.path("apiGroup"), group, &[""]);
            }
            if !namespaced {
                subject.require("namespace", errors);
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&subject.path("apiGroup"), group, &[GROUP]);
            }
        }
        kind => errors.not_supported(&subject.path("kind"), kind, &["ServiceAccount", "User", "Group"]),
    }
}
