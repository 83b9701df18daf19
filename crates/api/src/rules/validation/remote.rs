//! Volume sources that stand outside the node: what each of them has to say, and that a volume has one source.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;

use super::{At, reasons, subdomain};

pub(super) const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 \
                                         characters if iscsi.initiatorName is specified.";

type Check = fn(&At<'_>, &mut FieldErrors);

/// One of the sources that a volume may have.
pub(super) struct Source {
    field: &'static str,
    /// What upstream calls the field in errors below it.
    at: &'static str,
    /// What upstream calls the field when it is one source too many.
    twice_at: &'static str,
    check: Check,
}

impl Source {
    pub(super) const fn new(field: &'static str, check: Check) -> Self {
        Self { field, at: field, twice_at: field, check }
    }

    pub(super) fn field(&self) -> &'static str {
        self.field
    }

    pub(super) const fn at(mut self, name: &'static str) -> Self {
        self.at = name;
        self
    }

    pub(super) const fn twice_at(mut self, name: &'static str) -> Self {
        self.twice_at = name;
        self
    }
}

/// Checks the first source that a volume has, refuses others, and gives the first one's field.
pub(super) fn one_source(volume: &At<'_>, sources: &[Source], errors: &mut FieldErrors) -> Option<&'static str> {
    let mut taken = None;
    for source in sources {
        let Some(map) = volume.get(source.field).and_then(|value| value.as_object()) else { continue };
        if taken.is_some() {
            errors.forbidden(&volume.path(source.twice_at), "may not specify more than 1 volume type");
        } else {
            taken = Some(source.field);
            (source.check)(&At::new(map, volume.path(source.at)), errors);
        }
    }
    if taken.is_none() {
        errors.required(&volume.path, "must specify a volume type");
    }
    taken
}

fn partition(at: &At<'_>, errors: &mut FieldErrors) {
    if let Some(partition) = at.int("partition").filter(|partition| !(0..=255).contains(partition)) {
        errors.invalid(&at.path("partition"), partition, name::inclusive_range(1, 255));
    }
}

/// A list that may not be empty.
fn require_items(at: &At<'_>, field: &str, errors: &mut FieldErrors) {
    if at.items(field).is_empty() {
        errors.required(&at.path(field), "");
    }
}

fn require_all(at: &At<'_>, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        at.require(field, errors);
    }
}

pub(super) fn gce_disk(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("pdName", errors);
    partition(at, errors);
}

pub(super) fn aws_disk(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
    partition(at, errors);
}

pub(super) fn nfs(at: &At<'_>, errors: &mut FieldErrors) {
    require_all(at, &["server", "path"], errors);
    let path = at.text("path");
    if !path.starts_with('/') {
        errors.invalid(&at.path("path"), path, "must be an absolute path");
    }
}

pub(super) fn iscsi(at: &At<'_>, errors: &mut FieldErrors) {
    iscsi_target(at, "must be valid format starting with iqn, eui, or naa", errors);
}

/// A persistent volume's; `name` is that of the volume.
pub(super) fn iscsi_persistent(at: &At<'_>, volume: &str, errors: &mut FieldErrors) {
    if at.given("initiatorName") && volume.len() + 1 + at.text("targetPortal").len() > 64 {
        errors.invalid(&at.path("targetportal"), at.text("targetPortal"), ISCSI_TOO_LONG);
    }
    iscsi_target(at, "must be valid format", errors);
    if let Some(secret) = at.object("secretRef") {
        secret.require("name", errors);
    }
}

fn iscsi_target(at: &At<'_>, unknown: &str, errors: &mut FieldErrors) {
    require_all(at, &["targetPortal", "iqn"], errors);
    qualified_target(at, "iqn", "iqn", unknown, errors);
    let lun = at.int("lun").unwrap_or_default();
    reasons(&at.path("lun"), lun, name::in_range(lun, 0, 255), errors);
    if (at.flag("chapAuthDiscovery") || at.flag("chapAuthSession")) && !at.given("secretRef") {
        errors.required(&at.path("secretRef"), "");
    }
    qualified_target(at, "initiatorName", "initiatorname", unknown, errors);
}

