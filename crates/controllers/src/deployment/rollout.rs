//! Which replica sets a deployment should have, and how large: pure.

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::Held;

use super::{HASH_LABEL, REVISION, owner_reference, template_without_hash};
use crate::name_hash::name_hash;
use crate::owned::count_or_share;
use crate::pod::seconds;

const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations that are the deployment's own and are not handed on.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// Bytes of an annotation of past revisions.
const HISTORY_BYTES_MAX: usize = 2000;

/// A replica set of the deployment, as far as a rollout looks.
#[derive(Clone)]
pub(super) struct Set {
    pub(super) held: Arc<Held<Value>>,
    /// What it wants; a plan changes it.
    pub(super) wanted: i64,
    pub(super) has_pods: bool,
}

/// A deployment with its sets.
pub(super) struct Fleet<'a> {
    pub(super) deployment: &'a Value,
    /// The set of the current template, where there is one.
    pub(super) new: Option<Set>,
    /// Oldest first.
    pub(super) old: Vec<Set>,
}

/// What is to be written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) create: Option<Value>,
    pub(super) update: Vec<Value>,
    /// Names and UIDs.
    pub(super) delete: Vec<(Str, Str)>,
    /// The revision of the current template.
    pub(super) revision: Option<String>,
}

impl Set {
    fn count(&self, field: &str) -> i64 {
        self.held.view.i64_at(&["status", field]).unwrap_or_default()
    }

    pub(super) fn actual(&self) -> i64 {
        self.count("replicas")
    }

    pub(super) fn ready(&self) -> i64 {
        self.count("readyReplicas")
    }

    pub(super) fn available(&self) -> i64 {
        self.count("availableReplicas")
    }

    pub(super) fn terminating(&self) -> i64 {
        self.count("terminatingReplicas")
    }

    fn number(&self, annotation: &str) -> Option<i64> {
        self.held.view.str_at(&["metadata", "annotations", annotation]).parse().ok()
    }

    fn revision(&self) -> i64 {
        self.number(REVISION).unwrap_or_default()
    }

    fn created(&self) -> (i64, &str) {
        (seconds(Meta::of(&self.held.view).creation_timestamp()), &self.held.head.name)
    }
}

