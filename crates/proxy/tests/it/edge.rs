//! An edge on a port of its own, and a client that reads what comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use corten_proxy::codec::Limits;
use corten_proxy::codec::response::Response;
use corten_proxy::codec::scan::Scan;
use corten_proxy::config::{Backend, Endpoint, Host, NodeConfig, Route};
use corten_proxy::server::{Edge, Listener};
use corten_proxy::{Settings, Timeouts};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn settings() -> Settings {
    let timeouts = Timeouts { linger: Duration::from_millis(300), ..Timeouts::default() };
    Settings { timeouts, ..Settings::default() }
}

pub(crate) struct Running {
    pub(crate) edge: Edge,
    pub(crate) address: SocketAddr,
}

pub(crate) fn start(config: &NodeConfig, settings: Settings, tls: bool) -> Running {
    let edge = Edge::start(1, settings, &Clock::system(), &Random::seeded(1), None).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    edge.apply(config);
    edge.listen(vec![Listener { socket, tls }]);
    Running { edge, address }
}

/// Everything goes to these endpoints.
pub(crate) fn all_to(addresses: &[SocketAddr]) -> NodeConfig {
    let route = Route { path: "/".to_owned(), backend: "b".to_owned(), ..Route::default() };
    let endpoints = addresses.iter().map(|address| Endpoint { address: *address, draining: false }).collect();
    NodeConfig {
        hosts: vec![Host { name: String::new(), routes: vec![route] }],
        backends: [("b".to_owned(), Backend { endpoints })].into(),
        ..NodeConfig::default()
    }
}

/// An answer as the client has it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The body ended as its head says.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, input: Vec::new() }
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, input: Vec::new() }
    }

    pub(crate) fn send(&mut self, text: &str) -> &mut Self {
        self.stream.write_all(text.as_bytes()).unwrap();
        self
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str) -> Answer {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.answer(method == "HEAD").expect("an answer comes")
    }

    /// The next answer, or nothing where the connection ends instead.
    pub(crate) fn answer(&mut self, to_head: bool) -> Option<Answer> {
        let (limits, mut scan, mut response) = (Limits::default(), Scan::default(), Response::default());
        let length = loop {
            match scan.head(&self.input, &limits).unwrap() {
                Some(length) => break length,
                None if self.more() => {}
                None => return None,
            }
        };
        response.read(&self.input[..length], to_head, &limits).unwrap();
        let head = String::from_utf8_lossy(&self.input[..length]).into_owned();
        self.input.drain(..length);
        let mut body = response.body(&limits);
        let mut answer = Answer { status: response.status, head, body: Vec::new(), is_whole: true };
        while !body.is_done() {
            if self.input.is_empty() && !self.more() {
                answer.is_whole = matches!(body, corten_proxy::codec::body::Body::UntilClose);
                break;
            }
            let piece = body.piece(&self.input).unwrap();
            answer.body.extend_from_slice(&self.input[piece.skip..piece.skip + piece.data]);
            self.input.drain(..piece.skip + piece.data);
        }
        Some(answer)
    }

    /// Whether more has come; not at the end.
    fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.input.extend_from_slice(&bytes[..count]);
                count > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came within {LIMIT:?}"),
            Err(_) => false,
        }
    }
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
