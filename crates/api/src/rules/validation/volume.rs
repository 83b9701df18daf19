//! A pod's volumes: each has a name and exactly one source.

use std::collections::BTreeSet;

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::meta::{self, Meta};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::env::{field_of_pod, resource_of_container};
use super::mounts::Volumes;
use super::paths::{descending, descending_free, mode, no_backsteps};
use super::remote::{self, Source};
use super::{At, claim, projected, quantity, reasons, subdomain};

/// Fields of a pod that may be shown in a file.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

pub(crate) const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

/// In upstream's order, which decides which of two sources is one too many.
const SOURCES: [Source; 30] = [
    Source::new("emptyDir", empty_dir),
    Source::new("hostPath", host_path),
    Source::new("gitRepo", git_repo),
    Source::new("gcePersistentDisk", remote::gce_disk).at("persistentDisk"),
    Source::new("awsElasticBlockStore", remote::aws_disk),
    Source::new("secret", |at, errors| files(at, "secretName", errors)),
    Source::new("nfs", remote::nfs),
    Source::new("iscsi", remote::iscsi),
    Source::new("glusterfs", remote::glusterfs),
    Source::new("flocker", remote::flocker),
    Source::new("persistentVolumeClaim", |at, errors| {
        at.require("claimName", errors);
    }),
    Source::new("rbd", remote::rbd),
    Source::new("cinder", remote::cinder),
    Source::new("cephfs", remote::cephfs).twice_at("cephFS"),
    Source::new("quobyte", remote::quobyte),
    // Upstream's typing error is what clients see.
    Source::new("downwardAPI", downward_api).twice_at("downwarAPI"),
    Source::new("fc", remote::fibre_channel),
    Source::new("flexVolume", remote::flex),
    Source::new("configMap", |at, errors| files(at, "name", errors)),
    Source::new("azureFile", remote::azure_file),
    Source::new("vsphereVolume", remote::vsphere),
    Source::new("photonPersistentDisk", remote::photon),
    Source::new("portworxVolume", remote::portworx),
    Source::new("azureDisk", remote::azure_disk),
    Source::new("storageos", remote::storage_os),
    Source::new("projected", projected::volume),
    Source::new("scaleIO", remote::scale_io),
    Source::new("csi", csi),
    Source::new("ephemeral", ephemeral),
    Source::new("image", image),
];

/// Whose volumes they are: a pod, with its name, or a template.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) is_pod: bool,
    pub(crate) name: &'a str,
}

/// Gives the volumes without errors, which mounts may name.
pub(crate) fn volumes<'a>(spec: &At<'a>, owner: Owner<'_>, errors: &mut FieldErrors) -> Volumes<'a> {
    let mut known = Volumes::new();
    let claims: BTreeSet<String> = spec
        .each("volumes")
        .filter(|volume| volume.given("ephemeral") && !owner.name.is_empty())
        .map(|volume| format!("{}-{}", owner.name, volume.text("name")))
        .collect();
    for volume in spec.each("volumes") {
        let name = volume.text("name");
        let mut own = FieldErrors::default();
        source(&volume, owner, &mut own);
        volume.require_named("name", name::dns1123_label, &mut own);
        if known.contains_key(name) {
            own.duplicate(&volume.path("name"), name);
        }
        if own.is_empty() {
            known.insert(name, volume.given("persistentVolumeClaim") || volume.given("ephemeral"));
        }
        errors.extend(own);
        let claim = volume.object_or_empty("persistentVolumeClaim");
        if claims.contains(claim.text("claimName")) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&claim.path("claimName"), claim.text("claimName"), detail);
        }
    }
    known
}

fn source(volume: &At<'_>, owner: Owner<'_>, errors: &mut FieldErrors) {
    let taken = remote::one_source(volume, &SOURCES, errors);
    let name = volume.text("name");
    match taken {
        Some("iscsi") => {
            let disk = volume.object_or_empty("iscsi");
            if disk.given("initiatorName") && name.len() + 1 + disk.text("targetPortal").len() > 64 {
                errors.invalid(&volume.path("name"), name, remote::ISCSI_TOO_LONG);
            }
        }
        Some("ephemeral") if !owner.name.is_empty() && !name.is_empty() => {
            let claim = format!("{}-{name}", owner.name);
            for reason in subdomain(&claim) {
                errors.invalid(&volume.path("name"), name, format!("PVC name {claim:?}: {reason}"));
            }
        }
        Some("image") if owner.is_pod && volume.object_or_empty("image").text("reference").is_empty() => {
            errors.required(&volume.path("image").child("reference"), "");
        }
        _ => {}
    }
}

