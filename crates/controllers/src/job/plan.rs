//! What becomes of a job and its pods: pure.
//!
//! A pod that has ended is counted in three steps, so that a crash between two of them counts nothing twice: its UID
//! goes into the status, then its finalizer is taken off, then the UID becomes a number.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::Held;
use corten_client::controller::Next;

use super::indexes::Indexes;
use super::pods::{End, JobPod, Meaning, meaning};
use crate::pod::seconds;

/// Pods made or deleted by one look, and UIDs in a status.
const BURST: usize = 500;
/// After a failure, and the longest of the pauses that double.
const PAUSE_S: i64 = 10;
const PAUSE_S_MAX: i64 = 600;

pub(super) type Pod = Arc<Held<JobPod>>;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: Map,
    /// New pods, with their index where the job has some.
    pub(super) create: Vec<Option<i64>>,
    pub(super) delete: Vec<Pod>,
    /// Whether the deleted ones count as failed: they do when the job fails, not when it only wants fewer.
    pub(super) deletes_count: bool,
    /// Pods whose finalizer goes, once the status is written.
    pub(super) release: Vec<Pod>,
    /// Reason and text; a warning where the job has failed.
    pub(super) tell: Vec<(bool, String, String)>,
    pub(super) next: Next,
}

/// Why a job ends.
#[derive(Clone, Debug, PartialEq)]
struct Verdict {
    complete: bool,
    reason: Str,
    message: String,
}

/// A job with its counts, on the way to a plan.
struct Sync<'a> {
    job: &'a Value,
    now_s: i64,
    active: Vec<Pod>,
    terminating: i64,
    succeeded: i64,
    failed: i64,
    done: Indexes,
    verdict: Option<Verdict>,
    plan: Plan,
}

pub(super) fn plan(job: &Value, pods: &[Pod], now_s: i64) -> Plan {
    let mut status = job.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
    if finished(job) {
        // Whatever is left is nobody's to count any more.
        let release = pods.iter().filter(|pod| pod.tracked).cloned().collect();
        return Plan { status, release, ..Plan::default() };
    }
    let is_active = |pod: &&Pod| pod.end.is_none() && !pod.head.deleting;
    let terminating = pods.iter().filter(|pod| pod.end.is_none() && pod.head.deleting).count();
    if !suspended(job) && !status.contains_key("startTime") {
        status.insert("startTime", Time::from_seconds(now_s).to_rfc3339());
    }
    let mut sync = Sync {
        job,
        now_s,
        active: pods.iter().filter(is_active).cloned().collect(),
        terminating: i64::try_from(terminating).unwrap_or(i64::MAX),
        succeeded: 0,
        failed: 0,
        done: Indexes::parse(job.str_at(&["status", "completedIndexes"])),
        verdict: None,
        plan: Plan { status, ..Plan::default() },
    };
    sync.count(pods);
    sync.judge(pods);
    if sync.verdict.is_some() {
        sync.plan.delete = sync.active.clone();
        sync.plan.deletes_count = true;
    } else {
        sync.size(pods);
    }
    sync.finish();
    sync.plan
}

pub(super) fn finished(job: &Value) -> bool {
    ["Complete", "Failed"].iter().any(|kind| condition(job, kind).is_some())
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = job.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.iter().find(|of| of.str_at(&["type"]) == kind && of.str_at(&["status"]) == "True")
}

fn suspended(job: &Value) -> bool {
    job.at(&["spec", "suspend"]).and_then(Value::as_bool).unwrap_or_default()
}

fn indexed(job: &Value) -> bool {
    job.str_at(&["spec", "completionMode"]) == "Indexed"
}

/// Whether a pod is only replaced once it has ended.
fn waits_for_end(job: &Value) -> bool {
    job.str_at(&["spec", "podReplacementPolicy"]) == "Failed"
}

