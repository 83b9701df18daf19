//! What the link to other servers should carry, and the way there from what it carries. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use corten_sys::route::{Address, Change, Forwarding, Mac, Neighbour, Route};

use super::{Overlay, Peer};
use crate::NetworkError;
use crate::range::{GATEWAY, Range};

/// Begins hardware addresses: one that no maker of hardware has given, of one receiver alone.
const MADE_UP: [u8; 2] = [0x02, 0xc7];

/// The hardware address of a server on the overlay: that of its range.
pub(super) fn mac(range: Range) -> Mac {
    let [a, b, c, d] = range.first().octets();
    let [first, second] = MADE_UP;
    Mac([first, second, a, b, c, d])
}

/// Whether a server can be what it is said to be, beside those that were said before it.
pub(super) fn possible(peer: &Peer, own: &Overlay, others: &[Peer]) -> Result<(), NetworkError> {
    let Peer { range, address } = peer;
    let whose = others.iter().find(|other| other.range.overlaps(range));
    let why = if !own.cluster_range.contains(range.first()) || !own.cluster_range.contains(range.last()) {
        format!("they are outside the cluster's {}", own.cluster_range)
    } else if own.node_range.overlaps(range) {
        format!("this server has {}", own.node_range)
    } else if let Some(other) = whose {
        format!("{} has {}", other.address, other.range)
    } else if range.at(GATEWAY).is_none() {
        "there is no room for one of its own".to_owned()
    } else if *address == own.link.local {
        "that is this server's address".to_owned()
    } else if own.cluster_range.contains(*address) {
        "its own address is one for pods".to_owned()
    } else if address.is_loopback() || address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        "nobody can be reached at its address".to_owned()
    } else {
        return Ok(());
    };
    Err(NetworkError::Peer { address: *address, range: range.to_string(), why })
}

/// How a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct To {
    gateway: Option<IpAddr>,
    on_link: bool,
    source: Option<IpAddr>,
}

/// What there is on the link, or should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    addresses: BTreeSet<(Ipv4Addr, u8)>,
    neighbours: BTreeSet<(Ipv4Addr, Mac)>,
    forwardings: BTreeSet<(Mac, Ipv4Addr)>,
    routes: BTreeSet<(Range, To)>,
}

impl Ways {
    /// Those to some servers, from one with this address of its own.
    pub(super) fn of(gateway: Ipv4Addr, peers: &[Peer]) -> Self {
        let mut ways = Self { addresses: BTreeSet::from([(gateway, 32)]), ..Self::default() };
        for Peer { range, address } in peers {
            let Some(theirs) = range.at(GATEWAY) else { continue };
            ways.neighbours.insert((theirs, mac(*range)));
            ways.forwardings.insert((mac(*range), *address));
            ways.routes
                .insert((*range, To { gateway: Some(theirs.into()), on_link: true, source: Some(gateway.into()) }));
        }
        ways
    }

    /// Those of a link among everything that the kernel has.
    pub(super) fn found(
        link: u32,
        addresses: &[Address],
        routes: &[Route],
        neighbours: &[Neighbour],
        forwardings: &[Forwarding],
    ) -> Self {
        let addresses = addresses.iter().filter(|found| found.link == link);
        let neighbours = neighbours.iter().filter(|found| found.link == link);
        let forwardings = forwardings.iter().filter(|found| found.link == link);
        let routes = routes.iter().filter(|found| found.link == link);
        let to = |route: &Route| To { gateway: route.gateway, on_link: route.on_link, source: route.source };
        Self {
            addresses: addresses.filter_map(|found| Some((v4(found.address)?, found.prefix))).collect(),
            neighbours: neighbours.filter_map(|found| Some((v4(found.address)?, found.mac))).collect(),
            forwardings: forwardings.map(|found| (found.mac, found.to)).collect(),
            routes: routes
                .filter_map(|route| Some((Range::new(v4(route.destination)?, route.prefix)?, to(route))))
                .collect(),
        }
    }

