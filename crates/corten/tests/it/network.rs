//! Services in the kernel, by the whole program in a network namespace of its own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_sys::namespace::NetNs;
use corten_sys::route::{Address, Change, Route, Routing};

use crate::client::Client;
use crate::edge::Ends;
use crate::process::Server;

const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// What is not so by then is not going to be.
const LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_millis(300);

/// A namespace with an address and a way to everywhere, as a server has.
fn host() -> NetNs {
    let (host, elsewhere) = (NetNs::create().expect("root"), NetNs::create().expect("root"));
    let mut routing = Routing::open(&host).expect("netlink");
    let pair = Change::AddVeth { name: "up0", peer: "up1", peer_in: &elsewhere, mtu: 1500 };
    routing.apply("link", &[pair]).expect("veth");
    let index = |routing: &mut Routing, name| routing.link(name).expect("netlink").expect("it is there").index;
    let (loopback, link) = (index(&mut routing, "lo"), index(&mut routing, "up0"));
    let peer = Routing::open(&elsewhere).and_then(|mut elsewhere| {
        let index = elsewhere.link("up1")?.expect("it is there").index;
        elsewhere.apply("set up", &[Change::SetUp(index)])
    });
    peer.expect("the other end");
    let anywhere = Ipv4Addr::UNSPECIFIED.into();
    let gateway = Some(Ipv4Addr::new(192, 0, 2, 2).into());
    let changes = [
        Change::SetUp(loopback),
        Change::AddAddress(Address { link, address: NODE.into(), prefix: 24 }),
        Change::SetRoute(Route { destination: anywhere, prefix: 0, link, gateway, on_link: false, source: None }),
    ];
    routing.apply("set up", &changes).expect("addresses and routes");
    // The pair lasts as long as both namespaces: the thread that holds the other one never ends.
    std::thread::spawn(move || {
        let _elsewhere = elsewhere;
        loop {
            std::thread::park();
        }
    });
    host
}

fn service() -> Value {
    value!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.7.7", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]}})
}

fn slice() -> Value {
    value!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": [{"addresses": ["192.0.2.1"]}]})
}

/// What answers there.
fn ask(server: &str) -> std::io::Result<String> {
    let server: SocketAddr = server.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&server, CONNECT_LIMIT)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"));
}

fn serve() {
    let listener = TcpListener::bind((NODE, 8080)).expect("a free port");
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.and_then(|mut stream| stream.write_all(b"hello")).expect("a client that reads");
        }
    });
}

async fn services_answer() {
    serve();
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start_with_network(dir.path());
    assert!(server.lines.iter().any(|line| line.starts_with("network ")), "{:?}", server.lines);
    let answers = |address| ask(address).is_ok_and(|text| text == "hello");
    let refuses = |address| ask(address).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);

    assert_eq!(server.client.post("/api/v1/namespaces/default/services", &service()).await.0, 201);
    until("nobody serves yet", || refuses("10.96.7.7:80") && refuses("192.0.2.1:30080")).await;
    assert_eq!(server.client.post(SLICES, &slice()).await.0, 201);
    until("the endpoint answers", || answers("10.96.7.7:80") && answers("192.0.2.1:30080")).await;

    server.kill();
    assert!(answers("10.96.7.7:80") && answers("192.0.2.1:30080"), "control is dead, Services are not");
    let server = Server::start_with_network(dir.path());
    assert!(answers("10.96.7.7:80") && answers("192.0.2.1:30080"));
    assert_eq!(server.client.delete(&format!("{SLICES}/web-1")).await, 200);
    until("the endpoint is gone", || refuses("10.96.7.7:80") && refuses("192.0.2.1:30080")).await;
    assert_eq!(server.stop(), Some(0));
}

fn balancer(name: &str, port: i64) -> Value {
    value!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port, "targetPort": 8080}]}})
}

fn slice_of(service: &str) -> Value {
    value!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": [{"addresses": ["192.0.2.1"]}]})
}

fn ingress() -> Value {
    let backend = value!({"service": {"name": "front", "port": {"number": 8081}}});
    value!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "front"}, "spec": {
        "ingressClassName": "corten", "rules": [{"host": "front.localhost",
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}})
}

/// The addresses in an object's status become these.
async fn until_reached_at(client: &Client, path: &str, expect: &[&str]) {
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let object = client.get(path).await.1;
            let told = object.at(&["status", "loadBalancer", "ingress"]).and_then(Value::as_array).unwrap_or_default();
            if told.iter().map(|told| told.str_at(&["ip"])).eq(expect.iter().copied()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{path} is not reached at {expect:?}"));
}

async fn balancers_answer() {
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    serve();
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start_with_everything(dir.path());
    let _ends = Ends(dir.path());
    let client = &server.client;
    assert_eq!(client.post(SERVICES, &balancer("web", 80)).await.0, 201);
    assert_eq!(client.post(SERVICES, &balancer("front", 8081)).await.0, 201);
    assert_eq!(client.post(SLICES, &slice_of("front")).await.0, 201);
    assert_eq!(client.post(INGRESSES, &ingress()).await.0, 201);
    until_reached_at(client, &format!("{SERVICES}/front"), &["192.0.2.1"]).await;
    until_reached_at(client, &format!("{INGRESSES}/front"), &["192.0.2.1"]).await;
    until("the endpoint answers", || ask("192.0.2.1:8081").is_ok_and(|text| text == "hello")).await;
    // The edge is there already.
    until_reached_at(client, &format!("{SERVICES}/web"), &[]).await;
    let events = "/api/v1/namespaces/default/events?fieldSelector=reason%3DSyncLoadBalancerFailed";
    let mut note = String::new();
    while note.is_empty() {
        let list = client.get(events).await.1;
        let items = list.at(&["items"]).and_then(Value::as_array).unwrap_or_default();
        note = items.first().map(|event| event.str_at(&["message"]).to_owned()).unwrap_or_default();
    }
    assert_eq!(note, "Port 80/TCP of this server's address 192.0.2.1 is in use by a program of this server");
    let other = value!({"spec": {"type": "ClusterIP"}});
    assert_eq!(client.merge(&format!("{SERVICES}/front"), &other).await.0, 200);
    until_reached_at(client, &format!("{SERVICES}/front"), &[]).await;
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn balancers_and_ingresses_say_where_they_are_reached() {
    in_a_namespace(balancers_answer);
}

#[test]
fn services_lead_to_their_endpoints_also_without_control() {
    in_a_namespace(services_answer);
}

fn in_a_namespace<F: Future<Output = ()>>(test: fn() -> F) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some(), "network namespaces need root");
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let inside = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    };
    host().run(inside).expect("a namespace");
}
