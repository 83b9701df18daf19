//! What a container mounts, against the volumes of its pod.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::field::{FieldErrors, FieldPath};

use super::At;
use super::paths::{descending, has_backsteps};

/// A pod's valid volumes by name, and whether each is a claim, which can be a block device.
pub(crate) type Volumes<'a> = BTreeMap<&'a str, bool>;

pub(crate) fn mounts(container: &At<'_>, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    let devices = last_by_name(container, "volumeDevices", "devicePath");
    let list = container.path("volumeMounts");
    let mut seen = BTreeSet::new();
    for mount in container.each("volumeMounts") {
        let (name, path) = (mount.text("name"), mount.text("mountPath"));
        mount.require("name", errors);
        if !volumes.contains_key(name) {
            errors.not_found(&mount.path("name"), name);
        }
        mount.require("mountPath", errors);
        if !seen.insert(path) {
            errors.invalid(&mount.path("mountPath"), path, "must be unique");
        }
        if devices.contains_key(name) {
            errors.invalid(&mount.path("name"), name, "must not already exist in volumeDevices");
        }
        if devices.values().any(|device| *device == path) {
            errors.invalid(&mount.path("mountPath"), path, "must not already exist as a path in volumeDevices");
        }
        sub_paths(&mount, &list, errors);
        propagation(&mount, container, &list.child("mountPropagation"), errors);
        recursive_read_only(&mount, &list.child("recursiveReadOnly"), errors);
    }
}

/// Upstream reports these at the list.
fn sub_paths(mount: &At<'_>, list: &FieldPath, errors: &mut FieldErrors) {
    let (path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
    if !path.is_empty() {
        descending(path, &list.child("subPath"), errors);
    }
    if !expression.is_empty() {
        if !path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&mount.path("subPathExpr"), expression, detail);
        }
        descending(expression, &list.child("subPathExpr"), errors);
    }
}

fn propagation(mount: &At<'_>, container: &At<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(mode) = mount.get("mountPropagation").and_then(|mode| mode.as_str()) else { return };
    let supported = ["Bidirectional", "HostToContainer", "None"];
    if !supported.contains(&mode) {
        errors.not_supported(path, mode, &supported);
    }
    if mode == "Bidirectional" && !container.object_or_empty("securityContext").flag("privileged") {
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(mount: &At<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(mode) = mount.get("recursiveReadOnly").and_then(|mode| mode.as_str()) else { return };
    match mode {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if !matches!(mount.text("mountPropagation"), "" | "None") {
                errors.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        _ => errors.not_supported(path, mode, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(crate) fn devices(container: &At<'_>, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    let mounts = last_by_name(container, "volumeMounts", "mountPath");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.each("volumeDevices") {
        let (name, path) = (device.text("name"), device.text("devicePath"));
        let (at_name, at_path) = (device.path("name"), device.path("devicePath"));
        device.require("name", errors);
        if names.contains(name) {
            errors.invalid(&at_name, name, "must be unique");
        }
        match volumes.get(name) {
            None => errors.not_found(&at_name, name),
            Some(false) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at_name, name, detail);
            }
            Some(true) => {}
        }
        device.require("devicePath", errors);
        if paths.contains(path) {
            errors.invalid(&at_path, path, "must be unique");
        }
        if has_backsteps(path) {
            errors.invalid(&at_path, path, "can not contain backsteps ('..')");
        } else {
            paths.insert(path);
        }
        if mounts.contains_key(name) {
            errors.invalid(&at_name, name, "must not already exist in volumeMounts");
        }
        if mounts.values().any(|mount| *mount == path) {
            errors.invalid(&at_path, path, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn last_by_name<'a>(container: &At<'a>, list: &str, path: &str) -> BTreeMap<&'a str, &'a str> {
    container.each(list).map(|item| (item.text("name"), item.text(path))).collect()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        let volumes = Volumes::from([("disk", true), ("tmp", false)]);
        let found = errors(input, |at, errors| {
            mounts(at, &volumes, errors);
            devices(at, &volumes, errors);
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn mounts_name_volumes() {
        check(&value!({"volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "subPath": "a"}]}), &[]);
        check(
            &value!({"volumeMounts": [{"name": "no", "mountPath": "/a"}, {"name": "tmp", "mountPath": "/a", "subPath": "/b/.."}]}),
            &[
                r#"at.volumeMounts[0].name: Not found: "no""#,
                r#"at.volumeMounts[1].mountPath: Invalid value: "/a": must be unique"#,
                r#"at.volumeMounts.subPath: Invalid value: "/b/..": must be a relative path"#,
                r#"at.volumeMounts.subPath: Invalid value: "/b/..": must not contain '..'"#,
            ],
        );
        check(
            &value!({"volumeMounts": [{"name": "tmp", "mountPath": "/a", "mountPropagation": "Bidirectional", "recursiveReadOnly": "Enabled"}]}),
            &[
                "at.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
                "at.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                "at.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
            ],
        );
    }

    #[test]
    fn devices_name_claims() {
        check(&value!({"volumeDevices": [{"name": "disk", "devicePath": "/dev/a"}]}), &[]);
        check(
            &value!({"volumeDevices": [{"name": "tmp", "devicePath": "/dev/../a"}]}),
            &[
                r#"at.volumeDevices[0].name: Invalid value: "tmp": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
                r#"at.volumeDevices[0].devicePath: Invalid value: "/dev/../a": can not contain backsteps ('..')"#,
            ],
        );
    }
}
