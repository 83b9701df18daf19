//! Pods as a whole: what may be created, and the little of them that may change later.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::{Map, Value};

use super::annotation::{self, APP_ARMOR_PREFIX, MIRROR};
use super::volume::Owner;
use super::{At, container, difference, pod_spec, pod_status, resize, same};

const MUTABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                       `spec.tolerations` (only additions to existing tolerations),\
                       `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const TERMS: [&str; 3] = ["nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];

pub(crate) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let pod = At::root(validation.object);
    let old = validation.old.map(At::root);
    match (validation.subresource, old) {
        ("status", Some(old)) => {
            annotation_updates(&pod, &old, errors);
            pod_status::update(&pod, &old, errors);
        }
        ("ephemeralcontainers", Some(old)) => {
            of_metadata_and_spec(&pod, errors);
            annotation_updates(&pod, &old, errors);
            ephemeral_containers(&pod, &old, errors);
        }
        ("resize", Some(old)) => {
            of_metadata_and_spec(&pod, errors);
            resize::update(&pod, &old, errors);
        }
        ("", Some(old)) => {
            of_metadata_and_spec(&pod, errors);
            annotation_updates(&pod, &old, errors);
            update(&pod, &old, errors);
        }
        ("", None) => create(&pod, errors),
        _ => {}
    }
}

/// What names where a pod goes.
pub(crate) fn binding(validation: Validation<'_>, errors: &mut FieldErrors) {
    let target = At::root(validation.object).object_or_empty("target");
    let kind = target.text("kind");
    if !kind.is_empty() && kind != "Node" {
        errors.not_supported(&target.path("kind"), Value::from(kind), &["Node", "<empty>"]);
    }
    target.require("name", errors);
}

fn create(pod: &At<'_>, errors: &mut FieldErrors) {
    of_metadata_and_spec(pod, errors);
    let spec = pod.object_or_empty("spec");
    if !spec.items("ephemeralContainers").is_empty() {
        errors.forbidden(&spec.path("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.items("schedulingGates").is_empty() {
        errors.forbidden(&spec.path("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotation::profiles(&pod.object_or_empty("metadata"), &spec, errors);
}

fn of_metadata_and_spec(pod: &At<'_>, errors: &mut FieldErrors) {
    let (metadata, spec) = (pod.object_or_empty("metadata"), pod.object_or_empty("spec"));
    annotation::of_pod(&metadata, &spec, &metadata.path("annotations"), errors);
    let owner = Owner { is_pod: true, name: metadata.text("name") };
    pod_spec::spec(&spec, owner, mirror(pod), errors);
    if spec.text("serviceAccountName").is_empty() {
        let sources = spec.each("volumes").filter_map(|volume| volume.object("projected"));
        for source in sources.flat_map(|projected| projected.each("sources")) {
            if source.given("serviceAccountToken") {
                let path = source.path("serviceAccountToken");
                errors.forbidden(&path, "must not be specified when serviceAccountName is not set");
            }
        }
    }
    for field in ["containers", "initContainers"] {
        spec.each(field).for_each(|at| container::image_is_trimmed(&at, errors));
    }
}

/// The annotation of a pod that a node runs on its own.
pub(super) fn mirror<'a>(pod: &At<'a>) -> Option<&'a str> {
    pod.object("metadata")?.object("annotations")?.get(MIRROR)?.as_str()
}

fn annotation_updates(pod: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let annotations = |pod: &At<'_>| pod.object_or_empty("metadata").object_or_empty("annotations").map.clone();
    let (new, was) = (annotations(pod), annotations(old));
    let path = pod.path("metadata").child("annotations");
    for (key, _) in was.iter().filter(|(key, value)| new.get(key) != Some(value)) {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in new.iter().filter(|(key, _)| !was.contains_key(key)) {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
    annotation::of_pod(&pod.object_or_empty("metadata"), &pod.object_or_empty("spec"), &path, errors);
}

fn ephemeral_containers(pod: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    if mirror(old).is_some() {
        *errors = FieldErrors::default();
        errors.forbidden(&FieldPath::root(), "static pods do not support ephemeral containers");
        return;
    }
    let spec = pod.object_or_empty("spec");
    let path = spec.path("ephemeralContainers");
    for was in old.object_or_empty("spec").each("ephemeralContainers") {
        let name = was.text("name");
        match spec.each("ephemeralContainers").filter(|at| at.text("name") == name).last() {
            None => errors.forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(now) if now.map != was.map => {
                let lines = difference::of(&was.map.clone().into(), &now.map.clone().into());
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{lines}");
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
}

fn update(pod: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let (spec, was) = (pod.object_or_empty("spec"), old.object_or_empty("spec"));
    for field in ["containers", "initContainers"] {
        if spec.items(field).len() != was.items(field).len() {
            errors.forbidden(&spec.path(field), "pod updates may not add or remove containers");
            return;
        }
        for at in spec.each(field) {
            at.require("image", errors);
            container::image_is_trimmed(&at, errors);
        }
    }
    if !deadline(&spec, &was, errors) {
        return;
    }
    added_tolerations(&spec, &was, errors);
    removed_gates(&spec, &was, errors);
    if spec.map == was.map {
        return;
    }
    let munged = munge(&spec, &was, errors);
    let fields = munged.keys().chain(was.map.keys());
    if fields.into_iter().any(|field| !same(munged.get(field), was.map.get(field))) {
        let lines = difference::of(&was.map.clone().into(), &munged.into());
        let detail = format!("pod updates may not change fields other than {MUTABLE}\n{lines}");
        errors.forbidden(&spec.path, detail);
    }
}

/// A deadline may only come nearer; says whether it does.
fn deadline(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) -> bool {
    let path = spec.path("activeDeadlineSeconds");
    match (spec.int("activeDeadlineSeconds"), was.int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(&path, new, name::inclusive_range(0, i32::MAX.into()));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&path, new, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn added_tolerations(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(fields) = toleration.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        toleration
    };
    for old in was.items("tolerations") {
        if !spec.items("tolerations").iter().any(|new| bare(new) == bare(old)) {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            errors.forbidden(&spec.path("tolerations"), detail);
            return;
        }
    }
    super::scheduling::tolerations(spec, errors);
}

fn removed_gates(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    for gate in spec.each("schedulingGates") {
        let name = gate.text("name");
        if !was.each("schedulingGates").any(|old| old.text("name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&gate.path("name"), detail);
        }
    }
}

/// The new specification with everything that may change put back to what it was.
fn munge(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) -> Map {
    let mut munged = spec.map.clone();
    for field in ["containers", "initContainers"] {
        let olds = was.items(field);
        let news = munged.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
        for (new, old) in news.zip(olds) {
            if let (Some(new), Some(image)) = (new.as_object_mut(), old.get("image")) {
                new.insert("image", image.clone());
            }
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put_back(&mut munged, was.map, field);
    }
    let negative = was.int("terminationGracePeriodSeconds").is_some_and(|period| period < 0);
    if negative && spec.int("terminationGracePeriodSeconds") == Some(1) {
        put_back(&mut munged, was.map, "terminationGracePeriodSeconds");
    }
    if !was.items("schedulingGates").is_empty() {
        gated(spec, was, &mut munged, errors);
    }
    munged
}

fn put_back(munged: &mut Map, was: &Map, field: &str) {
    match was.get(field) {
        Some(value) => munged.insert(field, value.clone()),
        None => munged.remove(field),
    };
}

/// A pod that waits at a gate may still be told where it may run, more and more narrowly.
fn gated(spec: &At<'_>, was: &At<'_>, munged: &mut Map, errors: &mut FieldErrors) {
    if !same(spec.get("nodeSelector"), was.get("nodeSelector")) {
        let kept = was
            .entries("nodeSelector")
            .all(|(key, value)| spec.get("nodeSelector").and_then(|selector| selector.get(key)) == Some(value));
        if !kept {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(&spec.path("nodeSelector"), spec.value("nodeSelector"), detail);
        }
        put_back(munged, was.map, "nodeSelector");
    }
    let node = |spec: &At<'_>| spec.get("affinity").and_then(|affinity| affinity.get("nodeAffinity")).cloned();
    let (new, old) = (node(spec), node(was));
    if new == old {
        return;
    }
    node_affinity(spec, was, errors);
    let others = ["podAffinity", "podAntiAffinity"];
    let affinity = spec.object_or_empty("affinity");
    if old.is_none() && !was.given("affinity") && !others.iter().any(|field| affinity.given(field)) {
        munged.remove("affinity");
        return;
    }
    let affinity = munged.object_entry("affinity");
    match old {
        Some(old) => affinity.insert("nodeAffinity", old),
        None => affinity.remove("nodeAffinity"),
    };
}

fn node_affinity(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let terms = |spec: &At<'_>| -> Vec<Value> {
        let terms = spec.get("affinity").and_then(|affinity| affinity.at(&TERMS)).and_then(Value::as_array);
        terms.unwrap_or_default().to_vec()
    };
    let (new, old) = (terms(spec), terms(was));
    let path = spec.path("affinity").children(&TERMS);
    if !old.is_empty() && old.len() != new.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&path, new, detail);
        return;
    }
    for (index, (new, old)) in new.iter().zip(&old).enumerate() {
        if !only_adds(new, old) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&path.index(index), new.clone(), detail);
        }
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    let list = |term: &Value, field: &str| term.get(field).and_then(Value::as_array).unwrap_or_default().to_vec();
    let lists = ["matchExpressions", "matchFields"];
    if lists.iter().all(|field| list(old, field).is_empty()) {
        return lists.iter().all(|field| list(new, field).is_empty());
    }
    lists.iter().all(|field| list(new, field).starts_with(&list(old, field)))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod(more: &Value) -> Value {
        let container =
            value!({"name": "c", "image": "i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"});
        let mut spec = value!({
            "containers": [container], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value!({"metadata": {"name": "p"}, "spec": spec})
    }

    fn check(old: Option<&Value>, new: &Value, expect: &[&str]) {
        let (old, new) = (old.map(pod), pod(new));
        let mut errors = FieldErrors::default();
        validate(Validation { object: &new, old: old.as_ref(), subresource: "" }, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expect.len(), "{texts:?}");
        for (text, start) in texts.iter().zip(expect) {
            assert!(text.starts_with(start), "{text}\n is not\n{start}");
        }
    }

    #[test]
    fn creates() {
        check(None, &value!({}), &[]);
        check(
            None,
            &value!({"nodeName": "n", "schedulingGates": [{"name": "a"}]}),
            &["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        );
        let token = value!({"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}]});
        check(
            None,
            &token,
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
            ],
        );
    }

    #[test]
    fn updates_of_what_may_change() {
        let old = value!({"tolerations": [{"key": "a", "operator": "Exists"}], "activeDeadlineSeconds": 20, "schedulingGates": [{"name": "a"}]});
        let new = value!({
            "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}],
            "activeDeadlineSeconds": 10, "nodeSelector": {"a": "b"}
        });
        check(Some(&old), &new, &[]);
    }

    #[test]
    fn updates_of_what_may_not_change() {
        let refused = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
             tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n@@";
        check(Some(&value!({})), &value!({"hostname": "a"}), &[refused]);
        check(Some(&value!({})), &value!({"nodeSelector": {"a": "b"}}), &[refused]);
        check(
            Some(&value!({"activeDeadlineSeconds": 10})),
            &value!({"activeDeadlineSeconds": 20}),
            &["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"],
        );
        check(
            Some(&value!({"tolerations": [{"key": "a", "operator": "Exists"}]})),
            &value!({}),
            &["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
        );
        check(
            Some(&value!({})),
            &value!({"schedulingGates": [{"name": "a"}]}),
            &["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a'"],
        );
    }
}
