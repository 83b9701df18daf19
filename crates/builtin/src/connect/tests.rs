//! The endpoints against a node's server that plays a script, over a connection in memory.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::{Attributes, Authorizer, Decision, User};
use corten_apiserver::connect::{Answer, Call, CallBody, Connectors};
use corten_apiserver::http::body::{self, Response};
use corten_apiserver::http::query::Query;
use corten_apiserver::registry::Target;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::{BoxStream, Dial, Ground, NODES, encode, place, register};
use crate::fixture::{Cluster, kind};
use crate::lookup::PODS;

/// Hands out one end of a connection, and remembers where it should have led.
#[derive(Default)]
struct Wire(Mutex<(Option<DuplexStream>, String)>);

impl Wire {
    fn to(&self, host: &str, port: u16) -> io::Result<BoxStream> {
        let mut inner = self.0.lock().expect("no test panics with it");
        inner.1 = format!("{host}:{port}");
        let stream = inner.0.take().ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(stream))
    }
}

impl Dial for Wire {
    fn node<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(std::future::ready(self.to(host, port)))
    }

    fn pod<'a>(&'a self, host: &'a str, port: u16, _: bool) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(std::future::ready(self.to(host, port)))
    }
}

/// Lets `ann` do everything, others nothing.
struct Ann;

impl Authorizer for Ann {
    fn authorize<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        let allowed = attributes.user.name == "ann" && attributes.verb == "create";
        let decision = if allowed { Decision::Allow } else { Decision::NoOpinion(String::new()) };
        Box::pin(std::future::ready(decision))
    }
}

fn pod(name: &str, node: &str, containers: &[&str]) -> Value {
    let containers = containers.iter().map(|name| value!({"name": (*name)})).collect();
    let (containers, sidecar) = (Value::Array(containers), value!([{"name": "init"}]));
    value!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"nodeName": node, "containers": containers, "initContainers": sidecar}
    })
}

struct Bench {
    connectors: Connectors,
    wire: Arc<Wire>,
    backend: DuplexStream,
}

