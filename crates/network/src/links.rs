//! Names of the links that instances make, and how long packets may be on them. A name has the instance's id, so that several
//! instances on one server tell theirs apart, and know everybody's from links that lead elsewhere.

use std::net::IpAddr;

use corten_sys::route::{LINK_NAME_MAX, Link, Route};

use crate::{NetworkError, Range};

/// Hexadecimal digits of an instance's id.
const ID_DIGITS: usize = 6;

/// Ends the name of the link to other servers.
const OVERLAY: &str = "x";

/// What a packet may always be long.
const MTU_DEFAULT: u32 = 1500;
/// Below this IPv6 does not work; a link that says less is no measure.
const MTU_MIN: u32 = 1280;

/// What a packet gets around itself on its way to another server: headers of IP, UDP, VXLAN and Ethernet.
const WRAPPING: u32 = 20 + 8 + 8 + 14;

/// The node's end of a pod's link.
pub(crate) fn of_pod(instance: &str, offset: u32) -> String {
    let name = format!("c{instance}{offset}");
    debug_assert!(name.len() <= LINK_NAME_MAX, "{name} is too long");
    name
}

/// The offset of the pod's address in the node's range.
pub(crate) fn offset_of(instance: &str, link: &str) -> Option<u32> {
    link.strip_prefix('c')?.strip_prefix(instance)?.parse().ok()
}

/// The link to the other servers of the cluster.
pub(crate) fn overlay(instance: &str) -> String {
    format!("c{instance}{OVERLAY}")
}

/// Whether this instance has made the link.
pub(crate) fn is_own(instance: &str, link: &str) -> bool {
    id_of(link) == Some(instance)
}

/// The id of the instance that has made the link.
fn id_of(link: &str) -> Option<&str> {
    let (id, rest) = link.strip_prefix('c')?.split_at_checked(ID_DIGITS)?;
    let of_pod = || !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    (id.bytes().all(|byte| byte.is_ascii_hexdigit()) && (rest == OVERLAY || of_pod())).then_some(id)
}

/// Bytes of the longest packet of a pod: with what it gets around itself it passes the shortest of the links that lead out of this
/// server. So a server that has been alone can get others beside it at any time.
pub(crate) fn mtu_of(links: &[Link]) -> u32 {
    let outward = |link: &&Link| link.up && !link.loopback && id_of(&link.name).is_none();
    let shortest = links.iter().filter(outward).map(|link| link.mtu).filter(|&mtu| mtu >= MTU_MIN).min();
    shortest.unwrap_or(MTU_DEFAULT) - WRAPPING
}

/// Refuses a range that somebody else's route leads into: packets would go to whichever is more specific.
pub(crate) fn clash(range: Range, instance: &str, links: &[Link], routes: &[Route]) -> Result<(), NetworkError> {
    for route in routes {
        let IpAddr::V4(destination) = route.destination else { continue };
        let Some(other) = Range::new(destination, route.prefix).filter(|other| other.prefix() > 0) else { continue };
        let link = links.iter().find(|link| link.index == route.link).map_or("", |link| link.name.as_str());
        if range.overlaps(&other) && !is_own(instance, link) {
            return Err(NetworkError::Clash {
                range: range.to_string(),
                route: other.to_string(),
                link: link.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!((of_pod("00ab12", 7).as_str(), overlay("00ab12").as_str()), ("c00ab127", "c00ab12x"));
        assert_eq!(offset_of("00ab12", "c00ab127"), Some(7));
        assert_eq!(["c00ab12x", "c00ab13", "eth0"].map(|link| offset_of("00ab12", link)), [None; 3]);
        assert_eq!(
            ["c00ab12x", "c00ab127", "c00ab137", "c00ab12"].map(|link| is_own("00ab12", link)),
            [true, true, false, false]
        );
    }

    #[test]
    fn links_of_instances_are_no_measure() {
        let link = |name: &str, mtu| Link { name: name.into(), mtu, up: true, ..Link::default() };
        let check = |links: &[(&str, u32)], expect: u32| {
            assert_eq!(mtu_of(&links.iter().map(|(name, mtu)| link(name, *mtu)).collect::<Vec<_>>()), expect);
        };
        check(&[], 1450);
        check(&[("eth0", 9000)], 8950);
        check(&[("eth0", 1500), ("eth1", 1400), ("odd", 576)], 1350);
        check(&[("eth0", 1500), ("c00ab12x", 1450), ("c00ab132", 1450)], 1450);
        check(&[("eth0", 1500), ("cable0", 1400)], 1350);
        let down = Link { up: false, ..link("eth1", 1400) };
        assert_eq!(mtu_of(&[down, Link { loopback: true, ..link("lo", 1300) }]), 1450);
    }
}
