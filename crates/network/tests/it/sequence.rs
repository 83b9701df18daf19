//! Any sequence of changes leaves the kernel's table as if it had been written at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use corten_network::services::{Policy, Protocol, Service, Services, Settings};
use corten_sys::nft::{Content, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::rig::{Node, root};

/// Sequences, each in a namespace of its own.
const CASES: u32 = 24;

type Change = (u8, Option<Service>);

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = (0..4_u8, prop::option::weighted(0.8, service()));
    vec(vec(change, 1..3), 1..12)
}

/// Few addresses, so that several services want the same one.
fn service() -> impl Strategy<Value = Service> {
    let endpoints = || {
        let endpoint = (1..9_u8, 80..82_u16).prop_map(|(last, port)| (Ipv4Addr::new(10, 244, 1, last), port));
        prop::collection::btree_set(endpoint, 0..5).prop_map(|set| set.into_iter().collect::<Vec<_>>())
    };
    let addresses = |third: u8| {
        prop::collection::btree_set((1..4_u8).prop_map(move |last| Ipv4Addr::new(10, 96, third, last)), 0..3)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>())
    };
    let policy = || prop::sample::select(vec![Policy::Cluster, Policy::Local]);
    let range = prop::sample::select(vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32"]);
    let places = (addresses(0), addresses(1), addresses(2), prop::option::of(30_000..30_003_u16));
    let rest = (
        prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
        (policy(), policy()),
        prop::option::weighted(0.3, prop::sample::select(vec![10_u32, 20])),
        vec(range, 0..3),
        (endpoints(), endpoints()),
    );
    (places, rest).prop_map(|((addresses, external, balancers, node_port), rest)| {
        let (protocol, (internal, outside), affinity_s, ranges, (endpoints, local_endpoints)) = rest;
        Service {
            addresses,
            external_addresses: external,
            balancer_addresses: balancers,
            protocol,
            port: 80,
            node_port,
            internal,
            external: outside,
            affinity_s,
            source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            endpoints,
            local_endpoints,
        }
    })
}

#[test]
fn changes_amount_to_what_a_rebuild_writes() {
    if !root() {
        return;
    }
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let done = runner.run(&changes(), |steps| {
        let mut services = open(&Node::new());
        let mut wanted: BTreeMap<u8, Service> = BTreeMap::new();
        for step in steps {
            for (name, service) in &step {
                match service {
                    Some(service) => wanted.insert(*name, service.clone()),
                    None => wanted.remove(name),
                };
            }
            let step = step.into_iter().map(|(name, service)| (name.to_string(), service)).collect();
            services.change(step).unwrap();
            let changed = services.read().unwrap().unwrap();
            prop_assert_eq!(cluster_ips(&changed), expected(&wanted));
            prop_assert_eq!(services.check().unwrap(), Vec::<String>::new());
            services.rebuild().unwrap();
            prop_assert_eq!(&changed, &services.read().unwrap().unwrap());
        }
        Ok(())
    });
    done.unwrap();
}

fn open(node: &Node) -> Services {
    let settings = Settings {
        instance: "aaaaaa".to_owned(),
        cluster_range: "10.244.0.0/16".parse().unwrap(),
        node_range: "10.244.1.0/24".parse().unwrap(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        host: node.inside.try_clone().unwrap(),
    };
    Services::open(settings).unwrap()
}

/// Address and protocol of a service with one policy and no memory, and its endpoints.
type Reachable = BTreeMap<(Ipv4Addr, u8), BTreeSet<(Ipv4Addr, u16)>>;

/// Said anew and simply: an address is the first service's that claims it.
fn expected(wanted: &BTreeMap<u8, Service>) -> Reachable {
    let mut reachable = Reachable::new();
    let mut taken = BTreeSet::new();
    for service in wanted.values() {
        let protocol = if service.protocol == Protocol::Tcp { 6 } else { 17 };
        for address in &service.addresses {
            let first = taken.insert((*address, protocol));
            if first && service.internal == Policy::Cluster && service.affinity_s.is_none() {
                reachable.insert((*address, protocol), service.endpoints.iter().copied().collect());
            }
        }
    }
    reachable.retain(|_, endpoints| !endpoints.is_empty());
    reachable
}

/// What the kernel has: as many slots as the chain chooses from, each with an endpoint.
fn cluster_ips(content: &Content) -> Reachable {
    let mut reachable = Reachable::new();
    for (key, value) in &content.sets["services"] {
        let address = Ipv4Addr::from(*key.first_chunk().unwrap());
        let Value::Goto(chain) = value else { panic!("{value:?} is no chain") };
        let Some(slots) = chain.strip_prefix("pick-").and_then(|number| number.parse::<u32>().ok()) else { continue };
        if address.octets()[2] != 0 {
            continue;
        }
        let endpoint = |slot: u32| {
            let Value::Data(data) = &content.sets["endpoints"][&[&key[..], &slot.to_ne_bytes()].concat()] else {
                panic!("a slot without endpoint")
            };
            (Ipv4Addr::from(*data.first_chunk().unwrap()), u16::from_be_bytes([data[4], data[5]]))
        };
        let endpoints: BTreeSet<_> = (0..slots).map(endpoint).collect();
        assert_eq!(endpoints.len(), slots as usize, "an endpoint has two slots");
        reachable.insert((address, key[4]), endpoints);
    }
    reachable
}
