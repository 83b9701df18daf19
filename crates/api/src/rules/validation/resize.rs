//! Changes to the resources of a running pod.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::value::{Map, Value};

use super::{At, pod};

const RESIZABLE: [&str; 2] = ["cpu", "memory"];

pub(super) fn update(pod: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let (spec, was) = (pod.object_or_empty("spec"), old.object_or_empty("spec"));
    let never = if pod::mirror(old).is_some() {
        Some("static pods cannot be resized")
    } else if was.object_or_empty("os").text("name") == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(detail) = never {
        *errors = FieldErrors::default();
        errors.forbidden(&FieldPath::root(), detail);
        return;
    }
    let running = old
        .object_or_empty("status")
        .each("containerStatuses")
        .find(|status| status.object_or_empty("state").given("running"));
    if running.is_some_and(|status| !status.given("resources")) {
        errors.forbidden(&spec.path, "Pod running on node without support for resize");
    }
    if !same_containers(&spec, &was, errors) {
        return;
    }
    for field in ["initContainers", "containers"] {
        for (new, old) in spec.each(field).zip(was.each(field)) {
            nothing_removed(&new, &old, errors);
        }
    }
    let unchanged = errors.is_empty();
    only_amounts(&spec, &was, errors);
    if unchanged && errors.is_empty() {
        let others = |map: &Map| {
            let mut map = map.clone();
            for field in ["containers", "initContainers", "resources"] {
                map.remove(field);
            }
            map
        };
        if others(spec.map) != others(was.map) {
            errors.forbidden(&spec.path, "only cpu and memory resources are mutable");
        }
    }
}

/// The same containers in the same order; says whether they are.
fn same_containers(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) -> bool {
    let mut same = true;
    for field in ["containers", "initContainers"] {
        if spec.items(field).len() != was.items(field).len() {
            same = false;
            errors.forbidden(&spec.path(field), format!("{field} may not be added or removed on resize"));
            continue;
        }
        for (new, old) in spec.each(field).zip(was.each(field)) {
            if new.text("name") != old.text("name") {
                same = false;
                errors.forbidden(&new.path("name"), format!("{field} may not be renamed or reordered on resize"));
            }
        }
    }
    same
}

fn nothing_removed(new: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let (new, old) = (new.object_or_empty("resources"), old.object_or_empty("resources"));
    for (field, detail) in
        [("requests", "resource requests cannot be removed"), ("limits", "resource limits cannot be removed")]
    {
        let amounts = new.object_or_empty(field);
        if old.entries(field).any(|(resource, _)| !amounts.given(resource)) {
            errors.forbidden(&amounts.path, detail);
        }
    }
}

fn only_amounts(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let bare = |map: &Map| {
        let mut map = map.clone();
        let resources = map.object_entry("resources");
        for field in ["requests", "limits"] {
            if let Some(amounts) = resources.get_mut(field).and_then(Value::as_object_mut) {
                amounts.retain(|resource, _| !RESIZABLE.contains(&resource.as_str()));
                if amounts.is_empty() {
                    resources.remove(field);
                }
            }
        }
        map
    };
    for (new, old) in spec.each("containers").zip(was.each("containers")) {
        if bare(new.map) != bare(old.map) {
            errors.forbidden(&spec.path, "only cpu and memory resources are mutable");
        }
    }
    for (new, old) in spec.each("initContainers").zip(was.each("initContainers")) {
        if bare(new.map) != bare(old.map) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(&new.path, detail);
        }
        let restarts = new.each("resizePolicy").any(|policy| policy.text("restartPolicy") == "RestartContainer");
        if new.map != old.map && new.text("restartPolicy") != "Always" && restarts {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.forbidden(&new.path, detail);
        }
    }
    pod_level(spec, was, &bare, errors);
}

fn pod_level(spec: &At<'_>, was: &At<'_>, bare: &dyn Fn(&Map) -> Map, errors: &mut FieldErrors) {
    let path = spec.path("resources");
    let Some(old) = was.object("resources") else { return };
    let Some(new) = spec.object("resources") else {
        errors.forbidden(&path, "pod-level resources cannot be removed");
        return;
    };
    for (field, what) in [("requests", "requests"), ("limits", "limits")] {
        let amounts = new.object_or_empty(field);
        if old.entries(field).any(|(resource, _)| !amounts.given(resource)) {
            errors.forbidden(&amounts.path, format!("pod-level resource {what} cannot be removed"));
        }
    }
    let wrap = |at: &At<'_>| {
        let mut map = Map::new();
        map.insert("resources", at.map.clone());
        bare(&map)
    };
    if wrap(&new) != wrap(&old) {
        errors.forbidden(&spec.path, "only cpu and memory resources are mutable at pod-level");
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(old: &Value, new: &Value, expect: &[&str]) {
        let pod = |container: &Value| value!({"spec": {"containers": [(container.clone())]}});
        let (old, new) = (pod(old), pod(new));
        let mut errors = FieldErrors::default();
        update(&At::root(&new), &At::root(&old), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn only_cpu_and_memory() {
        let sized = |resource: &str, amount: &str| {
            let requests = Value::Object([(resource.into(), amount.into())].into_iter().collect());
            value!({"name": "c", "resources": {"requests": requests}})
        };
        check(&sized("cpu", "1"), &sized("cpu", "2"), &[]);
        check(
            &sized("example.com/gpu", "1"),
            &sized("example.com/gpu", "2"),
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        );
        check(
            &sized("cpu", "1"),
            &value!({"name": "c", "resources": {}}),
            &["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        );
        check(
            &value!({"name": "c"}),
            &value!({"name": "d"}),
            &["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"],
        );
    }
}
