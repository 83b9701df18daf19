//! Deployments, replica sets, stateful sets, daemon sets and controller revisions.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::{At, claim, percent, pod_spec, reasons, same};

pub(crate) const MISMATCH: &str = "`selector` does not match template `labels`";
const MORE_THAN_ALL: &str = "cannot be greater than status.replicas";

pub(crate) fn deployment(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (object, old) = sides(validation);
    if validation.subresource == "status" {
        deployment_status(&object.object_or_empty("status"), errors);
        collisions(&object, old.as_ref(), errors);
        return;
    }
    let spec = object.object_or_empty("spec");
    spec.nonnegative("replicas", errors);
    replicated(&spec, "deployment", "invalid label selector", errors);
    deployment_strategy(&spec.object_or_empty("strategy"), errors);
    spec.nonnegative("minReadySeconds", errors);
    spec.nonnegative("revisionHistoryLimit", errors);
    spec.nonnegative("progressDeadlineSeconds", errors);
    if let Some(deadline) = spec.int("progressDeadlineSeconds")
        && deadline <= spec.int("minReadySeconds").unwrap_or_default()
    {
        errors.invalid(&spec.path("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
    }
    if let Some(old) = old {
        spec.immutable(&old.object_or_empty("spec"), "selector", errors);
    }
}

pub(crate) fn replica_set(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (object, old) = sides(validation);
    if validation.subresource == "status" {
        let status = object.object_or_empty("status");
        let counts = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        nonnegative(&status, &counts, errors);
        nonnegative(&status, &["observedGeneration", "terminatingReplicas"], errors);
        at_most(&status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
        available_are_ready(&status, "cannot be greater than readyReplicas", errors);
        return;
    }
    let spec = object.object_or_empty("spec");
    nonnegative(&spec, &["replicas", "minReadySeconds"], errors);
    replicated(&spec, "deployment", "invalid label selector", errors);
    if let Some(old) = old {
        spec.immutable(&old.object_or_empty("spec"), "selector", errors);
    }
}

pub(crate) fn stateful_set(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (object, old) = sides(validation);
    if validation.subresource == "status" {
        stateful_set_status(&object.object_or_empty("status"), errors);
        collisions(&object, old.as_ref(), errors);
        return;
    }
    let spec = object.object_or_empty("spec");
    // Who has a bad template stored already may change the rest.
    let stored_is_bad = old.as_ref().is_some_and(|old| {
        let mut errors = FieldErrors::default();
        stateful_set_spec(&old.object_or_empty("spec"), true, true, &mut errors);
        !errors.is_empty()
    });
    stateful_set_spec(&spec, old.is_some(), !stored_is_bad, errors);
    let mutable = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |spec: &At<'_>| {
        let fields =
            spec.map.iter().filter(|(key, value)| !mutable.contains(&key.as_str()) && !same(None, Some(value)));
        fields.map(|(key, value)| (key.clone(), value.clone())).collect::<Map>()
    };
    if let Some(old) = old
        && fixed(&spec) != fixed(&old.object_or_empty("spec"))
    {
        errors.forbidden(
            &spec.path,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

pub(crate) fn daemon_set(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (object, old) = sides(validation);
    if validation.subresource == "status" {
        let status = object.object_or_empty("status");
        let counts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        nonnegative(&status, &counts, errors);
        collisions(&object, old.as_ref(), errors);
        return;
    }
    let spec = object.object_or_empty("spec");
    if let Some(old) = old {
        spec.immutable(&old.object_or_empty("spec"), "selector", errors);
    }
    daemon_set_spec(&spec, errors);
}

pub(crate) fn controller_revision(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (object, old) = sides(validation);
    object.nonnegative("revision", errors);
    match old {
        Some(old) => object.immutable(&old, "data", errors),
        None if !object.given("data") => errors.required(&object.path("data"), "data is mandatory"),
        None if object.object("data").is_none() => {
            errors.required(&object.path("data"), "data must be a valid JSON object");
        }
        None => {}
    }
}

pub(crate) fn pod_template(validation: Validation<'_>, errors: &mut FieldErrors) {
    pod_spec::template(&At::root(validation.object).object_or_empty("template"), errors);
}

/// The object under validation and the stored one.
pub(crate) fn sides<'a>(validation: Validation<'a>) -> (At<'a>, Option<At<'a>>) {
    (At::root(validation.object), validation.old.map(At::root))
}

pub(crate) fn nonnegative(at: &At<'_>, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        at.nonnegative(field, errors);
    }
}

/// The selector and the template of a set that keeps pods alive.
fn replicated(spec: &At<'_>, kind: &str, unreadable: &str, errors: &mut FieldErrors) {
    require_selector(spec, kind, errors);
    let Ok(selector) = LabelSelector::from_object(spec.get("selector")) else {
        errors.invalid(&spec.path("selector"), spec.value("selector"), unreadable);
        return;
    };
    let template = spec.object_or_empty("template");
    match_template(&selector, &template, errors);
    pod_spec::template(&template, errors);
    let pod = template.object_or_empty("spec");
    always_restarted(&pod, errors);
    no_deadline(&pod, "ReplicaSet", errors);
}

fn require_selector(spec: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    if !spec.given("selector") {
        errors.required(&spec.path("selector"), "");
        return;
    }
    spec.selector("selector", errors);
    if selects_all(spec) {
        let detail = format!("empty selector is invalid for {kind}");
        errors.invalid(&spec.path("selector"), spec.value("selector"), detail);
    }
}

fn selects_all(spec: &At<'_>) -> bool {
    let selector = spec.object_or_empty("selector");
    selector.entries("matchLabels").next().is_none() && selector.items("matchExpressions").is_empty()
}

fn match_template(selector: &LabelSelector, template: &At<'_>, errors: &mut FieldErrors) {
    if !selector.is_empty() && !selects(selector, template) {
        mismatch(template, errors);
    }
}

pub(crate) fn mismatch(template: &At<'_>, errors: &mut FieldErrors) {
    let metadata = template.object_or_empty("metadata");
    errors.invalid(&metadata.path("labels"), metadata.value("labels"), MISMATCH);
}

pub(crate) fn selects(selector: &LabelSelector, template: &At<'_>) -> bool {
    let labels: Vec<_> = template.object_or_empty("metadata").strings("labels").collect();
    selector.matches(&labels)
}

fn always_restarted(pod: &At<'_>, errors: &mut FieldErrors) {
    let policy = pod.text("restartPolicy");
    if policy != "Always" {
        errors.not_supported(&pod.path("restartPolicy"), policy, &["Always"]);
    }
}

fn no_deadline(pod: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    if pod.given("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&pod.path("activeDeadlineSeconds"), detail);
    }
}

fn deployment_strategy(strategy: &At<'_>, errors: &mut FieldErrors) {
    match (strategy.text("type"), strategy.object("rollingUpdate")) {
        ("Recreate", Some(rolling)) => {
            errors.forbidden(&rolling.path, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.required(&strategy.path("rollingUpdate"), "this should be defaulted and never be nil");
        }
        ("RollingUpdate", Some(rolling)) => {
            let [unavailable, surge] = rolling_amounts(&rolling);
            percent::positive(&unavailable, &rolling.path("maxUnavailable"), errors);
            percent::positive(&surge, &rolling.path("maxSurge"), errors);
            if percent::amount(&unavailable) == 0 && percent::amount(&surge) == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&rolling.path("maxUnavailable"), unavailable.clone(), detail);
            }
            percent::at_most_whole(&unavailable, &rolling.path("maxUnavailable"), errors);
        }
        _ => unknown_strategy(strategy, &["Recreate", "RollingUpdate"], errors),
    }
}

/// What may be away and what may be there beyond the number wanted; an absent amount is 0.
fn rolling_amounts(rolling: &At<'_>) -> [Value; 2] {
    ["maxUnavailable", "maxSurge"].map(|field| rolling.get(field).cloned().unwrap_or(Value::Int(0)))
}

/// Upstream prints its internal form of the strategy.
fn unknown_strategy(strategy: &At<'_>, supported: &[&str], errors: &mut FieldErrors) {
    let rolling = strategy.object("rollingUpdate").map_or(Value::Null, |rolling| {
        let [unavailable, surge] = rolling_amounts(&rolling);
        value!({"MaxUnavailable": (unavailable), "MaxSurge": (surge)})
    });
    let shown = value!({"Type": (strategy.text("type")), "RollingUpdate": (rolling)});
    errors.not_supported(&strategy.path, shown, supported);
}

fn deployment_status(status: &At<'_>, errors: &mut FieldErrors) {
    let counts = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    nonnegative(status, &counts, errors);
    at_most(status, &["updatedReplicas", "readyReplicas", "availableReplicas"], errors);
    available_are_ready(status, "cannot be greater than readyReplicas", errors);
}

fn stateful_set_status(status: &At<'_>, errors: &mut FieldErrors) {
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    nonnegative(status, &counts, errors);
    at_most(status, &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"], errors);
    available_are_ready(status, "cannot be greater than status.readyReplicas", errors);
}

/// Counts that are part of all replicas.
fn at_most(status: &At<'_>, fields: &[&str], errors: &mut FieldErrors) {
    let all = status.int("replicas").unwrap_or_default();
    for field in fields {
        let count = status.int(field).unwrap_or_default();
        if count > all {
            errors.invalid(&status.path(field), count, MORE_THAN_ALL);
        }
    }
}

fn available_are_ready(status: &At<'_>, detail: &str, errors: &mut FieldErrors) {
    let available = status.int("availableReplicas").unwrap_or_default();
    if available > status.int("readyReplicas").unwrap_or_default() {
        errors.invalid(&status.path("availableReplicas"), available, detail);
    }
}

/// The count of name collisions only rises.
fn collisions(object: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    let count = |object: &At<'_>| object.object_or_empty("status").int("collisionCount");
    let (new, old) = (count(object), old.and_then(count));
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        let path = object.object_or_empty("status").path("collisionCount");
        errors.invalid(&path, new.unwrap_or_default(), "cannot be decremented");
    }
}

/// The template as its pods get it: named by the set, with a volume for each claim.
fn own_template(spec: &At<'_>, template: &At<'_>) -> Map {
    let mut own = template.map.clone();
    let pod = own.object_entry("spec");
    pod.remove("hostname");
    pod.remove("subdomain");
    let metadata = |claim: At<'_>| claim.object_or_empty("metadata").text("name").to_owned();
    let claims: Vec<String> = spec.each("volumeClaimTemplates").map(metadata).collect();
    if claims.is_empty() {
        return own;
    }
    let given = pod.get("volumes").and_then(Value::as_array).unwrap_or_default();
    let others = given.iter().filter(|volume| !claims.iter().any(|claim| claim == volume.str_at(&["name"])));
    let volume =
        |claim: &String| value!({"name": (claim.as_str()), "persistentVolumeClaim": {"claimName": (claim.as_str())}});
    let volumes: Vec<Value> = claims.iter().map(volume).chain(others.cloned()).collect();
    pod.insert("volumes", volumes);
    own
}

fn stateful_set_spec(spec: &At<'_>, stored: bool, with_template: bool, errors: &mut FieldErrors) {
    match spec.text("podManagementPolicy") {
        "" => errors.required(&spec.path("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        policy => {
            errors.invalid(&spec.path("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'");
        }
    }
    stateful_set_strategy(&spec.object_or_empty("updateStrategy"), errors);
    if let Some(retention) = spec.object("persistentVolumeClaimRetentionPolicy") {
        for field in ["whenDeleted", "whenScaled"] {
            let policy = retention.text(field);
            if !["Retain", "Delete"].contains(&policy) {
                errors.not_supported(&retention.path(field), policy, &["Retain", "Delete"]);
            }
        }
    }
    // They never change, so what was once stored stays.
    if !stored {
        for claim in spec.each("volumeClaimTemplates") {
            claim::spec(&claim.object_or_empty("spec"), errors);
        }
    }
    nonnegative(spec, &["replicas", "minReadySeconds"], errors);
    if let Some(ordinals) = spec.object("ordinals") {
        ordinals.nonnegative("start", errors);
    }
    let service = spec.text("serviceName");
    if !stored && !service.is_empty() {
        reasons(&spec.path("serviceName"), service, name::dns1123_label(service), errors);
    }
    require_selector(spec, "statefulset", errors);
    let template = spec.object_or_empty("template");
    match LabelSelector::from_object(spec.get("selector")) {
        Ok(selector) => {
            match_template(&selector, &template, errors);
            if with_template {
                let own = own_template(spec, &template);
                pod_spec::template(&At::new(&own, template.path.clone()), errors);
            }
        }
        Err(_) => errors.invalid(&spec.path("selector"), spec.value("selector"), ""),
    }
    let pod = template.object_or_empty("spec");
    always_restarted(&pod, errors);
    no_deadline(&pod, "StatefulSet", errors);
}

fn stateful_set_strategy(strategy: &At<'_>, errors: &mut FieldErrors) {
    let rolling = strategy.object("rollingUpdate");
    // Upstream prints its internal form.
    let shown = rolling.as_ref().map_or(Value::Null, |rolling| {
        let partition = rolling.int("partition").unwrap_or_default();
        value!({"Partition": (partition), "MaxUnavailable": (rolling.value("maxUnavailable"))})
    });
    match (strategy.text("type"), rolling) {
        ("", _) => errors.required(&strategy.path, ""),
        ("OnDelete", Some(rolling)) => {
            errors.invalid(&rolling.path, shown, "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("RollingUpdate", Some(rolling)) => {
            rolling.nonnegative("partition", errors);
            if let Some(unavailable) = rolling.get("maxUnavailable") {
                let path = rolling.path("maxUnavailable");
                percent::positive(unavailable, &path, errors);
                if percent::amount(unavailable) == 0 {
                    errors.invalid(&path, unavailable.clone(), "cannot be 0");
                }
                percent::at_most_whole(unavailable, &path, errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        (kind, _) => {
            let shown = value!({"Type": (kind), "RollingUpdate": (shown)});
            errors.invalid(&strategy.path, shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn daemon_set_spec(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.selector("selector", errors);
    let template = spec.object_or_empty("template");
    if LabelSelector::from_object(spec.get("selector")).is_ok_and(|selector| !selects(&selector, &template)) {
        mismatch(&template, errors);
    }
    if spec.given("selector") && selects_all(spec) {
        let detail = "empty selector is invalid for daemonset";
        errors.invalid(&spec.path("selector"), spec.value("selector"), detail);
    }
    pod_spec::template(&template, errors);
    let pod = template.object_or_empty("spec");
    always_restarted(&pod, errors);
    no_deadline(&pod, "DaemonSet", errors);
    spec.nonnegative("minReadySeconds", errors);
    daemon_set_strategy(&spec.object_or_empty("updateStrategy"), errors);
    spec.nonnegative("revisionHistoryLimit", errors);
}

fn daemon_set_strategy(strategy: &At<'_>, errors: &mut FieldErrors) {
    match (strategy.text("type"), strategy.object("rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&strategy.path("rollingUpdate"), ""),
        ("RollingUpdate", Some(rolling)) => {
            let [unavailable, surge] = rolling_amounts(&rolling);
            let [unavailable_path, surge_path] = ["maxUnavailable", "maxSurge"].map(|field| rolling.path(field));
            percent::positive(&unavailable, &unavailable_path, errors);
            percent::positive(&surge, &surge_path, errors);
            percent::at_most_whole(&unavailable, &unavailable_path, errors);
            percent::at_most_whole(&surge, &surge_path, errors);
            match (percent::amount(&unavailable) != 0, percent::amount(&surge) != 0) {
                (true, true) => errors.invalid(&surge_path, surge, "may not be set when maxUnavailable is non-zero"),
                (false, false) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.required(&unavailable_path, detail);
                }
                _ => {}
            }
        }
        _ => unknown_strategy(strategy, &["RollingUpdate", "OnDelete"], errors),
    }
}
