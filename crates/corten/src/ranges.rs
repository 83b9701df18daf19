//! The address ranges of pods and of Services (`--pod-cidr`, `--service-cidr`): one value that every part reads, checked
//! once, before anything is started, against each other and against the networks that this server reaches already.

mod others;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use corten_controllers::node_ipam::{self, PodRange};
use ipnet::Ipv4Net;

use crate::args::{Network, Up};
use crate::datadir::RUN;
use others::Note;

/// The longest prefix that leaves room for the addresses every cluster has (`.1` and `.10`) and some Services.
const SERVICE_PREFIX_MAX: u8 = 27;
/// The longest prefix that leaves room for some pods.
const POD_PREFIX_MAX: u8 = 28;
/// Larger ranges would take in half the world.
const PREFIX_MIN: u8 = 8;

/// A flag of routes that lead nowhere.
const REJECTS: u32 = 0x200;

/// Where the kernel tells its routes.
const ROUTES: &str = "/proc/net/route";

/// The ranges of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Services get their cluster IPs out of this.
    pub service: Ipv4Net,
    /// Pods get their addresses out of this.
    pub pod: Ipv4Net,
}

/// Ranges that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RangesError {
    #[error(
        "the pod range {pod} overlaps the Service range {service}; choose others with --pod-cidr and --service-cidr"
    )]
    Each { pod: Ipv4Net, service: Ipv4Net },
    #[error(
        "the {what} range {range} overlaps the network {network} that this server reaches by {link}; choose another with {flag}"
    )]
    Host { what: &'static str, range: Ipv4Net, network: Ipv4Net, link: String, flag: &'static str },
    #[error("{flag} {range} has the wrong size; its prefix length is to be from {PREFIX_MIN} to {max}")]
    Size { flag: &'static str, range: Ipv4Net, max: u8 },
    #[error("{flag} {given} is an address within a range; did you mean {meant}?")]
    Inside { flag: &'static str, given: Ipv4Net, meant: Ipv4Net },
    #[error(
        "the {what} range {range} overlaps {theirs}, which the corten in {} has on this server; choose another with {flag}, or remove that one with `corten purge`",
        data_dir.display()
    )]
    Other { what: &'static str, range: Ipv4Net, theirs: Ipv4Net, data_dir: PathBuf, flag: &'static str },
    #[error("the ranges of other cortens on this server cannot be looked up below {RUN}; run as root")]
    Others(#[source] std::io::Error),
    #[error("the routes of this server cannot be read from {ROUTES}")]
    Routes(#[source] std::io::Error),
}

impl Ranges {
    /// The ranges that were asked for, if they can be used on this server.
    pub fn open(settings: &Up, instance: &str) -> Result<Self, RangesError> {
        let ranges = Self { service: settings.service_cidr, pod: settings.pod_cidr };
        ranges.fit(&settings.node.data_dir, instance, settings.network == Network::All)?;
        Ok(ranges)
    }

    /// Whether they can be used on this server. Links whose name has the instance's id are this instance's own: what an earlier
    /// start left leads to the pods that still run, and to none. Without a part in the kernel, nobody is in anybody's way.
    pub fn fit(&self, data_dir: &Path, instance: &str, in_kernel: bool) -> Result<(), RangesError> {
        self.check_each()?;
        if in_kernel {
            Note::new(data_dir, self)?.check(Path::new(RUN), instance)?;
        }
        let table = std::fs::read_to_string(ROUTES).map_err(RangesError::Routes)?;
        self.check_host(routes(&table).filter(|(_, link)| !link.contains(instance)))
    }

    /// Lets every other instance on this server know, from just before something is put into the kernel.
    pub fn claim(&self, data_dir: &Path, instance: &str) -> Result<(), RangesError> {
        Note::new(data_dir, self)?.claim(Path::new(RUN), instance)
    }

    /// Takes that back, for a start that is refused after all.
    pub fn release(instance: &str) -> std::io::Result<()> {
        others::release(Path::new(RUN), instance)
    }

    /// The data directory of an instance that is on this server, if it is.
    pub fn place_of(instance: &str) -> std::io::Result<Option<PathBuf>> {
        others::place_of(Path::new(RUN), instance)
    }

    /// The address of the `kubernetes` Service: the range's first.
    pub fn api(&self) -> Ipv4Addr {
        self.service_address(1)
    }

    /// The address of cluster DNS: the range's tenth.
    pub fn dns(&self) -> Ipv4Addr {
        self.service_address(10)
    }

    /// What nodes get their ranges out of.
    pub fn node_source(&self, pods_max: u16) -> PodRange {
        let (network, prefix) = (self.pod.network(), self.pod.prefix_len());
        PodRange { network, prefix, node_prefix: node_ipam::node_prefix(pods_max) }
    }

    fn service_address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service.network()) + offset)
    }

    fn check_each(&self) -> Result<(), RangesError> {
        for (flag, range, max) in
            [("--service-cidr", self.service, SERVICE_PREFIX_MAX), ("--pod-cidr", self.pod, POD_PREFIX_MAX)]
        {
            if range != range.trunc() {
                return Err(RangesError::Inside { flag, given: range, meant: range.trunc() });
            }
            if !(PREFIX_MIN..=max).contains(&range.prefix_len()) {
                return Err(RangesError::Size { flag, range, max });
            }
        }
        if overlap(&self.pod, &self.service) {
            return Err(RangesError::Each { pod: self.pod, service: self.service });
        }
        Ok(())
    }

    fn check_host<'a>(&self, routes: impl Iterator<Item = (Ipv4Net, &'a str)>) -> Result<(), RangesError> {
        let own = [("Service", self.service, "--service-cidr"), ("pod", self.pod, "--pod-cidr")];
        // The default route leads everywhere and takes nothing away.
        for (network, link) in routes.filter(|(network, _)| network.prefix_len() > 0) {
            if let Some((what, range, flag)) = own.into_iter().find(|(_, range, _)| overlap(range, &network)) {
                return Err(RangesError::Host { what, range, network, link: link.to_owned(), flag });
            }
        }
        Ok(())
    }
}

