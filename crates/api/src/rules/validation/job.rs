//! Jobs: their spec, and what of it may change.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::apps::{mismatch, nonnegative, selects, sides};
use super::{At, domain, job_policy, job_status, pod_spec, same};

const INDEXED: &str = "Indexed";
const PARALLELISM_MAX: i64 = 100_000;
const COMPLETIONS_MANY: i64 = 100_000;
const AT_MANY_COMPLETIONS_MAX: i64 = 10_000;
const MANAGED_BY_BYTES_MAX: usize = 63;

pub(crate) fn job(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (job, old) = sides(validation);
    if validation.subresource == "status" {
        job_status::validate(&job, old.as_ref(), errors);
        return;
    }
    let spec = job.object_or_empty("spec");
    if old.is_none() {
        generated_selector(&job, &spec, errors);
    }
    self::spec(&spec, errors);
    if !spec.given("selector") {
        errors.required(&spec.path("selector"), "");
    }
    spec.selector("selector", errors);
    let template = spec.object_or_empty("template");
    if LabelSelector::from_object(spec.get("selector")).is_ok_and(|selector| !selects(&selector, &template)) {
        mismatch(&template, errors);
    }
    match old {
        None => pod_names(&job, &spec, errors),
        Some(old) => update(&spec, &old, errors),
    }
}

/// What jobs and the templates of cron jobs share.
pub(crate) fn spec(spec: &At<'_>, errors: &mut FieldErrors) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    nonnegative(spec, &counts, errors);
    if spec.given("maxFailedIndexes") && !spec.given("backoffLimitPerIndex") {
        errors.required(&spec.path("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        domain::prefixed_path(&spec.path("managedBy"), manager, errors);
        if manager.len() > MANAGED_BY_BYTES_MAX {
            errors.too_long(&spec.path("managedBy"), MANAGED_BY_BYTES_MAX);
        }
    }
    spec.one_of("completionMode", &["NonIndexed", INDEXED], errors);
    if spec.text("completionMode") == INDEXED {
        indexed(spec, errors);
    }
    if !spec.given("completionMode") || spec.text("completionMode") == "NonIndexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = spec.int(field) {
                errors.invalid(&spec.path(field), number, "requires indexed completion mode");
            }
        }
    }
    if let Some(policy) = spec.object("podFailurePolicy") {
        job_policy::failure(spec, &policy, errors);
    }
    if let Some(policy) = spec.object("successPolicy") {
        success_policy(spec, &policy, errors);
    }
    let replacements: &[&str] =
        if spec.given("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    spec.one_of("podReplacementPolicy", replacements, errors);
    pod_spec::template(&spec.object_or_empty("template"), errors);
    restart_policy(spec, errors);
}

fn indexed(spec: &At<'_>, errors: &mut FieldErrors) {
    let [completions, parallelism, failed] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| spec.int(field));
    if completions.is_none() {
        errors.required(&spec.path("completions"), "when completion mode is Indexed");
    }
    if let Some(number) = parallelism.filter(|number| *number > PARALLELISM_MAX) {
        let detail = format!("must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed");
        errors.invalid(&spec.path("parallelism"), number, detail);
    }
    if let Some(number) = failed.filter(|number| completions.is_some_and(|completions| *number > completions)) {
        errors.invalid(&spec.path("maxFailedIndexes"), number, "must be less than or equal to completions");
    }
    if let Some(number) = failed.filter(|number| *number > PARALLELISM_MAX) {
        let detail = format!("must be less than or equal to {PARALLELISM_MAX}");
        errors.invalid(&spec.path("maxFailedIndexes"), number, detail);
    }
    let many = completions.is_some_and(|number| number > COMPLETIONS_MANY) && spec.given("backoffLimitPerIndex");
    if !many {
        return;
    }
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {COMPLETIONS_MANY}");
        errors.required(&spec.path("maxFailedIndexes"), detail);
    }
    for (field, number) in [("parallelism", parallelism), ("maxFailedIndexes", failed)] {
        if let Some(number) = number.filter(|number| *number > AT_MANY_COMPLETIONS_MAX) {
            let detail = format!(
                "must be less than or equal to {AT_MANY_COMPLETIONS_MAX} when completions are above {COMPLETIONS_MANY} \
                 and used with backoff limit per index"
            );
            errors.invalid(&spec.path(field), number, detail);
        }
    }
}

