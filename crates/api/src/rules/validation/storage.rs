//! Storage classes, attachments and CSI drivers.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::{At, reasons, same};

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const ERROR_BYTES_MAX: usize = 1024;
const DRIVER_BYTES_MAX: usize = 63;
const NODE_ID_BYTES_MAX: usize = 256;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

pub(crate) fn storage_class(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (class, old) = sides(validation);
    if let Some(old) = old {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            class.immutable(&old, field, errors);
        }
        return;
    }
    provisioner(&class, "provisioner", errors);
    parameters(&class, errors);
    if !class.text("reclaimPolicy").is_empty() {
        class.one_of("reclaimPolicy", &["Delete", "Retain"], errors);
    }
    if class.given("volumeBindingMode") {
        class.one_of("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], errors);
    } else {
        errors.required(&class.path("volumeBindingMode"), "");
    }
    topologies(&class, errors);
}

pub(crate) fn attributes_class(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (class, old) = sides(validation);
    if let Some(old) = old {
        for field in ["driverName", "parameters"] {
            if !same(class.get(field), old.get(field)) {
                errors.forbidden(&class.path(field), format!("updates to {field} are forbidden."));
            }
        }
    }
    provisioner(&class, "driverName", errors);
    parameters(&class, errors);
    if class.entries("parameters").next().is_none() {
        errors.required(&class.path("parameters"), "must contain at least one key/value pair");
    }
}

fn provisioner(class: &At<'_>, field: &str, errors: &mut FieldErrors) {
    if class.require(field, errors) {
        let lower = class.text(field).to_lowercase();
        reasons(&class.path(field), lower.as_str(), name::qualified_name(&lower), errors);
    }
}

fn parameters(class: &At<'_>, errors: &mut FieldErrors) {
    let path = class.path("parameters");
    if class.entries("parameters").count() > PARAMETERS_MAX {
        errors.too_long(&path, PARAMETERS_MAX);
        return;
    }
    for (key, _) in class.strings("parameters").filter(|(key, _)| key.is_empty()) {
        errors.invalid(&path, key.clone(), "field can not be empty.");
    }
    if bytes(class, "parameters") > PARAMETERS_BYTES_MAX {
        errors.too_long(&path, PARAMETERS_BYTES_MAX);
    }
}

fn bytes(at: &At<'_>, field: &str) -> usize {
    at.strings(field).map(|(key, value)| key.len() + value.len()).sum()
}

type Term<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn topologies(class: &At<'_>, errors: &mut FieldErrors) {
    let mut known: Vec<Term<'_>> = Vec::new();
    for term in class.each("allowedTopologies") {
        let mut keys = Term::new();
        for requirement in term.each("matchLabelExpressions") {
            let values = topology_values(&requirement, errors);
            let key = requirement.text("key");
            if keys.insert(key, values).is_some() {
                errors.duplicate(&requirement.path("key"), key);
            }
        }
        // Upstream compares with an empty term for each there is, too.
        let empty = if keys.is_empty() { class.items("allowedTopologies").len() } else { 0 };
        for _ in 0..empty + known.iter().filter(|other| **other == keys).count() {
            errors.duplicate(&term.path("matchLabelExpressions"), "");
        }
        known.push(keys);
    }
}

fn topology_values<'a>(requirement: &At<'a>, errors: &mut FieldErrors) -> BTreeSet<&'a str> {
    let mut values = BTreeSet::new();
    if requirement.items("values").is_empty() {
        errors.required(&requirement.path("values"), "");
    }
    for (value, path) in requirement.texts("values") {
        if !values.insert(value) {
            errors.duplicate(&path, value);
        }
    }
    let key = requirement.text("key");
    reasons(&requirement.path("key"), key, name::qualified_name(key), errors);
    values
}

pub(crate) fn attachment(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (attachment, old) = sides(validation);
    let spec = attachment.object_or_empty("spec");
    driver_name(&spec, "attacher", errors);
    let source = spec.object_or_empty("source");
    let volume = source.get("persistentVolumeName").and_then(Value::as_str);
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.given("inlineVolumeSpec"), volume) {
        (false, None) => errors.required(&source.path, one),
        (true, Some(_)) => errors.forbidden(&source.path, one),
        (false, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.required(&source.path("persistentVolumeName"), detail);
        }
        _ => {}
    }
    let node = spec.text("nodeName");
    reasons(&spec.path("nodeName"), node, name::dns1123_subdomain(node), errors);
    let status = attachment.object_or_empty("status");
    if bytes(&status, "attachmentMetadata") > PARAMETERS_BYTES_MAX {
        errors.too_long(&status.path("attachmentMetadata"), PARAMETERS_BYTES_MAX);
    }
    for field in ["attachError", "detachError"] {
        if let Some(error) = status.object(field) {
            volume_error(&error, errors);
        }
    }
    if let Some(volume) = volume {
        let path = FieldPath::new("spec.source.persistentVolumeName");
        reasons(&path, volume, name::dns1123_subdomain(volume), errors);
    }
    if let Some(old) = old {
        attachment.immutable(&old, "spec", errors);
    }
}

