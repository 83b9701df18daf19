//! A small cluster.

use corten_dns::{Endpoint, Port, Service, Zones};

fn port(name: &str, protocol: &str, number: u16) -> Port {
    Port { name: name.to_owned(), protocol: protocol.to_owned(), number }
}

/// Two namespaces; a service with an address, a headless one with two endpoints, an alias outside and one inside.
pub(crate) fn zones() -> Zones {
    let www = Service {
        namespace: "shop".into(),
        name: "www".into(),
        addresses: vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        ports: vec![port("http", "TCP", 80), port("", "TCP", 81)],
        ..Service::default()
    };
    let endpoint = |address: &str, hostname: &str| Endpoint {
        address: address.parse().unwrap(),
        hostname: hostname.to_owned(),
        ports: vec![port("peer", "tcp", 7000)],
    };
    let db = Service {
        namespace: "shop".into(),
        name: "db".into(),
        endpoints: vec![endpoint("10.244.0.5", "db-0"), endpoint("10.244.0.6", "")],
        ..Service::default()
    };
    let alias = |name: &str, to: &str| Service {
        namespace: "shop".into(),
        name: name.into(),
        external_name: to.into(),
        ..Service::default()
    };
    Zones {
        domain: "cluster.local".into(),
        namespaces: vec!["shop".into(), "default".into()],
        services: vec![
            www,
            db,
            alias("out", "Example.COM."),
            alias("in", "www.shop.svc.cluster.local"),
            alias("ring", "ring.shop.svc.cluster.local"),
        ],
        upstreams: Vec::new(),
    }
}