impl Sync<'_> {
    /// Counts what has ended, and notes what has ended newly.
    fn count(&mut self, pods: &[Pod]) {
        let old = |field: &str| {
            let list = self.job.at(&["status", "uncountedTerminatedPods", field]).and_then(Value::as_array);
            list.unwrap_or_default().iter().filter_map(Value::as_str).map(Str::from).collect::<Vec<Str>>()
        };
        let tracked: BTreeSet<&Str> = pods.iter().filter(|pod| pod.tracked).map(|pod| &pod.head.uid).collect();
        let mut waiting = [old("succeeded"), old("failed")];
        let mut counted = ["succeeded", "failed"].map(|field| self.job.i64_at(&["status", field]).unwrap_or_default());
        for (waiting, counted) in waiting.iter_mut().zip(&mut counted) {
            let before = waiting.len();
            waiting.retain(|uid| tracked.contains(uid));
            *counted += i64::try_from(before - waiting.len()).unwrap_or_default();
        }
        let completions = self.job.i64_at(&["spec", "completions"]);
        for pod in pods.iter().filter(|pod| pod.tracked) {
            let (uid, known) = (&pod.head.uid, waiting.iter().any(|waiting| waiting.contains(&pod.head.uid)));
            let full = waiting.iter().map(Vec::len).sum::<usize>() >= BURST;
            if full && !known {
                continue;
            }
            if pod.end == Some(End::Succeeded) {
                match pod.index.filter(|_| indexed(self.job)) {
                    Some(index) if completions.is_none_or(|count| index < count) => self.done.insert(index),
                    _ if !known && !indexed(self.job) => waiting[0].push(uid.clone()),
                    _ => {}
                }
            } else if self.has_failed(pod) {
                if !known && meaning(self.job, pod) != Meaning::Ignored {
                    waiting[1].push(uid.clone());
                }
            } else {
                continue;
            }
            self.plan.release.push(pod.clone());
        }
        let sizes = [0, 1].map(|at: usize| i64::try_from(waiting[at].len()).unwrap_or_default());
        self.succeeded = if indexed(self.job) { self.done.len() } else { counted[0] + sizes[0] };
        self.failed = counted[1] + sizes[1];
        let mut uncounted = Map::new();
        for (field, uids) in ["succeeded", "failed"].into_iter().zip(waiting) {
            if !uids.is_empty() {
                uncounted.insert(field, uids.into_iter().map(Value::from).collect::<Vec<_>>());
            }
        }
        let status = &mut self.plan.status;
        status.insert("uncountedTerminatedPods", uncounted);
        let succeeded = if indexed(self.job) { self.done.len() } else { counted[0] };
        for (field, count) in [("succeeded", succeeded), ("failed", counted[1])] {
            set(status, field, count);
        }
        if indexed(self.job) && self.done.len() > 0 {
            status.insert("completedIndexes", self.done.to_string());
        }
    }

    fn has_failed(&self, pod: &Pod) -> bool {
        let ends =
            condition(self.job, "FailureTarget").is_some() || condition(self.job, "SuccessCriteriaMet").is_some();
        let gone = pod.head.deleting && (ends || !waits_for_end(self.job));
        pod.end == Some(End::Failed) || pod.end.is_none() && gone
    }

    /// Whether the job has to end, for what the status says already or for a failure.
    fn judge(&mut self, pods: &[Pod]) {
        let job = self.job;
        for (kind, complete) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
            if let Some(known) = condition(job, kind) {
                let message = known.str_at(&["message"]).to_owned();
                self.verdict = Some(Verdict { complete, reason: known.str_at(&["reason"]).into(), message });
                return;
            }
        }
        let fails = |reason: &'static str, message: &str| {
            Some(Verdict { complete: false, reason: Str::const_new(reason), message: message.to_owned() })
        };
        let ends = |pod: &Pod| match meaning(job, pod) {
            Meaning::EndsJob(message) if pod.end == Some(End::Failed) => Some(message),
            _ => None,
        };
        let limit = job.i64_at(&["spec", "backoffLimit"]).unwrap_or(6);
        let restarts: i64 = pods.iter().filter(|pod| pod.end.is_none()).map(|pod| pod.restarts).sum();
        let on_failure = job.str_at(&["spec", "template", "spec", "restartPolicy"]) == "OnFailure";
        let deadline_s = job.i64_at(&["spec", "activeDeadlineSeconds"]).filter(|_| !suspended(job));
        let left_s = deadline_s.map(|deadline_s| {
            let started = self.plan.status.get("startTime").and_then(Value::as_str).unwrap_or_default();
            seconds(started) + deadline_s - self.now_s
        });
        self.verdict = if let Some(message) = pods.iter().find_map(ends) {
            fails("PodFailurePolicy", &message)
        } else if self.failed > limit || on_failure && restarts > 0 && restarts >= limit {
            fails("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        } else if left_s.is_some_and(|left_s| left_s <= 0) {
            fails("DeadlineExceeded", "Job was active longer than specified deadline")
        } else {
            None
        };
        if let Some(left_s) = left_s.filter(|left_s| *left_s > 0) {
            self.look_again(left_s);
        }
    }

    fn look_again(&mut self, left_s: i64) {
        let left = Duration::from_secs(u64::try_from(left_s).unwrap_or(1).max(1));
        self.plan.next = match self.plan.next {
            Next::After(known) => Next::After(known.min(left)),
            Next::Change => Next::After(left),
        };
    }

    /// Makes as many pods active as there should be.
    fn size(&mut self, pods: &[Pod]) {
        let completions = self.job.i64_at(&["spec", "completions"]);
        let parallelism = self.job.i64_at(&["spec", "parallelism"]).unwrap_or(1);
        let active = i64::try_from(self.active.len()).unwrap_or(i64::MAX);
        let wanted = match completions {
            _ if suspended(self.job) => 0,
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).clamp(0, parallelism),
        };
        self.suspend();
        let surplus = usize::try_from(active - wanted).unwrap_or_default().min(BURST);
        if surplus > 0 {
            let mut by_worth = self.active.clone();
            by_worth.sort_by_key(|pod| (pod.ready, pod.index.map(|index| -index)));
            by_worth.truncate(surplus);
            self.plan.delete = by_worth;
        } else {
            let held = if waits_for_end(self.job) { self.terminating } else { 0 };
            let missing = usize::try_from(wanted - active - held).unwrap_or_default().min(BURST);
            self.add(missing, completions, pods);
        }
        let left = active - i64::try_from(self.plan.delete.len()).unwrap_or_default()
            + i64::try_from(self.plan.create.len()).unwrap_or_default();
        let complete = match completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        if complete && left == 0 {
            let (reason, message) =
                (Str::const_new("CompletionsReached"), "Reached expected number of succeeded pods".to_owned());
            self.verdict = Some(Verdict { complete: true, reason, message });
        }
    }

    fn add(&mut self, missing: usize, completions: Option<i64>, pods: &[Pod]) {
        let pause_s = pause_s(pods, self.now_s);
        if missing == 0 || self.job.at(&["metadata", "deletionTimestamp"]).is_some() {
            return;
        }
        if pause_s > 0 {
            return self.look_again(pause_s);
        }
        if !indexed(self.job) {
            self.plan.create = vec![None; missing];
            return;
        }
        let held = pods.iter().filter(|pod| pod.end.is_none() && (!pod.head.deleting || waits_for_end(self.job)));
        let taken: BTreeSet<i64> = held.filter_map(|pod| pod.index).collect();
        let free = (0..completions.unwrap_or_default()).filter(|at| !taken.contains(at) && !self.done.contains(*at));
        self.plan.create = free.take(missing).map(Some).collect();
    }

    /// Says that a job is suspended, or goes on.
    fn suspend(&mut self) {
        let was = condition(self.job, "Suspended").is_some();
        let (status, reason, message, told) = match (was, suspended(self.job)) {
            (false, true) => ("True", "JobSuspended", "Job suspended", "Suspended"),
            (true, false) => ("False", "JobResumed", "Job resumed", "Resumed"),
            _ => return,
        };
        self.set_condition("Suspended", status, reason, message);
        self.plan.tell.push((false, told.to_owned(), message.to_owned()));
        if status == "True" {
            self.plan.status.remove("startTime");
        } else {
            self.plan.status.insert("startTime", Time::from_seconds(self.now_s).to_rfc3339());
        }
    }

    /// Writes the counts of what runs, and the end where there is one.
    fn finish(&mut self) {
        let gone: BTreeSet<&Str> = self.plan.delete.iter().map(|pod| &pod.head.uid).collect();
        let stay = self.active.iter().filter(|pod| !gone.contains(&pod.head.uid));
        let ready = i64::try_from(stay.clone().filter(|pod| pod.ready).count()).unwrap_or_default();
        let stay = i64::try_from(stay.count() + self.plan.create.len()).unwrap_or_default();
        let terminating = self.terminating + i64::try_from(gone.len()).unwrap_or_default();
        set(&mut self.plan.status, "active", stay);
        self.plan.status.insert("ready", ready);
        self.plan.status.insert("terminating", terminating);
        let Some(verdict) = self.verdict.clone() else { return };
        let (interim, last) =
            if verdict.complete { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
        if condition(self.job, interim).is_none() {
            self.set_condition(interim, "True", &verdict.reason, &verdict.message);
        }
        let counted =
            self.plan.status.get("uncountedTerminatedPods").and_then(Value::as_object).is_none_or(Map::is_empty);
        if !counted || stay > 0 || terminating > 0 || !self.plan.release.is_empty() {
            return;
        }
        self.set_condition(last, "True", &verdict.reason, &verdict.message);
        if verdict.complete {
            self.plan.status.insert("completionTime", Time::from_seconds(self.now_s).to_rfc3339());
            self.plan.tell.push((false, "Completed".to_owned(), "Job completed".to_owned()));
        } else {
            self.plan.tell.push((true, verdict.reason.to_string(), verdict.message));
        }
        self.plan.next = Next::Change;
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = Time::from_seconds(self.now_s).to_rfc3339();
        let conditions = self.plan.status.get("conditions").and_then(Value::as_array).unwrap_or_default();
        let mut conditions: Vec<Value> = conditions.iter().filter(|of| of.str_at(&["type"]) != kind).cloned().collect();
        conditions.push(value!({
            "type": kind, "status": status, "lastProbeTime": (now.clone()), "lastTransitionTime": now, "reason": reason,
            "message": message
        }));
        self.plan.status.insert("conditions", conditions);
    }
}

/// A count that is left out where it is zero.
fn set(status: &mut Map, field: &str, count: i64) {
    if count == 0 {
        status.remove(field);
    } else {
        status.insert(field, count);
    }
}

/// How long no pod is to be made yet, after failures in a row.
fn pause_s(pods: &[Pod], now_s: i64) -> i64 {
    let mut ends: Vec<(i64, bool)> =
        pods.iter().filter_map(|pod| Some((pod.ended_s, pod.end? == End::Failed))).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let failures = ends.iter().take_while(|(_, failed)| *failed).count();
    let Some((last_s, _)) = ends.first().filter(|_| failures > 0) else { return 0 };
    let doubled = u32::try_from(failures - 1).ok().and_then(|times| 1_i64.checked_shl(times)).unwrap_or(i64::MAX);
    last_s + PAUSE_S.saturating_mul(doubled).min(PAUSE_S_MAX) - now_s
}
