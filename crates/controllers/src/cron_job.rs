//! Makes a job whenever a schedule is due, and keeps a few of those that have finished (`pkg/controller/cronjob`).
//!
//! A job is named by the minute it is for, so that none is made twice, whatever is interrupted.

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::kind::Propagation;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Resource};
use corten_stdx::clock::Clock;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::schedule::{Schedule, ScheduleError};
use crate::Base;
use crate::owned::Owner;
use crate::pod::seconds;
use crate::ttl_after_finished::JOBS;

const CRON_JOBS: Resource = Resource::new("batch", "v1", "cronjobs");
const OWNER: Owner = Owner { api_version: "batch/v1", kind: "CronJob" };

/// Says on a job when it was due.
const DUE: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Beyond so many times that were missed somebody is told.
const MISSED_MANY: i64 = 100;

/// A look that comes a little early finds nothing due.
const LATE_MS: i64 = 100;

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    cron_jobs: Informer<Value>,
    jobs: Informer<JobView>,
}

/// What is to be known of a job.
#[derive(Clone, Debug, PartialEq)]
struct JobView {
    /// The condition with which it has finished.
    finished: Option<&'static str>,
    started_s: Option<i64>,
    completed: Str,
}

type Job = Arc<Held<JobView>>;

impl View for JobView {
    fn from_object(job: &Value) -> Option<Self> {
        let conditions = job.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        let holds = |kind: &&str| {
            let is = |of: &Value| of.str_at(&["type"]) == *kind && of.str_at(&["status"]) == "True";
            conditions.iter().any(is)
        };
        let started = job.str_at(&["status", "startTime"]);
        Some(Self {
            finished: ["Complete", "Failed"].into_iter().find(holds),
            started_s: (!started.is_empty()).then(|| seconds(started)),
            completed: job.str_at(&["status", "completionTime"]).into(),
        })
    }
}

pub fn controller(base: &Base) -> Controller {
    let cron_jobs = base.informers.of::<Value>(Scope::all(CRON_JOBS));
    let jobs = base.informers.of::<JobView>(Scope::all(JOBS));
    let context = Context {
        client: (base.client_of)("cronjob-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("cronjob-controller", "cronjob-controller"),
        cron_jobs: cron_jobs.clone(),
        jobs: jobs.clone(),
    };
    Controller::new("cron-job", Arc::new(context), reconcile).watches(&cron_jobs).watches_for(&jobs, |job| {
        let owner = job.head.controller().filter(|owner| owner.kind == OWNER.kind);
        owner.map(|owner| Key::new(job.head.namespace.clone(), owner.name.clone())).into_iter().collect()
    })
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(cron) = ctx.cron_jobs.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let mut plan = plan(&cron.view, &ctx.jobs.cache().owned_by(&cron.head.uid), ctx.clock.now_ms());
    let about = OWNER.told_of(&cron.view);
    for (is_warning, reason, note) in &plan.tell {
        match is_warning {
            true => ctx.recorder.warning(&about, reason, note.as_str()),
            false => ctx.recorder.normal(&about, reason, note.as_str()),
        }
    }
    for job in std::mem::take(&mut plan.delete) {
        ctx.delete(&about, &key.namespace, &job).await?;
    }
    let started = ctx.start(&about, &cron.view, &mut plan).await;
    ctx.write(&cron.view, &plan).await?;
    started.map(|()| plan.next)
}

impl Context {
    async fn delete(&self, about: &Reference, namespace: &str, job: &Named) -> Result<(), Error> {
        let delete = Delete { propagation: Some(Propagation::Background), ..Delete::of(&job.uid) };
        match unless_gone(self.client.delete(&JOBS, namespace, &job.name, &delete).await) {
            Ok(_) => {
                self.recorder.normal(about, "SuccessfulDelete", format!("Deleted job {}", job.name));
                Ok(())
            }
            Err(error) => {
                self.recorder.warning(about, "FailedDelete", format!("Deleted job: {error}"));
                Err(error)
            }
        }
    }

    /// Makes the job that is due, if one is, and counts it among the active ones.
    async fn start(&self, about: &Reference, cron: &Value, plan: &mut Plan) -> Result<(), Error> {
        let Some((due_s, job)) = plan.start.take() else { return Ok(()) };
        let namespace = Meta::of(cron).namespace();
        let made = match self.client.create(&JOBS, namespace, &job).await {
            Ok(made) => {
                let note = format!("Created job {}", Meta::of(&made).name());
                self.recorder.normal(about, "SuccessfulCreate", note);
                made
            }
            Err(error) if error.is_already_exists() => {
                // Made by an earlier look whose status was not written, or by somebody else, whose it stays.
                let there = unless_gone(self.client.get(&JOBS, namespace, Meta::of(&job).name()).await)?;
                let is_own = |job: &Value| Meta::of(job).owner_references().any(|of| of.uid() == Meta::of(cron).uid());
                let Some(there) = there.filter(is_own) else { return Ok(()) };
                there
            }
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                self.recorder.warning(about, "FailedCreate", format!("Error creating job: {error}"));
                return Err(error);
            }
        };
        let meta = Meta::of(&made);
        plan.active.push(value!({
            "apiVersion": "batch/v1", "kind": "Job", "namespace": (meta.namespace()), "name": (meta.name()),
            "uid": (meta.uid()), "resourceVersion": (meta.resource_version())
        }));
        plan.last_s = Some(due_s);
        self.jobs.caught_up(meta.resource_version(), &self.clock).await
    }

    /// Writes the status where it has changed; the next look sees it.
    async fn write(&self, cron: &Value, plan: &Plan) -> Result<(), Error> {
        let Some(new) = plan.written(cron) else { return Ok(()) };
        let Some(new) = unless_gone(self.client.update(&CRON_JOBS, "status", &new).await)? else { return Ok(()) };
        self.cron_jobs.caught_up(Meta::of(&new).resource_version(), &self.clock).await
    }
}

