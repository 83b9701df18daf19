//! What a deployment says of itself: counts, conditions, its revision. Pure.

use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::Error;
use corten_client::controller::Next;

use super::REVISION;
use super::rollout::{Changes, Fleet, Set};
use crate::pod::seconds;

/// A deadline of this length is none.
const NO_DEADLINE_S: i64 = i32::MAX as i64;

const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

pub(super) struct Planned {
    /// The deployment with new annotations and status, where they differ.
    pub(super) deployment: Option<Value>,
    pub(super) next: Next,
}

/// One condition as it should be.
struct Wanted {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

pub(super) fn plan(fleet: &Fleet<'_>, changes: &Changes, failed: Option<&Error>, now_s: i64) -> Planned {
    let old = fleet.deployment;
    let mut new = old.clone();
    if let Some(revision) = &changes.revision {
        new.object_entry("metadata").object_entry("annotations").insert(REVISION, revision.as_str());
    }
    let mut conditions = old.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default().to_vec();
    set(&mut conditions, availability(fleet), now_s);
    if let Some(progress) = progress(fleet, changes, failed, now_s) {
        set(&mut conditions, progress, now_s);
    }
    let failure = failure(fleet);
    match failure {
        Some(failure) => set(&mut conditions, failure, now_s),
        None => conditions.retain(|condition| condition.str_at(&["type"]) != "ReplicaFailure"),
    }
    let unavailable = fleet.sum(|set| set.wanted) - fleet.sum(Set::available);
    let status = new.object_entry("status");
    let updated = fleet.new.as_ref().map_or(0, Set::actual);
    for (field, count) in [
        ("observedGeneration", Meta::of(old).generation()),
        ("replicas", fleet.sum(Set::actual)),
        ("updatedReplicas", updated),
        ("readyReplicas", fleet.sum(Set::ready)),
        ("availableReplicas", fleet.sum(Set::available)),
        ("unavailableReplicas", unavailable.max(0)),
    ] {
        // As the server writes it: a count of zero is left out.
        if count == 0 { drop(status.remove(field)) } else { drop(status.insert(field, count)) }
    }
    status.insert("terminatingReplicas", fleet.sum(Set::terminating));
    status.insert("conditions", conditions);
    let next = deadline(fleet, &new, now_s);
    Planned { deployment: (new != *old).then_some(new), next }
}

fn availability(fleet: &Fleet<'_>) -> Wanted {
    let enough = fleet.sum(Set::available) >= fleet.replicas() - fleet.max_unavailable();
    let (status, reason, message) = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    Wanted { kind: "Available", status, reason, message: message.to_owned() }
}

fn failure(fleet: &Fleet<'_>) -> Option<Wanted> {
    let of = |set: &Set| {
        let conditions = set.held.view.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        let failure = conditions.iter().find(|condition| condition.str_at(&["type"]) == "ReplicaFailure")?;
        let reason = if failure.str_at(&["reason"]) == "FailedDelete" { "FailedDelete" } else { "FailedCreate" };
        let message = failure.str_at(&["message"]).to_owned();
        Some(Wanted { kind: "ReplicaFailure", status: "True", reason, message })
    };
    fleet.new.iter().chain(&fleet.old).find_map(of)
}

fn progress(fleet: &Fleet<'_>, changes: &Changes, failed: Option<&Error>, now_s: i64) -> Option<Wanted> {
    let deadline_s = deadline_s(fleet.deployment)?;
    let known = condition(fleet.deployment, "Progressing");
    let known_reason = known.map_or("", |known| known.str_at(&["reason"]));
    let wanted = |status, reason, message| Some(Wanted { kind: "Progressing", status, reason, message });
    if let Some((set, error)) = changes.create.as_ref().zip(failed) {
        let name = Meta::of(set).name();
        return wanted("False", "ReplicaSetCreateError", format!("Failed to create new replica set {name:?}: {error}"));
    }
    if fleet.paused() {
        let known = known_reason == "DeploymentPaused";
        return if known { None } else { wanted("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()) };
    }
    if known_reason == "DeploymentPaused" {
        return wanted("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
    }
    if let Some(set) = &changes.create {
        return wanted("True", "NewReplicaSetCreated", format!("Created new replica set {:?}", Meta::of(set).name()));
    }
    let set = fleet.new.as_ref()?;
    let name = &set.held.head.name;
    let was = |field| fleet.deployment.i64_at(&["status", field]).unwrap_or_default();
    let (total, updated) = (fleet.sum(Set::actual), set.actual());
    if known_reason == AVAILABLE && total == updated {
        return None;
    }
    let replicas = fleet.replicas();
    if updated == replicas && total == replicas && fleet.sum(Set::available) == replicas {
        return wanted("True", AVAILABLE, format!("ReplicaSet {name:?} has successfully progressed."));
    }
    let progressed = updated > was("updatedReplicas")
        || total - updated < was("replicas") - was("updatedReplicas")
        || fleet.sum(Set::ready) > was("readyReplicas")
        || fleet.sum(Set::available) > was("availableReplicas");
    if progressed {
        return wanted("True", "ReplicaSetUpdated", format!("ReplicaSet {name:?} is progressing."));
    }
    let Some(known) = known else {
        return wanted("True", "FoundNewReplicaSet", format!("Found new replica set {name:?}"));
    };
    let late = known_reason != AVAILABLE && seconds(known.str_at(&["lastUpdateTime"])) + deadline_s < now_s;
    if late && known_reason != TIMED_OUT {
        return wanted("False", TIMED_OUT, format!("ReplicaSet {name:?} has timed out progressing."));
    }
    None
}

/// When a rollout that does not move is to be called stuck.
fn deadline(fleet: &Fleet<'_>, new: &Value, now_s: i64) -> Next {
    let (Some(deadline_s), Some(known)) = (deadline_s(new), condition(new, "Progressing")) else { return Next::Change };
    if fleet.paused() || [AVAILABLE, TIMED_OUT].contains(&known.str_at(&["reason"])) {
        return Next::Change;
    }
    let left_s = seconds(known.str_at(&["lastUpdateTime"])) + deadline_s + 1 - now_s;
    Next::After(Duration::from_secs(u64::try_from(left_s).unwrap_or(1).max(1)))
}

fn deadline_s(deployment: &Value) -> Option<i64> {
    deployment.i64_at(&["spec", "progressDeadlineSeconds"]).filter(|seconds| *seconds != NO_DEADLINE_S)
}

fn condition<'a>(deployment: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = deployment.at(&["status", "conditions"]).and_then(Value::as_array)?;
    conditions.iter().find(|condition| condition.str_at(&["type"]) == kind)
}

/// Writes a condition. One that says the same with the same reason stays as it is, except that progress counts anew.
fn set(conditions: &mut Vec<Value>, wanted: Wanted, now_s: i64) {
    let now = Time::from_seconds(now_s).to_rfc3339();
    let old = conditions.iter().position(|condition| condition.str_at(&["type"]) == wanted.kind);
    let mut since = now.clone();
    if let Some(old) = old {
        let known = &conditions[old];
        let same = known.str_at(&["status"]) == wanted.status;
        if same && known.str_at(&["reason"]) == wanted.reason && wanted.reason != "ReplicaSetUpdated" {
            return;
        }
        if same {
            since = known.str_at(&["lastTransitionTime"]).into();
        }
        conditions.remove(old);
    }
    let Wanted { kind, status, reason, message } = wanted;
    conditions.push(value!({
        "type": kind, "status": status, "lastUpdateTime": now, "lastTransitionTime": since, "reason": reason,
        "message": message
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_client::cache::Held;

    use super::*;

    /// Sizes are `(actual, available)` of the set; gives the Progressing condition's reason.
    fn check(deployment: &mut Value, size: (i64, i64), now_s: i64, expect: &str) {
        let set = value!({
            "metadata": {"name": "web-1", "uid": "s"}, "spec": {"replicas": 2, "template": {"a": 1}},
            "status": {"replicas": (size.0), "readyReplicas": (size.1), "availableReplicas": (size.1)}
        });
        let sets = [Arc::new(Held::from_object(&set).expect("held"))];
        let planned = plan(&Fleet::new(deployment, &sets, vec![true]), &Changes::default(), None, now_s);
        if let Some(new) = planned.deployment {
            *deployment = new;
        }
        assert_eq!(condition(deployment, "Progressing").map_or("", |known| known.str_at(&["reason"])), expect);
    }

    fn deployment() -> Value {
        value!({
            "metadata": {"name": "web", "uid": "d"},
            "spec": {"replicas": 2, "template": {"a": 1}, "progressDeadlineSeconds": 60}
        })
    }

    #[test]
    fn progress_is_told_and_a_deadline_passes() {
        let mut web = deployment();
        check(&mut web, (0, 0), 0, "FoundNewReplicaSet");
        check(&mut web, (2, 0), 10, "ReplicaSetUpdated");
        check(&mut web, (2, 1), 20, "ReplicaSetUpdated");
        check(&mut web, (2, 1), 81, "ProgressDeadlineExceeded");
        check(&mut web, (2, 2), 90, "NewReplicaSetAvailable");
        assert_eq!(condition(&web, "Available").map(|known| known.str_at(&["status"])), Some("True"));
        check(&mut web, (2, 1), 500, "NewReplicaSetAvailable");
    }

    #[test]
    fn a_pause_is_told() {
        let mut web = deployment();
        web.object_entry("spec").insert("paused", true);
        check(&mut web, (2, 2), 0, "DeploymentPaused");
        web.object_entry("spec").remove("paused");
        check(&mut web, (2, 2), 1, "DeploymentResumed");
        check(&mut web, (2, 2), 2, "NewReplicaSetAvailable");
    }
}
