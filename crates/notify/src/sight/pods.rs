//! Containers that keep dying. All pods of one owner are one fact: a rollout that crashes is not told once a pod.

use std::collections::BTreeMap;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Head, Held, View};

use super::{condition, silent_until_s};
use crate::fact::{Health, Kind, Sight, Subject};

/// A pod that is to run and is not ready. Others are not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unready {
    /// What is told of a container that keeps dying, if one does.
    crash: Option<String>,
    silent_until_s: i64,
}

impl View for Unready {
    fn from_object(pod: &Value) -> Option<Self> {
        let is_over = pod.str_at(&["status", "phase"]) == "Succeeded" || Meta::of(pod).deletion_timestamp().is_some();
        let is_ready = condition(pod, "Ready").is_some_and(|ready| ready.str_at(&["status"]) == "True");
        (!is_over && !is_ready).then(|| Self { crash: crash(pod), silent_until_s: silent_until_s(pod) })
    }
}

/// The first container that waits for its next start after it has died too often.
fn crash(pod: &Value) -> Option<String> {
    let fields = ["initContainerStatuses", "containerStatuses"];
    let list = |field| pod.at(&["status", field]).and_then(Value::as_array).unwrap_or_default();
    let mut statuses = fields.into_iter().flat_map(list);
    let status = statuses.find(|status| status.str_at(&["state", "waiting", "reason"]) == "CrashLoopBackOff")?;
    let last = |field| status.at(&["lastState", "terminated", field]);
    let code = last("exitCode").and_then(Value::as_i64).unwrap_or_default();
    let how = match last("reason").and_then(Value::as_str) {
        Some("OOMKilled") => "it takes more memory than its limit (OOMKilled)".to_owned(),
        _ => format!("exit code {code}"),
    };
    Some(format!("its container {} keeps dying: {how}", status.str_at(&["name"])))
}

/// One sight an owner. `owner_of` names who makes the pod and is to be told of; `silent` says until when that is silent.
pub(crate) fn sights<'a>(
    pods: impl Iterator<Item = &'a Held<Unready>>,
    owner_of: impl Fn(&Head) -> Subject,
    silent_until_s: impl Fn(&Subject) -> i64,
) -> Vec<Sight> {
    let mut found: BTreeMap<Subject, Sight> = BTreeMap::new();
    for pod in pods {
        let subject = owner_of(&pod.head);
        let known = found.entry(subject.clone()).or_insert_with(|| {
            let silent_until_s = silent_until_s(&subject);
            Sight { silent_until_s, ..Sight::new(Kind::CrashLoop, subject, Health::Unsure, "") }
        });
        known.silent_until_s = known.silent_until_s.max(pod.silent_until_s);
        if let (Some(crash), Health::Unsure) = (&pod.crash, known.health) {
            (known.health, known.text) = (Health::Ill, crash.clone());
        }
    }
    found.into_values().collect()
}

/// Who makes a pod: the controller of its controller where `deployment_of` knows one for its ReplicaSet, else its controller, else
/// itself.
pub(crate) fn owner(head: &Head, deployment_of: impl Fn(&str) -> Option<Str>) -> Subject {
    let of = |kind: &str, name: Str| Subject::new(kind, head.namespace.clone(), name);
    match head.controller() {
        // The pod of a file on a node has the node as its owner.
        None => of("pod", head.name.clone()),
        Some(owner) if owner.kind == "Node" => of("pod", head.name.clone()),
        Some(owner) if owner.kind == "ReplicaSet" => match deployment_of(&owner.name) {
            Some(deployment) => of("deployment", deployment),
            None => of("replicaset", owner.name.clone()),
        },
        Some(owner) => of(&owner.kind.to_lowercase(), owner.name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod(name: &str, owner: &str, reason: &str, ready: &str) -> Value {
        let (kind, of) = owner.split_once('/').unwrap_or_default();
        value!({
            "metadata": {"name": name, "namespace": "shop", "uid": name,
                "ownerReferences": [{"kind": kind, "name": of, "controller": (!kind.is_empty())}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason}},
                    "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}
        })
    }

    #[track_caller]
    fn check(pods: &[Value], expect: &[&str]) {
        let held: Vec<Held<Unready>> = pods.iter().filter_map(Held::from_object).collect();
        let deployment = |set: &str| set.strip_suffix("-1").map(Str::from);
        let silent = |subject: &Subject| if subject.name == "quiet" { 60 } else { 0 };
        let sights = sights(held.iter(), |head| owner(head, deployment), silent);
        let one = |sight: &Sight| {
            format!("{} {:?} {} {}", sight.key.subject.text(), sight.health, sight.silent_until_s, sight.text)
        };
        assert_eq!(sights.iter().map(one).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn pods_of_one_owner_are_one_fact() {
        let dies = "CrashLoopBackOff";
        check(
            &[
                pod("a", "ReplicaSet/web-1", "ContainerCreating", "False"),
                pod("b", "ReplicaSet/web-1", dies, "False"),
                pod("c", "ReplicaSet/web-1", dies, "False"),
                pod("d", "ReplicaSet/web-1", "", "True"),
                pod("e", "ReplicaSet/own", dies, "False"),
                pod("f", "StatefulSet/quiet", dies, "False"),
                pod("g", "", "ErrImagePull", "False"),
                pod("h", "Node/one", dies, "False"),
            ],
            &[
                "deployment/web in shop Ill 0 its container app keeps dying: exit code 3",
                "pod/g in shop Unsure 0 ",
                "pod/h in shop Ill 0 its container app keeps dying: exit code 3",
                "replicaset/own in shop Ill 0 its container app keeps dying: exit code 3",
                "statefulset/quiet in shop Ill 60 its container app keeps dying: exit code 3",
            ],
        );
    }

    #[test]
    fn pods_that_have_ended_or_end_are_nothing() {
        let mut done = pod("a", "", "", "False");
        done.object_entry("status").insert("phase", "Succeeded");
        let mut ends = pod("b", "", "CrashLoopBackOff", "False");
        ends.object_entry("metadata").insert("deletionTimestamp", "2026-01-01T00:00:00Z");
        check(&[done, ends], &[]);
    }

    #[test]
    fn a_pod_says_itself_that_it_is_to_be_silent() {
        let mut quiet = pod("a", "", "CrashLoopBackOff", "False");
        quiet
            .object_entry("metadata")
            .insert("annotations", value!({"corten.dev/silence-until": "1970-01-01T00:01:40Z"}));
        check(&[quiet], &["pod/a in shop Ill 100 its container app keeps dying: exit code 3"]);
    }
}