fn success_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut FieldErrors) {
    if spec.text("completionMode") == INDEXED {
        job_policy::success(spec, policy, errors);
        return;
    }
    // Upstream prints its internal form.
    let rule = |rule: At<'_>| {
        value!({
            "SucceededIndexes": (rule.value("succeededIndexes")),
            "SucceededCount": (rule.value("succeededCount"))
        })
    };
    let rules: Vec<Value> = policy.each("rules").map(rule).collect();
    let rules = if policy.given("rules") { Value::from(rules) } else { Value::Null };
    errors.invalid(&policy.path, value!({"Rules": (rules)}), "requires indexed completion mode");
}

fn restart_policy(spec: &At<'_>, errors: &mut FieldErrors) {
    let pod = spec.object_or_empty("template").object_or_empty("spec");
    let path = pod.path("restartPolicy");
    match pod.text("restartPolicy") {
        "" | "Always" => errors.required(&path, r#"valid values: "OnFailure", "Never""#),
        "Never" => {}
        policy @ "OnFailure" => {
            if spec.given("podFailurePolicy") {
                let detail = r#"only "Never" is supported when podFailurePolicy is specified"#;
                errors.invalid(&path, policy, detail);
            }
        }
        policy => errors.not_supported(&path, policy, &["OnFailure", "Never"]),
    }
}

/// A job that does not select for itself selects the pods that carry its uid.
fn generated_selector(job: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    if spec.flag("manualSelector") || !spec.given("selector") {
        return;
    }
    let metadata = job.object_or_empty("metadata");
    let (uid, name) = (metadata.text("uid"), metadata.text("name"));
    metadata.require("uid", errors);
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let template = spec.object_or_empty("template").object_or_empty("metadata");
    let labels: Vec<_> = template.strings("labels").collect();
    for (key, value) in expected {
        let path = template.path("labels");
        match labels.iter().find(|(name, _)| name.as_str() == key) {
            None => errors.required(&path.key(key), format!("must be '{value}'")),
            Some((_, actual)) if *actual != value => {
                errors.invalid(&path.key(key), template.value("labels"), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    if LabelSelector::from_object(spec.get("selector")).is_ok_and(|selector| !selector.matches(&expected)) {
        errors.invalid(&spec.path("selector"), spec.value("selector"), "`selector` not auto-generated");
    }
}

/// Pods of an indexed job are named by their number.
fn pod_names(job: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    let job_name = job.object_or_empty("metadata").text("name");
    let completions = spec.int("completions").unwrap_or_default();
    if spec.text("completionMode") != INDEXED || completions <= 0 {
        return;
    }
    let longest = format!("{job_name}-{}", completions - 1);
    if !name::dns1123_label(&longest).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.invalid(&FieldPath::new("metadata").child("name"), job_name, detail);
    }
}

fn update(spec: &At<'_>, old_job: &At<'_>, errors: &mut FieldErrors) {
    let old = old_job.object_or_empty("spec");
    if spec.text("completionMode") != INDEXED {
        spec.immutable(&old, "completions", errors);
    } else if let Some(completions) = spec.int("completions")
        && old.int("completions") != Some(completions)
        && spec.int("parallelism") != Some(completions)
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&spec.path("completions"), completions, detail);
    }
    spec.immutable(&old, "selector", errors);
    template_update(spec, old_job, errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        spec.immutable(&old, field, errors);
    }
}

/// The template is fixed. While a job is suspended and none of its pods run, where and with which resources they will
/// run may change.
fn template_update(spec: &At<'_>, old_job: &At<'_>, errors: &mut FieldErrors) {
    let old = old_job.object_or_empty("spec");
    let suspended = old.flag("suspend");
    let status = old_job.object_or_empty("status");
    let idle = !status.given("startTime") || job_status::is_true(old_job, "Suspended");
    if !(suspended && idle && status.int("active").unwrap_or_default() == 0) {
        spec.immutable(&old, "template", errors);
        return;
    }
    let pod = |spec: &At<'_>| fixed_part(&spec.object_or_empty("template").object_or_empty("spec"));
    if pod(spec) != pod(&old) {
        let template = spec.object_or_empty("template");
        errors.invalid(&template.path("spec"), template.value("spec"), super::IMMUTABLE);
    }
}

/// A pod's spec without what may change while its job is suspended.
fn fixed_part(pod: &At<'_>) -> Map {
    let mut fixed = pod.map.clone();
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        fixed.remove(field);
    }
    if let Some(affinity) = fixed.get_mut("affinity").and_then(Value::as_object_mut) {
        affinity.remove("nodeAffinity");
    }
    for list in ["containers", "initContainers"] {
        let containers = fixed.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("resources");
        }
    }
    fixed.retain(|_, value| !same(None, Some(value)) && *value != Value::object());
    fixed
}
