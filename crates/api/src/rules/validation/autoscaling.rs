//! Horizontal autoscalers, in the form of `autoscaling/v2`.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::apps::{nonnegative, sides};
use super::{At, NEGATIVE, quantity};

const WINDOW_S_MAX: i64 = 3600;
const PERIOD_S_MAX: i64 = 1800;

const SOURCES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

pub(crate) fn autoscaler(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (scaler, old) = sides(validation);
    if validation.subresource == "status" {
        nonnegative(&scaler.object_or_empty("status"), &["currentReplicas", "desiredReplicas"], errors);
        return;
    }
    let spec = scaler.object_or_empty("spec");
    let old = old.map(|old| old.object_or_empty("spec"));
    let (least, most) = (spec.int("minReplicas"), spec.int("maxReplicas").unwrap_or_default());
    let scaled_to_zero = old.as_ref().is_some_and(|old| old.int("minReplicas") == Some(0));
    let bound = i64::from(!scaled_to_zero);
    if let Some(least) = least.filter(|least| *least < bound) {
        errors.invalid(&spec.path("minReplicas"), least, format!("must be greater than or equal to {bound}"));
    }
    match most {
        0 => errors.required(&spec.path("maxReplicas"), "must be set and greater than 0"),
        ..0 => errors.invalid(&spec.path("maxReplicas"), most, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        errors.invalid(&spec.path("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.object_or_empty("scaleTargetRef");
    let stays = old.is_some_and(|old| {
        let old = old.object_or_empty("scaleTargetRef");
        ["apiVersion", "kind"].into_iter().all(|field| old.text(field) == target.text(field))
    });
    let group = if stays { Group::Any } else { Group::of_kind(target.text("kind")) };
    object_reference(&target, group, errors);
    metrics(&spec, errors);
    if let Some(behavior) = spec.object("behavior") {
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = behavior.object(direction) {
                scaling_rules(&rules, errors);
            }
        }
    }
}

/// What an object's apiVersion has to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Any,
    Core,
    Named,
}

impl Group {
    fn of_kind(kind: &str) -> Self {
        if kind == "ReplicationController" { Self::Core } else { Self::Named }
    }
}

fn object_reference(reference: &At<'_>, group: Group, errors: &mut FieldErrors) {
    reference.require_named("kind", name::path_segment, errors);
    reference.require_named("name", name::path_segment, errors);
    let (version, path) = (reference.text("apiVersion"), reference.path("apiVersion"));
    if group == Group::Any {
        return;
    }
    if version.matches('/').count() > 1 {
        errors.invalid(&path, version, format!("unexpected GroupVersion string: {version}"));
    } else if group == Group::Named && version.split_once('/').is_none_or(|(group, _)| group.is_empty()) {
        errors.invalid(&path, version, "apiVersion must specify API group");
    }
}

fn metrics(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut idle = true;
    for metric in spec.each("metrics") {
        self::metric(&metric, errors);
        idle &= !["Object", "External"].contains(&metric.text("type"));
    }
    if spec.int("minReplicas") == Some(0) && idle {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&spec.path("metrics"), detail);
    }
}

type Source = (&'static str, &'static str, fn(&At<'_>, &mut FieldErrors));

/// In the order in which upstream looks at them; only the first that is given is looked into.
const RULES: [Source; 5] = [
    ("Object", "object", object_source),
    ("External", "external", external_source),
    ("Pods", "pods", pods_source),
    ("Resource", "resource", resource_source),
    ("ContainerResource", "containerResource", container_source),
];

fn metric(metric: &At<'_>, errors: &mut FieldErrors) {
    let kind = metric.text("type");
    if kind.is_empty() {
        errors.required(&metric.path("type"), "must specify a metric source type");
    }
    if !SOURCES.contains(&kind) {
        errors.not_supported(&metric.path("type"), kind, SOURCES);
    }
    let given: Vec<&Source> = RULES.iter().filter(|(_, field, _)| metric.given(field)).collect();
    if let Some((_, field, check)) = given.first() {
        check(&metric.object_or_empty(field), errors);
    }
    let expected = RULES.iter().find(|(known, _, _)| *known == kind).map(|(_, field, _)| *field);
    match expected {
        Some(field) if !metric.given(field) => {
            errors.required(&metric.path(field), "must populate information for the given metric source");
        }
        Some(_) => {}
        None => errors.not_supported(&metric.path("type"), kind, SOURCES),
    }
    if given.len() != 1 {
        for (_, field, _) in given.iter().filter(|(_, field, _)| Some(*field) != expected) {
            errors.forbidden(&metric.path(field), "must populate the given metric source only");
        }
    }
}

fn object_source(source: &At<'_>, errors: &mut FieldErrors) {
    object_reference(&source.object_or_empty("describedObject"), Group::Core, errors);
    metric_name(source, errors);
    let target = target(source, errors);
    if !target.given("value") && !target.given("averageValue") {
        errors.required(&target.path("averageValue"), "must set either a target value or averageValue");
    }
}

fn external_source(source: &At<'_>, errors: &mut FieldErrors) {
    metric_name(source, errors);
    let target = target(source, errors);
    match (target.given("value"), target.given("averageValue")) {
        (false, false) => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.required(&target.path("averageValue"), detail);
        }
        (true, true) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&target.path("value"), detail);
        }
        _ => {}
    }
}