    /// The servers that these lead to.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let at = |range: Range| self.forwardings.iter().find(|(found, _)| *found == mac(range));
        self.routes
            .iter()
            .filter_map(|(range, _)| at(*range).map(|(_, to)| Peer { range: *range, address: *to }))
            .collect()
    }

    /// What turns this into that, without a moment in which a way that is in both is not there; and what differs, as text.
    pub(super) fn to(&self, wanted: &Self, link: u32) -> (Vec<Change<'static>>, Vec<String>) {
        let addresses = Difference::of(&self.addresses, &wanted.addresses);
        let neighbours = Difference::of(&self.neighbours, &wanted.neighbours);
        let forwardings = Difference::of(&self.forwardings, &wanted.forwardings);
        let routes = Difference::of(&self.routes, &wanted.routes);
        let address = |(address, prefix): (Ipv4Addr, u8)| Address { link, address: address.into(), prefix };
        let neighbour = |(address, mac): (Ipv4Addr, Mac)| Neighbour { link, address: address.into(), mac };
        let forwarding = |(mac, to): (Mac, Ipv4Addr)| Forwarding { link, mac, to };
        let route = |(range, to): (Range, To)| Route {
            destination: range.first().into(),
            prefix: range.prefix(),
            link,
            gateway: to.gateway,
            on_link: to.on_link,
            source: to.source,
        };
        let mut told = addresses.told("address");
        told.extend([neighbours.told("neighbour"), forwardings.told("server of"), routes.told("route to")].concat());
        // A route needs its source's address, and is of use with the other two alone.
        let mut changes: Vec<Change<'static>> = Vec::new();
        changes.extend(addresses.set.into_iter().map(|one| Change::AddAddress(address(one))));
        changes.extend(neighbours.set.into_iter().map(|one| Change::SetNeighbour(neighbour(one))));
        changes.extend(forwardings.set.into_iter().map(|one| Change::SetForwarding(forwarding(one))));
        changes.extend(routes.set.into_iter().map(|one| Change::SetRoute(route(one))));
        changes.extend(routes.delete.into_iter().map(|one| Change::DeleteRoute(route(one))));
        changes.extend(forwardings.delete.into_iter().map(|one| Change::DeleteForwarding(forwarding(one))));
        changes.extend(neighbours.delete.into_iter().map(|one| Change::DeleteNeighbour(neighbour(one))));
        changes.extend(addresses.delete.into_iter().map(|one| Change::DeleteAddress(address(one))));
        (changes, told)
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Entries to be set, each of which takes the place of one with the same key, and entries to be deleted.
#[derive(Debug, PartialEq, Eq)]
struct Difference<K, V> {
    set: Vec<(K, V)>,
    delete: Vec<(K, V)>,
}

impl<K: Ord + Copy + Display, V: Ord + Copy> Difference<K, V> {
    fn of(found: &BTreeSet<(K, V)>, wanted: &BTreeSet<(K, V)>) -> Self {
        let set: Vec<_> = wanted.difference(found).copied().collect();
        let mut replacing: BTreeMap<K, V> = set.iter().copied().collect();
        let delete = found.difference(wanted).filter(|(key, _)| replacing.remove(key).is_none()).copied().collect();
        Self { set, delete }
    }

    fn told(&self, what: &str) -> Vec<String> {
        let keys: BTreeSet<K> = self.set.iter().chain(&self.delete).map(|(key, _)| *key).collect();
        keys.into_iter().map(|key| format!("the {what} {key}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);

    fn peer(range: &str, last: u8) -> Peer {
        Peer { range: range.parse().unwrap(), address: Ipv4Addr::new(192, 0, 2, last) }
    }

    fn changes(found: &[Peer], wanted: &[Peer]) -> (Vec<String>, Vec<String>) {
        let (changes, told) = Ways::of(OWN, found).to(&Ways::of(OWN, wanted), 7);
        let short = |change: &Change<'_>| match change {
            Change::SetForwarding(entry) => format!("set {} {}", entry.mac, entry.to),
            other => format!("{other:?}").split_once('(').unwrap().0.to_owned(),
        };
        (changes.iter().map(short).collect(), told)
    }

    #[test]
    fn hardware_addresses_are_those_of_the_ranges() {
        assert_eq!(mac("10.244.3.0/24".parse().unwrap()).to_string(), "02:c7:0a:f4:03:00");
    }

    #[test]
    fn what_is_there_stays() {
        let both = [peer("10.244.2.0/24", 2), peer("10.244.3.0/24", 3)];
        assert_eq!(changes(&both, &both), (Vec::new(), Vec::new()));
        assert_eq!(Ways::of(OWN, &both).peers(), both);
    }

    #[test]
    fn servers_come_and_go() {
        let (one, two) = (peer("10.244.2.0/24", 2), peer("10.244.3.0/24", 3));
        let (changed, told) = changes(&[one], &[two]);
        let expected = [
            "SetNeighbour",
            "set 02:c7:0a:f4:03:00 192.0.2.3",
            "SetRoute",
            "DeleteRoute",
            "DeleteForwarding",
            "DeleteNeighbour",
        ];
        assert_eq!(changed, expected);
        assert!(told.contains(&"the route to 10.244.2.0/24".to_owned()), "{told:?}");
    }

    #[test]
    fn a_server_that_has_moved_is_one_change() {
        let (changed, told) = changes(&[peer("10.244.2.0/24", 2)], &[peer("10.244.2.0/24", 9)]);
        assert_eq!(changed, ["set 02:c7:0a:f4:02:00 192.0.2.9"]);
        assert_eq!(told, ["the server of 02:c7:0a:f4:02:00"]);
    }

    #[test]
    fn one_of_several_is_replaced_and_the_others_go() {
        let found = BTreeSet::from([(1, 'a'), (1, 'b'), (2, 'c'), (3, 'd')]);
        let wanted = BTreeSet::from([(1, 'z'), (2, 'c')]);
        let expected = Difference { set: vec![(1, 'z')], delete: vec![(1, 'b'), (3, 'd')] };
        assert_eq!(Difference::of(&found, &wanted), expected);
        let kept = BTreeSet::from([(1, 'b')]);
        let expected = Difference { set: Vec::new(), delete: vec![(1, 'a'), (2, 'c'), (3, 'd')] };
        assert_eq!(Difference::of(&found, &kept), expected);
    }
}
