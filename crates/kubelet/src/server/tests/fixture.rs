//! A server with a host and an engine that stand in for the node, and its client.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_image::{ImageError, Shared};
use corten_runtime::engine::{
    Attached, ContainerId, ContainerState, Engine, EngineError, Event, Exit, PodState, Running, Streams, Usage,
};
use corten_runtime::spec::{ContainerSpec, ExecSpec, Limits, PodSpec};
use corten_stdx::clock::Clock;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::server::{ContainerView, Edge, Host, Identity, LogFile, PodView, Server};

/// What no step of a test reaches.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

const CLIENT: &str = "kubelet-client";

pub(super) fn channel(channel: u8, text: &str) -> Message {
    Message::binary([&[channel], text.as_bytes()].concat())
}

/// One image with one blob, the file.
struct OneImage(PathBuf);

pub(super) const MANIFEST: &[u8] = b"{}";

impl Shared for OneImage {
    fn manifest(&self, repository: &str, version: &str) -> Result<Option<Vec<u8>>, ImageError> {
        Ok((repository == "localhost/shop/www" && version == "1").then(|| MANIFEST.to_vec()))
    }

    fn blob(&self, digest: &str) -> Result<Option<File>, ImageError> {
        Ok((digest == "sha256:1").then(|| File::open(&self.0).unwrap()))
    }
}

/// One pod `web` with one container `c`.
pub(super) struct FakeHost {
    log: PathBuf,
    ended: watch::Sender<bool>,
}

impl FakeHost {
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }
}

impl Host for FakeHost {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        self.pods().into_iter().find(|pod| pod.namespace == namespace && pod.name == name)
    }

    fn pods(&self) -> Vec<PodView> {
        let container = ContainerView {
            name: "c".to_owned(),
            running: Some(0),
            log: Ok(LogFile { path: self.log.clone(), attempt: 0 }),
            previous_log: Err("previous terminated container \"c\" in pod \"web\" not found".to_owned()),
        };
        vec![PodView {
            uid: "uid-1".to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            containers: vec![container],
        }]
    }

    fn objects(&self) -> Vec<Value> {
        vec![value!({"metadata": {"name": "web"}})]
    }

    fn ended<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, ()> {
        let mut ended = self.ended.subscribe();
        Box::pin(async move { assert!(ended.wait_for(|ended| *ended).await.is_ok(), "the host lives") })
    }
}

/// An edge that one address had seven requests of.
struct Counts;

impl Edge for Counts {
    fn requests(&self) -> BoxFuture<'_, Vec<(IpAddr, u64)>> {
        Box::pin(std::future::ready(vec![(IpAddr::from([10, 244, 0, 2]), 7)]))
    }
}

/// Runs programs of the machine; a pod's ports are the machine's.
struct Machine;

fn no<T>() -> BoxFuture<'static, Result<T, EngineError>>
where
    T: Send + 'static,
{
    Box::pin(std::future::ready(Err(EngineError::Failed("not for this test".to_owned()))))
}

impl Machine {
    fn run(spec: &ExecSpec, streams: Streams) -> Result<Running, EngineError> {
        let stdio = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let mut command = Command::new(&spec.args[0]);
        command.args(&spec.args[1..]);
        command.stdin(stdio(streams.stdin)).stdout(stdio(streams.stdout)).stderr(stdio(streams.stderr));
        let mut child = command.spawn().map_err(|error| EngineError::Failed(error.to_string()))?;
        let (sender, exit) = oneshot::channel();
        let pid = child.id();
        std::thread::spawn(move || {
            let code = child.wait().unwrap().code().unwrap();
            if sender.send(Exit { code, ..Exit::default() }).is_err() {
                eprintln!("nobody waits for the program");
            }
        });
        Ok(Running { terminal: None, exit, pid })
    }
}

impl Engine for Machine {
    fn create_pod<'a>(&'a self, _: &'a PodSpec) -> BoxFuture<'a, Result<u32, EngineError>> {
        no()
    }
    fn start<'a>(&'a self, _: &'a str, _: &'a ContainerSpec) -> BoxFuture<'a, Result<ContainerState, EngineError>> {
        no()
    }
    fn stop<'a>(&'a self, _: &'a ContainerId, _: i32, _: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
        no()
    }
    fn remove<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>> {
        no()
    }
    fn remove_pod<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        no()
    }
    fn exec<'a>(
        &'a self,
        _: &'a ContainerId,
        spec: &'a ExecSpec,
        streams: Streams,
    ) -> BoxFuture<'a, Result<Running, EngineError>> {
        Box::pin(std::future::ready(Self::run(spec, streams)))
    }
    /// What is written comes out again, until the writer has gone.
    fn attach<'a>(&'a self, _: &'a ContainerId, stdin: bool) -> BoxFuture<'a, Result<Attached, EngineError>> {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let input = stdin.then_some(writer);
        Box::pin(std::future::ready(Ok(Attached { input, terminal: false, stdout: Some(reader), stderr: None })))
    }
    fn connect<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, Result<OwnedFd, EngineError>> {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port));
        let stream = stream.map(OwnedFd::from).map_err(|error| EngineError::Failed(error.to_string()));
        Box::pin(std::future::ready(stream))
    }
    fn resize<'a>(&'a self, _: &'a str, _: &'a str, _: &'a Limits) -> BoxFuture<'a, Result<(), EngineError>> {
        no()
    }
    fn reopen_log<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>> {
        no()
    }
    fn usage<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Usage, EngineError>> {
        Box::pin(std::future::ready(Ok(Usage { cpu_ns: 5, ..Usage::default() })))
    }
    fn written(&self, _: &ContainerId) -> Option<PathBuf> {
        None
    }

    fn pods(&self) -> BoxFuture<'_, Result<Vec<PodState>, EngineError>> {
        {
            let id = ContainerId { pod: "uid-1".to_owned(), name: "c".to_owned(), attempt: 0 };
            let running = ContainerState { id, pid: 7, started_ns: 1_500_000_000, exit: None };
            let pod = PodState { id: "uid-1".to_owned(), pid: 6, containers: vec![running] };
            Box::pin(std::future::ready(Ok(vec![pod])))
        }
    }
    fn events(&self) -> mpsc::Receiver<Event> {
        mpsc::channel(1).1
    }
    fn path_in<'a>(&'a self, _: &'a ContainerId, _: &'a str) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        no()
    }
}

struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::from_ca_cert_der(&der, key).unwrap();
        Self { der, issuer }
    }

    fn leaf(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["node-1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if name.starts_with("system:node:") {
            params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        }
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (der, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

pub(super) struct Fixture {
    pub(super) host: Arc<FakeHost>,
    folder: TempDir,
    address: SocketAddr,
    authority: Authority,
    /// Its end would be the end of the identity's changes.
    _identity: watch::Sender<Identity>,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.leaf("system:node:node-1");
        let identity = Identity {
            chain: vec![certificate],
            key,
            client_root: authority.der.clone(),
            client_name: CLIENT.to_owned(),
        };
        let host = Arc::new(FakeHost { log: folder.path().join("0.log"), ended: watch::Sender::new(false) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = watch::channel(identity);
        let server = Server {
            dir: "/".into(),
            identity: receiver,
            node: "node-1".to_owned(),
            host: host.clone(),
            engine: Arc::new(Machine),
            images: Arc::new(OneImage(folder.path().join("blob"))),
            edge: Arc::new(Counts),
            clock: Clock::system(),
            tasks: Tasks::new(),
        };
        server.start(listener).unwrap();
        Self { host, folder, address, authority, _identity: sender }
    }

    /// The file that is the image's blob.
    pub(super) fn blob(&self) -> PathBuf {
        self.folder.path().join("blob")
    }

    /// Code and body of an answer to another node.
    pub(super) async fn get_as_node(&self, path: &str, headers: &str) -> (u16, String) {
        let mut io = self.connect_as(Some("system:node:node-2")).await.unwrap();
        let mut first = Stream { io: Some(io), seen: Vec::new() };
        // It asks how the server is, which is not its business.
        first.expect("nodes may have images alone").await;
        io = first.io.take().unwrap();
        io.write_all(format!("GET {path} HTTP/1.1\r\nHost: node-1\r\n{headers}\r\n").as_bytes()).await.unwrap();
        Stream { io: Some(io), seen: Vec::new() }.head().await
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("0.log")
    }

    /// A connection that the server has taken; the server's answer to a certificate comes with its first bytes.
    pub(super) async fn connect_as(&self, name: Option<&str>) -> Option<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match name.map(|name| self.authority.leaf(name)) {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut stream =
            TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("node-1").unwrap(), stream).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node-1\r\n\r\n").await.ok()?;
        let mut byte = [0];
        let read = tokio::time::timeout(LIMIT, stream.read(&mut byte)).await.unwrap();
        matches!(read, Ok(1)).then_some(stream)
    }

    pub(super) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Stream {
        let mut io = self.connect_as(Some(CLIENT)).await.unwrap();
        // What is left of the first answer.
        let mut first = Stream { io: Some(io), seen: Vec::new() };
        first.expect("\r\n\r\nok").await;
        io = first.io.take().unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        io.write_all(format!("{method} {path} HTTP/1.1\r\nHost: node-1\r\n{headers}\r\n").as_bytes()).await.unwrap();
        Stream { io: Some(io), seen: Vec::new() }
    }

    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, &[]).await.head().await
    }

    pub(super) async fn websocket(&self, path: &str, protocol: &str) -> WebSocketStream<TlsStream<TcpStream>> {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", protocol),
        ];
        let mut stream = self.request("GET", path, &headers).await;
        stream.expect_until("\r\n\r\n").await;
        let head = String::from_utf8(std::mem::take(&mut stream.seen)).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(protocol), "{head}");
        WebSocketStream::from_raw_socket(stream.io.take().unwrap(), Role::Client, None).await
    }
}

/// An answer that is being read.
pub(super) struct Stream {
    io: Option<TlsStream<TcpStream>>,
    seen: Vec<u8>,
}

impl Stream {
    async fn more(&mut self, most: usize) -> bool {
        let mut bytes = vec![0; most];
        let read = self.io.as_mut().unwrap().read(&mut bytes);
        let length = tokio::time::timeout(LIMIT, read).await.expect("it answers within the limit").unwrap();
        self.seen.extend_from_slice(&bytes[..length]);
        length > 0
    }

    /// Reads until a text has come, and forgets what was before its end.
    pub(super) async fn expect(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(self.more(1024).await, "ended without {text:?}: {:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Reads byte by byte until a text has come.
    async fn expect_until(&mut self, text: &str) {
        while !self.seen.ends_with(text.as_bytes()) {
            assert!(self.more(1).await, "ended without {text:?}");
        }
    }

    /// Code and body of a whole answer.
    pub(super) async fn head(&mut self) -> (u16, String) {
        self.expect_until("\r\n\r\n").await;
        let head = String::from_utf8(std::mem::take(&mut self.seen)).unwrap().to_lowercase();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        while self.seen.len() < length {
            assert!(self.more(length - self.seen.len()).await, "the body is complete");
        }
        (code, String::from_utf8(std::mem::take(&mut self.seen)).unwrap())
    }
}
