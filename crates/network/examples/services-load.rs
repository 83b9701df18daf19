//! Tells the kernel of 1,000 Services with 10 endpoints each, in a network namespace of its own, and then of one endpoint's
//! change again and again; prints how long each takes. Needs root.

use std::error::Error;
use std::net::Ipv4Addr;

use corten_network::services::{Service, Services, Settings};
use corten_stdx::clock::Stopwatch;
use corten_sys::namespace::NetNs;

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 10;
const LOADS: usize = 20;
const CHANGES: usize = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut loads = Vec::new();
    for _ in 0..LOADS {
        let mut kernel = open()?;
        let all = (0..SERVICES).map(|number| (number.to_string(), Some(service(number, 0)))).collect();
        let watch = Stopwatch::start();
        kernel.change(all)?;
        loads.push(watch.elapsed().as_secs_f64() * 1e3);
    }
    say(&format!("{SERVICES} Services x {ENDPOINTS} endpoints, ms"), loads);
    let mut kernel = open()?;
    kernel.change((0..SERVICES).map(|number| (number.to_string(), Some(service(number, 0)))).collect())?;
    let mut changes = Vec::new();
    for change in 1..=CHANGES {
        let number = change * 7 % SERVICES;
        let changed = vec![(number.to_string(), Some(service(number, change)))];
        let watch = Stopwatch::start();
        kernel.change(changed)?;
        changes.push(watch.elapsed().as_secs_f64() * 1e6);
    }
    say("one endpoint changed, µs", changes);
    match kernel.check()? {
        differences if differences.is_empty() => Ok(()),
        differences => Err(format!("the kernel's table is not as it should be: {differences:?}").into()),
    }
}

fn say(what: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    println!("{what}: {:.1} at the median, {:.1} at the 99th percentile, {:.1} at most", at(50), at(99), at(100));
}

fn open() -> Result<Services, Box<dyn Error>> {
    Ok(Services::open(Settings {
        instance: "aaaaaa".to_owned(),
        cluster_range: "10.244.0.0/16".parse()?,
        node_range: "10.244.1.0/24".parse()?,
        service_range: "10.96.0.0/16".parse()?,
        host: NetNs::create()?,
    })?)
}

/// Its first endpoint is another one after every change.
fn service(number: usize, change: usize) -> Service {
    let endpoints = (0..ENDPOINTS).map(|index| {
        let first = if index == 0 { change } else { 0 };
        (at(172 << 24 | 16 << 16, first * SERVICES * ENDPOINTS + number * ENDPOINTS + index), 8080)
    });
    Service {
        addresses: vec![at(10 << 24 | 96 << 16, number + 2)],
        port: 80,
        endpoints: endpoints.collect(),
        ..Service::default()
    }
}

fn at(first: u32, number: usize) -> Ipv4Addr {
    Ipv4Addr::from(first + u32::try_from(number).unwrap_or(u32::MAX - first))
}
