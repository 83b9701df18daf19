//! Jobs and cron jobs.

use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, given, zero};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("batch/v1.Job", fills(job)),
    (
        "batch/v1.CronJobSpec",
        fills(|spec| {
            zero(spec, "concurrencyPolicy", "Allow");
            absent(spec, "suspend", false);
            absent(spec, "successfulJobsHistoryLimit", 3);
            absent(spec, "failedJobsHistoryLimit", 1);
        }),
    ),
    ("batch/v1.PodFailurePolicyOnPodConditionsPattern", fills(|pattern| zero(pattern, "status", "True"))),
];

/// Attached to the job and not to its spec: a cron job's template keeps what it says.
fn job(job: &mut Map) {
    let spec = job.object_entry("spec");
    if !given(spec, "parallelism") {
        absent(spec, "completions", 1);
    }
    absent(spec, "parallelism", 1);
    let backoff = if given(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
    absent(spec, "backoffLimit", backoff);
    absent(spec, "completionMode", "NonIndexed");
    absent(spec, "suspend", false);
    let replacement = if given(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    absent(spec, "podReplacementPolicy", replacement);
    absent(spec, "manualSelector", false);
    let labels =
        spec.get("template").and_then(|template| template.at(&["metadata", "labels"])).and_then(Value::as_object);
    if let Some(labels) = labels.filter(|labels| !labels.is_empty()).cloned() {
        zero(job.object_entry("metadata"), "labels", labels);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn jobs() {
        check(
            "batch/v1.Job",
            value!({"metadata": {}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
            &value!({"metadata": {"labels": {"a": "b"}}, "spec": {
                "template": {"metadata": {"labels": {"a": "b"}}}, "completions": 1, "parallelism": 1, "backoffLimit": 6,
                "completionMode": "NonIndexed", "suspend": false, "podReplacementPolicy": "TerminatingOrFailed",
                "manualSelector": false
            }}),
        );
        check(
            "batch/v1.Job",
            value!({"spec": {"parallelism": 3, "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": []}}}),
            &value!({"spec": {
                "parallelism": 3, "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": []}, "backoffLimit": 2147483647,
                "completionMode": "NonIndexed", "suspend": false, "podReplacementPolicy": "Failed", "manualSelector": false
            }}),
        );
    }

    #[test]
    fn cron_jobs() {
        check(
            "batch/v1.CronJobSpec",
            value!({"failedJobsHistoryLimit": 0}),
            &value!({
                "failedJobsHistoryLimit": 0, "concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3
            }),
        );
    }
}
