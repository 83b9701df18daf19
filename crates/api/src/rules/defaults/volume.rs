//! Volumes and their sources, of pods and of persistent volumes.

use corten_apimachinery::value::{Map, Value};

use super::container::pull_policy;
use super::{absent, fills, object_mut, text, zero};
use crate::rules::RuleTable;

/// Permissions of projected files: 0644.
const MODE: i64 = 420;

pub(in crate::rules) const RULES: RuleTable = &[
    ("core/v1.Volume", fills(volume)),
    ("core/v1.ConfigMapVolumeSource", fills(mode)),
    ("core/v1.DownwardAPIVolumeSource", fills(mode)),
    ("core/v1.ProjectedVolumeSource", fills(mode)),
    ("core/v1.SecretVolumeSource", fills(mode)),
    ("core/v1.HostPathVolumeSource", fills(|path| absent(path, "type", ""))),
    ("core/v1.ServiceAccountTokenProjection", fills(|token| absent(token, "expirationSeconds", 3600))),
    (
        "core/v1.AzureDiskVolumeSource",
        fills(|disk| {
            absent(disk, "cachingMode", "ReadWrite");
            absent(disk, "fsType", "ext4");
            absent(disk, "readOnly", false);
            absent(disk, "kind", "Shared");
        }),
    ),
    ("core/v1.ISCSIVolumeSource", fills(iscsi)),
    ("core/v1.ISCSIPersistentVolumeSource", fills(iscsi)),
    ("core/v1.RBDVolumeSource", fills(rbd)),
    ("core/v1.RBDPersistentVolumeSource", fills(rbd)),
    ("core/v1.ScaleIOVolumeSource", fills(scale_io)),
    ("core/v1.ScaleIOPersistentVolumeSource", fills(scale_io)),
];

/// A volume without a source is an empty directory.
fn volume(volume: &mut Map) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir", Value::object());
    }
    if let Some(image) = object_mut(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        zero(image, "pullPolicy", policy);
    }
}

fn mode(source: &mut Map) {
    absent(source, "defaultMode", MODE);
}

fn iscsi(source: &mut Map) {
    zero(source, "iscsiInterface", "default");
}

fn rbd(source: &mut Map) {
    zero(source, "pool", "rbd");
    zero(source, "user", "admin");
    zero(source, "keyring", "/etc/ceph/keyring");
}

fn scale_io(source: &mut Map) {
    zero(source, "storageMode", "ThinProvisioned");
    zero(source, "fsType", "xfs");
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn sources() {
        check("core/v1.Volume", value!({"name": "a"}), &value!({"name": "a", "emptyDir": {}}));
        check(
            "core/v1.Volume",
            value!({"name": "a", "image": {"reference": "a"}}),
            &value!({"name": "a", "image": {"reference": "a", "pullPolicy": "Always"}}),
        );
        check("core/v1.SecretVolumeSource", value!({"defaultMode": 0}), &value!({"defaultMode": 0}));
        check("core/v1.ConfigMapVolumeSource", value!({}), &value!({"defaultMode": 420}));
        check("core/v1.HostPathVolumeSource", value!({"path": "/"}), &value!({"path": "/", "type": ""}));
    }
}
