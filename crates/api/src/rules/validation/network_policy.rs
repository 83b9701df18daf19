//! Network policies.

use std::net::IpAddr;

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::{At, reasons};

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(crate) fn network_policy(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (policy, old) = sides(validation);
    let spec = policy.object_or_empty("spec");
    let tolerated = old.map(|old| stored_blocks(&old.object_or_empty("spec"))).unwrap_or_default();
    spec.selector("podSelector", errors);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.each(direction) {
            for port in rule.each("ports") {
                self::port(&port, errors);
            }
            for peer in rule.each(peers) {
                self::peer(&peer, &tolerated, errors);
            }
        }
    }
    let types = spec.items("policyTypes");
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.invalid(&spec.path("policyTypes"), spec.value("policyTypes"), detail);
        return;
    }
    for (kind, path) in spec.texts("policyTypes").filter(|(kind, _)| !["Ingress", "Egress"].contains(kind)) {
        errors.not_supported(&path, kind, &["Ingress", "Egress"]);
    }
}

/// Networks that are stored are not checked again.
fn stored_blocks<'a>(spec: &At<'a>) -> Vec<&'a str> {
    let mut blocks = Vec::new();
    for (direction, peers) in DIRECTIONS {
        for block in spec.each(direction).flat_map(|rule| rule.each(peers)).filter_map(|peer| peer.object("ipBlock")) {
            blocks.push(block.text("cidr"));
            blocks.extend(block.texts("except").map(|(block, _)| block));
        }
    }
    blocks
}

fn port(port: &At<'_>, errors: &mut FieldErrors) {
    port.one_of("protocol", &["TCP", "UDP", "SCTP"], errors);
    let (end, end_path) = (port.int("endPort"), port.path("endPort"));
    match (port.get("port"), end) {
        (None, Some(end)) => errors.invalid(&end_path, end, "may not be specified when `port` is not specified"),
        (None, None) => {}
        (Some(Value::String(text)), end) => {
            if let Some(end) = end {
                errors.invalid(&end_path, end, "may not be specified when `port` is non-numeric");
            }
            reasons(&port.path("port"), text.as_str(), name::port_name(text), errors);
        }
        (Some(number), end) => {
            let number = number.as_i64().unwrap_or_default();
            reasons(&port.path("port"), number, name::port_number(number), errors);
            let Some(end) = end else { return };
            if end < number {
                errors.invalid(&end_path, number, "must be greater than or equal to `port`");
            }
            reasons(&end_path, end, name::port_number(end), errors);
        }
    }
}

fn peer(peer: &At<'_>, tolerated: &[&str], errors: &mut FieldErrors) {
    peer.selector("podSelector", errors);
    peer.selector("namespaceSelector", errors);
    let block = peer.object("ipBlock");
    if let Some(block) = &block {
        ip_block(block, tolerated, errors);
    }
    let selects = peer.given("podSelector") || peer.given("namespaceSelector");
    match (selects, block.is_some()) {
        (false, false) => errors.required(&peer.path, "must specify a peer"),
        (true, true) => errors.forbidden(&peer.path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn ip_block(block: &At<'_>, tolerated: &[&str], errors: &mut FieldErrors) {
    if !block.require("cidr", errors) {
        return;
    }
    let refused = |cidr: &str| if tolerated.contains(&cidr) { Vec::new() } else { name::legacy_cidr(cidr) };
    let cidr = block.text("cidr");
    reasons(&block.path("cidr"), cidr, refused(cidr), errors);
    let Some((network, length)) = name::lenient_cidr(cidr) else { return };
    for (except, path) in block.texts("except") {
        reasons(&path, except, refused(except), errors);
        let Some((inner, inner_length)) = name::lenient_cidr(except) else { continue };
        if !contains(network, length, inner) || length >= inner_length {
            errors.invalid(&path, except, "must be a strict subset of `cidr`");
        }
    }
}

fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((network, size), (address, other_size)) = (bits(network), bits(address));
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    size == other_size && network & mask == address & mask
}
