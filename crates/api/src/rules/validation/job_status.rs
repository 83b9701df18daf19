//! What the status of a job may say, and how it may change: controllers of all kinds write it.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Value;

use super::apps::nonnegative;
use super::{At, index, same};

/// The job, the stored one, and which parts of the status differ.
struct Change<'a> {
    job: &'a At<'a>,
    old: &'a At<'a>,
    spec: At<'a>,
    status: At<'a>,
    stored: At<'a>,
    indexed: bool,
}

pub(super) fn validate(job: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    let old = old.unwrap_or(job);
    let spec = job.object_or_empty("spec");
    let change = Change {
        indexed: spec.text("completionMode") == "Indexed",
        status: job.object_or_empty("status"),
        stored: old.object_or_empty("status"),
        job,
        old,
        spec,
    };
    nonnegative(&change.status, &["active", "succeeded", "failed", "ready", "terminating"], errors);
    uncounted(&change.status, errors);
    completion(&change, errors);
    finished(&change, errors);
    indexes(&change, errors);
    if is_finished(job)
        && (change.finish_changed() || change.changed("terminating"))
        && let Some(terminating @ 1..) = change.status.int("terminating")
    {
        errors.invalid(&change.path("terminating"), terminating, "terminating>0 is invalid for finished job");
    }
    let active = change.status.int("active").unwrap_or_default();
    if let Some(ready) = change.status.int("ready").filter(|ready| *ready > active)
        && (change.changed("ready") || change.changed("active"))
    {
        errors.invalid(&change.path("ready"), ready, "cannot set more ready pods than active");
    }
    criteria(&change, errors);
    transitions(&change, errors);
}

/// Whether a job has a condition and it is true.
pub(super) fn is_true(job: &At<'_>, kind: &str) -> bool {
    let status = job.object_or_empty("status");
    status.each("conditions").any(|condition| condition.text("type") == kind && condition.text("status") == "True")
}

fn is_finished(job: &At<'_>) -> bool {
    is_true(job, "Complete") || is_true(job, "Failed")
}

impl Change<'_> {
    fn path(&self, field: &str) -> FieldPath {
        self.status.path(field)
    }

    fn changed(&self, field: &str) -> bool {
        !same(self.status.get(field), self.stored.get(field))
    }

    fn turned(&self, condition: &str) -> bool {
        is_true(self.job, condition) != is_true(self.old, condition)
    }

    fn finish_changed(&self) -> bool {
        is_finished(self.job) != is_finished(self.old)
    }

    fn is(&self, condition: &str) -> bool {
        is_true(self.job, condition)
    }

    fn refuse(&self, detail: impl Into<String>, errors: &mut FieldErrors) {
        errors.invalid_unshown(&self.path("conditions"), detail);
    }

    fn time(&self, field: &str) -> Option<Time> {
        self.status.get(field).and_then(Value::as_str).and_then(|text| Time::parse(text).ok())
    }
}

fn uncounted(status: &At<'_>, errors: &mut FieldErrors) {
    let pods = status.object_or_empty("uncountedTerminatedPods");
    let mut seen = Vec::new();
    for (uid, path) in pods.texts("succeeded").chain(pods.texts("failed")) {
        if uid.is_empty() {
            errors.invalid(&path, uid, "must not be empty");
        } else if seen.contains(&uid) {
            errors.duplicate(&path, uid);
        } else {
            seen.push(uid);
        }
    }
}

