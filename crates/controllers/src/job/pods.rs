//! What a job wants to know of its pods, and what a failed one means to its failure policy.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, View};

use crate::pod::seconds;

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobPod {
    /// How it has ended, if it has.
    pub(super) end: Option<End>,
    pub(super) ready: bool,
    /// Still counted: the job has not taken its finalizer off.
    pub(super) tracked: bool,
    pub(super) index: Option<i64>,
    pub(super) restarts: i64,
    /// When it ended, in Unix seconds; when it was made, where it does not say.
    pub(super) ended_s: i64,
    /// Exit codes of containers that have failed, by their name.
    exits: Vec<(Str, i64)>,
    /// Types and statuses.
    conditions: Vec<(Str, Str)>,
    /// `namespace/name` of the job that controls it.
    job: Option<Str>,
}

impl View for JobPod {
    /// Pods that no job controls are not held, unless they could be adopted.
    fn from_object(pod: &Value) -> Option<Self> {
        let meta = Meta::of(pod);
        let owner = meta.owner_references().find(|owner| owner.controller());
        let job = owner.filter(|owner| owner.kind() == "Job" && owner.api_version().starts_with("batch/"));
        let tracked = meta.finalizers().any(|own| own == FINALIZER);
        if job.is_none() && !tracked {
            return None;
        }
        let list = |path: &[&str]| pod.at(path).and_then(Value::as_array).unwrap_or_default();
        let conditions: Vec<(Str, Str)> = list(&["status", "conditions"])
            .iter()
            .map(|of| (of.str_at(&["type"]).into(), of.str_at(&["status"]).into()))
            .collect();
        let statuses =
            || list(&["status", "initContainerStatuses"]).iter().chain(list(&["status", "containerStatuses"]));
        let terminated = || statuses().filter_map(|of| Some((of, of.at(&["state", "terminated"])?)));
        let exit = |(of, end): (&Value, &Value)| Some((of.str_at(&["name"]).into(), end.i64_at(&["exitCode"])?));
        let ended_s = terminated().map(|(_, end)| seconds(end.str_at(&["finishedAt"]))).max();
        Some(Self {
            end: match pod.str_at(&["status", "phase"]) {
                "Succeeded" => Some(End::Succeeded),
                "Failed" => Some(End::Failed),
                _ => None,
            },
            ready: conditions.iter().any(|(kind, status)| kind == "Ready" && status == "True"),
            tracked,
            index: meta.annotation(INDEX).and_then(|index| index.parse().ok()),
            restarts: statuses().filter_map(|of| of.i64_at(&["restartCount"])).sum(),
            ended_s: ended_s.filter(|ended_s| *ended_s > 0).unwrap_or_else(|| seconds(meta.creation_timestamp())),
            exits: terminated().filter_map(exit).filter(|(_, code)| *code != 0).collect(),
            conditions,
            job: job.map(|job| format!("{}/{}", meta.namespace(), job.name()).into()),
        })
    }

    fn keys(&self) -> Vec<Str> {
        self.job.iter().cloned().collect()
    }
}

impl JobPod {
    pub(super) fn job(&self) -> Option<&Str> {
        self.job.as_ref()
    }
}

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Counts,
    /// It is no failure of the job's.
    Ignored,
    /// The job has failed, with this message.
    EndsJob(String),
}

/// Asks the rules of a job's failure policy in their order.
pub(super) fn meaning(job: &Value, pod: &Held<JobPod>) -> Meaning {
    let rules = job.at(&["spec", "podFailurePolicy", "rules"]).and_then(Value::as_array).unwrap_or_default();
    for (number, rule) in rules.iter().enumerate() {
        let Some(why) = exit_matches(rule, pod).or_else(|| condition_matches(rule, pod)) else { continue };
        return match rule.str_at(&["action"]) {
            "FailJob" => Meaning::EndsJob(format!("{why} matching FailJob rule at index {number}")),
            "Ignore" => Meaning::Ignored,
            _ => Meaning::Counts,
        };
    }
    Meaning::Counts
}

fn exit_matches(rule: &Value, pod: &Held<JobPod>) -> Option<String> {
    let wanted = rule.get("onExitCodes").filter(|wanted| !wanted.is_null())?;
    let values = wanted.get("values").and_then(Value::as_array).unwrap_or_default();
    let name = wanted.str_at(&["containerName"]);
    let matches = |(container, code): &&(Str, i64)| {
        let listed = values.iter().any(|value| value.as_i64() == Some(*code));
        (name.is_empty() || container == name) && listed == (wanted.str_at(&["operator"]) == "In")
    };
    let (container, code) = pod.exits.iter().find(matches)?;
    let head = &pod.head;
    Some(format!("Container {container} for pod {}/{} failed with exit code {code}", head.namespace, head.name))
}

fn condition_matches(rule: &Value, pod: &Held<JobPod>) -> Option<String> {
    let wanted = rule.get("onPodConditions").and_then(Value::as_array)?;
    let text = |of: &Value, field, or: &str| match of.str_at(&[field]) {
        "" => Str::from(or),
        text => text.into(),
    };
    let has = |of: &&Value| {
        let wanted = (text(of, "type", ""), text(of, "status", "True"));
        pod.conditions.contains(&wanted)
    };
    let kind = wanted.iter().find(has)?.str_at(&["type"]);
    Some(format!("Pod {}/{} has condition {kind}", pod.head.namespace, pod.head.name))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(rules: Value, code: i64, expect: Meaning) {
        let pod = value!({
            "metadata": {"name": "a", "namespace": "shop", "finalizers": [FINALIZER]},
            "status": {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}],
                "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code}}}]}
        });
        let job = value!({"spec": {"podFailurePolicy": {"rules": rules}}});
        assert_eq!(meaning(&job, &Held::from_object(&pod).expect("held")), expect);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let fails = value!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}});
        let ignores = value!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]});
        let why = "Container c for pod shop/a failed with exit code 42 matching FailJob rule at index 0";
        check(value!([(fails.clone()), (ignores.clone())]), 42, Meaning::EndsJob(why.to_owned()));
        check(value!([(fails.clone()), (ignores)]), 1, Meaning::Ignored);
        check(value!([(fails)]), 1, Meaning::Counts);
        let others = value!({"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [42]}});
        check(value!([(others.clone())]), 1, Meaning::Ignored);
        check(value!([others]), 42, Meaning::Counts);
    }
}
