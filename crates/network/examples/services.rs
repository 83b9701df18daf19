//! How long the kernel takes for services: `cargo run --release -p corten-network --example services -- 1000 10`, as root. It
//! works in a network namespace of its own, which ends with it.

use std::net::Ipv4Addr;
use std::time::Duration;

use corten_network::services::{Service, Services, Settings};
use corten_stdx::clock::Stopwatch;
use corten_sys::namespace::NetNs;

const CHANGES: usize = 1000;
const LOADS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let services = numbers.next().transpose()?.unwrap_or(1000);
    let endpoints = numbers.next().transpose()?.unwrap_or(10);
    let settings = Settings {
        instance: "bench0".to_owned(),
        cluster_range: "10.244.0.0/16".parse()?,
        node_range: "10.244.0.0/16".parse()?,
        service_range: "10.96.0.0/16".parse()?,
        host: NetNs::create()?,
    };
    let mut kernel = Services::open(settings)?;
    let all = (0..services).map(|number| (number.to_string(), Some(service(number, endpoints)))).collect();
    let first = Stopwatch::start();
    kernel.change(all)?;
    println!("{services} services x {endpoints} endpoints, first load: {:?}", first.elapsed());
    let mut loads = Vec::new();
    for _ in 0..LOADS {
        let load = Stopwatch::start();
        kernel.rebuild()?;
        loads.push(load.elapsed());
    }
    print("whole table anew", loads);
    let mut changes = Vec::new();
    for round in 0..CHANGES {
        let number = u32::try_from(round)? % services;
        let mut changed = service(number, endpoints);
        // One endpoint goes, and comes back the next time.
        if (round / services as usize).is_multiple_of(2) {
            changed.endpoints.remove(0);
        }
        let change = Stopwatch::start();
        kernel.change(vec![(number.to_string(), Some(changed))])?;
        changes.push(change.elapsed());
    }
    print("one endpoint changed", changes);
    assert!(kernel.check()?.is_empty(), "the kernel's table is not as it should be");
    Ok(())
}

fn service(number: u32, endpoints: u32) -> Service {
    let endpoint = |slot| (Ipv4Addr::from_bits(0x0af4_0000 + number % 200 * 256 + slot), 8080);
    Service {
        addresses: vec![Ipv4Addr::from_bits(0x0a60_0000 + number)],
        port: 80,
        endpoints: (0..endpoints).map(endpoint).collect(),
        ..Service::default()
    }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: p50 {:?}, p99 {:?}, longest {:?}", at(50), at(99), at(100));
}
