//! Endpoint slices.

use std::net::IpAddr;

use corten_apimachinery::field::{FieldErrorKind, FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::{At, domain, reasons, same};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;

pub(crate) fn endpoint_slice(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (slice, old) = sides(validation);
    slice.require_one_of("addressType", &["FQDN", "IPv4", "IPv6"], errors);
    ports(&slice, errors);
    // Endpoints that are stored are not checked again.
    if old.as_ref().is_none_or(|old| !same(old.get("endpoints"), slice.get("endpoints"))) {
        endpoints(&slice, errors);
    }
    if let Some(old) = old {
        slice.immutable(&old, "addressType", errors);
    }
}

fn ports(slice: &At<'_>, errors: &mut FieldErrors) {
    let count = slice.items("ports").len();
    if count > PORTS_MAX {
        errors.too_many(&slice.path("ports"), count, PORTS_MAX);
        return;
    }
    let mut names = Vec::new();
    for port in slice.each("ports") {
        let (name, path) = (port.text("name"), port.path("name"));
        if !name.is_empty() {
            reasons(&path, name, name::dns1123_label(name), errors);
        }
        if names.contains(&name) {
            errors.duplicate(&path, name);
        } else {
            names.push(name);
        }
        if port.given("protocol") {
            port.one_of("protocol", &["SCTP", "TCP", "UDP"], errors);
        } else {
            errors.required(&port.path("protocol"), "");
        }
        port.named("appProtocol", name::qualified_name, errors);
    }
}

fn endpoints(slice: &At<'_>, errors: &mut FieldErrors) {
    let count = slice.items("endpoints").len();
    if count > ENDPOINTS_MAX {
        errors.too_many(&slice.path("endpoints"), count, ENDPOINTS_MAX);
        return;
    }
    for endpoint in slice.each("endpoints") {
        addresses(&endpoint, slice.text("addressType"), errors);
        endpoint.named("nodeName", name::dns1123_subdomain, errors);
        topology(&endpoint, errors);
        endpoint.named("hostname", name::dns1123_label, errors);
        if let Some(hints) = endpoint.object("hints") {
            self::hints(&hints, errors);
        }
    }
}

fn addresses(endpoint: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    let path = endpoint.path("addresses");
    match endpoint.items("addresses").len() {
        0 => errors.required(&path, "must contain at least 1 address"),
        count if count > ADDRESSES_MAX => errors.too_many(&path, count, ADDRESSES_MAX),
        _ => {}
    }
    for (address, item) in endpoint.texts("addresses") {
        let (refused, right, wrong_family): (_, fn(&IpAddr) -> bool, _) = match kind {
            "IPv4" => (name::legacy_ip(address), IpAddr::is_ipv4, "must be an IPv4 address"),
            "IPv6" => (name::ip(address), IpAddr::is_ipv6, "must be an IPv6 address"),
            "FQDN" => {
                domain::host(&item, address, errors);
                continue;
            }
            _ => continue,
        };
        if !refused.is_empty() {
            reasons(&item, address, refused, errors);
            continue;
        }
        let Some(parsed) = name::lenient_ip(address) else { continue };
        if !right(&parsed) {
            errors.invalid(&path, address, wrong_family);
        }
        special_address(parsed, address, &item, errors);
    }
}

/// Addresses that no other host can reach, or that are not one host's.
pub(crate) fn special_address(parsed: IpAddr, address: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let mut refuse = |detail: &str| errors.invalid(path, address, detail);
    if parsed.is_unspecified() {
        refuse(&format!("may not be unspecified ({address})"));
    }
    if parsed.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match parsed {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn topology(endpoint: &At<'_>, errors: &mut FieldErrors) {
    let path = endpoint.path("deprecatedTopology");
    let count = endpoint.entries("deprecatedTopology").count();
    if count > TOPOLOGY_MAX {
        errors.too_many(&path, count, TOPOLOGY_MAX);
    }
    corten_apimachinery::meta::validate_labels(endpoint.strings("deprecatedTopology"), &path, errors);
    let zone = "topology.kubernetes.io/zone";
    if endpoint.entries("deprecatedTopology").any(|(key, _)| key == zone) {
        let detail = "reserved key was not removed in conversion";
        errors.push(FieldErrorKind::Internal, &path.key(zone), Value::Null, detail);
    }
}

fn hints(hints: &At<'_>, errors: &mut FieldErrors) {
    let rules: [(&str, fn(&str) -> name::Reasons); 2] =
        [("forZones", name::label_value), ("forNodes", name::dns1123_subdomain)];
    for (field, rule) in rules {
        let count = hints.items(field).len();
        if count > HINTS_MAX {
            errors.too_many(&hints.path(field), count, HINTS_MAX);
            return;
        }
        let mut names = Vec::new();
        for hint in hints.each(field) {
            let (name, path) = (hint.text("name"), hint.path("name"));
            if names.contains(&name) {
                errors.duplicate(&path, name);
            } else {
                names.push(name);
            }
            reasons(&path, name, rule(name), errors);
        }
    }
}