/// A job that is to go.
#[derive(Debug, PartialEq)]
struct Named {
    name: Str,
    uid: Str,
}

/// What is to be done for a cron job now.
#[derive(Debug, Default)]
struct Plan {
    /// Whether it warns, the reason, the note.
    tell: Vec<(bool, &'static str, String)>,
    delete: Vec<Named>,
    /// When it was due, in Unix seconds, and the job.
    start: Option<(i64, Value)>,
    /// References to jobs that have not finished.
    active: Vec<Value>,
    /// When the last job that was made was due.
    last_s: Option<i64>,
    succeeded: Str,
    next: Next,
}

impl Plan {
    /// The object with its new status, where that is another.
    fn written(&self, cron: &Value) -> Option<Value> {
        let mut new = cron.clone();
        let status = new.object_entry("status");
        set(status, "active", (!self.active.is_empty()).then(|| self.active.clone().into()));
        set(status, "lastScheduleTime", self.last_s.map(|last_s| Time::from_seconds(last_s).to_rfc3339().into()));
        set(status, "lastSuccessfulTime", (!self.succeeded.is_empty()).then(|| self.succeeded.clone().into()));
        (new.get("status") != cron.get("status") && !(status_is_empty(&new) && status_is_empty(cron))).then_some(new)
    }

    fn warn(&mut self, reason: &'static str, note: String) {
        self.tell.push((true, reason, note));
    }
}

fn set(status: &mut Map, field: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(status.insert(field, value)),
        None => drop(status.remove(field)),
    }
}

fn status_is_empty(cron: &Value) -> bool {
    cron.get("status").and_then(Value::as_object).is_none_or(Map::is_empty)
}

fn plan(cron: &Value, jobs: &[Job], now_ms: i64) -> Plan {
    let mut plan = Plan::default();
    count(cron, jobs, &mut plan);
    clean(cron, jobs, &mut plan);
    if Meta::of(cron).deletion_timestamp().is_some() || cron.at(&["spec", "suspend"]) == Some(&Value::Bool(true)) {
        return plan;
    }
    let (text, zone) = (cron.str_at(&["spec", "schedule"]), cron.str_at(&["spec", "timeZone"]));
    match Schedule::parse(text, zone) {
        Ok(schedule) => due(cron, &schedule, now_ms, &mut plan),
        Err(ScheduleError::Zone(zone)) => {
            plan.warn("UnknownTimeZone", format!("invalid timeZone: {zone:?}: unknown time zone {zone}"));
        }
        Err(error) => plan.warn("UnparseableSchedule", format!("unparseable schedule: {text:?} : {error}")),
    }
    plan
}

