//! Endpoints, and the addresses that may stand behind a service.

use std::net::IpAddr;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;

use super::{At, reasons, subdomain};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(crate) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let endpoints = At::root(validation.object);
    // What was stored once stays allowed.
    if validation.old.is_some_and(|old| super::same(endpoints.get("subsets"), old.get("subsets"))) {
        return;
    }
    for at in endpoints.each("subsets") {
        if at.items("addresses").is_empty() && at.items("notReadyAddresses").is_empty() {
            errors.required(&at.path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            at.each(field).for_each(|address| endpoint(&address, errors));
        }
        let several = at.items("ports").len() > 1;
        at.each("ports").for_each(|at| port(&at, several, errors));
    }
}

fn endpoint(at: &At<'_>, errors: &mut FieldErrors) {
    let ip = at.text("ip");
    reasons(&at.path("ip"), ip, name::legacy_ip(ip), errors);
    if !at.text("hostname").is_empty() {
        at.named("hostname", name::dns1123_label, errors);
    }
    at.named("nodeName", subdomain, errors);
    address(ip, &at.path("ip"), errors);
}

/// An address that is not the node's own.
pub(crate) fn address(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(ip) = name::lenient_ip(text) else {
        errors.invalid(path, text, "must be a valid IP address");
        return;
    };
    let ip = ip.to_canonical();
    let (link_local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn port(at: &At<'_>, several: bool, errors: &mut FieldErrors) {
    if several || !at.text("name").is_empty() {
        at.require_named("name", name::dns1123_label, errors);
    }
    let port = at.int("port").unwrap_or_default();
    reasons(&at.path("port"), port, name::port_number(port), errors);
    at.require_one_of("protocol", &PROTOCOLS, errors);
    at.named("appProtocol", name::qualified_name, errors);
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    fn check(subset: &Value, expect: &[&str]) {
        let object = value!({"subsets": [(subset.clone())]});
        let mut errors = FieldErrors::default();
        validate(Validation { object: &object, old: None, subresource: "" }, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
        let mut errors = FieldErrors::default();
        validate(Validation { object: &object, old: Some(&object), subresource: "" }, &mut errors);
        assert!(errors.is_empty());
    }

    #[test]
    fn subsets() {
        check(&value!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}), &[]);
        check(&value!({}), &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]);
        check(
            &value!({"addresses": [{"ip": "169.254.0.1", "hostname": "A.b"}], "ports": [{"port": 0, "protocol": ""}]}),
            &[
                "subsets[0].addresses[0].hostname: Invalid value: \"A.b\": a lowercase RFC 1123 label must consist of \
                 lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. \
                 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                r#"subsets[0].addresses[0].ip: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)"#,
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "subsets[0].ports[0].protocol: Required value",
            ],
        );
    }
}
