//! Nodes become routes to other servers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::controller::{Driver, Leadership};
use corten_client::{Client, Informers};
use corten_gateway::peers;
use corten_network::overlay::{Overlay, PORT, Settings};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_sys::namespace::NetNs;
use corten_sys::route::Routing;

use crate::api::Api;

/// What is done is done by then, on a busy machine too.
const LOOKS: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(20);

fn node(name: &str, number: u8, last: u8) -> Value {
    let address = format!("192.0.2.{last}");
    value!({"metadata": {"name": (name), "uid": (name), "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"podCIDRs": [(format!("10.244.{number}.0/24"))]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

fn overlay(host: &NetNs) -> Overlay {
    let settings = Settings {
        instance: "aaaaaa".to_owned(),
        node_range: "10.244.1.0/24".parse().unwrap(),
        cluster_range: "10.244.0.0/16".parse().unwrap(),
        address: Ipv4Addr::new(192, 0, 2, 1),
        mtu: None,
        port: PORT,
        number: 7,
        host: host.try_clone().unwrap(),
    };
    Overlay::open(settings).unwrap()
}

/// Where the kernel leads: last bytes of ranges, and of servers' addresses.
fn led(host: &NetNs) -> (Vec<u8>, Vec<u8>) {
    let mut routing = Routing::open(host).unwrap();
    let third = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => Some(address.octets()[2]),
        std::net::IpAddr::V6(_) => None,
    };
    let mut ranges: Vec<u8> = routing.routes().unwrap().iter().filter_map(|route| third(route.destination)).collect();
    let mut servers: Vec<u8> = routing.forwardings().unwrap().iter().map(|entry| entry.to.octets()[3]).collect();
    ranges.sort_unstable();
    servers.sort_unstable();
    (ranges, servers)
}

#[tokio::test]
async fn nodes_come_move_and_go() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some(), "network namespaces need root");
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let host = NetNs::create().unwrap();
    let (clock, tasks, random) = (Clock::system(), Tasks::new(), Random::seeded(1));
    let leads_to = async |ranges: &[u8], servers: &[u8]| {
        let wanted = (ranges.to_vec(), servers.to_vec());
        for _ in 0..LOOKS {
            if led(&host) == wanted {
                return;
            }
            clock.sleep(PAUSE).await;
        }
        panic!("it leads to {:?} and not to {wanted:?}", led(&host));
    };
    // What a process before this one was told of.
    let mut former = overlay(&host);
    former
        .set(&[corten_network::overlay::Peer {
            range: "10.244.9.0/24".parse().unwrap(),
            address: [192, 0, 2, 9].into(),
        }])
        .unwrap();
    drop(former);
    leads_to(&[9], &[9]).await;

    let api = Api::new(&[node("own", 1, 1), node("two", 2, 2)]);
    let client = Client::new(Arc::new(api.clone()), "test");
    let informers = Informers::new(client, clock.clone(), random.clone(), tasks.clone());
    let driver = Driver { clock: clock.clone(), random, tasks: tasks.clone(), leadership: Leadership::alone() };
    peers::controller(&informers, "own".to_owned(), overlay(&host)).run(&driver);
    leads_to(&[2], &[2]).await;
    api.tell("ADDED", &node("three", 3, 3));
    leads_to(&[2, 3], &[2, 3]).await;
    api.tell("MODIFIED", &node("two", 2, 22));
    leads_to(&[2, 3], &[3, 22]).await;
    // One that cannot be hinders nobody, and comes when it can be.
    api.tell("ADDED", &node("four", 3, 4));
    api.tell("ADDED", &node("five", 5, 5));
    leads_to(&[2, 3, 5], &[4, 5, 22]).await;
    for (name, number, last) in [("two", 2, 22), ("four", 3, 4), ("five", 5, 5)] {
        api.tell("DELETED", &node(name, number, last));
    }
    leads_to(&[3], &[3]).await;
    api.tell("DELETED", &node("three", 3, 3));
    leads_to(&[], &[]).await;
    assert!(Routing::open(&host).unwrap().link("caaaaaax").unwrap().is_none());
    tasks.stop(Duration::from_secs(5)).await;
}
