//! Persistent volumes, claims, storage classes and CSI drivers.

use super::{absent, fills, zero};
use crate::rules::RuleTable;
use corten_apimachinery::value;

pub(in crate::rules) const RULES: RuleTable = &[
    // Attached to the volume: a volume attachment's inline spec keeps what it says.
    (
        "core/v1.PersistentVolume",
        fills(|volume| {
            zero(volume.object_entry("status"), "phase", "Pending");
            let spec = volume.object_entry("spec");
            zero(spec, "persistentVolumeReclaimPolicy", "Retain");
            absent(spec, "volumeMode", "Filesystem");
        }),
    ),
    ("core/v1.PersistentVolumeClaim", fills(|claim| zero(claim.object_entry("status"), "phase", "Pending"))),
    ("core/v1.PersistentVolumeClaimSpec", fills(|spec| absent(spec, "volumeMode", "Filesystem"))),
    (
        "storage/v1.StorageClass",
        fills(|class| {
            absent(class, "reclaimPolicy", "Delete");
            absent(class, "volumeBindingMode", "Immediate");
        }),
    ),
    (
        "storage/v1.CSIDriverSpec",
        fills(|spec| {
            absent(spec, "attachRequired", true);
            absent(spec, "podInfoOnMount", false);
            absent(spec, "storageCapacity", false);
            absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            zero(spec, "volumeLifecycleModes", value!(["Persistent"]));
            absent(spec, "requiresRepublish", false);
            absent(spec, "seLinuxMount", false);
        }),
    ),
];

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn volumes() {
        check(
            "core/v1.PersistentVolume",
            value!({"spec": {}}),
            &value!({
                "spec": {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
                "status": {"phase": "Pending"}
            }),
        );
        check("core/v1.PersistentVolumeClaim", value!({}), &value!({"status": {"phase": "Pending"}}));
        check("core/v1.PersistentVolumeClaimSpec", value!({"volumeMode": "Block"}), &value!({"volumeMode": "Block"}));
    }

    #[test]
    fn drivers() {
        check(
            "storage/v1.CSIDriverSpec",
            value!({"attachRequired": false}),
            &value!({
                "attachRequired": false, "podInfoOnMount": false, "storageCapacity": false,
                "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"],
                "requiresRepublish": false, "seLinuxMount": false
            }),
        );
    }
}
