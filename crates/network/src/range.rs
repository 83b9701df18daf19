//! Address ranges, and which addresses of the node's range are taken. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range of IPv4 addresses, as `10.244.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    first: Ipv4Addr,
    prefix: u8,
}

/// The text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of IPv4 addresses such as 10.244.0.0/24")]
pub struct NoRange(String);

impl Range {
    /// The range of this prefix that an address lies in; none when the prefix is over 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self { first: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix })
    }

    pub fn first(&self) -> Ipv4Addr {
        self.first
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    /// The last address.
    pub fn last(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() | !mask(self.prefix))
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first.to_bits()
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The address at an offset; none outside the range.
    pub fn at(&self, offset: u32) -> Option<Ipv4Addr> {
        (offset <= !mask(self.prefix)).then(|| Ipv4Addr::from_bits(self.first.to_bits() + offset))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Range {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
            Self::new(address, prefix).filter(|range| range.first == address)
        });
        parsed.ok_or_else(|| NoRange(text.to_owned()))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// Offsets below this are the network's own and the gateway's.
const OFFSET_MIN: u32 = 2;

/// The offset of the node's own address in its range, which pods have as gateway.
pub(crate) const GATEWAY: u32 = 1;

/// Which pod has which address. An address that was freed is taken again as late as possible.
#[derive(Debug)]
pub(crate) struct Taken {
    range: Range,
    by_pod: BTreeMap<String, u32>,
    by_offset: BTreeMap<u32, String>,
    last: u32,
}

impl Taken {
    pub(crate) fn new(range: Range) -> Self {
        Self { range, by_pod: BTreeMap::new(), by_offset: BTreeMap::new(), last: OFFSET_MIN - 1 }
    }

    /// Notes that a pod has an address already; `false` when the address is out of range or somebody else's.
    pub(crate) fn adopt(&mut self, pod: &str, offset: u32) -> bool {
        let free = (OFFSET_MIN..self.end()).contains(&offset) && !self.by_offset.contains_key(&offset);
        if !free || self.by_pod.contains_key(pod) {
            return false;
        }
        self.insert(pod, offset);
        true
    }

    /// The pod's offset, a new one if it has none; none when all are taken.
    pub(crate) fn take(&mut self, pod: &str) -> Option<u32> {
        if let Some(offset) = self.of(pod) {
            return Some(offset);
        }
        let free = |offset: &u32| !self.by_offset.contains_key(offset);
        let after = (self.last + 1).max(OFFSET_MIN)..self.end();
        let offset = after.chain(OFFSET_MIN..self.end()).find(free)?;
        self.insert(pod, offset);
        Some(offset)
    }

    pub(crate) fn of(&self, pod: &str) -> Option<u32> {
        self.by_pod.get(pod).copied()
    }

    pub(crate) fn free(&mut self, pod: &str) {
        if let Some(offset) = self.by_pod.remove(pod) {
            self.by_offset.remove(&offset);
        }
    }

    pub(crate) fn offsets(&self) -> impl Iterator<Item = u32> {
        self.by_offset.keys().copied()
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &String> {
        self.by_pod.keys()
    }

    fn insert(&mut self, pod: &str, offset: u32) {
        self.by_pod.insert(pod.to_owned(), offset);
        self.by_offset.insert(offset, pod.to_owned());
        self.last = offset;
    }

    /// The first offset that no pod gets: the broadcast address.
    fn end(&self) -> u32 {
        !mask(self.range.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let range: Range = "10.244.1.0/24".parse().unwrap();
        assert_eq!((range.to_string().as_str(), range.at(7)), ("10.244.1.0/24", Some(Ipv4Addr::new(10, 244, 1, 7))));
        assert_eq!(range.at(256), None);
        for bad in ["10.244.1.1/24", "10.244.1.0", "10.244.1.0/33", "fd00::/64", "x/8", ""] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        let all: Range = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(Ipv4Addr::BROADCAST) && all.overlaps(&range) && range.overlaps(&all));
        assert!(!range.overlaps(&"10.244.2.0/23".parse().unwrap()));
    }

    #[test]
    fn freed_addresses_are_taken_last_and_reserved_ones_never() {
        let mut taken = Taken::new("10.0.0.0/29".parse().unwrap());
        assert_eq!(["a", "b", "a", "c"].map(|pod| taken.take(pod)), [2, 3, 2, 4].map(Some));
        taken.free("a");
        assert_eq!(["d", "e", "f", "g"].map(|pod| taken.take(pod)), [Some(5), Some(6), Some(2), None]);
        taken.free("d");
        assert_eq!(taken.take("g"), Some(5));
    }

    #[test]
    fn only_what_is_free_and_inside_is_adopted() {
        let mut taken = Taken::new("10.0.0.0/29".parse().unwrap());
        assert_eq!(
            [1, 7, 6, 6].map(|offset| taken.adopt(&format!("pod{offset}"), offset)),
            [false, false, true, false]
        );
        assert!(!taken.adopt("pod6", 3));
        assert_eq!((taken.take("pod6"), taken.take("x")), (Some(6), Some(2)));
    }
}
