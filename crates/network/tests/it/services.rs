//! Services with real connections between namespaces.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use corten_network::PodNetwork as _;
use corten_network::pods::Pods;
use corten_network::services::{Policy, Protocol, Service, Services, Settings, purge};
use corten_sys::namespace::NetNs;

use crate::rig::{LIMIT, Node, Outside, Pod, SILENCE, ask, is_silent, root, serve};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 7);

/// A node with pods, services, and a client on a link of the node that is in no cluster.
struct Cluster {
    node: Node,
    pods: Pods,
    services: Services,
    outside: NetNs,
}

impl Cluster {
    fn new() -> Self {
        let node = Node::new();
        let outside = Outside::new();
        outside.link(&node);
        let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
        let services = Services::open(settings(&node, "aaaaaa")).unwrap();
        Self { node, pods, services, outside: outside.inside }
    }

    async fn pod(&self, id: &str) -> Pod {
        let pod = Pod::attached(&self.pods, id).await;
        pod.serve(8080, id);
        pod
    }

    fn set(&mut self, service: &Service) {
        self.services.change(vec![("web".to_owned(), Some(service.clone()))]).unwrap();
    }

    fn assert_as_it_should_be(&mut self) {
        assert_eq!(self.services.check().unwrap(), Vec::<String>::new());
    }
}

fn settings(node: &Node, instance: &str) -> Settings {
    Settings {
        instance: instance.to_owned(),
        cluster_range: "10.244.0.0/16".parse().unwrap(),
        node_range: "10.244.1.0/24".parse().unwrap(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        host: node.inside.try_clone().unwrap(),
    }
}

fn web(pods: &[&Pod]) -> Service {
    Service {
        addresses: vec![CLUSTER_IP],
        port: 80,
        node_port: Some(30080),
        endpoints: pods.iter().map(|pod| pod.endpoint(8080)).collect(),
        local_endpoints: pods.iter().map(|pod| pod.endpoint(8080)).collect(),
        ..Service::default()
    }
}

fn cluster_ip(port: u16) -> SocketAddr {
    (CLUSTER_IP, port).into()
}

fn node_port() -> SocketAddr {
    (Outside::NODE, 30080).into()
}

fn localhost() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 30080).into()
}

/// Who answers how often.
fn answers(inside: &NetNs, server: SocketAddr, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let answer = ask(inside, server).unwrap();
        *counts.entry(answer.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

fn error_kind(inside: &NetNs, server: SocketAddr) -> ErrorKind {
    ask(inside, server).unwrap_err().kind()
}

#[tokio::test]
async fn connections_are_spread_over_endpoints_that_are_there() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let (one, two, client) = (cluster.pod("one").await, cluster.pod("two").await, cluster.pod("client").await);
    cluster.set(&web(&[&one, &two]));
    for from in [&client.inside, &cluster.node.inside, &cluster.outside] {
        let counts = answers(from, cluster_ip(80), 40);
        assert!(counts.len() == 2 && counts.values().all(|&count| count > 5), "{counts:?}");
    }
    // The client's own address arrives.
    let peer = ask(&client.inside, cluster_ip(80)).unwrap();
    assert!(peer.ends_with(&client.address.unwrap().to_string()), "{peer}");
    cluster.assert_as_it_should_be();

    cluster.set(&web(&[&two]));
    assert_eq!(answers(&client.inside, cluster_ip(80), 10), BTreeMap::from([("two".to_owned(), 10)]));
    assert_eq!(answers(&cluster.node.inside, localhost(), 3), BTreeMap::from([("two".to_owned(), 3)]));
    // An endpoint that calls its own service is answered.
    assert_eq!(answers(&two.inside, cluster_ip(80), 3), BTreeMap::from([("two".to_owned(), 3)]));
    cluster.assert_as_it_should_be();
}

#[tokio::test]
async fn node_ports_lead_to_endpoints_with_the_clients_address() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let (one, client) = (cluster.pod("one").await, cluster.pod("client").await);
    cluster.set(&web(&[&one]));
    assert_eq!(ask(&cluster.outside, node_port()).unwrap(), "one 192.0.2.2");
    assert_eq!(ask(&cluster.node.inside, node_port()).unwrap(), "one 192.0.2.1");
    assert_eq!(ask(&client.inside, node_port()).unwrap(), "one 10.244.1.3");
    assert_eq!(answers(&one.inside, node_port(), 1), BTreeMap::from([("one".to_owned(), 1)]));
    serve(&cluster.node.inside, 81, "node");
    assert_eq!(ask(&cluster.outside, (Outside::NODE, 81).into()).unwrap(), "node 192.0.2.2");
}

