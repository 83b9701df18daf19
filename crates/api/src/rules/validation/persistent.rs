//! Persistent volumes.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::value::{Map, Value};

use super::remote::{self, Source};
use super::{At, claim, difference, resources, scheduling, subdomain, volume};

/// In upstream's order, which decides which of two sources is one too many.
const SOURCES: [Source; 21] = [
    Source::new("hostPath", volume::host_path),
    Source::new("gcePersistentDisk", remote::gce_disk).at("persistentDisk"),
    Source::new("awsElasticBlockStore", remote::aws_disk),
    Source::new("glusterfs", remote::glusterfs_persistent),
    Source::new("flocker", remote::flocker),
    Source::new("nfs", remote::nfs),
    Source::new("rbd", remote::rbd),
    Source::new("quobyte", remote::quobyte),
    Source::new("cephfs", remote::cephfs).twice_at("cephFS"),
    // Needs the volume's name: see `spec`.
    Source::new("iscsi", |_, _| {}),
    Source::new("cinder", remote::cinder_persistent),
    Source::new("fc", remote::fibre_channel),
    Source::new("flexVolume", remote::flex),
    Source::new("azureFile", remote::azure_file_persistent),
    Source::new("vsphereVolume", remote::vsphere),
    Source::new("photonPersistentDisk", remote::photon),
    Source::new("portworxVolume", remote::portworx),
    Source::new("azureDisk", remote::azure_disk),
    Source::new("scaleIO", remote::scale_io),
    Source::new("local", local),
    Source::new("storageos", remote::storage_os_persistent),
];

pub(crate) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    if validation.subresource == "status" {
        return;
    }
    let volume = At::root(validation.object);
    spec(&volume.object_or_empty("spec"), volume.object_or_empty("metadata").text("name"), errors);
    if let Some(old) = validation.old.map(At::root) {
        update(&volume.object_or_empty("spec"), &old.object_or_empty("spec"), errors);
    }
}

