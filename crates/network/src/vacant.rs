//! The unreachable route of the cluster's whole range: that of each pod here is more specific, and so is that of each other
//! server. It comes with the first of these. Its metric names the instance that has made it, since such a route has no link that
//! could.

use std::net::IpAddr;

use corten_sys::netlink;
use corten_sys::route::{Change, Routing, Unreachable};

use crate::Range;

/// The first byte of the metrics; the instance's id makes the others. Any route that somebody else makes comes first.
const MARK: u32 = 0xc7;

/// The metric of an instance's routes.
fn metric(instance: &str) -> u32 {
    let id = u32::from_str_radix(instance, 16).expect("an instance's id has six hexadecimal digits");
    MARK << 24 | id & !(0xff << 24)
}

/// Makes the range unreachable, and nothing else of what the instance has made so before.
pub(crate) fn set(instance: &str, range: Option<Range>, routing: &mut Routing) -> Result<(), netlink::Error> {
    let metric = metric(instance);
    let destination = |range: Range| IpAddr::V4(range.first());
    let wanted = range.map(|range| Unreachable { destination: destination(range), prefix: range.prefix(), metric });
    let found: Vec<_> = routing.unreachable()?.into_iter().filter(|route| route.metric == metric).collect();
    let surplus = found.iter().filter(|route| Some(**route) != wanted).map(|route| Change::DeleteUnreachable(*route));
    let missing = wanted.filter(|route| !found.contains(route)).map(Change::AddUnreachable);
    let changes: Vec<_> = missing.into_iter().chain(surplus).collect();
    if changes.is_empty() { Ok(()) } else { routing.apply("close the rest of the cluster's range", &changes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_tell_instances_apart() {
        assert_eq!(["00ab12", "ffffff", "000000"].map(metric), [0xc700_ab12, 0xc7ff_ffff, 0xc700_0000]);
    }
}