fn completion(change: &Change<'_>, errors: &mut FieldErrors) {
    let complete = change.is("Complete");
    if complete && change.is("Failed") && (change.turned("Complete") || change.turned("Failed")) {
        change.refuse("cannot set Complete=True and Failed=true conditions", errors);
    }
    if complete && change.is("FailureTarget") && (change.turned("Complete") || change.turned("FailureTarget")) {
        change.refuse("cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    let path = change.path("completionTime");
    let given = change.status.given("completionTime");
    if change.turned("Complete") || change.changed("completionTime") {
        if given && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(&path, change.status.value("completionTime"), detail);
        }
        if !given && complete {
            errors.required(&path, "completionTime is required for Complete jobs");
        }
    }
    if (change.changed("startTime") || change.changed("completionTime"))
        && let (Some(start), Some(end)) = (change.time("startTime"), change.time("completionTime"))
        && end < start
    {
        errors.invalid(&path, change.status.value("completionTime"), "must be equal to or after `startTime`");
    }
    if (change.turned("Failed") || change.changed("failedIndexes"))
        && change.is("Failed")
        && !change.is("FailureTarget")
    {
        change.refuse("cannot set Failed=True condition without the FailureTarget=true condition", errors);
    }
    if (change.turned("Complete") || change.turned("SuccessCriteriaMet"))
        && complete
        && !change.is("SuccessCriteriaMet")
    {
        change.refuse("cannot set Complete=True condition without the SuccessCriteriaMet=true condition", errors);
    }
}

fn finished(change: &Change<'_>, errors: &mut FieldErrors) {
    if !is_finished(change.job) {
        return;
    }
    let changed = |field: &str| change.finish_changed() || change.changed(field);
    if let Some(active @ 1..) = change.status.int("active").filter(|_| changed("active")) {
        errors.invalid(&change.path("active"), active, "active>0 is invalid for finished job");
    }
    let never_started = change.spec.flag("suspend") && change.spec.int("completions") == Some(0);
    if changed("startTime") && !never_started && !change.status.given("startTime") {
        errors.required(&change.path("startTime"), "startTime is required for finished job");
    }
    let uncounted = change.status.object_or_empty("uncountedTerminatedPods");
    if changed("uncountedTerminatedPods")
        && !(uncounted.items("succeeded").is_empty() && uncounted.items("failed").is_empty())
    {
        let shown = corten_apimachinery::value!({
            "Succeeded": (uncounted.value("succeeded")),
            "Failed": (uncounted.value("failed"))
        });
        errors.invalid(&uncounted.path, shown, "must be empty for finished job");
    }
}

fn indexes(change: &Change<'_>, errors: &mut FieldErrors) {
    let (completed, failed) = (change.status.text("completedIndexes"), change.status.get("failedIndexes"));
    let failed = failed.and_then(Value::as_str);
    let completions = change.spec.int("completions");
    let per_index = change.spec.given("backoffLimitPerIndex");
    let [completed_path, failed_path] = ["completedIndexes", "failedIndexes"].map(|field| change.path(field));
    let [completed_changed, failed_changed] = ["completedIndexes", "failedIndexes"].map(|field| change.changed(field));
    if let Some(completions) = completions {
        if completed_changed && let Err(error) = index::count(completed, completions) {
            errors.invalid(&completed_path, completed, format!("error parsing completedIndexes: {error}"));
        }
        if let Some(failed) = failed.filter(|_| failed_changed && per_index)
            && let Err(error) = index::count(failed, completions)
        {
            errors.invalid(&failed_path, failed, format!("error parsing failedIndexes: {error}"));
        }
    }
    if completed_changed && !completed.is_empty() && !change.indexed {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&completed_path, completed, detail);
    }
    let Some(failed) = failed else { return };
    if failed_changed && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&failed_path, failed, detail);
    }
    if (failed_changed || completed_changed)
        && let Some(shared) = completions.and_then(|completions| index::overlap(completed, failed, completions))
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {shared}");
        errors.invalid(&failed_path, failed, detail);
    }
}

fn criteria(change: &Change<'_>, errors: &mut FieldErrors) {
    let met = change.is("SuccessCriteriaMet");
    if met && change.is("Failed") {
        change.refuse("cannot set SuccessCriteriaMet=True and Failed=true conditions", errors);
    }
    if met && change.is("FailureTarget") {
        change.refuse("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions", errors);
    }
    if change.spec.given("successPolicy") && !met && change.is("Complete") {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        change.refuse(detail, errors);
    }
}

fn transitions(change: &Change<'_>, errors: &mut FieldErrors) {
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(change.old, kind) && !change.is(kind) {
            change.refuse(format!("cannot disable the terminal {kind}=True condition"), errors);
        }
    }
    // Elastic indexed jobs give up what they completed when they shrink.
    let elastic = change.indexed && same(change.spec.get("completions"), change.spec.get("parallelism"));
    for (field, checked) in [("failed", true), ("succeeded", !elastic)] {
        let count = |status: &At<'_>| status.int(field).unwrap_or_default();
        if checked && count(&change.status) < count(&change.stored) {
            let detail = format!("cannot decrease the {field} counter");
            errors.invalid(&change.path(field), count(&change.status), detail);
        }
    }
    if change.status.given("completionTime") && change.stored.given("completionTime") {
        change.status.immutable(&change.stored, "completionTime", errors);
    }
    let of_suspended = |job: &At<'_>, status: &str| {
        let conditions = job.object_or_empty("status");
        conditions.each("conditions").any(|one| one.text("type") == "Suspended" && one.text("status") == status)
    };
    let resuming = of_suspended(change.old, "True") && of_suspended(change.job, "False");
    if change.changed("startTime") && !resuming && change.stored.given("startTime") && !change.spec.flag("suspend") {
        let detail = "field is immutable for unsuspended job once set";
        errors.invalid(&change.path("startTime"), change.status.value("startTime"), detail);
    }
    let met = |job: &At<'_>| is_true(job, "SuccessCriteriaMet");
    if met(change.old) && !met(change.job) {
        change.refuse("cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if is_true(change.old, "Complete") && !met(change.old) && met(change.job) {
        change.refuse("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions", errors);
    }
}