fn spec(at: &At<'_>, name: &str, errors: &mut FieldErrors) {
    if at.items("accessModes").is_empty() {
        errors.required(&at.path("accessModes"), "");
    }
    claim::access_modes(at, errors);
    capacity(at, errors);
    if !at.text("persistentVolumeReclaimPolicy").is_empty() {
        at.one_of("persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], errors);
    }
    if let Some(affinity) = at.object("nodeAffinity") {
        match affinity.object("required") {
            Some(required) => scheduling::node_selector(&required, errors),
            None => errors.required(&affinity.path("required"), "must specify required node constraints"),
        }
    }
    source(at, name, errors);
    let policy = at.text("persistentVolumeReclaimPolicy");
    if policy == "Recycle" && is_root(at.object_or_empty("hostPath").text("path")) {
        let path = at.path("persistentVolumeReclaimPolicy");
        errors.forbidden(&path, "may not be 'recycle' for a hostPath mount of '/'");
    }
    if !at.text("storageClassName").is_empty() {
        at.named("storageClassName", subdomain, errors);
    }
    at.one_of("volumeMode", &claim::VOLUME_MODES, errors);
    if at.given("volumeAttributesClassName") {
        if at.text("volumeAttributesClassName").is_empty() {
            errors.required(&at.path("volumeAttributesClassName"), "an empty string is disallowed");
        } else {
            at.named("volumeAttributesClassName", subdomain, errors);
        }
        if !at.given("csi") {
            errors.required(&at.path("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(at: &At<'_>, errors: &mut FieldErrors) {
    let path = at.path("capacity");
    let count = at.entries("capacity").count();
    if count == 0 {
        errors.required(&path, "");
    }
    if count > 1 || !at.object_or_empty("capacity").given("storage") {
        errors.not_supported(&path, at.value("capacity"), &["storage"]);
    }
    for (resource, value) in at.entries("capacity") {
        claim::basic(value, &path.key(resource), errors);
        resources::positive(value, &path.key(resource), errors);
    }
}

fn source(at: &At<'_>, name: &str, errors: &mut FieldErrors) {
    // The last source stands behind the others, so that the table of them can be shared with none of its own.
    let mut own = FieldErrors::default();
    let taken = remote::one_source(at, &SOURCES, &mut own);
    match at.object("csi") {
        Some(_) if taken.is_some() => {
            errors.extend(own);
            errors.forbidden(&at.path("csi"), "may not specify more than 1 volume type");
        }
        Some(csi) => remote::csi_persistent(&csi, errors),
        None => errors.extend(own),
    }
    if taken == Some("iscsi")
        && let Some(disk) = at.object("iscsi")
    {
        remote::iscsi_persistent(&disk, name, errors);
    }
    if at.given("local") && taken == Some("local") && !at.given("nodeAffinity") {
        errors.required(&at.path("nodeAffinity"), "Local volume requires node affinity");
    }
}

fn local(at: &At<'_>, errors: &mut FieldErrors) {
    if at.require("path", errors) {
        super::paths::no_backsteps(at.text("path"), &at.path("path"), errors);
    }
}

/// Whether a path comes down to the root folder.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

fn update(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let (mut new, old) = (source_of(spec), source_of(was));
    // A driver may learn of a secret later.
    let secret = "controllerExpandSecretRef";
    if old.get("csi").is_some_and(|csi| csi.get(secret).is_none())
        && let Some(csi) = new.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove(secret);
    }
    if new != old {
        let lines = difference::of(&old.into(), &new.into());
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{lines}");
        errors.forbidden(&FieldPath::new("spec").child("persistentvolumesource"), detail);
    }
    for field in ["volumeMode", "nodeAffinity"] {
        let given = field == "volumeMode" || was.given(field);
        if given && spec.get(field) != was.get(field) {
            let except = if field == "nodeAffinity" { ", except for updating from beta label to GA" } else { "" };
            if field == "nodeAffinity" && only_labels_renewed(spec, was) {
                continue;
            }
            let detail = format!("{}{except}", super::IMMUTABLE);
            errors.invalid(&FieldPath::new(field), spec.value(field), detail);
        }
    }
    if was.given("volumeAttributesClassName") && !spec.given("volumeAttributesClassName") {
        let path = spec.path("volumeAttributesClassName");
        errors.forbidden(&path, "update from non-nil value to nil is forbidden");
    }
}

/// What the volume is made of.
fn source_of(spec: &At<'_>) -> Map {
    let fields = SOURCES.iter().map(Source::field).chain(["csi"]);
    fields.filter_map(|field| Some((field.into(), spec.get(field)?.clone()))).collect()
}

/// Labels of nodes whose first names are deprecated, and what they are called now.
const RENEWED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn only_labels_renewed(spec: &At<'_>, was: &At<'_>) -> bool {
    fn agree(new: &Value, old: &Value) -> bool {
        match (new, old) {
            (Value::Object(new), Value::Object(old)) => {
                new.len() == old.len()
                    && old.iter().all(|(field, old)| match (new.get(field), field.as_str()) {
                        (Some(new), "key") => {
                            let renewed = RENEWED.iter().find(|(first, _)| old.as_str() == Some(first));
                            new == old || renewed.is_some_and(|(_, now)| new.as_str() == Some(now))
                        }
                        (Some(new), _) => agree(new, old),
                        (None, _) => false,
                    })
            }
            (Value::Array(new), Value::Array(old)) => {
                new.len() == old.len() && new.iter().zip(old).all(|(new, old)| agree(new, old))
            }
            (new, old) => new == old,
        }
    }
    match (spec.get("nodeAffinity"), was.get("nodeAffinity")) {
        (Some(new), Some(old)) => agree(new, old),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(old: Option<&Value>, new: &Value, expect: &[&str]) {
        let volume = |more: &Value| {
            let mut spec =
                value!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "volumeMode": "Filesystem"});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            value!({"metadata": {"name": "v"}, "spec": spec})
        };
        let (old, new) = (old.map(volume), volume(new));
        let mut errors = FieldErrors::default();
        validate(Validation { object: &new, old: old.as_ref(), subresource: "" }, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expect.len(), "{texts:?}");
        assert!(texts.iter().zip(expect).all(|(text, start)| text.starts_with(start)), "{texts:?}");
    }

    #[test]
    fn creates() {
        check(None, &value!({"hostPath": {"path": "/a"}}), &[]);
        check(None, &value!({"csi": {"driver": "a.b", "volumeHandle": "c"}}), &[]);
        check(None, &value!({}), &["spec: Required value: must specify a volume type"]);
        check(
            None,
            &value!({"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"], "capacity": {"cpu": "1"}, "local": {"path": "/a"}}),
            &[
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                r#"spec.capacity: Unsupported value: {"cpu":"1"}: supported values: "storage""#,
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ],
        );
        check(
            None,
            &value!({"hostPath": {"path": "/a/.."}, "nfs": {"server": "s", "path": "/"}}),
            &[
                r#"spec.hostPath.path: Invalid value: "/a/..": must not contain '..'"#,
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ],
        );
    }

    #[test]
    fn updates() {
        let old = value!({"hostPath": {"path": "/a"}});
        check(Some(&old), &value!({"hostPath": {"path": "/a"}, "storageClassName": "s"}), &[]);
        check(
            Some(&old),
            &value!({"hostPath": {"path": "/b"}, "volumeMode": "Block"}),
            &[
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n@@",
                r#"volumeMode: Invalid value: "Block": field is immutable"#,
            ],
        );
    }
}
