//! Device claims and slices of dynamic resource allocation.

use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, text, zero};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("resource/v1.ExactDeviceRequest", fills(device_request)),
    ("resource/v1.DeviceSubRequest", fills(device_request)),
    ("resource/v1.DeviceToleration", fills(|toleration| zero(toleration, "operator", "Equal"))),
    ("resource/v1.Device", fills(device)),
];

fn device_request(request: &mut Map) {
    zero(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        zero(request, "count", 1);
    }
}

fn device(device: &mut Map) {
    let mappings = super::object_mut(device, "nodeAllocatableResourceMappings");
    for (_, mapping) in mappings.into_iter().flat_map(Map::iter_mut) {
        if let Value::Object(mapping) = mapping {
            absent(mapping, "allocationMultiplier", "1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn requests() {
        check("resource/v1.ExactDeviceRequest", value!({}), &value!({"allocationMode": "ExactCount", "count": 1}));
        check("resource/v1.DeviceSubRequest", value!({"allocationMode": "All"}), &value!({"allocationMode": "All"}));
        check(
            "resource/v1.Device",
            value!({"nodeAllocatableResourceMappings": {"cpu": {}}}),
            &value!({"nodeAllocatableResourceMappings": {"cpu": {"allocationMultiplier": "1"}}}),
        );
    }
}
