//! Cron jobs.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::value::Value;

use super::apps::{nonnegative, sides};
use super::{At, cron, job, same};

/// A job's name gets eleven bytes more, and names its pods.
const NAME_BYTES_MAX: usize = 52;

pub(crate) fn cron_job(validation: Validation<'_>, errors: &mut FieldErrors) {
    if !validation.subresource.is_empty() {
        return;
    }
    let (job, old) = sides(validation);
    let spec = job.object_or_empty("spec");
    let old_spec = old.as_ref().map(|old| old.object_or_empty("spec"));
    schedule(&spec, old_spec.as_ref(), errors);
    spec.nonnegative("startingDeadlineSeconds", errors);
    if old_spec.is_none_or(|old| !same(old.get("timeZone"), spec.get("timeZone"))) {
        time_zone(&spec, errors);
    }
    spec.require_one_of("concurrencyPolicy", &["Allow", "Forbid", "Replace"], errors);
    template(&spec.object_or_empty("jobTemplate").object_or_empty("spec"), errors);
    nonnegative(&spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], errors);
    let name = job.object_or_empty("metadata").text("name");
    if old.is_none() && name.len() > NAME_BYTES_MAX {
        let path = FieldPath::new("metadata").child("name");
        errors.invalid(&path, name, format!("must be no more than {NAME_BYTES_MAX} characters"));
    }
}

fn schedule(spec: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    if !spec.require("schedule", errors) {
        return;
    }
    let (schedule, path) = (spec.text("schedule"), spec.path("schedule"));
    if let Err(error) = cron::check(schedule) {
        errors.invalid(&path, schedule, error);
    }
    // Zones in schedules were taken once; those that are stored stay.
    let names_zone = |schedule: &str| schedule.contains("TZ");
    let tolerated = old.is_some_and(|old| names_zone(old.text("schedule")));
    if !names_zone(schedule) {
    } else if !tolerated {
        errors.invalid(&path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if spec.given("timeZone") {
        errors.invalid(&path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    }
}

fn time_zone(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(zone) = spec.get("timeZone").and_then(Value::as_str) else { return };
    let path = spec.path("timeZone");
    if zone.is_empty() {
        errors.invalid(&path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let formed = |part: &str| {
        (1..=14).contains(&part.len())
            && part.bytes().all(allowed)
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    };
    if !zone.split('/').all(formed) {
        errors.invalid(&path, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(&path, zone, detail);
    }
}

fn template(spec: &At<'_>, errors: &mut FieldErrors) {
    job::spec(spec, errors);
    if spec.given("selector") {
        errors.invalid(&spec.path("selector"), spec.value("selector"), "`selector` will be auto-generated");
    }
    if spec.flag("manualSelector") {
        errors.not_supported(&spec.path("manualSelector"), true, &["nil", "false"]);
    }
}
