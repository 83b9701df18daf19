//! Three years without a restart, by a clock that is moved: whoever comes with what is in the kubeconfig then is let in, the API server
//! and the node's server believe each other, and what signs tokens changes.

use corten_apiserver::http::server::{ConnectionLimits, Door, Server};
use corten_builtin::bootstrap::Network;
use corten_builtin::connect::{BoxStream, Dial as _};
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::model::ModelStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::api;
use crate::pki::EdgeAuthority;
use crate::token_keys::TokenKeys;

const DAY_S: i64 = 24 * 3600;
const YEARS_DAYS: i64 = 3 * 365;
/// Longer than the pauses between looks, shorter than half a certificate's life.
const STEP_DAYS: i64 = 9;
/// What nothing here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// The moved clock, for TLS.
#[derive(Debug)]
struct Moved(Clock);

impl TimeProvider for Moved {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.wall_s().unsigned_abs())))
    }
}

/// A first server without pods: the API, and what keeps its certificates and keys.
struct First {
    dir: tempfile::TempDir,
    clock: Clock,
    tasks: Tasks,
    address: SocketAddr,
    authority: CertificateDer<'static>,
    connections: Arc<Connections>,
    node: watch::Receiver<Identity>,
}

impl First {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (clock, random, tasks) = (Clock::manual(1_800_000_000_000), Random::seeded(3), Tasks::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let pki = Pki::open(dir.path(), clock.clone()).expect("made");
        let authority = pki.cluster_der().clone();
        let service = Ipv4Addr::new(10, 96, 0, 1);
        let certificates = Certificates::new(pki, "node-1", address, service, &dir.path().join("kubeconfig"));
        let in_use = certificates.current().expect("made");
        let tls = Arc::new(Tls::new(certificates.material(&in_use).expect("PEM"), clock.clone()).expect("usable"));
        let client = certificates.node_client(&in_use).expect("PEM");
        let connections = Arc::new(Connections::new(client, clock.clone()).expect("usable"));
        let (sender, node) = watch::channel(certificates.node_identity(&in_use).expect("PEM"));
        let token_keys = TokenKeys::open(&dir.path().join("tokens.pem"), &clock).expect("made");
        let base = api::Base {
            store: Arc::new(ModelStore::new(clock.clone())),
            keys: crate::keys::open(&dir.path().join("keys"), &random).expect("made"),
            signing: token_keys.keys.clone(),
            external: address,
            network: Network { services: "10.96.0.0/16".parse().expect("a range"), endpoint: None },
            dial: connections.clone(),
            published: Vec::new(),
            kinds: Vec::new(),
            measures: false,
            clock: clock.clone(),
            random,
            tasks: tasks.clone(),
        };
        let api = api::start(base).await.expect("starts");
        let limits = ConnectionLimits::default();
        Server::start(vec![Door::to_all(listener)], tls.clone(), api, limits, &tasks).expect("serves");
        let users = Users { tls, connections: connections.clone(), node: sender };
        tasks.spawn("certificates", certificates.keep(in_use, users, clock.clone(), tasks.stopped()));
        tasks.spawn("token-keys", token_keys.keep(clock.clone(), tasks.stopped()));
        Self { dir, clock, tasks, address, authority, connections, node }
    }