#[tokio::test]
async fn what_nobody_serves_is_refused_at_once() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let client = cluster.pod("client").await;
    cluster.set(&web(&[]));
    for from in [&client.inside, &cluster.node.inside, &cluster.outside] {
        let servers = [cluster_ip(80), cluster_ip(81), "10.96.9.9:80".parse().unwrap(), node_port()];
        for server in servers {
            assert_eq!(error_kind(from, server), ErrorKind::ConnectionRefused, "{server}");
        }
    }
    cluster.assert_as_it_should_be();
    cluster.set(&web(&[&client]));
    assert_eq!(answers(&cluster.node.inside, cluster_ip(80), 1).len(), 1);
    cluster.services.change(vec![("web".to_owned(), None)]).unwrap();
    assert_eq!(error_kind(&cluster.node.inside, cluster_ip(80)), ErrorKind::ConnectionRefused);
    cluster.assert_as_it_should_be();
}

#[tokio::test]
async fn local_policies_ask_this_node_alone() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let (near, far, client) = (cluster.pod("near").await, cluster.pod("far").await, cluster.pod("client").await);
    let local = |internal, external, near: &[&Pod]| Service {
        internal,
        external,
        local_endpoints: near.iter().map(|pod| pod.endpoint(8080)).collect(),
        external_addresses: vec![Ipv4Addr::new(198, 51, 100, 1)],
        ..web(&near.iter().copied().chain([&far]).collect::<Vec<_>>())
    };
    cluster.set(&local(Policy::Cluster, Policy::Local, &[&near]));
    for server in [node_port(), "198.51.100.1:80".parse().unwrap()] {
        assert_eq!(answers(&cluster.outside, server, 20), BTreeMap::from([("near".to_owned(), 20)]));
        assert_eq!(answers(&client.inside, server, 40).len(), 2, "{server} from a pod");
        assert_eq!(answers(&cluster.node.inside, server, 40).len(), 2, "{server} from the node");
    }
    cluster.assert_as_it_should_be();
    cluster.set(&local(Policy::Local, Policy::Local, &[]));
    assert!(is_silent(&client.inside, cluster_ip(80)) && is_silent(&cluster.outside, node_port()));
    assert_eq!(answers(&client.inside, node_port(), 5).len(), 1);
    cluster.assert_as_it_should_be();
    cluster.set(&local(Policy::Local, Policy::Cluster, &[&near]));
    assert_eq!(answers(&client.inside, cluster_ip(80), 20), BTreeMap::from([("near".to_owned(), 20)]));
    assert_eq!(answers(&cluster.outside, node_port(), 40).len(), 2);
    cluster.assert_as_it_should_be();
}

#[tokio::test]
async fn a_client_stays_with_its_endpoint_as_long_as_that_is_there() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let (one, two, client) = (cluster.pod("one").await, cluster.pod("two").await, cluster.pod("client").await);
    let sticky = |pods: &[&Pod]| Service { affinity_s: Some(100), ..web(pods) };
    cluster.set(&sticky(&[&one, &two]));
    for server in [cluster_ip(80), node_port()] {
        let counts = answers(&client.inside, server, 20);
        assert_eq!(counts.len(), 1, "{counts:?}");
    }
    let chosen = answers(&client.inside, cluster_ip(80), 1).into_keys().next().unwrap();
    let other = if chosen == "one" { &two } else { &one };
    cluster.set(&sticky(&[other]));
    let counts = answers(&client.inside, cluster_ip(80), 5);
    assert!(!counts.contains_key(&chosen), "{counts:?} after {chosen} was removed");
    cluster.assert_as_it_should_be();
}

#[tokio::test]
async fn a_balancers_address_is_for_its_ranges() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let one = cluster.pod("one").await;
    let balancer = Ipv4Addr::new(198, 51, 100, 2);
    let service = |ranges: &[&str]| Service {
        balancer_addresses: vec![balancer],
        source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..web(&[&one])
    };
    let server = (balancer, 80).into();
    for (ranges, allowed) in [(&["203.0.113.0/24"][..], false), (&["192.0.2.0/24", "192.0.0.0/8"], true), (&[], true)] {
        cluster.set(&service(ranges));
        assert_eq!(ask(&cluster.outside, server).is_ok(), allowed, "{ranges:?}");
        assert_eq!(ask(&cluster.outside, node_port()).unwrap(), "one 192.0.2.2");
        cluster.assert_as_it_should_be();
    }
}

