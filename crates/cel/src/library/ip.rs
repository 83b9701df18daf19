//! IP addresses: `ip("10.0.0.1").family()`.

use std::net::IpAddr;

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("ip", "string_to_ip", "(string) -> net.IP", ip),
    ("isIP", "is_ip", "(string) -> bool", is_ip),
    ("ip.isCanonical", "ip_is_canonical", "(string) -> bool", is_canonical),
    ("family", "ip_family", "net.IP.() -> int", family),
    ("isUnspecified", "ip_is_unspecified", "net.IP.() -> bool", is_unspecified),
    ("isLoopback", "ip_is_loopback", "net.IP.() -> bool", is_loopback),
    ("isLinkLocalMulticast", "ip_is_link_local_multicast", "net.IP.() -> bool", is_link_local_multicast),
    ("isLinkLocalUnicast", "ip_is_link_local_unicast", "net.IP.() -> bool", is_link_local_unicast),
    ("isGlobalUnicast", "ip_is_global_unicast", "net.IP.() -> bool", is_global_unicast),
    ("string", "ip_to_string", "(net.IP) -> string", to_string),
];

/// Reads an address, without a zone and not an IPv4 address inside an IPv6 one.
pub(super) fn parse(text: &str) -> Result<IpAddr, Error> {
    if text.contains('%') && text.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok()) {
        return Err(Error::new(format!("IP address {text:?} with zone value is not allowed")));
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        Error::new(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))
    })?;
    match ip {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => {
            Err(Error::new(format!("IPv4-mapped IPv6 address {text:?} is not allowed")))
        }
        _ => Ok(ip),
    }
}

fn ip<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| parse(text).map(Value::Ip))
}

fn is_ip<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::Bool(parse(text).is_ok())))
}

fn is_canonical<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| parse(text).map(|ip| Value::Bool(ip.to_string() == text)))
}

fn test<'a>(given: &[Value<'a>], test: fn(&IpAddr) -> bool) -> Result<Value<'a>, Error> {
    match given {
        [Value::Ip(ip)] => Ok(Value::Bool(test(ip))),
        _ => unfit(),
    }
}

fn family<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Ip(ip)] => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        _ => unfit(),
    }
}

fn is_unspecified<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    test(&given, IpAddr::is_unspecified)
}

fn is_loopback<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    test(&given, IpAddr::is_loopback)
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => matches!(four.octets(), [224, 0, 0, _]),
        IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

fn is_link_local_multicast<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    test(&given, link_local_multicast)
}

fn is_link_local_unicast<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    test(&given, link_local_unicast)
}

fn is_global_unicast<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    test(&given, |ip| {
        let broadcast = matches!(ip, IpAddr::V4(four) if four.is_broadcast());
        !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local_unicast(ip)
    })
}

fn to_string<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Ip(ip)] => Ok(Value::string(ip.to_string())),
        _ => unfit(),
    }
}