fn overlap(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The networks and links of a `/proc/net/route`; addresses stand there in hexadecimal, in the order of memory. Routes that
/// lead nowhere take nothing away from those that lead somewhere.
fn routes(table: &str) -> impl Iterator<Item = (Ipv4Net, &str)> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |field: usize| {
            let hex = fields.get(field)?;
            u32::from_str_radix(hex, 16).ok().map(|memory| Ipv4Addr::from(memory.to_ne_bytes()))
        };
        let network = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        (flags & REJECTS == 0).then_some((network.trunc(), *fields.first()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t0000000A\t00000000\t0200\t0\t0\t0\t000000FF\t0\t0\t0
*\t0000FA0A\t00000000\t0200\t0\t0\t3349850794\t0000FFFF\t0\t0\t0
";

    fn ranges(service: &str, pod: &str) -> Ranges {
        Ranges { service: service.parse().expect("a range"), pod: pod.parse().expect("a range") }
    }

    fn check(service: &str, pod: &str, expect: &str) {
        let ranges = ranges(service, pod);
        let checked = ranges.check_each().and_then(|()| ranges.check_host(routes(TABLE)));
        assert_eq!(checked.map_or_else(|error| error.to_string(), |()| "usable".to_owned()), expect);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn overlapping_cidrs() {
        check("10.96.0.0/16", "10.245.0.0/16", "usable");
        let each = "the pod range 10.96.128.0/17 overlaps the Service range 10.96.0.0/16; choose others with --pod-cidr \
                    and --service-cidr";
        check("10.96.0.0/16", "10.96.128.0/17", each);
        let host = "the pod range 10.244.0.0/14 overlaps the network 10.244.0.0/16 that this server reaches by docker0; \
                    choose another with --pod-cidr";
        check("10.96.0.0/16", "10.244.0.0/14", host);
        check("10.96.0.0/16", "10.250.1.0/24", "usable");
        let host = "the Service range 192.0.2.0/27 overlaps the network 192.0.2.0/24 that this server reaches by eth0; \
                    choose another with --service-cidr";
        check("192.0.2.0/27", "10.245.0.0/16", host);
    }

    #[test]
    fn ranges_of_a_wrong_shape() {
        check(
            "10.96.0.0/28",
            "10.1.0.0/16",
            "--service-cidr 10.96.0.0/28 has the wrong size; its prefix length is to be from 8 to 27",
        );
        check(
            "10.96.0.1/16",
            "10.1.0.0/16",
            "--service-cidr 10.96.0.1/16 is an address within a range; did you mean 10.96.0.0/16?",
        );
    }

    #[test]
    fn two_addresses_are_every_clusters() {
        let own = ranges("10.112.64.0/18", "10.1.0.0/16");
        assert_eq!([own.api(), own.dns()].map(|address| address.to_string()), ["10.112.64.1", "10.112.64.10"]);
    }
}