/// Which of the jobs are active, and which has succeeded last.
fn count(cron: &Value, jobs: &[Job], plan: &mut Plan) {
    let known = cron.at(&["status", "active"]).and_then(Value::as_array).unwrap_or_default();
    let last = cron.str_at(&["status", "lastScheduleTime"]);
    plan.last_s = (!last.is_empty()).then(|| seconds(last));
    plan.succeeded = cron.str_at(&["status", "lastSuccessfulTime"]).into();
    for reference in known {
        let (name, uid) = (reference.str_at(&["name"]), reference.str_at(&["uid"]));
        match jobs.iter().find(|job| job.head.uid == uid) {
            None => plan.tell.push((false, "MissingJob", format!("Active job went missing: {name}"))),
            Some(job) => match job.finished {
                Some(how) => {
                    let note = format!("Saw completed job: {name}, condition: {how}");
                    plan.tell.push((false, "SawCompletedJob", note));
                }
                None => plan.active.push(reference.clone()),
            },
        }
    }
    for job in jobs {
        let is_known = known.iter().any(|reference| reference.str_at(&["uid"]) == job.head.uid);
        if job.finished.is_none() && !is_known {
            let name = &job.head.name;
            plan.warn("UnexpectedJob", format!("Saw a job that the controller did not create or forgot: {name}"));
        }
        let is_later = plan.succeeded.is_empty() || seconds(&job.completed) > seconds(&plan.succeeded);
        if job.finished == Some("Complete") && !job.completed.is_empty() && is_later {
            plan.succeeded = job.completed.clone();
        }
    }
}

/// Of those that have finished the oldest go, beyond so many of each kind.
fn clean(cron: &Value, jobs: &[Job], plan: &mut Plan) {
    for (how, limit) in [("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")] {
        let Some(most) = cron.i64_at(&["spec", limit]).and_then(|most| usize::try_from(most).ok()) else { continue };
        let mut finished: Vec<&Job> = jobs.iter().filter(|job| job.finished == Some(how)).collect();
        finished.sort_by_key(|job| (job.started_s.is_none(), job.started_s, job.head.name.clone()));
        let surplus = finished.len().saturating_sub(most);
        plan.delete.extend(finished[..surplus].iter().filter(|job| !job.head.deleting).map(|job| named(job)));
    }
}

fn named(job: &Job) -> Named {
    Named { name: job.head.name.clone(), uid: job.head.uid.clone() }
}

/// Whether a job is due, and when the next one is.
fn due(cron: &Value, schedule: &Schedule, now_ms: i64, plan: &mut Plan) {
    let (text, now_s) = (cron.str_at(&["spec", "schedule"]), now_ms.div_euclid(1000));
    let deadline_s = cron.i64_at(&["spec", "startingDeadlineSeconds"]);
    let made_s = seconds(Meta::of(cron).creation_timestamp());
    let since_s = plan.last_s.unwrap_or(made_s);
    let Some(last) = last(schedule, since_s, now_s) else {
        return plan.warn("InvalidSchedule", format!("invalid schedule: {text} : it is never due"));
    };
    let begin_s = if last.is_none() { since_s } else { now_s };
    plan.next = schedule.next(begin_s).map_or(Next::Change, |next_s| {
        let left_ms = (next_s.saturating_mul(1000) + LATE_MS).saturating_sub(now_ms);
        Next::After(Duration::from_millis(u64::try_from(left_ms).unwrap_or_default()))
    });
    let Some((due_s, missed)) = last else { return };
    if missed > MISSED_MANY && deadline_s.is_none() {
        let note = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.warn("TooManyMissedTimes", note.to_owned());
    }
    if deadline_s.is_some_and(|deadline_s| due_s + deadline_s < now_s) {
        let when = Timestamp::from_second(due_s).map(|due| due.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string());
        return plan
            .warn("MissSchedule", format!("Missed scheduled time to start a job: {}", when.unwrap_or_default()));
    }
    let job = new_job(cron, due_s, &schedule.zone);
    let name = Meta::of(&job).name();
    if plan.last_s == Some(due_s) || plan.active.iter().any(|active| active.str_at(&["name"]) == name) {
        return;
    }
    match cron.str_at(&["spec", "concurrencyPolicy"]) {
        "Forbid" if !plan.active.is_empty() => {
            let note = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.tell.push((false, "JobAlreadyActive", note.to_owned()));
        }
        "Replace" => {
            let name = |reference: &Value| Named {
                name: reference.str_at(&["name"]).into(),
                uid: reference.str_at(&["uid"]).into(),
            };
            plan.delete.extend(plan.active.drain(..).map(|reference| name(&reference)));
        }
        _ => {}
    }
    plan.start = Some((due_s, job));
}

