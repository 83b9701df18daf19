//! Real sockets on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_dns::{Endpoint, Forwarder, Server, Service, Sockets, Table, Zones};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::zones::zones;

const LIMIT: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    clock: Clock,
    forwarder: Forwarder,
    table: watch::Sender<Arc<Table>>,
    tasks: Tasks,
}

async fn start(zones: &Zones) -> Running {
    let (clock, tasks) = (Clock::manual(1_000_000), Tasks::new());
    let (table, newest) = watch::channel(Arc::new(Table::new(zones)));
    let forwarder = Forwarder::new(clock.clone(), Random::seeded(1));
    let connections = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = connections.local_addr().unwrap();
    let datagrams = UdpSocket::bind(address).await.unwrap();
    let sockets = Sockets { datagrams: vec![datagrams], connections: vec![connections] };
    Server::new(newest, forwarder.clone()).start(sockets, &tasks);
    Running { address, clock, forwarder, table, tasks }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(9, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn by_datagram(server: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&query.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 65535];
    let length = timeout(LIMIT, socket.recv(&mut buffer)).await.expect("a reply in time").unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn by_connection(server: SocketAddr, query: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = query.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut reply = vec![0; usize::from(timeout(LIMIT, stream.read_u16()).await.expect("in time").unwrap())];
    stream.read_exact(&mut reply).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

/// A server of the world that knows one address for everything below `example.com`.
async fn world(asked: Arc<AtomicUsize>, tasks: &Tasks) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tasks.spawn("world", async move {
        let mut buffer = vec![0; 65535];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            asked.fetch_add(1, Ordering::SeqCst);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = Message::response(query.metadata.id, OpCode::Query);
            reply.queries.clone_from(&query.queries);
            let name = query.queries[0].name().clone();
            if name.to_lowercase().to_ascii().ends_with("example.com.") {
                reply.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))));
            } else {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            // First one that nobody asked for: it must not be believed.
            let mut forged = reply.clone();
            forged.metadata.id = reply.metadata.id.wrapping_add(1);
            for message in [forged, reply] {
                socket.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn both_transports_answer() {
    let running = start(&zones()).await;
    let question = query("www.shop.svc.cluster.local.", RecordType::A);
    for reply in [by_datagram(running.address, &question).await, by_connection(running.address, &question).await] {
        assert_eq!((reply.metadata.id, reply.answers.len()), (9, 1));
    }
}

#[tokio::test]
async fn a_new_table_is_used_at_once() {
    let running = start(&Zones { domain: "cluster.local".into(), ..Zones::default() }).await;
    let question = query("www.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(by_datagram(running.address, &question).await.metadata.response_code, ResponseCode::NXDomain);
    running.table.send_replace(Arc::new(Table::new(&zones())));
    assert_eq!(by_datagram(running.address, &question).await.answers.len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_is_truncated_and_comes_whole_over_a_connection() {
    let endpoints = (0..200).map(|n| Endpoint {
        address: Ipv4Addr::new(10, 244, 1, n).into(),
        hostname: String::new(),
        ports: Vec::new(),
    });
    let many =
        Service { namespace: "shop".into(), name: "many".into(), endpoints: endpoints.collect(), ..Service::default() };
    let running = start(&Zones { domain: "cluster.local".into(), services: vec![many], ..Zones::default() }).await;
    let mut question = query("many.shop.svc.cluster.local.", RecordType::A);
    question.edns = Some(Edns::new());
    let cut = by_datagram(running.address, &question).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = by_connection(running.address, &question).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}

#[tokio::test]
async fn the_world_is_asked_once_and_remembered_for_its_time() {
    let tasks = Tasks::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = world(asked.clone(), &tasks).await;
    let running = start(&Zones { upstreams: vec![upstream], ..zones() }).await;
    let question = query("www.example.com.", RecordType::A);
    for _ in 0..3 {
        let reply = by_datagram(running.address, &question).await;
        assert_eq!(reply.answers.len(), 1);
        assert_eq!(reply.answers[0].ttl, 60);
    }
    assert_eq!((asked.load(Ordering::SeqCst), running.forwarder.remembered()), (1, 1));
    running.clock.advance(Duration::from_secs(20));
    assert_eq!(by_datagram(running.address, &question).await.answers[0].ttl, 40);
    running.clock.advance(Duration::from_secs(41));
    assert_eq!(by_datagram(running.address, &question).await.answers[0].ttl, 60);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_search_that_finds_nothing_is_a_name_that_is_not_there() {
    let tasks = Tasks::new();
    let upstream = world(Arc::default(), &tasks).await;
    let running = start(&Zones { upstreams: vec![upstream], ..zones() }).await;
    let found = by_datagram(running.address, &query("a.example.com.default.svc.cluster.local.", RecordType::A)).await;
    let kinds: Vec<_> = found.answers.iter().map(|record| record.record_type().to_string()).collect();
    assert_eq!(kinds, ["CNAME", "A"]);
    let nothing =
        by_datagram(running.address, &query("a.nowhere.test.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);
    assert!(nothing.answers.is_empty() && nothing.authorities.len() == 1);
}

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    let tasks = Tasks::new();
    let upstream = world(Arc::default(), &tasks).await;
    let dead = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let silent = dead.local_addr().unwrap();
    let running = start(&Zones { upstreams: vec![silent, upstream], ..zones() }).await;
    let reply = by_datagram(running.address, &query("www.example.com.", RecordType::A)).await;
    assert_eq!(reply.answers.len(), 1);
    let nobody = start(&zones()).await;
    let reply = by_datagram(nobody.address, &query("www.example.com.", RecordType::A)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn junk_harms_nobody() {
    let running = start(&zones()).await;
    let random = Random::seeded(3);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for length in 0..300 {
        let mut junk = vec![0; length];
        random.fill(&mut junk);
        socket.send_to(&junk, running.address).await.unwrap();
    }
    let reply = by_datagram(running.address, &query("www.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(running.tasks.panics(), 0);
}
