//! Aggregated APIs.

use corten_apimachinery::field::{FieldErrors, FieldPath, go_quoted};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;

use super::{At, reasons, webhook};

pub(crate) fn api_service(validation: Validation<'_>, errors: &mut FieldErrors) {
    let service = At::root(validation.object);
    if validation.subresource == "status" {
        let statuses = ["True", "False", "Unknown"];
        for condition in service.object_or_empty("status").each("conditions") {
            let status = condition.text("status");
            if !statuses.contains(&status) {
                errors.not_supported(&condition.path("status"), status, &statuses);
            }
        }
        return;
    }
    let spec = service.object_or_empty("spec");
    let (group, version) = (spec.text("group"), spec.text("version"));
    let (name, required) = (service.object_or_empty("metadata").text("name"), format!("{version}.{group}"));
    if !["", &required].contains(&name) && name::path_segment(name).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {}", go_quoted(&required));
        errors.invalid(&FieldPath::new("metadata").child("name"), name, detail);
    }
    if group.is_empty() && version != "v1" {
        errors.required(&spec.path("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        reasons(&spec.path("group"), group, name::dns1123_subdomain(group), errors);
    }
    reasons(&spec.path("version"), version, name::dns1035_label(version), errors);
    for (field, limit) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.int(field).unwrap_or_default();
        if !(1..=limit).contains(&priority) {
            errors.invalid(&spec.path(field), priority, format!("must be positive and less than {limit}"));
        }
    }
    backend(&spec, errors);
}

fn backend(spec: &At<'_>, errors: &mut FieldErrors) {
    let (bundle, insecure) = (spec.text("caBundle"), spec.flag("insecureSkipTLSVerify"));
    let Some(service) = spec.object("service") else {
        if !bundle.is_empty() {
            // Base64: three bytes in four characters.
            let bytes = bundle.trim_end_matches('=').len() * 3 / 4;
            errors.invalid(
                &spec.path("caBundle"),
                format!("{bytes} bytes"),
                "local APIServices may not have a caBundle",
            );
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&spec.path("insecureSkipTLSVerify"), true, detail);
        }
        return;
    };
    service.require("namespace", errors);
    service.require("name", errors);
    webhook::service_port(&service, errors);
    if insecure && !bundle.is_empty() {
        errors.invalid(&spec.path("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
}