#[tokio::test]
async fn datagrams_leave_an_endpoint_that_is_gone() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let (one, two, client) = (cluster.pod("one").await, cluster.pod("two").await, cluster.pod("client").await);
    for (pod, text) in [(&one, "one"), (&two, "two")] {
        let socket = pod.inside.run(|| UdpSocket::bind(("0.0.0.0", 8080))).unwrap().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 9];
            loop {
                let (_, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(text.as_bytes(), from).unwrap();
            }
        });
    }
    let dns = |pod: &Pod| Service { protocol: Protocol::Udp, ..web(&[pod]) };
    let socket = client.inside.run(|| UdpSocket::bind(("0.0.0.0", 5000))).unwrap().unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let ask = |server: SocketAddr| -> std::io::Result<String> {
        socket.send_to(b"who", server)?;
        let mut buffer = [0; 9];
        let (length, _) = socket.recv_from(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    // Sent before there is a service: the kernel remembers that nothing was translated.
    assert!(ask(cluster_ip(80)).is_err());
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    for pod in [&one, &two, &one] {
        cluster.set(&dns(pod));
        let name = if std::ptr::eq(pod, &one) { "one" } else { "two" };
        for server in [cluster_ip(80), node_port()] {
            assert_eq!(ask(server).unwrap(), name, "{server}");
        }
    }
}

#[tokio::test]
async fn a_table_that_somebody_has_changed_is_written_anew() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.pod("one").await, cluster.pod("two").await);
    let mut second = Services::open(settings(&cluster.node, "bbbbbb")).unwrap();
    second.change(Vec::new()).unwrap();
    cluster.set(&web(&[&one]));
    purge("aaaaaa", &cluster.node.inside).unwrap();
    assert!(cluster.services.read().unwrap().is_none() && second.read().unwrap().is_some());
    cluster.set(&web(&[&two]));
    assert_eq!(answers(&cluster.node.inside, cluster_ip(80), 2), BTreeMap::from([("two".to_owned(), 2)]));
    purge("aaaaaa", &cluster.node.inside).unwrap();
    assert_eq!(cluster.services.check().unwrap(), ["the table is missing"]);
    assert_eq!(answers(&cluster.node.inside, cluster_ip(80), 2), BTreeMap::from([("two".to_owned(), 2)]));
    purge("aaaaaa", &cluster.node.inside).unwrap();
    purge("aaaaaa", &cluster.node.inside).unwrap();
    assert_eq!(second.check().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn connections_under_way_outlive_a_rebuild_and_the_last_endpoint() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let one = Pod::attached(&cluster.pods, "one").await;
    let listener = one.inside.run(|| std::net::TcpListener::bind(("0.0.0.0", 8080))).unwrap().unwrap();
    cluster.set(&web(&[&one]));
    let connect = || TcpStream::connect_timeout(&cluster_ip(80), LIMIT);
    let mut client = cluster.node.inside.run(connect).unwrap().unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut echo = |text: &[u8; 2]| {
        client.write_all(text).unwrap();
        let mut buffer = [0; 2];
        server.read_exact(&mut buffer).unwrap();
        server.write_all(&buffer).unwrap();
        client.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, text);
    };
    echo(b"1.");
    cluster.services.rebuild().unwrap();
    echo(b"2.");
    cluster.set(&web(&[]));
    echo(b"3.");
    assert!(cluster.pods.attached().contains(&"one".to_owned()));
}

#[tokio::test]
async fn connections_to_an_endpoint_that_is_gone_end() {
    if !root() {
        return;
    }
    let mut cluster = Cluster::new();
    let (one, two) = (Pod::attached(&cluster.pods, "one").await, cluster.pod("two").await);
    let listener = one.inside.run(|| std::net::TcpListener::bind(("0.0.0.0", 8080))).unwrap().unwrap();
    cluster.set(&web(&[&one]));
    let connect = |from: &NetNs, server: SocketAddr| {
        let stream = from.run(|| TcpStream::connect_timeout(&server, LIMIT)).unwrap().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let ways = [(&cluster.node.inside, cluster_ip(80)), (&two.inside, cluster_ip(80)), (&cluster.outside, node_port())];
    let clients = ways.map(|(from, server)| connect(from, server));
    // Without a good-bye from its sockets, which are still there.
    cluster.pods.detach("one").await.unwrap();
    cluster.set(&web(&[&two]));
    for mut client in clients {
        // The kernel has told those of the node; others learn with what they send.
        let told = client.write_all(b"?").and_then(|()| client.read_exact(&mut [0]));
        let kind = told.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted), "{kind}");
    }
    drop(listener);
}