fn pods_source(source: &At<'_>, errors: &mut FieldErrors) {
    metric_name(source, errors);
    let target = target(source, errors);
    if !target.given("averageValue") {
        errors.required(&target.path("averageValue"), "must specify a positive target averageValue");
    }
}

fn resource_source(source: &At<'_>, errors: &mut FieldErrors) {
    if source.text("name").is_empty() {
        errors.required(&source.path("name"), "must specify a resource name");
    }
    resource_target(source, errors);
}

fn container_source(source: &At<'_>, errors: &mut FieldErrors) {
    if source.text("name").is_empty() {
        errors.required(&source.path("name"), "must specify a resource name");
    }
    if source.text("container").is_empty() {
        errors.required(&source.path("container"), "must specify a container");
    } else {
        source.named("container", name::dns1123_label, errors);
    }
    resource_target(source, errors);
}

fn resource_target(source: &At<'_>, errors: &mut FieldErrors) {
    let target = target(source, errors);
    match (target.given("averageUtilization"), target.given("averageValue")) {
        (false, false) => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&target.path("averageUtilization"), detail);
        }
        (true, true) => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&target.path("averageValue"), detail);
        }
        _ => {}
    }
}

fn metric_name(source: &At<'_>, errors: &mut FieldErrors) {
    let metric = source.object_or_empty("metric");
    if metric.text("name").is_empty() {
        errors.required(&metric.path("name"), "must specify a metric name");
    } else {
        metric.named("name", name::path_segment, errors);
    }
}

fn target<'a>(source: &At<'a>, errors: &mut FieldErrors) -> At<'a> {
    let target = source.object_or_empty("target");
    let kind = target.text("type");
    if kind.is_empty() {
        errors.required(&target.path("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid(&target.path("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if let Some(value) = target.get(field).filter(|value| quantity(value).signum() != 1) {
            errors.invalid(&target.path(field), value.clone(), "must be positive");
        }
    }
    if let Some(share @ ..1) = target.int("averageUtilization") {
        errors.invalid(&target.path("averageUtilization"), share, "must be greater than 0");
    }
    target
}

fn scaling_rules(rules: &At<'_>, errors: &mut FieldErrors) {
    let (window, path) = (rules.int("stabilizationWindowSeconds"), rules.path("stabilizationWindowSeconds"));
    if let Some(window @ ..0) = window {
        errors.invalid(&path, window, "must be greater than or equal to zero");
    }
    at_most(window, WINDOW_S_MAX, &path, errors);
    rules.one_of("selectPolicy", &["Disabled", "Max", "Min"], errors);
    if rules.items("policies").is_empty() {
        errors.required(&rules.path("policies"), "must specify at least one Policy");
    }
    for policy in rules.each("policies") {
        if !["Percent", "Pods"].contains(&policy.text("type")) {
            errors.not_supported(&policy.path("type"), policy.text("type"), &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.int(field).unwrap_or_default();
            if number <= 0 {
                errors.invalid(&policy.path(field), number, "must be greater than zero");
            }
        }
        at_most(policy.int("periodSeconds"), PERIOD_S_MAX, &policy.path("periodSeconds"), errors);
    }
    if let Some(tolerance) = rules.get("tolerance").filter(|value| quantity(value).signum() < 0) {
        errors.invalid(&rules.path("tolerance"), Value::clone(tolerance), NEGATIVE);
    }
}

fn at_most(number: Option<i64>, limit: i64, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(number) = number.filter(|number| *number > limit) {
        errors.invalid(path, number, format!("must be less than or equal to {limit}"));
    }
}