impl Bench {
    fn new() -> Self {
        let node = value!({
            "metadata": {"name": "node-1"},
            "status": {
                "addresses": [{"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "10.0.0.7"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}
            }
        });
        let pods = [pod("web", "node-1", &["c"]), pod("two", "node-1", &["a", "b"]), pod("new", "", &["c"])];
        let mut objects: Vec<_> = pods.into_iter().map(|pod| (PODS, pod)).collect();
        objects.push((NODES, node));
        let (near, backend) = duplex(4096);
        let wire = Arc::new(Wire(Mutex::new((Some(near), String::new()))));
        let ground = Ground {
            lookup: Arc::new(Cluster(objects)),
            authorizer: Arc::new(Ann),
            dial: wire.clone(),
            random: Random::seeded(1),
            tasks: Tasks::new(),
        };
        let mut connectors = Connectors::default();
        register(&mut connectors, &ground);
        Self { connectors, wire, backend }
    }

    async fn call(
        &self,
        user: &str,
        (resource, name): (&str, &str),
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Response, Status> {
        let (resource, subresource) = resource.split_once('/').expect("a subresource");
        let of = if resource == "nodes" { NODES } else { PODS };
        let mut request = http::Request::new(body::full(""));
        *request.uri_mut() = format!("/x/proxy/?{query}").parse().expect("a URI");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        let call = Call {
            user: Arc::new(User { name: user.into(), ..User::default() }),
            verb: "get".to_owned(),
            target: Target {
                kind: Arc::new(kind(of, "Kind", true)),
                namespace: "default".into(),
                name: name.into(),
                subresource: subresource.into(),
            },
            path: if subresource == "proxy" { "/a b".to_owned() } else { String::new() },
            query: Query::parse(query),
            options: Default::default(),
            body: CallBody::Raw(Box::new(request)),
        };
        let connector = self.connectors.find("", resource, subresource).expect("registered");
        match connector.connect(call).await? {
            Answer::Response(response) => Ok(response),
            Answer::Object { .. } | Answer::Objects(_) => panic!("no object is answered"),
        }
    }

    /// The head of the request that the backend gets; then it answers.
    async fn answer(&mut self, answer: &str) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte =
                tokio::time::timeout(Duration::from_secs(10), self.backend.read_u8()).await.expect("a request comes");
            head.push(byte.expect("it is open"));
        }
        self.backend.write_all(answer.as_bytes()).await.expect("it is open");
        String::from_utf8(head).expect("text")
    }
}

async fn text(response: Response) -> String {
    let bytes = body::collect(response).await.expect("a whole body");
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let mut bench = Bench::new();
    let (wire, connectors) = (bench.wire.clone(), bench.connectors.clone());
    let other = Bench { connectors, wire: wire.clone(), backend: duplex(1).0 };
    let call = other.call("ann", ("pods/log", "web"), "follow=true&tailLines=5&sinceTime=2026-01-02T03:04:05Z", &[]);
    let answer = bench.answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes");
    let (response, head) = tokio::join!(call, answer);
    assert_eq!(text(response.expect("answered")).await, "yes");
    let line = "GET /containerLogs/default/web/c?follow=true&tailLines=5&sinceTime=2026-01-02T03%3A04%3A05Z&stream=All HTTP/1.1";
    assert_eq!(head.lines().next(), Some(line));
    assert!(head.contains("host: 10.0.0.7:10250"), "{head}");
    assert_eq!(wire.0.lock().expect("free").1, "10.0.0.7:10250");
}

#[tokio::test]
async fn refusals_of_the_node_are_told_as_upstream_does() {
    let why = "container \"c\" in pod \"web\" is waiting to start: ContainerCreating";
    for (code, reason, message) in [
        (400, "BadRequest", why.to_owned()),
        (500, "InternalError", format!("Internal error occurred: {why}")),
        (404, "NotFound", "the server could not find the requested resource ( pods/log web)".to_owned()),
    ] {
        let mut bench = Bench::new();
        let (wire, connectors) = (bench.wire.clone(), bench.connectors.clone());
        let other = Bench { connectors, wire, backend: duplex(1).0 };
        let answer = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{why}", why.len());
        let (response, _) = tokio::join!(other.call("ann", ("pods/log", "web"), "", &[]), bench.answer(&answer));
        let status = response.expect_err("refused");
        assert_eq!((status.code, status.reason, status.message), (code, reason, message));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_before_anything_is_dialled() {
    let bench = Bench::new();
    for (what, name, query, code, message) in [
        ("pods/log", "none", "", 404, "pods \"none\" not found"),
        ("pods/log", "two", "", 400, "a container name must be specified for pod two, choose one of: [init a b]"),
        ("pods/exec", "web", "container=x", 400, "container x is not valid for pod web"),
        ("pods/exec", "new", "command=ls", 400, "pod new does not have a host assigned"),
        ("pods/portforward", "new", "", 400, "pod new does not have a host assigned"),
        ("pods/log", "web", "tailLines=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (
            "pods/log",
            "web",
            "tailLines=-1&limitBytes=0",
            422,
            "PodLogOptions \"web\" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, \
             limitBytes: Invalid value: 0: must be greater than 0]",
        ),
    ] {
        let status = bench.call("ann", (what, name), query, &[]).await.expect_err("refused");
        assert_eq!((status.code, status.message.as_str()), (code, message));
    }
    assert_eq!(text(bench.call("ann", ("pods/log", "new"), "", &[]).await.expect("empty")).await, "");
    let status = bench.call("bob", ("pods/exec", "web"), "", &[]).await.expect_err("only create may");
    let why = "pods \"web\" is forbidden: User \"bob\" cannot create resource \"pods/exec\" in API group \"\" in the namespace \"default\"";
    assert_eq!((status.code, status.message.as_str()), (403, why));
    assert!(bench.wire.0.lock().expect("free").0.is_some(), "nothing was dialled");
}

#[tokio::test]
async fn upgrades_and_refusals_of_them_are_handed_on() {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ("authorization", "Bearer secret"),
    ];
    for (answer, code) in [
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", 101),
        ("HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno", 500),
    ] {
        let mut bench = Bench::new();
        let (wire, connectors) = (bench.wire.clone(), bench.connectors.clone());
        let other = Bench { connectors, wire, backend: duplex(1).0 };
        let query = "stdin=true&stdout=true&tty=1&command=sh&command=a%20%26b";
        let call = other.call("ann", ("pods/exec", "web"), query, &headers);
        let (response, head) = tokio::join!(call, bench.answer(answer));
        assert_eq!(response.expect("handed on").status(), code);
        let line = "GET /exec/default/web/c?input=1&output=1&tty=1&command=sh&command=a%20%26b HTTP/1.1";
        assert_eq!(head.lines().next(), Some(line));
        assert!(head.contains("x-stream-protocol-version: v4.channel.k8s.io") && !head.contains("secret"), "{head}");
    }
    let status = Bench::new().call("ann", ("pods/attach", "web"), "", &[]).await.expect_err("no upgrade");
    assert_eq!((status.code, status.message.as_str()), (400, "Upgrade request required"));
}

#[tokio::test]
async fn a_node_that_is_not_there_is_an_error_of_the_server() {
    let bench = Bench::new();
    drop(bench.wire.to("x", 1));
    let status = bench.call("ann", ("pods/log", "web"), "", &[]).await.expect_err("refused");
    let message = "Internal error occurred: error dialing backend: dial tcp 10.0.0.7:10250: connection refused";
    assert_eq!((status.code, status.message.as_str()), (500, message));
}

#[tokio::test]
async fn proxies_carry_path_query_and_answer() {
    let mut bench = Bench::new();
    let (wire, connectors) = (bench.wire.clone(), bench.connectors.clone());
    let other = Bench { connectors, wire: wire.clone(), backend: duplex(1).0 };
    let call = other.call(
        "ann",
        ("nodes/proxy", "node-1:1234"),
        "x=1",
        &[("authorization", "Bearer secret"), ("x-mine", "1")],
    );
    let answer = bench.answer("HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\n\r\nok");
    let (response, head) = tokio::join!(call, answer);
    let response = response.expect("handed on");
    assert_eq!(response.status(), 418);
    assert_eq!(text(response).await, "ok");
    assert_eq!(head.lines().next(), Some("GET /a%20b/?x=1 HTTP/1.1"));
    assert!(head.contains("x-mine: 1") && !head.contains("secret"), "{head}");
    assert_eq!(wire.0.lock().expect("free").1, "10.0.0.7:1234");
}

#[test]
fn texts_are_percent_encoded() {
    assert_eq!(encode("a-Z_0.~ /&ü"), "a-Z_0.~%20%2F%26%C3%BC");
    assert!(place(&value!({"status": {}})).is_err());
}