/// The last time that was due after `since_s`, and about how many were; `None` for a schedule that is never due.
#[expect(clippy::option_option, reason = "never due, and not due yet")]
fn last(schedule: &Schedule, since_s: i64, now_s: i64) -> Option<Option<(i64, i64)>> {
    let first = schedule.next(since_s)?;
    if now_s < first {
        return Some(None);
    }
    let second = schedule.next(first)?;
    if now_s < second {
        return Some(Some((first, 1)));
    }
    let step_s = second - first;
    let missed = (now_s - first) / step_s + 1;
    // From about there on every time is looked at, since schedules need not be even.
    let mut last = None;
    let mut next = schedule.next(first + (missed - 2) * step_s)?;
    while next <= now_s {
        last = Some((next, missed));
        next = schedule.next(next)?;
    }
    Some(last)
}

fn new_job(cron: &Value, due_s: i64, zone: &TimeZone) -> Value {
    let template = |path: [&str; 3]| cron.at(&path).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut annotations =
        cron.at(&["spec", "jobTemplate", "metadata", "annotations"]).and_then(Value::as_object).cloned();
    let when = Timestamp::from_second(due_s).map(|due| {
        let shown = due.to_zoned(zone.clone());
        let offset = if *zone == TimeZone::UTC { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
        shown.strftime(offset).to_string()
    });
    annotations.get_or_insert_default().insert(DUE, when.unwrap_or_default());
    let mut metadata = Map::new();
    metadata.insert("name", format!("{}-{}", Meta::of(cron).name(), due_s.div_euclid(60)));
    let labels = cron.at(&["spec", "jobTemplate", "metadata", "labels"]).cloned();
    metadata.extend(labels.map(|labels| ("labels".into(), labels)));
    metadata.insert("annotations", annotations.unwrap_or_default());
    metadata.insert("ownerReferences", vec![OWNER.reference(cron)]);
    let spec = template(["spec", "jobTemplate", "spec"]);
    value!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 January 1970, ten minutes past midnight and one second.
    const NOW_MS: i64 = 601_000;

    fn cron(spec: Value, status: Value) -> Value {
        let mut cron = value!({
            "metadata": {"name": "c", "namespace": "shop", "uid": "cron", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": spec, "status": status
        });
        let spec = cron.object_entry("spec");
        spec.insert("jobTemplate", value!({"metadata": {"labels": {"a": "b"}}, "spec": {"parallelism": 2}}));
        spec.insert_if_absent("schedule", || "*/5 * * * *".into());
        cron
    }

    /// `name started-minute condition`, with `-` for what is not there.
    fn job(text: &str) -> Job {
        let words: Vec<&str> = text.split(' ').collect();
        let mut job = value!({"metadata": {"name": (words[0]), "namespace": "shop", "uid": (words[0])}});
        let time = |minute: &str| format!("1970-01-01T00:0{minute}:00Z");
        let status = job.object_entry("status");
        if words[1] != "-" {
            status.insert("startTime", time(words[1]));
        }
        if words[2] != "-" {
            status.insert("conditions", vec![value!({"type": (words[2]), "status": "True"})]);
            status.insert("completionTime", time(words[1]));
        }
        Arc::new(Held::from_object(&job).expect("held"))
    }

    fn active(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| value!({"name": (*name), "uid": (*name)})).collect()
    }

    fn check(cron: &Value, jobs: &[&str], expect: &str) -> Plan {
        let plan = plan(cron, &jobs.iter().map(|text| job(text)).collect::<Vec<_>>(), NOW_MS);
        let start = plan.start.as_ref().map_or("-", |(_, job)| Meta::of(job).name());
        let deleted: Vec<&str> = plan.delete.iter().map(|job| job.name.as_str()).collect();
        let told: Vec<&str> = plan.tell.iter().map(|(_, reason, _)| *reason).collect();
        let seen = format!("start {start} delete [{}] tell [{}]", deleted.join(","), told.join(","));
        assert_eq!(seen, expect);
        plan
    }

    #[test]
    fn a_job_is_made_for_the_last_time_that_was_due() {
        let plan = check(&cron(value!({}), value!({})), &[], "start c-10 delete [] tell []");
        assert_eq!(plan.next, Next::After(Duration::from_millis(299_100)));
        let (due_s, job) = plan.start.expect("a job");
        assert_eq!(
            (due_s, job.i64_at(&["spec", "parallelism"]), job.str_at(&["metadata", "labels", "a"])),
            (600, Some(2), "b")
        );
        assert_eq!(job.str_at(&["metadata", "annotations", DUE]), "1970-01-01T00:10:00Z");
        let made = || value!({"lastScheduleTime": "1970-01-01T00:10:00Z"});
        let plan = check(&cron(value!({}), made()), &[], "start - delete [] tell []");
        assert_eq!(plan.next, Next::After(Duration::from_millis(299_100)));
        check(&cron(value!({"suspend": true}), value!({})), &[], "start - delete [] tell []");
        check(&cron(value!({"schedule": "bad"}), value!({})), &[], "start - delete [] tell [UnparseableSchedule]");
        check(&cron(value!({"timeZone": "No/Where"}), value!({})), &[], "start - delete [] tell [UnknownTimeZone]");
        check(&cron(value!({"schedule": "0 0 31 2 *"}), value!({})), &[], "start - delete [] tell [InvalidSchedule]");
        let late = value!({"schedule": "9 * * * *", "startingDeadlineSeconds": 60});
        check(&cron(late, value!({})), &[], "start - delete [] tell [MissSchedule]");
    }

    #[test]
    fn what_runs_still_decides_by_policy() {
        let running = || value!({"active": (active(&["c-5"])), "lastScheduleTime": "1970-01-01T00:05:00Z"});
        let of = |policy: &str| cron(value!({"concurrencyPolicy": policy}), running());
        let plan = check(&of("Allow"), &["c-5 5 -"], "start c-10 delete [] tell []");
        assert_eq!(plan.active.len(), 1);
        check(&of("Forbid"), &["c-5 5 -"], "start - delete [] tell [JobAlreadyActive]");
        let plan = check(&of("Replace"), &["c-5 5 -"], "start c-10 delete [c-5] tell []");
        assert_eq!(plan.active.len(), 0);
        check(&of("Forbid"), &["c-5 5 Complete"], "start c-10 delete [] tell [SawCompletedJob]");
        check(&of("Forbid"), &[], "start c-10 delete [] tell [MissingJob]");
        check(&of("Forbid"), &["c-5 5 -", "x 5 -"], "start - delete [] tell [UnexpectedJob,JobAlreadyActive]");
    }

    #[test]
    fn a_few_of_those_that_finished_stay() {
        let spec = value!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0, "suspend": true});
        let jobs = ["b 3 Complete", "a 2 Complete", "d - Complete", "f 1 Failed", "r 1 -"];
        let plan = check(&cron(spec, value!({})), &jobs, "start - delete [a,b,f] tell [UnexpectedJob]");
        assert_eq!(plan.succeeded, "1970-01-01T00:03:00Z");
    }

    #[test]
    fn a_status_is_written_where_it_is_another() {
        let same = value!({"active": (active(&["c-10"])), "lastScheduleTime": "1970-01-01T00:10:00Z"});
        let cron_job = cron(value!({}), same);
        let plan = check(&cron_job, &["c-10 5 -"], "start - delete [] tell []");
        assert_eq!(plan.written(&cron_job), None);
        let plan = check(&cron_job, &[], "start - delete [] tell [MissingJob]");
        let new = plan.written(&cron_job).expect("another status");
        assert_eq!(new.get("status"), Some(&value!({"lastScheduleTime": "1970-01-01T00:10:00Z"})));
        let fresh = cron(value!({"suspend": true}), value!({}));
        assert_eq!(check(&fresh, &[], "start - delete [] tell []").written(&fresh), None);
    }

    #[test]
    fn many_missed_times_are_told_unless_there_is_a_deadline() {
        let every = value!({"schedule": "@every 1s"});
        check(&cron(every, value!({})), &[], "start c-10 delete [] tell [TooManyMissedTimes]");
    }
}