fn qualified_target(at: &At<'_>, field: &str, shown: &str, unknown: &str, errors: &mut FieldErrors) {
    let text = at.text(field);
    if text.is_empty() && (field == "iqn" || !at.given(field)) {
        return;
    }
    let fixed = |length: usize| text.len() == 4 + length && text[4..].bytes().all(|byte| byte.is_ascii_alphanumeric());
    let valid = match text.get(..3) {
        Some("iqn") => is_iqn(text),
        Some("eui") => text.is_char_boundary(4) && fixed(16),
        Some("naa") => text.is_char_boundary(4) && fixed(32),
        _ => {
            errors.invalid(&at.path(shown), text, unknown);
            return;
        }
    };
    if !valid {
        errors.invalid(&at.path(shown), text, "must be valid format");
    }
}

/// `iqn.2016-04.com.example:storage`
fn is_iqn(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("iqn.") else { return false };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((date, rest)) = rest.split_at_checked(8).filter(|(date, _)| date.is_ascii()) else { return false };
    let dated = digits(&date[..4]) && &date[4..5] == "-" && digits(&date[5..7]) && &date[7..] == ".";
    let (authority, unique) = rest.split_once(':').unwrap_or((rest, ""));
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let free = |c: char| !c.is_whitespace() && !",;*&$|^".contains(c);
    dated && !authority.is_empty() && authority.bytes().all(word) && !unique.is_empty() && unique.chars().all(free)
}

pub(super) fn glusterfs(at: &At<'_>, errors: &mut FieldErrors) {
    require_all(at, &["endpoints", "path"], errors);
}

pub(super) fn glusterfs_persistent(at: &At<'_>, errors: &mut FieldErrors) {
    glusterfs(at, errors);
    if at.given("endpointsNamespace") {
        match at.text("endpointsNamespace") {
            "" => {
                let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                errors.invalid(&at.path("endpointsNamespace"), "", detail);
            }
            _ => at.named("endpointsNamespace", name::dns1123_label, errors),
        }
    }
}

