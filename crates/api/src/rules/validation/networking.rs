//! Ingress classes, addresses and ranges of services.

use std::net::IpAddr;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::{At, IMMUTABLE, domain, reasons};

const CONTROLLER_BYTES_MAX: usize = 250;

pub(crate) fn ingress_class(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (class, old) = sides(validation);
    let spec = class.object_or_empty("spec");
    if let Some(old) = old {
        spec.immutable(&old.object_or_empty("spec"), "controller", errors);
    }
    let controller = spec.text("controller");
    if controller.len() > CONTROLLER_BYTES_MAX {
        errors.too_long(&spec.path("controller"), CONTROLLER_BYTES_MAX);
    }
    domain::prefixed_path(&spec.path("controller"), controller, errors);
    if let Some(parameters) = spec.object("parameters") {
        class_parameters(&parameters, errors);
    }
}

fn class_parameters(parameters: &At<'_>, errors: &mut FieldErrors) {
    typed_reference(parameters, errors);
    let (scope, namespace) = (parameters.text("scope"), parameters.get("namespace").and_then(Value::as_str));
    let path = parameters.path("namespace");
    match (parameters.given("scope"), scope, namespace) {
        (false, _, _) => errors.required(&parameters.path("scope"), ""),
        (true, "Namespace", None) => errors.required(&path, "`parameters.scope` is set to 'Namespace'"),
        (true, "Namespace", Some(namespace)) => reasons(&path, namespace, name::dns1123_label(namespace), errors),
        (true, "Cluster", Some(_)) => errors.forbidden(&path, "`parameters.scope` is set to 'Cluster'"),
        (true, "Cluster", None) => {}
        (true, scope, _) => errors.not_supported(&parameters.path("scope"), scope, &["Cluster", "Namespace"]),
    }
}

/// Group, kind and name of another object.
pub(super) fn typed_reference(reference: &At<'_>, errors: &mut FieldErrors) {
    reference.named("apiGroup", name::dns1123_subdomain, errors);
    reference.require_named("kind", name::path_segment, errors);
    reference.require_named("name", name::path_segment, errors);
}

/// An address object is called by its address.
pub(crate) fn ip_address(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (address, old) = sides(validation);
    let name = address.object_or_empty("metadata").text("name");
    let spec = address.object_or_empty("spec");
    match old {
        None => {
            if !name.is_empty() {
                reasons(&FieldPath::new("metadata").child("name"), name, name::ip(name), errors);
            }
            parent_reference(&spec, errors);
        }
        Some(old) => {
            let old = old.object_or_empty("spec");
            if !super::same(spec.get("parentRef"), old.get("parentRef")) {
                // Upstream prints its internal form.
                let shown = spec.object("parentRef").map_or(Value::Null, |parent| {
                    value!({
                        "Group": (parent.text("group")),
                        "Resource": (parent.text("resource")),
                        "Namespace": (parent.text("namespace")),
                        "Name": (parent.text("name"))
                    })
                });
                errors.invalid(&spec.path("parentRef"), shown, IMMUTABLE);
            }
        }
    }
}

fn parent_reference(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(parent) = spec.object("parentRef") else {
        errors.required(&spec.path("parentRef"), "");
        return;
    };
    if !parent.text("group").is_empty() {
        parent.named("group", name::dns1123_subdomain, errors);
    }
    parent.require_named("resource", name::path_segment, errors);
    parent.require_named("name", name::path_segment, errors);
    parent.named("namespace", name::path_segment, errors);
}

pub(crate) fn service_cidr(validation: Validation<'_>, errors: &mut FieldErrors) {
    if !validation.subresource.is_empty() {
        return;
    }
    let (range, old) = sides(validation);
    let spec = range.object_or_empty("spec");
    let path = spec.path("cidrs");
    let Some(old) = old else {
        ranges(&spec, errors);
        return;
    };
    let old = old.object_or_empty("spec");
    let (new, stored) = (spec.items("cidrs"), old.items("cidrs"));
    let grows = stored.len() == 1 && new.len() == 2;
    if new.len() != stored.len() && !grows {
        errors.invalid(&path, spec.value("cidrs"), IMMUTABLE);
        return;
    }
    for (index, (new, _)) in new.iter().zip(stored).enumerate().filter(|(_, (new, stored))| new != stored) {
        errors.invalid(&path.index(index), new.clone(), IMMUTABLE);
    }
    if grows {
        ranges(&spec, errors);
    }
}

fn ranges(spec: &At<'_>, errors: &mut FieldErrors) {
    let path = spec.path("cidrs");
    let all: Vec<(&str, FieldPath)> = spec.texts("cidrs").collect();
    match all.len() {
        0 => return errors.required(&path, "at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let shown = value!({"CIDRs": (spec.value("cidrs"))});
            return errors.invalid(&path, shown, "may only hold up to 2 values");
        }
    }
    for (range, path) in &all {
        reasons(path, *range, name::cidr(range), errors);
    }
    let family = |range: &str| name::lenient_cidr(range).map(|(address, _)| matches!(address, IpAddr::V4(_)));
    if let [(first, _), (second, _)] = all.as_slice()
        && family(first).is_some()
        && family(first) == family(second)
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, spec.value("cidrs"), detail);
    }
}
