//! Addresses that are understood but not written as they should be.

use std::net::{IpAddr, Ipv6Addr};

use corten_apimachinery::field::FieldPath;
use corten_apimachinery::name::{lenient_cidr, lenient_ip};
use corten_apimachinery::value::Value;

use super::Warnings;

pub(super) fn ips(values: &[Value], path: &FieldPath, warnings: &mut Warnings) {
    for (index, value) in values.iter().enumerate() {
        ip(value.as_str().unwrap_or_default(), &path.index(index), warnings);
    }
}

pub(super) fn cidrs(values: &[Value], path: &FieldPath, warnings: &mut Warnings) {
    for (index, value) in values.iter().enumerate() {
        cidr(value.as_str().unwrap_or_default(), &path.index(index), warnings);
    }
}

/// What is no address at all is left to validation.
pub(super) fn ip(value: &str, path: &FieldPath, warnings: &mut Warnings) {
    let Some(meant) = lenient_ip(value).map(unmapped) else { return };
    match value.parse::<IpAddr>() {
        Ok(written) if unmapped(written) == written => {
            if written.is_ipv6() && written.to_string() != value {
                warnings.push(format!(
                    "{path}: IPv6 address {value:?} should be in RFC 5952 canonical format ({:?})",
                    written.to_string()
                ));
            }
        }
        _ => {
            warnings.push(format!("{path}: non-standard IP address {value:?} is invalid: use {:?}", meant.to_string()))
        }
    }
}

pub(super) fn cidr(value: &str, path: &FieldPath, warnings: &mut Warnings) {
    let Some((address, length)) = lenient_cidr(value) else { return };
    let network = masked(address, length);
    let (meant, bits) = (format!("{network}/{length}"), if address.is_ipv4() { 32 } else { 128 });
    let mut found = Vec::new();
    if network != address {
        found.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be {meant:?} or \"{address}/{bits}\"?)"
        ));
    }
    match strict(value) {
        None => found.push(format!("{path}: non-standard CIDR value {value:?} is invalid: use {meant:?}")),
        Some(IpAddr::V6(address)) if found.is_empty() && format!("{address}/{length}") != value => {
            found.push(format!("{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({meant:?})"));
        }
        Some(_) => {}
    }
    warnings.extend(found);
}

/// The address of a network that is written without leading zeros and not inside another family.
fn strict(value: &str) -> Option<IpAddr> {
    let (address, length) = value.split_once('/')?;
    let Ok(address) = address.parse::<IpAddr>() else { return None };
    let plain = !length.starts_with('0') || length == "0";
    (plain && unmapped(address) == address).then_some(address)
}

/// IPv4 inside IPv6 is IPv4.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(inner) => inner.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or_default();
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |value: &str, expect: &[&str]| {
            let mut warnings = Warnings::new();
            ip(value, &FieldPath::new("a"), &mut warnings);
            assert_eq!(warnings, expect);
        };
        check("10.0.0.1", &[]);
        check("fd00::1", &[]);
        check("", &[]);
        check("FD00::1", &[r#"a: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")"#]);
        check("::ffff:1.2.3.4", &[r#"a: non-standard IP address "::ffff:1.2.3.4" is invalid: use "1.2.3.4""#]);
    }

    #[test]
    fn networks() {
        let check = |value: &str, expect: &[&str]| {
            let mut warnings = Warnings::new();
            cidr(value, &FieldPath::new("a"), &mut warnings);
            assert_eq!(warnings, expect);
        };
        check("10.0.0.0/8", &[]);
        check("0.0.0.0/0", &[]);
        check(
            "10.1.0.0/8",
            &[r#"a: CIDR value "10.1.0.0/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.0.0/32"?)"#],
        );
        check("010.0.0.0/8", &[r#"a: non-standard CIDR value "010.0.0.0/8" is invalid: use "10.0.0.0/8""#]);
        check("FD00::/64", &[r#"a: IPv6 CIDR value "FD00::/64" should be in RFC 5952 canonical format ("fd00::/64")"#]);
    }
}
