//! Ingresses.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::networking::typed_reference;
use super::{At, reasons};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const PATH_ENDS: [&str; 2] = ["/..", "/."];

pub(crate) fn ingress(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (ingress, old) = sides(validation);
    if validation.subresource == "status" {
        status(&ingress, old.as_ref(), errors);
        return;
    }
    let spec = ingress.object_or_empty("spec");
    let stored = old.as_ref().map(|old| old.object_or_empty("spec"));
    self::spec(&spec, stored.as_ref(), errors);
    let metadata = ingress.object_or_empty("metadata");
    let annotations = metadata.object_or_empty("annotations");
    if old.is_none()
        && let (Some(annotated), Some(class)) = (annotations.get(CLASS_ANNOTATION), spec.get("ingressClassName"))
        && annotated != class
    {
        let path = FieldPath::new("annotations").child(CLASS_ANNOTATION);
        errors.invalid(&path, annotated.clone(), "must match `ingressClassName` when both are specified");
    }
}

fn spec(spec: &At<'_>, stored: Option<&At<'_>>, errors: &mut FieldErrors) {
    let backend = spec.object("defaultBackend");
    if spec.items("rules").is_empty() && backend.is_none() {
        errors.invalid(&spec.path, spec.value("rules"), "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = &backend {
        self::backend(backend, errors);
    }
    let tolerated = stored.is_some_and(has_bad_wildcard_rule);
    for rule in spec.each("rules") {
        host(&rule, errors);
        if !(tolerated && rule.text("host").contains('*')) {
            paths(&rule, errors);
        }
    }
    let secret = |tls: &At<'_>| match tls.text("secretName") {
        "" => Vec::new(),
        secret => name::dns1123_subdomain(secret),
    };
    let tolerated = stored.is_some_and(|stored| stored.each("tls").any(|tls| !secret(&tls).is_empty()));
    for tls in spec.each("tls") {
        for (host, path) in tls.texts("hosts") {
            reasons(&path, host, host_reasons(host), errors);
        }
        if !tolerated {
            reasons(&tls.path("secretName"), tls.text("secretName"), secret(&tls), errors);
        }
    }
    spec.named("ingressClassName", name::dns1123_subdomain, errors);
}

/// Rules for wildcards were not checked once; those that are stored stay.
fn has_bad_wildcard_rule(spec: &At<'_>) -> bool {
    spec.each("rules").filter(|rule| rule.text("host").contains('*')).any(|rule| {
        let mut errors = FieldErrors::default();
        paths(&rule, &mut errors);
        !errors.is_empty()
    })
}

fn host_reasons(host: &str) -> name::Reasons {
    if host.contains('*') { name::wildcard_dns1123_subdomain(host) } else { name::dns1123_subdomain(host) }
}

fn host(rule: &At<'_>, errors: &mut FieldErrors) {
    let (host, path) = (rule.text("host"), rule.path("host"));
    if host.is_empty() {
        return;
    }
    if name::lenient_ip(host).is_some() {
        errors.invalid(&path, host, "must be a DNS name, not an IP address");
    }
    reasons(&path, host, host_reasons(host), errors);
}

fn paths(rule: &At<'_>, errors: &mut FieldErrors) {
    let Some(http) = rule.object("http") else { return };
    if http.items("paths").is_empty() {
        errors.required(&http.path("paths"), "");
    }
    for path in http.each("paths") {
        self::path(&path, errors);
    }
}

fn path(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.given("pathType") {
        errors.required(&at.path("pathType"), "pathType must be specified");
        return;
    }
    let (text, path) = (at.text("path"), at.path("path"));
    match at.text("pathType") {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&path, text, "must be an absolute path");
            }
            for part in PATH_PARTS.into_iter().filter(|part| text.contains(part)) {
                errors.invalid(&path, text, format!("must not contain '{part}'"));
            }
            for end in PATH_ENDS.into_iter().filter(|end| text.ends_with(end)) {
                errors.invalid(&path, text, format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&path, text, "must be an absolute path");
            }
        }
        kind => {
            errors.not_supported(&at.path("pathType"), kind, &["Exact", "ImplementationSpecific", "Prefix"]);
        }
    }
    backend(&at.object_or_empty("backend"), errors);
}

fn backend(backend: &At<'_>, errors: &mut FieldErrors) {
    match (backend.object("resource"), backend.object("service")) {
        (Some(_), Some(_)) => errors.invalid(&backend.path, "", "cannot set both resource and service backends"),
        (Some(resource), None) => typed_reference(&resource, errors),
        (None, Some(service)) => self::service(backend, &service, errors),
        (None, None) => errors.invalid(&backend.path, "", "resource or service backend is required"),
    }
}

fn service(backend: &At<'_>, service: &At<'_>, errors: &mut FieldErrors) {
    service.require_named("name", name::dns1123_label, errors);
    let port = service.object_or_empty("port");
    let (port_name, number) = (port.text("name"), port.int("number").unwrap_or_default());
    match (port_name, number) {
        ("", 0) => errors.required(&backend.path, "port name or number is required"),
        ("", number) => reasons(&port.path("number"), number, name::port_number(number), errors),
        (port_name, 0) => reasons(&port.path("name"), port_name, name::port_name(port_name), errors),
        _ => errors.invalid(&backend.path, "", "cannot set both port name & port number"),
    }
}

fn status(ingress: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    load_balancer(&balancer(ingress), old.map(balancer).as_ref(), errors);
}

fn balancer<'a>(ingress: &At<'a>) -> At<'a> {
    ingress.object_or_empty("status").object_or_empty("loadBalancer")
}

/// Addresses that are stored are not checked again.
fn load_balancer(status: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    let stored: Vec<&Value> =
        old.into_iter().flat_map(|old| old.items("ingress")).filter_map(|one| one.get("ip")).collect();
    for point in status.each("ingress") {
        if let Some(ip) = point.get("ip").filter(|ip| !stored.contains(ip)) {
            let text = ip.as_str().unwrap_or_default();
            reasons(&point.path("ip"), text, name::legacy_ip(text), errors);
        }
        let host = point.text("hostname");
        if host.is_empty() {
            continue;
        }
        reasons(&point.path("hostname"), host, name::dns1123_subdomain(host), errors);
        if name::lenient_ip(host).is_some() {
            errors.invalid(&point.path("hostname"), host, "must be a DNS name, not an IP address");
        }
    }
}