impl<'a> Fleet<'a> {
    pub(super) fn new(deployment: &'a Value, sets: &[Arc<Held<Value>>], has_pods: Vec<bool>) -> Self {
        let template = template_without_hash(deployment);
        let mut old: Vec<Set> = sets
            .iter()
            .zip(has_pods)
            .map(|(held, has_pods)| {
                let wanted = held.view.i64_at(&["spec", "replicas"]).unwrap_or(1);
                Set { held: held.clone(), wanted, has_pods }
            })
            .collect();
        old.sort_by(|a, b| a.created().cmp(&b.created()));
        let new = old.iter().position(|set| template_without_hash(&set.held.view) == template);
        let new = new.map(|new| old.remove(new));
        Self { deployment, new, old }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn sum(&self, of: impl Fn(&Set) -> i64) -> i64 {
        self.all().map(of).sum()
    }

    pub(super) fn replicas(&self) -> i64 {
        self.deployment.i64_at(&["spec", "replicas"]).unwrap_or(1)
    }

    pub(super) fn paused(&self) -> bool {
        self.deployment.at(&["spec", "paused"]).and_then(Value::as_bool).unwrap_or_default()
    }

    fn rolls(&self) -> bool {
        self.deployment.str_at(&["spec", "strategy", "type"]) != "Recreate"
    }

    fn bound(&self, field: &str, up: bool) -> i64 {
        count_or_share(self.deployment.at(&["spec", "strategy", "rollingUpdate", field]), self.replicas(), up)
    }

    pub(super) fn max_surge(&self) -> i64 {
        if self.rolls() { self.bound("maxSurge", true) } else { 0 }
    }

    pub(super) fn max_unavailable(&self) -> i64 {
        if !self.rolls() || self.replicas() == 0 {
            return 0;
        }
        let bound = self.bound("maxUnavailable", false);
        // With neither, nothing could ever move.
        let bound = if bound == 0 && self.max_surge() == 0 { 1 } else { bound };
        bound.min(self.replicas())
    }

    fn max_total(&self) -> i64 {
        self.replicas() + self.max_surge()
    }

    /// The size of the new set for the next step.
    fn new_size(&self, current: i64) -> i64 {
        if !self.rolls() {
            return self.replicas();
        }
        let total = self.sum(|set| set.wanted);
        if total >= self.max_total() {
            return current;
        }
        current + (self.max_total() - total).min(self.replicas() - current).max(0)
    }

    /// Whether the number of replicas was changed since the sets were last sized.
    fn is_scaled(&self) -> bool {
        let mut active = self.all().filter(|set| set.wanted > 0);
        active.any(|set| set.number(DESIRED).is_some_and(|desired| desired != self.replicas()))
    }

    pub(super) fn is_complete(&self) -> bool {
        let replicas = self.replicas();
        let status = |field| self.deployment.i64_at(&["status", field]).unwrap_or_default();
        status("updatedReplicas") == replicas
            && status("replicas") == replicas
            && status("availableReplicas") == replicas
            && status("observedGeneration") >= Meta::of(self.deployment).generation()
    }
}

pub(super) fn plan(fleet: &Fleet<'_>) -> Changes {
    let mut next = Fleet { deployment: fleet.deployment, new: fleet.new.clone(), old: fleet.old.clone() };
    let mut changes = Changes::default();
    let newest = fleet.old.iter().map(Set::revision).max().unwrap_or_default() + 1;
    if fleet.paused() || fleet.is_scaled() {
        scale(&mut next);
    } else if fleet.rolls() {
        roll(&mut next);
    } else {
        recreate(&mut next);
    }
    let may_create = !fleet.paused() && (fleet.rolls() || !old_pods_run(&next));
    if fleet.new.is_none() && may_create && !fleet.is_scaled() {
        changes.create = Some(new_set(fleet, newest));
        changes.revision = Some(newest.to_string());
    }
    let sized = |set: &Set| set.held.view.i64_at(&["spec", "replicas"]).unwrap_or(1) != set.wanted;
    if let Some(set) = &next.new {
        let object = annotated(fleet, set, newest);
        changes.revision = Some(object.str_at(&["metadata", "annotations", REVISION]).to_owned());
        let object = if sized(set) { resized(fleet, set, object) } else { object };
        changes.update.extend((object != set.held.view).then_some(object));
    }
    changes
        .update
        .extend(next.old.iter().filter(|set| sized(set)).map(|set| resized(fleet, set, set.held.view.clone())));
    if fleet.is_complete() || fleet.paused() {
        changes.delete = surplus_history(fleet);
    }
    changes
}

/// One step of a rolling update: up if there is room, else down as far as enough is available.
fn roll(fleet: &mut Fleet<'_>) {
    let Some(new) = fleet.new.clone() else { return };
    let replicas = fleet.replicas();
    let size = if new.wanted > replicas { replicas } else { fleet.new_size(new.wanted) };
    if size != new.wanted {
        fleet.new = Some(Set { wanted: size, ..new });
        return;
    }
    let enough = replicas - fleet.max_unavailable();
    let mut left = fleet.sum(|set| set.wanted) - enough - (new.wanted - new.available());
    if left <= 0 {
        return;
    }
    // What is not healthy goes first: it serves nobody.
    for set in fleet.old.iter_mut().filter(|set| set.wanted > set.available()) {
        let gone = left.min(set.wanted - set.available());
        set.wanted -= gone;
        left -= gone;
    }
    let mut spare = fleet.sum(Set::available) - enough;
    for set in &mut fleet.old {
        let gone = spare.min(set.wanted).max(0);
        set.wanted -= gone;
        spare -= gone;
    }
}

/// All old ones go before the new one comes.
fn recreate(fleet: &mut Fleet<'_>) {
    for set in &mut fleet.old {
        set.wanted = 0;
    }
    let size = fleet.replicas();
    let wait = old_pods_run(fleet);
    if let Some(new) = fleet.new.as_mut().filter(|_| !wait) {
        new.wanted = size;
    }
}

fn old_pods_run(fleet: &Fleet<'_>) -> bool {
    fleet.old.iter().any(|set| set.has_pods || set.actual() > 0)
}

/// Spreads a new number of replicas over the sets in proportion, so that a rollout goes on where it was.
fn scale(fleet: &mut Fleet<'_>) {
    let (replicas, surge, rolls) = (fleet.replicas(), fleet.max_surge(), fleet.rolls());
    let before = fleet.deployment.i64_at(&["status", "replicas"]).unwrap_or_default();
    let total = fleet.sum(|set| set.wanted);
    let saturated = fleet.new.as_ref().is_some_and(|new| {
        new.wanted == replicas && new.number(DESIRED) == Some(replicas) && new.available() == replicas
    });
    let mut active: Vec<&mut Set> =
        fleet.old.iter_mut().chain(fleet.new.as_mut()).filter(|set| set.wanted > 0).collect();
    if active.len() < 2 {
        let only = match active.pop() {
            Some(only) => Some(only),
            None => fleet.new.as_mut().or(fleet.old.last_mut()),
        };
        if let Some(only) = only {
            only.wanted = replicas;
        }
        return;
    }
    if saturated {
        for old in &mut fleet.old {
            old.wanted = 0;
        }
        return;
    }
    if !rolls {
        return;
    }
    let allowed = if replicas > 0 { replicas + surge } else { 0 };
    let add = allowed - total;
    // The largest first; of equals the newer one grows and the older one shrinks first.
    active.sort_by(|a, b| {
        let newer = b.created().cmp(&a.created());
        b.wanted.cmp(&a.wanted).then(if add > 0 { newer } else { newer.reverse() })
    });
    let mut added = 0;
    for set in &mut active {
        let share = share(set, replicas, surge, before);
        let left = add - added;
        let share = if add > 0 { share.min(left).max(0) } else { share.max(left).min(0) };
        set.wanted += share;
        added += share;
    }
    active[0].wanted = (active[0].wanted + add - added).max(0);
}

/// By how much a set would change if all sets changed alike.
fn share(set: &Set, replicas: i64, surge: i64, before: i64) -> i64 {
    if replicas == 0 {
        return -set.wanted;
    }
    let before = set.number(MAX).unwrap_or(before);
    if before == 0 {
        return 0;
    }
    // Rounded to the nearest.
    (2 * set.wanted * (replicas + surge) + before) / (2 * before) - set.wanted
}

/// Old sets beyond the history that is kept, of those that are empty.
fn surplus_history(fleet: &Fleet<'_>) -> Vec<(Str, Str)> {
    let Some(limit) = fleet.deployment.i64_at(&["spec", "revisionHistoryLimit"]) else { return Vec::new() };
    let mut old: Vec<&Set> = fleet.old.iter().filter(|set| !set.held.head.deleting).collect();
    old.sort_by_key(|set| set.revision());
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    let observed = |set: &Set| set.count("observedGeneration") >= Meta::of(&set.held.view).generation();
    let empty = |set: &&&Set| set.actual() == 0 && set.wanted == 0 && observed(set);
    let gone = old[..surplus].iter().filter(empty);
    gone.map(|set| (set.held.head.name.clone(), set.held.head.uid.clone())).collect()
}

fn new_set(fleet: &Fleet<'_>, revision: i64) -> Value {
    let deployment = fleet.deployment;
    let hash = template_hash(deployment);
    let name = format!("{}-{hash}", Meta::of(deployment).name());
    let mut template = deployment.at(&["spec", "template"]).cloned().unwrap_or_default();
    template.object_entry("metadata").object_entry("labels").insert(HASH_LABEL, hash.as_str());
    let labels = template.at(&["metadata", "labels"]).cloned().unwrap_or_default();
    let mut selector = deployment.at(&["spec", "selector"]).cloned().unwrap_or_default();
    selector.object_entry("matchLabels").insert(HASH_LABEL, hash.as_str());
    let mut set = value!({
        "kind": "ReplicaSet", "apiVersion": "apps/v1",
        "metadata": {
            "name": name, "namespace": (Meta::of(deployment).namespace()), "labels": labels,
            "ownerReferences": [(owner_reference(deployment))]
        },
        "spec": {"replicas": (fleet.new_size(0)), "selector": selector, "template": template}
    });
    if let Some(seconds) = deployment.i64_at(&["spec", "minReadySeconds"]) {
        set.object_entry("spec").insert("minReadySeconds", seconds);
    }
    hand_on_annotations(deployment, &mut set);
    annotate(&mut set, REVISION, &revision.to_string());
    annotate_sizes(fleet, &mut set);
    set
}

/// The new set with what it takes over from the deployment, and its revision as the newest.
fn annotated(fleet: &Fleet<'_>, set: &Set, newest: i64) -> Value {
    let mut object = set.held.view.clone();
    hand_on_annotations(fleet.deployment, &mut object);
    if set.revision() < newest {
        let known = object.str_at(&["metadata", "annotations", REVISION]).to_owned();
        annotate(&mut object, REVISION, &newest.to_string());
        if !known.is_empty() {
            let history = object.str_at(&["metadata", "annotations", HISTORY]).to_owned();
            let history = if history.is_empty() { known } else { format!("{history},{known}") };
            let cut = history.len().saturating_sub(HISTORY_BYTES_MAX);
            annotate(&mut object, HISTORY, &history[cut..]);
        }
    }
    let seconds = fleet.deployment.i64_at(&["spec", "minReadySeconds"]).unwrap_or_default();
    if object.i64_at(&["spec", "minReadySeconds"]).unwrap_or_default() != seconds {
        object.object_entry("spec").insert("minReadySeconds", seconds);
    }
    object
}

fn resized(fleet: &Fleet<'_>, set: &Set, mut object: Value) -> Value {
    object.object_entry("spec").insert("replicas", set.wanted);
    annotate_sizes(fleet, &mut object);
    object
}

fn annotate_sizes(fleet: &Fleet<'_>, set: &mut Value) {
    annotate(set, DESIRED, &fleet.replicas().to_string());
    annotate(set, MAX, &fleet.max_total().to_string());
}

fn hand_on_annotations(deployment: &Value, set: &mut Value) {
    for (key, value) in Meta::of(deployment).annotations().filter(|(key, _)| !OWN.contains(&key.as_str())) {
        annotate(set, key, value);
    }
}

fn annotate(object: &mut Value, key: &str, value: &str) {
    let annotations: &mut Map = object.object_entry("metadata").object_entry("annotations");
    annotations.insert(key, value);
}

/// A short name of a template, other after every collision.
fn template_hash(deployment: &Value) -> String {
    let collisions = deployment.i64_at(&["status", "collisionCount"]).unwrap_or_default();
    name_hash(json::to_vec(&template_without_hash(deployment)), collisions)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn deployment(replicas: i64, kind: &str) -> Value {
        value!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "d", "annotations": {"note": "x"}},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "revisionHistoryLimit": 1,
                "strategy": {"type": kind, "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"v": 3}}
            }
        })
    }

    /// `template wanted available desired`.
    fn set(text: &str) -> Arc<Held<Value>> {
        let words: Vec<i64> = text.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [template, wanted, available, desired] = words[..] else { panic!("{text}") };
        let (name, created) = (format!("web-{template}"), format!("2026-01-0{template}T00:00:00Z"));
        let annotations = value!({
            "deployment.kubernetes.io/revision": (template.to_string()),
            "deployment.kubernetes.io/desired-replicas": (desired.to_string()),
            "deployment.kubernetes.io/max-replicas": ((desired + (desired + 3) / 4).to_string()),
            "note": "x"
        });
        let set = value!({
            "metadata": {"name": (name.as_str()), "namespace": "shop", "uid": (name.as_str()), "creationTimestamp": created, "annotations": annotations},
            "spec": {"replicas": wanted, "template": {
                "metadata": {"labels": {"app": "web", "pod-template-hash": "h"}}, "spec": {"v": template}
            }},
            "status": {"replicas": wanted, "availableReplicas": available}
        });
        Arc::new(Held::from_object(&set).expect("held"))
    }

    fn check(replicas: i64, kind: &str, sets: &[&str], expect: &str) {
        let sets: Vec<_> = sets.iter().map(|text| set(text)).collect();
        let deployment = deployment(replicas, kind);
        let has_pods = sets.iter().map(|set| set.view.i64_at(&["status", "replicas"]) > Some(0)).collect();
        let changes = plan(&Fleet::new(&deployment, &sets, has_pods));
        let created =
            changes.create.iter().map(|set| format!("+{}", set.i64_at(&["spec", "replicas"]).expect("a size")));
        let sized = changes.update.iter().map(|set| {
            format!("{}={}", set.str_at(&["metadata", "name"]), set.i64_at(&["spec", "replicas"]).expect("a size"))
        });
        assert_eq!(created.chain(sized).collect::<Vec<_>>().join(" "), expect, "{sets:?}");
    }

    #[test]
    fn rolling() {
        check(3, "RollingUpdate", &[], "+3");
        check(4, "RollingUpdate", &["2 4 4 4"], "+1");
        check(4, "RollingUpdate", &["2 4 4 4", "3 1 0 4"], "web-2=3");
        check(4, "RollingUpdate", &["2 3 3 4", "3 1 0 4"], "web-3=2");
        check(4, "RollingUpdate", &["2 3 3 4", "3 2 0 4"], "");
        check(4, "RollingUpdate", &["2 3 3 4", "3 2 2 4"], "web-2=1");
        check(4, "RollingUpdate", &["1 2 0 4", "2 3 3 4", "3 0 0 4"], "web-1=0");
        check(4, "RollingUpdate", &["2 0 0 4", "3 4 4 4"], "");
    }

    #[test]
    fn recreating() {
        check(2, "Recreate", &["2 2 2 2"], "web-2=0");
        check(2, "Recreate", &["2 0 0 2"], "+2");
        check(2, "Recreate", &["2 0 0 2", "3 0 0 2"], "web-3=2");
    }

    #[test]
    fn scaling_keeps_proportions() {
        check(8, "RollingUpdate", &["3 4 4 4"], "web-3=8");
        check(0, "RollingUpdate", &["3 4 4 4"], "web-3=0");
        check(8, "RollingUpdate", &["2 3 3 4", "3 2 0 4"], "web-3=4 web-2=6");
    }

    #[test]
    fn a_set_that_is_wanted_again_becomes_the_newest() {
        let sets = [set("3 0 0 4"), set("5 4 4 4")];
        let deployment = deployment(4, "RollingUpdate");
        let changes = plan(&Fleet::new(&deployment, &sets, vec![false, true]));
        let annotation = |key| changes.update[0].str_at(&["metadata", "annotations", key]).to_owned();
        assert_eq!((annotation(REVISION), annotation(HISTORY)), ("6".to_owned(), "3".to_owned()));
        assert_eq!(changes.revision.as_deref(), Some("6"));
    }
}