fn empty_dir(at: &At<'_>, errors: &mut FieldErrors) {
    if at.get("sizeLimit").is_some_and(|limit| quantity(limit).signum() < 0) {
        errors.forbidden(&at.path("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
}

pub(super) fn host_path(at: &At<'_>, errors: &mut FieldErrors) {
    if at.require("path", errors) {
        no_backsteps(at.text("path"), &at.path("path"), errors);
        at.one_of("type", &HOST_PATH_TYPES, errors);
    }
}

fn git_repo(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("repository", errors);
    descending(at.text("directory"), &at.path("directory"), errors);
}

/// Keys of a secret or a config map as files.
fn files(at: &At<'_>, name: &str, errors: &mut FieldErrors) {
    at.require(name, errors);
    mode(at, "defaultMode", errors);
    at.each("items").for_each(|item| key_to_path(&item, errors));
}

pub(super) fn key_to_path(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("key", errors);
    at.require("path", errors);
    descending_free(at.text("path"), &at.path("path"), errors);
    mode(at, "mode", errors);
}

fn downward_api(at: &At<'_>, errors: &mut FieldErrors) {
    mode(at, "defaultMode", errors);
    at.each("items").for_each(|file| downward_file(&file, at, errors));
}

/// Upstream reports the file's errors at the source.
pub(super) fn downward_file(file: &At<'_>, source: &At<'_>, errors: &mut FieldErrors) {
    let at = At::new(file.map, source.path.clone());
    at.require("path", errors);
    descending_free(at.text("path"), &at.path("path"), errors);
    match (at.object("fieldRef"), at.object("resourceFieldRef")) {
        (Some(field), resource) => {
            field_of_pod(&field, &FILE_FIELDS, errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(&at.path, "resource", detail);
            }
        }
        (None, Some(resource)) => resource_of_container(&resource, true, errors),
        (None, None) => errors.required(&at.path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(&at, "mode", errors);
}

fn csi(at: &At<'_>, errors: &mut FieldErrors) {
    remote::csi_driver(at, errors);
    if let Some(secret) = at.object("nodePublishSecretRef")
        && secret.require("name", errors)
    {
        reasons(&at.path("name"), secret.text("name"), subdomain(secret.text("name")), errors);
    }
}

fn ephemeral(at: &At<'_>, errors: &mut FieldErrors) {
    let Some(template) = at.object("volumeClaimTemplate") else {
        errors.required(&at.path("volumeClaimTemplate"), "");
        return;
    };
    let metadata = template.object_or_empty("metadata");
    let wrapped = Value::Object([("metadata".into(), Value::Object(metadata.map.clone()))].into_iter().collect());
    meta::validate_annotations(Meta::of(&wrapped), &metadata.path("annotations"), errors);
    metadata.labels("labels", errors);
    for (field, value) in metadata.map.iter() {
        let empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Int(number) => *number == 0,
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if !empty && !["annotations", "labels"].contains(&field.as_str()) {
            errors.forbidden(&metadata.path(field), "cannot be set");
        }
    }
    claim::spec(&template.object_or_empty("spec"), errors);
}

fn image(at: &At<'_>, errors: &mut FieldErrors) {
    at.require_one_of("pullPolicy", &PULL_POLICIES, errors);
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(volume: &Value, expect: &[&str]) {
        let input = value!({"volumes": [(volume.clone())]});
        let owner = Owner { is_pod: true, name: "pod" };
        let found = errors(&input, |at, errors| drop(volumes(at, owner, errors)));
        assert_eq!(found, expect);
    }

    #[test]
    fn one_source() {
        check(&value!({"name": "a", "emptyDir": {}}), &[]);
        check(&value!({"name": "a"}), &["at.volumes[0]: Required value: must specify a volume type"]);
        check(
            &value!({"name": "a", "emptyDir": {}, "hostPath": {"path": ""}}),
            &["at.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        );
        check(
            &value!({"name": "", "hostPath": {"path": "/a/../b"}}),
            &[
                r#"at.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'"#,
                "at.volumes[0].name: Required value",
            ],
        );
    }

    #[test]
    fn files_of_secrets() {
        check(
            &value!({"name": "a", "secret": {"secretName": "", "defaultMode": 512, "items": [{"key": "", "path": "..a"}]}}),
            &[
                "at.volumes[0].secret.secretName: Required value",
                "at.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "at.volumes[0].secret.items[0].key: Required value",
                r#"at.volumes[0].secret.items[0].path: Invalid value: "..a": must not start with '..'"#,
            ],
        );
        check(
            &value!({"name": "a", "downwardAPI": {"items": [{"path": "a"}]}}),
            &["at.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"],
        );
    }

    #[test]
    fn claims_that_a_pod_makes() {
        let template =
            value!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        check(&value!({"name": "a", "ephemeral": {"volumeClaimTemplate": template}}), &[]);
        check(
            &value!({"name": "a", "ephemeral": {}}),
            &["at.volumes[0].ephemeral.volumeClaimTemplate: Required value"],
        );
    }
}