fn volume_error(error: &At<'_>, errors: &mut FieldErrors) {
    if error.text("message").len() > ERROR_BYTES_MAX {
        // The limit that upstream names is another one than it keeps.
        errors.too_long(&error.path("message"), PARAMETERS_BYTES_MAX);
    }
    if let Some(code @ ..0) = error.int("errorCode") {
        errors.invalid(&error.path("errorCode"), code, name::inclusive_range(0, i32::MAX.into()));
    }
}

fn driver_name(at: &At<'_>, field: &str, errors: &mut FieldErrors) {
    if !at.require(field, errors) {
        return;
    }
    let (driver, path) = (at.text(field), at.path(field));
    if driver.len() > DRIVER_BYTES_MAX {
        errors.too_long(&path, DRIVER_BYTES_MAX);
    }
    reasons(&path, driver, name::dns1123_subdomain(&driver.to_lowercase()), errors);
}

pub(crate) fn csi_node(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (node, old) = sides(validation);
    let spec = node.object_or_empty("spec");
    let mut names = BTreeSet::new();
    for driver in spec.each("drivers") {
        driver_name(&driver, "name", errors);
        let id = driver.text("nodeID");
        driver.require("nodeID", errors);
        if id.len() > NODE_ID_BYTES_MAX {
            let detail = format!("must be {NODE_ID_BYTES_MAX} characters or less");
            errors.invalid(&driver.path("nodeID"), id, detail);
        }
        driver.object_or_empty("allocatable").nonnegative("count", errors);
        if !names.insert(driver.text("name")) {
            errors.duplicate(&driver.path("name"), driver.text("name"));
        }
        topology_keys(&driver, errors);
    }
    let Some(old) = old else { return };
    for stored in old.object_or_empty("spec").each("drivers") {
        for driver in spec.each("drivers").filter(|driver| driver.text("name") == stored.text("name")) {
            if ["nodeID", "topologyKeys"].into_iter().any(|field| !same(driver.get(field), stored.get(field))) {
                errors.invalid(&spec.path("drivers"), driver.map.clone(), super::IMMUTABLE);
            }
        }
    }
}

fn topology_keys(driver: &At<'_>, errors: &mut FieldErrors) {
    let mut keys = BTreeSet::new();
    for (key, _) in driver.texts("topologyKeys") {
        if key.is_empty() {
            errors.required(&driver.path, key);
        }
        if !keys.insert(key) {
            errors.duplicate(&driver.path, key);
        }
        reasons(&driver.path, key, name::qualified_name(key), errors);
    }
}

pub(crate) fn csi_driver(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (driver, old) = sides(validation);
    let spec = driver.object_or_empty("spec");
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.given(field) {
            errors.required(&spec.path(shown), "");
        }
    }
    spec.one_of("fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"], errors);
    token_requests(&spec, errors);
    for (mode, _) in spec.texts("volumeLifecycleModes").filter(|(mode, _)| !["Persistent", "Ephemeral"].contains(mode))
    {
        errors.not_supported(&spec.path("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
    }
    if !spec.given("seLinuxMount") {
        errors.required(&spec.path("seLinuxMount"), "");
    }
    if let Some(period @ ..10) = spec.int("nodeAllocatableUpdatePeriodSeconds") {
        let detail = "must be greater than or equal to 10 seconds";
        errors.invalid(&spec.path("nodeAllocatableUpdatePeriodSeconds"), period, detail);
    }
    if let Some(flag) = spec.get("serviceAccountTokenInSecrets")
        && spec.items("tokenRequests").is_empty()
    {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&spec.path("serviceAccountTokenInSecrets"), flag.clone(), detail);
    }
    let Some(old) = old else { return };
    let old = old.object_or_empty("spec");
    for (field, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
        if !same(spec.get(field), old.get(field)) {
            errors.invalid(&spec.path(shown), spec.value(field), super::IMMUTABLE);
        }
    }
}

fn token_requests(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut audiences = BTreeSet::new();
    for request in spec.each("tokenRequests") {
        let audience = request.text("audience");
        if !audiences.insert(audience) {
            errors.duplicate(&request.path("audience"), audience);
            continue;
        }
        let (seconds, path) = (request.int("expirationSeconds"), request.path("expirationSeconds"));
        if let Some(seconds) = seconds.filter(|seconds| *seconds < TOKEN_SECONDS_MIN) {
            errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        }
        if let Some(seconds) = seconds.filter(|seconds| *seconds > TOKEN_SECONDS_MAX) {
            errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

pub(crate) fn capacity(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (capacity, old) = sides(validation);
    if let Some(old) = old {
        capacity.immutable(&old, "nodeTopology", errors);
        capacity.immutable(&old, "storageClassName", errors);
        return;
    }
    capacity.selector("nodeTopology", errors);
    let class = capacity.text("storageClassName");
    reasons(&capacity.path("storageClassName"), class, name::dns1123_subdomain(class), errors);
    if let Some(amount) = capacity.get("capacity")
        && super::quantity(amount).signum() < 0
    {
        errors.invalid(&capacity.path("capacity"), amount.clone(), super::NEGATIVE);
    }
}