pub(super) fn flocker(at: &At<'_>, errors: &mut FieldErrors) {
    let (name, uuid) = (at.text("datasetName"), at.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(&at.path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        errors.invalid(&at.path, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        errors.invalid(&at.path("datasetName"), name, "must not contain '/'");
    }
}

pub(super) fn rbd(at: &At<'_>, errors: &mut FieldErrors) {
    require_items(at, "monitors", errors);
    at.require("image", errors);
}

pub(super) fn cinder(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
    secret(at, &["name"], errors);
}

pub(super) fn cinder_persistent(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
    secret(at, &["name", "namespace"], errors);
}

fn secret(at: &At<'_>, fields: &[&str], errors: &mut FieldErrors) {
    if let Some(secret) = at.object("secretRef") {
        require_all(&secret, fields, errors);
    }
}

pub(super) fn cephfs(at: &At<'_>, errors: &mut FieldErrors) {
    require_items(at, "monitors", errors);
}

pub(super) fn quobyte(at: &At<'_>, errors: &mut FieldErrors) {
    let registry = at.text("registry");
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        errors.required(&at.path("registry"), detail);
    } else if at.text("tenant").len() >= 65 {
        errors.required(&at.path("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else {
        let pair = |pair: &str| match pair.rsplit_once(':') {
            Some((host, _)) => !host.contains(':') || host.starts_with('[') && host.ends_with(']'),
            None => false,
        };
        for _ in registry.split(',').filter(|text| !pair(text)) {
            errors.invalid(&at.path("registry"), registry, detail);
        }
    }
    at.require("volume", errors);
}

pub(super) fn fibre_channel(at: &At<'_>, errors: &mut FieldErrors) {
    let (names, ids) = (at.items("targetWWNs"), at.items("wwids"));
    let path = at.path("targetWWNs");
    if names.is_empty() && ids.is_empty() {
        errors.required(&path, "must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&path, at.value("targetWWNs"), detail);
    }
    if !names.is_empty() {
        match at.int("lun") {
            None => errors.required(&at.path("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) => reasons(&at.path("lun"), lun, name::in_range(lun, 0, 255), errors),
        }
    }
}

pub(super) fn flex(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("driver", errors);
    for (key, _) in at.entries("options") {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
        let normal = format!(".{}", domain.to_lowercase());
        if normal.ends_with(".kubernetes.io") || normal.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.path("options").key(key), key.clone(), detail);
        }
    }
}

pub(super) fn azure_file(at: &At<'_>, errors: &mut FieldErrors) {
    require_all(at, &["secretName", "shareName"], errors);
}

pub(super) fn azure_file_persistent(at: &At<'_>, errors: &mut FieldErrors) {
    azure_file(at, errors);
    if at.given("secretNamespace") {
        at.require("secretNamespace", errors);
    }
}

pub(super) fn azure_disk(at: &At<'_>, errors: &mut FieldErrors) {
    require_all(at, &["diskName", "diskURI"], errors);
    at.one_of("cachingMode", &["None", "ReadOnly", "ReadWrite"], errors);
    at.one_of("kind", &["Dedicated", "Managed", "Shared"], errors);
    let (kind, uri) = (at.text("kind"), at.text("diskURI"));
    if kind == "Managed" && !uri.starts_with("/subscriptions/") {
        let form = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        errors.not_supported(&at.path("diskURI"), uri, &[form]);
    }
    if at.given("kind") && kind != "Managed" && !uri.starts_with("https://") {
        let form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
        errors.not_supported(&at.path("diskURI"), uri, &[form]);
    }
}

pub(super) fn vsphere(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("volumePath", errors);
}

pub(super) fn photon(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("pdID", errors);
}

pub(super) fn portworx(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
}

pub(super) fn scale_io(at: &At<'_>, errors: &mut FieldErrors) {
    require_all(at, &["gateway", "system", "volumeName"], errors);
}

pub(super) fn storage_os(at: &At<'_>, errors: &mut FieldErrors) {
    storage_os_volume(at, errors);
    secret(at, &["name"], errors);
}

pub(super) fn storage_os_persistent(at: &At<'_>, errors: &mut FieldErrors) {
    storage_os_volume(at, errors);
    secret(at, &["name", "namespace"], errors);
}

fn storage_os_volume(at: &At<'_>, errors: &mut FieldErrors) {
    at.require_named("volumeName", name::dns1123_label, errors);
    if !at.text("volumeNamespace").is_empty() {
        at.named("volumeNamespace", name::dns1123_label, errors);
    }
}

/// The name of a driver, which may be in upper case.
pub(super) fn csi_driver(at: &At<'_>, errors: &mut FieldErrors) {
    let driver = at.text("driver");
    at.require("driver", errors);
    if driver.len() > name::LABEL_BYTES_MAX {
        errors.too_long(&at.path("driver"), name::LABEL_BYTES_MAX);
    }
    reasons(&at.path("driver"), driver, subdomain(&driver.to_lowercase()), errors);
}

pub(super) fn csi_persistent(at: &At<'_>, errors: &mut FieldErrors) {
    csi_driver(at, errors);
    at.require("volumeHandle", errors);
    for field in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        if let Some(secret) = at.object(field) {
            secret.require_named("name", subdomain, errors);
            secret.require_named("namespace", name::dns1123_label, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(rule: Check, input: &Value, expect: &[&str]) {
        assert_eq!(errors(input, rule), expect);
    }

    #[test]
    fn targets() {
        let disk = |iqn: &str| value!({"targetPortal": "10.0.0.1:3260", "iqn": iqn, "lun": 0});
        check(iscsi, &disk("iqn.2016-04.test.com:storage.target00"), &[]);
        check(iscsi, &disk("eui.0123456789ABCDEF"), &[]);
        check(iscsi, &disk("iqn.2016.com"), &[r#"at.iqn: Invalid value: "iqn.2016.com": must be valid format"#]);
        check(
            iscsi,
            &disk("x"),
            &[r#"at.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa"#],
        );
        check(
            iscsi,
            &value!({"targetPortal": "a", "iqn": "eui.0123456789ABCDEF", "lun": 300, "chapAuthSession": true}),
            &["at.lun: Invalid value: 300: must be between 0 and 255, inclusive", "at.secretRef: Required value"],
        );
    }

    #[test]
    fn required_fields() {
        check(
            nfs,
            &value!({"server": "", "path": "a"}),
            &["at.server: Required value", r#"at.path: Invalid value: "a": must be an absolute path"#],
        );
        check(fibre_channel, &value!({"wwids": ["a"]}), &[]);
        check(
            csi_persistent,
            &value!({"driver": "A.example", "volumeHandle": "", "nodePublishSecretRef": {"name": "a"}}),
            &["at.volumeHandle: Required value", "at.nodePublishSecretRef.namespace: Required value"],
        );
        check(quobyte, &value!({"registry": "a:1,b:2", "volume": "v"}), &[]);
        check(
            azure_disk,
            &value!({"diskName": "a", "diskURI": "b", "kind": "Managed"}),
            &[
                r#"at.diskURI: Unsupported value: "b": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}""#,
            ],
        );
    }
}
