//! Which failures of pods count, and when a job has succeeded before all its pods have.

use corten_apimachinery::field::{FieldErrors, go_quoted};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, index, reasons};

const RULES_MAX: usize = 20;
const PATTERNS_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_BYTES_MAX: usize = 64 * 1024;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

pub(super) fn failure(spec: &At<'_>, policy: &At<'_>, errors: &mut FieldErrors) {
    let rules = policy.items("rules").len();
    if rules > RULES_MAX {
        errors.too_many(&policy.path("rules"), rules, RULES_MAX);
    }
    let pod = spec.object_or_empty("template").object_or_empty("spec");
    let containers = pod.each("containers").chain(pod.each("initContainers"));
    let names: Vec<&str> = containers.map(|container| container.text("name")).collect();
    for rule in policy.each("rules") {
        failure_rule(spec, &rule, &names, errors);
    }
}

fn failure_rule(spec: &At<'_>, rule: &At<'_>, containers: &[&str], errors: &mut FieldErrors) {
    if rule.text("action") == "FailIndex" {
        if !spec.given("backoffLimitPerIndex") {
            errors.invalid(&rule.path("action"), "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
    } else {
        choice(rule, "action", ACTIONS, errors);
    }
    let codes = rule.object("onExitCodes");
    if let Some(codes) = &codes {
        exit_codes(codes, containers, errors);
    }
    let patterns = rule.items("onPodConditions").len();
    if patterns > PATTERNS_MAX {
        errors.too_many(&rule.path("onPodConditions"), patterns, PATTERNS_MAX);
    }
    for pattern in rule.each("onPodConditions") {
        let kind = pattern.text("type");
        reasons(&pattern.path("type"), kind, name::qualified_name(kind), errors);
        choice(&pattern, "status", STATUSES, errors);
    }
    match (codes.is_some(), patterns > 0) {
        (true, true) => {
            errors.invalid_unshown(&rule.path, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (false, false) => {
            errors.invalid_unshown(&rule.path, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

/// A string that is there and one of `supported`; an absent one is told which there are.
fn choice(at: &At<'_>, field: &str, supported: &[&str], errors: &mut FieldErrors) {
    let text = at.text(field);
    if text.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|text| go_quoted(text)).collect();
        errors.required(&at.path(field), format!("valid values: [{}]", quoted.join(" ")));
    } else if !supported.contains(&text) {
        errors.not_supported(&at.path(field), text, supported);
    }
}

fn exit_codes(codes: &At<'_>, containers: &[&str], errors: &mut FieldErrors) {
    choice(codes, "operator", OPERATORS, errors);
    if let Some(container) = codes.get("containerName").and_then(Value::as_str)
        && !containers.contains(&container)
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&codes.path("containerName"), container, detail);
    }
    let path = codes.path("values");
    let values: Vec<i64> = codes.items("values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        errors.invalid(&path, codes.value("values"), "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        errors.too_many(&path, values.len(), EXIT_CODES_MAX);
    }
    for (index, value) in values.iter().enumerate() {
        if codes.text("operator") == "In" && *value == 0 {
            errors.invalid(&path.index(index), 0, "must not be 0 for the In operator");
        }
        if values[..index].contains(value) {
            errors.duplicate(&path.index(index), *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&path, codes.value("values"), "must be ordered");
    }
}

pub(super) fn success(spec: &At<'_>, policy: &At<'_>, errors: &mut FieldErrors) {
    let rules = policy.items("rules").len();
    if rules == 0 {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&policy.path("rules"), detail);
    }
    if rules > RULES_MAX {
        errors.too_many(&policy.path("rules"), rules, RULES_MAX);
    }
    let completions = spec.int("completions").unwrap_or_default();
    for rule in policy.each("rules") {
        success_rule(&rule, completions, errors);
    }
}

fn success_rule(rule: &At<'_>, completions: i64, errors: &mut FieldErrors) {
    let (count, indexes) = (rule.int("succeededCount"), rule.get("succeededIndexes").and_then(Value::as_str));
    if count.is_none() && indexes.is_none() {
        errors.required(&rule.path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut named = 0;
    if let Some(indexes) = indexes {
        let path = rule.path("succeededIndexes");
        if indexes.len() > INDEXES_BYTES_MAX {
            errors.too_long(&path, INDEXES_BYTES_MAX);
        }
        match index::count(indexes, completions) {
            Ok(count) => named = count,
            Err(error) => errors.invalid(&path, indexes, format!("error parsing succeededIndexes: {error}")),
        }
    }
    let Some(count) = count else { return };
    rule.nonnegative("succeededCount", errors);
    let mut at_most = |limit, what| {
        if count > limit {
            let detail = format!("must be less than or equal to {limit} (the number of {what})");
            errors.invalid(&rule.path("succeededCount"), count, detail);
        }
    };
    at_most(completions, "specified completions");
    if indexes.is_some() {
        at_most(named, "indexes in the specified succeededIndexes field");
    }
}
