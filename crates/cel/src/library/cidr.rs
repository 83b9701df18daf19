//! Ranges of addresses: `cidr("10.0.0.0/8").containsIP("10.1.2.3")`.

use std::fmt;
use std::net::IpAddr;

use super::{Row, ip, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("cidr", "string_to_cidr", "(string) -> net.CIDR", cidr),
    ("isCIDR", "is_cidr", "(string) -> bool", is_cidr),
    ("containsIP", "cidr_contains_ip_string", "net.CIDR.(string) -> bool", contains_ip),
    ("containsIP", "cidr_contains_ip_ip", "net.CIDR.(net.IP) -> bool", contains_ip),
    ("containsCIDR", "cidr_contains_cidr_string", "net.CIDR.(string) -> bool", contains_cidr),
    ("containsCIDR", "cidr_contains_cidr", "net.CIDR.(net.CIDR) -> bool", contains_cidr),
    ("ip", "cidr_ip", "net.CIDR.() -> net.IP", address),
    ("prefixLength", "cidr_prefix_length", "net.CIDR.() -> int", prefix_length),
    ("masked", "cidr_masked", "net.CIDR.() -> net.CIDR", masked),
    ("string", "cidr_to_string", "(net.CIDR) -> string", to_string),
];

/// A range. Its address may have bits behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
}

impl Cidr {
    /// An address with everything behind `bits` cleared.
    fn cut(address: IpAddr, bits: u8) -> IpAddr {
        match address {
            IpAddr::V4(four) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpAddr::V4((u32::from(four) & mask).into())
            }
            IpAddr::V6(six) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpAddr::V6((u128::from(six) & mask).into())
            }
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Self::cut(self.address, self.bits) == Self::cut(address, self.bits)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

fn parse(text: &str) -> Result<Cidr, Error> {
    let wrong = || {
        let prefix = "network address parse error during conversion from string: ";
        Error::new(format!("{prefix}{prefix}netip.ParsePrefix({text:?}): no '/'"))
    };
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let leading_zero = bits.len() > 1 && bits.starts_with('0');
    if leading_zero || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits: u8 = bits.parse().map_err(|_| wrong())?;
    if bits > if address.is_ipv4() { 32 } else { 128 } {
        return Err(wrong());
    }
    match address {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => {
            let prefix = "network address parse error during conversion from string: ";
            Err(Error::new(format!("{prefix}IPv4-mapped IPv6 address {text:?} is not allowed")))
        }
        _ => Ok(Cidr { address, bits }),
    }
}

fn cidr<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| parse(text).map(Value::Cidr))
}

fn is_cidr<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::Bool(parse(text).is_ok())))
}

fn contains_ip<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Cidr(cidr), Value::Ip(ip)] => Ok(Value::Bool(cidr.contains(*ip))),
        [Value::Cidr(cidr), Value::String(text)] => ip::parse(text).map(|ip| Value::Bool(cidr.contains(ip))),
        _ => unfit(),
    }
}

fn contains_cidr<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (cidr, other) = match given.as_slice() {
        [Value::Cidr(cidr), Value::Cidr(other)] => (cidr, *other),
        [Value::Cidr(cidr), Value::String(text)] => (cidr, parse(text)?),
        _ => return unfit(),
    };
    Ok(Value::Bool(cidr.bits <= other.bits && cidr.contains(other.address)))
}

fn address<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Cidr(cidr)] => Ok(Value::Ip(cidr.address)),
        _ => unfit(),
    }
}

fn prefix_length<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Cidr(cidr)] => Ok(Value::Int(cidr.bits.into())),
        _ => unfit(),
    }
}

fn masked<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Cidr(cidr)] => Ok(Value::Cidr(Cidr { address: Cidr::cut(cidr.address, cidr.bits), bits: cidr.bits })),
        _ => unfit(),
    }
}

fn to_string<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Cidr(cidr)] => Ok(Value::string(cidr.to_string())),
        _ => unfit(),
    }
}
