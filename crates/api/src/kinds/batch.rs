//! Jobs and cron jobs.

use corten_apimachinery::duration;
use corten_apimachinery::kind::{Column, Propagation, Strategy};
use corten_apimachinery::value::{Map, Str, Value};

use super::column::{
    NONE, UNSET, age, at, at_or, boolean, condition_is_true, containers, count, deleting, integer, name, seconds,
    selector, since, text, wide,
};
use super::{KindRules, computed, warning};
use crate::rules::validation::{cron_job, job};

/// What whoever deletes a job is told, who does not say what becomes of its pods.
const ORPHANS: &str = "child pods are preserved by default when jobs are deleted; set \
     propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            default_propagation: Propagation::Orphan,
            warn_delete: Some(ORPHANS),
            refuse_field: Some(|field| format!("field label {field:?} not supported for Job")),
            prepare: Some(own_pods),
            warn: Some(|new, stored| warning::named_workload(new, stored, &["spec", "template"])),
            validate: Some(job::job),
            ..base
        },
        columns: job_columns,
        selectable_fields: || {
            vec![computed("status.successful", |job| {
                Str::from(job.i64_at(&["status", "succeeded"]).unwrap_or_default().to_string())
            })]
        },
        ..KindRules::new("batch", "Job")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            warn: Some(warning::cron_job),
            validate: Some(cron_job::cron_job),
            ..base
        },
        columns: cron_job_columns,
        ..KindRules::new("batch", "CronJob")
    },
];

/// Job controllers tell their pods by the job's uid, unless the job selects for itself.
fn own_pods(job: &mut Value, stored: Option<&Value>) {
    if stored.is_some() || super::column::flag(job, &["spec", "manualSelector"]) {
        return;
    }
    let text = |path: [&str; 2]| job.str_at(&path).to_owned();
    let (name, uid) = (text(["metadata", "name"]), text(["metadata", "uid"]));
    // Labels that were taken over from the template go on following it.
    let labels = job.at(&["metadata", "labels"]);
    let follows = labels.is_some() && labels == job.at(&["spec", "template", "metadata", "labels"]);
    let spec = job.object_entry("spec");
    let labels = spec.object_entry("template").object_entry("metadata").object_entry("labels");
    add_labels(labels, "job-name", &name);
    add_labels(labels, "controller-uid", &uid);
    let labels = labels.clone();
    let selected = spec.object_entry("selector").object_entry("matchLabels");
    selected.insert_if_absent("batch.kubernetes.io/controller-uid", || uid.as_str().into());
    if follows && let Value::Object(fields) = job {
        fields.object_entry("metadata").insert("labels", labels);
    }
}

/// A label under its old and its new name.
fn add_labels(labels: &mut Map, name: &str, value: &str) {
    labels.insert_if_absent(name, || value.into());
    labels.insert_if_absent(&format!("batch.kubernetes.io/{name}"), || value.into());
}

fn job_columns() -> Vec<Column> {
    vec![
        name(),
        text("Status", |job, _| job_status(job).into()),
        text("Completions", |job, _| completions(job).into()),
        text("Duration", |job, now| took(job, now).into()),
        age(),
        wide(text("Containers", |job, _| containers(job.at(&["spec", "template", "spec"]), "name"))),
        wide(text("Images", |job, _| containers(job.at(&["spec", "template", "spec"]), "image"))),
        wide(text("Selector", |job, _| selector(job.at(&["spec", "selector"])).into())),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let is = |kind| condition_is_true(job, kind);
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if deleting(job) => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job.i64_at(&["status", "succeeded"]).unwrap_or_default();
    let parallelism = job.i64_at(&["spec", "parallelism"]).unwrap_or_default();
    match job.i64_at(&["spec", "completions"]) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn took(job: &Value, now: i64) -> Str {
    let Some(start) = seconds(job, &["status", "startTime"]) else { return Str::default() };
    duration::human(seconds(job, &["status", "completionTime"]).unwrap_or(now) - start)
}

fn cron_job_columns() -> Vec<Column> {
    vec![
        name(),
        text("Schedule", |job, _| at(job, &["spec", "schedule"])),
        text("Timezone", |job, _| at_or(job, &["spec", "timeZone"], NONE)),
        boolean("Suspend", |job, _| match job.at(&["spec", "suspend"]).and_then(Value::as_bool) {
            Some(true) => "True".into(),
            Some(false) => "False".into(),
            None => UNSET.into(),
        }),
        integer("Active", |job, _| count(job, &["status", "active"]).into()),
        text("Last Schedule", |job, now| match job.str_at(&["status", "lastScheduleTime"]) {
            "" => NONE.into(),
            _ => since(job, &["status", "lastScheduleTime"], now).into(),
        }),
        age(),
        wide(text("Containers", |job, _| containers(pod_of(job), "name"))),
        wide(text("Images", |job, _| containers(pod_of(job), "image"))),
        wide(text("Selector", |job, _| selector(job.at(&["spec", "jobTemplate", "spec", "selector"])).into())),
    ]
}

fn pod_of(cron_job: &Value) -> Option<&Value> {
    cron_job.at(&["spec", "jobTemplate", "spec", "template", "spec"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn jobs() {
        let job = value!({
            "spec": {"completions": 3, "selector": {"matchLabels": {"a": "b"}}},
            "status": {
                "succeeded": 2, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:30Z",
                "conditions": [{"type": "Complete", "status": "True"}]
            }
        });
        check("batch", "Job", &job, &["Complete", "2/3", "90s", "", "", "a=b"]);
        let running = value!({"spec": {"parallelism": 2}, "status": {"startTime": "2026-01-01T00:00:00Z"}});
        check("batch", "Job", &running, &["Running", "0/1 of 2", "60m", "", "", "<none>"]);
        check("batch", "Job", &value!({}), &["Running", "0/1", "", "", "", "<none>"]);
    }

    #[test]
    fn cron_jobs() {
        let job = value!({
            "spec": {"schedule": "* * * * *", "suspend": false},
            "status": {"active": [{}, {}], "lastScheduleTime": "2026-01-01T00:59:50Z"}
        });
        check("batch", "CronJob", &job, &["* * * * *", "<none>", "False", "2", "10s", "", "", "<none>"]);
    }

    #[test]
    fn jobs_tell_their_pods() {
        let mut job =
            value!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}, "manualSelector": false}});
        own_pods(&mut job, None);
        assert_eq!(job.at(&["metadata", "labels"]), None, "it gets them by default when it is stored");
        assert_eq!(
            job.get("spec"),
            Some(&value!({
                "template": {"metadata": {"labels": {
                    "job-name": "j", "batch.kubernetes.io/job-name": "j",
                    "controller-uid": "u", "batch.kubernetes.io/controller-uid": "u"
                }}},
                "manualSelector": false,
                "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
            }))
        );
    }
}