    fn moved(&self) -> Arc<Moved> {
        Arc::new(Moved(self.clock.clone()))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).expect("an authority");
        roots
    }

    /// The first line of the API's answer to whoever comes with the administrator's certificate of now.
    async fn administrator(&self) -> String {
        let pem = std::fs::read(self.dir.path().join("admin.pem")).expect("there");
        let (chain, key) = (CertificateDer::from_pem_slice(&pem), PrivateKeyDer::from_pem_slice(&pem));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_details(provider, self.moved())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![chain.expect("PEM")], key.expect("PEM"))
            .expect("a pair");
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("the server is good");
        let request = b"GET /api/v1/namespaces/default HTTP/1.1\r\nhost: kubernetes\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("written");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("read");
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    /// A server that is what the node's would be now, and the API server's connection to it.
    async fn node(&self) {
        let identity = self.node.borrow().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider.clone());
        let config = ServerConfig::builder_with_details(provider, self.moved())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients.build().expect("roots"))
            .with_single_cert(identity.chain, identity.key.clone_key())
            .expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let accepted = async {
            let (stream, _) = listener.accept().await.expect("somebody comes");
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.expect("the API server is good");
            stream.write_all(b"!").await.expect("written");
            stream.flush().await.expect("written");
        };
        let asked = async {
            let mut stream: BoxStream = self.connections.node("127.0.0.1", port).await.expect("the node is good");
            assert_eq!(stream.read_u8().await.expect("read"), b'!');
        };
        tokio::join!(accepted, asked);
    }

    /// Waits until everything that is stored is before its half life: whoever keeps it has looked.
    async fn settled(&self) {
        let is_fresh = |name: &str| {
            let pem = std::fs::read(self.dir.path().join(name)).expect("there");
            let der = CertificateDer::from_pem_slice(&pem).expect("PEM");
            let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
            let (start, end) = (certificate.validity().not_before, certificate.validity().not_after);
            self.clock.wall_s() < i64::midpoint(start.timestamp(), end.timestamp())
        };
        let files =
            ["apiserver.pem", "admin.pem", "front-proxy-client.pem", "kubelet.pem", "apiserver-kubelet-client.pem"];
        self.until("certificates are renewed", || files.into_iter().all(is_fresh)).await;
        self.until("the kubeconfig and the node follow", || {
            let kubeconfig = std::fs::read_to_string(self.dir.path().join("kubeconfig")).expect("there");
            let admin = std::fs::read_to_string(self.dir.path().join("admin.pem")).expect("there");
            let node = std::fs::read(self.dir.path().join("kubelet.pem")).expect("there");
            let (admin, _) = admin.split_at(admin.find("-----BEGIN PRIVATE").expect("a key"));
            let is_admins =
                kubeconfig.contains(&base64::Engine::encode(&base64::engine::general_purpose::STANDARD, admin));
            is_admins && self.node.borrow().chain[0] == CertificateDer::from_pem_slice(&node).expect("PEM")
        })
        .await;
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let looked = async {
            while !is_so() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(LIMIT, looked).await.unwrap_or_else(|_| panic!("{what}: not in time"));
    }

    /// When the keys of tokens were made.
    fn token_keys(&self) -> Vec<i64> {
        let text = std::fs::read_to_string(self.dir.path().join("tokens.pem")).expect("there");
        text.lines().filter_map(|line| line.strip_prefix("made ")?.trim().parse().ok()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_years_without_a_restart() {
    let first = First::start().await;
    let edge = EdgeAuthority::open(first.dir.path(), first.clock.clone()).expect("made");
    let hosts = ["a.localhost".to_owned()].into();
    let began_s = first.clock.wall_s();
    let mut serving = std::collections::BTreeSet::new();
    while first.clock.wall_s() < began_s + YEARS_DAYS * DAY_S {
        first.clock.advance(Duration::from_secs((STEP_DAYS * DAY_S).unsigned_abs()));
        first.settled().await;
        let day = (first.clock.wall_s() - began_s) / DAY_S;
        assert_eq!(first.administrator().await, "HTTP/1.1 200 OK", "day {day}");
        first.node().await;
        assert!(edge.serving(&hosts).expect("made").renew_at_s > first.clock.wall_s(), "day {day}: the edge's");
        let newest_s = || first.token_keys().into_iter().max().unwrap_or_default();
        first.until("a new key signs tokens", || first.clock.wall_s() - newest_s() < 90 * DAY_S).await;
        serving.insert(std::fs::read(first.dir.path().join("apiserver.pem")).expect("there"));
    }
    assert!(serving.len() > 50, "{} certificates in three years", serving.len());
    // A token may live for a year after its key has signed the last one.
    let keys = first.token_keys();
    let oldest_s = *keys.iter().min().expect("some");
    assert!(keys.len() <= 7 && first.clock.wall_s() - oldest_s > 366 * DAY_S, "{keys:?}");
    assert_eq!(first.tasks.stop(LIMIT).await, 0);
}
