//! Namespaces that play a node and its pods, and what goes between them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use corten_network::pods::{Pods, Settings};
use corten_network::{NetworkError, PodNetwork as _};
use corten_sys::namespace::NetNs;
use corten_sys::route::{Change, Routing};

/// What is answered is answered by then, on a busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// What is not answered by then is taken for silence.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

/// Whether namespaces may be made; where that is not so, the environment must say that this is known.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some(), "network namespaces need root");
        eprintln!("SKIPPED: network namespaces need root");
    }
    root
}

/// A namespace that plays a node.
pub(crate) struct Node {
    pub(crate) inside: NetNs,
    pub(crate) records: tempfile::TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        let node = Self { inside: NetNs::create().unwrap(), records: tempfile::tempdir().unwrap() };
        let mut routing = node.routing();
        let loopback = routing.link("lo").unwrap().unwrap().index;
        routing.apply("set up", &[Change::SetUp(loopback)]).unwrap();
        node
    }

    pub(crate) fn routing(&self) -> Routing {
        Routing::open(&self.inside).unwrap()
    }

    pub(crate) fn settings(&self, instance: &str, range: &str) -> Settings {
        Settings {
            instance: instance.to_owned(),
            node_range: range.parse().unwrap(),
            cluster_range: "10.244.0.0/16".parse().unwrap(),
            mtu: None,
            host: self.inside.try_clone().unwrap(),
            records: self.records.path().to_owned(),
        }
    }

    pub(crate) fn pods(&self, instance: &str, range: &str) -> Result<Pods, NetworkError> {
        Pods::open(self.settings(instance, range))
    }

    pub(crate) fn purge(&self, instance: &str) {
        corten_network::pods::purge(instance, &self.inside, self.records.path()).unwrap();
    }

    /// Names of links, sorted.
    pub(crate) fn links(&self) -> Vec<String> {
        let mut names: Vec<_> = self.routing().links().unwrap().into_iter().map(|link| link.name).collect();
        names.sort();
        names
    }

    /// What a command prints inside.
    pub(crate) fn shell(&self, command: &str) -> String {
        shell(&self.inside, command)
    }
}

pub(crate) fn shell(inside: &NetNs, command: &str) -> String {
    let output = inside.run(|| Command::new("sh").arg("-c").arg(command).output()).unwrap().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A client that is in no cluster, on a link of the node.
pub(crate) struct Outside {
    pub(crate) inside: NetNs,
}

impl Outside {
    /// The node's address towards the outside; that of the outside is the next.
    pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    pub(crate) fn new() -> Self {
        Self { inside: NetNs::create().unwrap() }
    }

    /// Joins both, each the other's way to everywhere.
    pub(crate) fn link(&self, node: &Node) {
        let pair = Change::AddVeth { name: "up0", peer: "up1", peer_in: &self.inside, mtu: 1500 };
        node.routing().apply("link", &[pair]).unwrap();
        node.shell("ip addr add 192.0.2.1/24 dev up0 && ip route add default via 192.0.2.2");
        let commands = "ip addr add 192.0.2.2/24 dev up1 && ip link set up1 up && ip route add default via 192.0.2.1";
        shell(&self.inside, commands);
    }
}

/// A process with a network namespace of its own.
pub(crate) struct Pod {
    pub(crate) inside: NetNs,
    process: Child,
    pub(crate) address: Option<IpAddr>,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let inside = NetNs::create().unwrap();
        let process = inside.run(|| Command::new("sleep").arg("1000").spawn()).unwrap().unwrap();
        Self { inside, process, address: None }
    }

    pub(crate) async fn attached(pods: &Pods, id: &str) -> Self {
        let mut pod = Self::new();
        let addresses = pods.attach(id, pod.pid()).await.unwrap();
        pod.address = addresses.first().copied();
        pod
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address.expect("the pod is attached"), port)
    }

    pub(crate) fn endpoint(&self, port: u16) -> (Ipv4Addr, u16) {
        let Some(IpAddr::V4(address)) = self.address else { panic!("the pod has no IPv4 address") };
        (address, port)
    }

    /// Answers every connection with a text and the client's address.
    pub(crate) fn serve(&self, port: u16, text: &str) {
        serve(&self.inside, port, text);
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

pub(crate) fn serve(inside: &NetNs, port: u16, text: &str) {
    let listener = inside.run(|| TcpListener::bind(("0.0.0.0", port))).unwrap().unwrap();
    let text = text.to_owned();
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap();
            if let Err(error) = write!(stream, "{text} {}", peer.ip()) {
                eprintln!("a client is gone: {error}");
            }
        }
    });
}

/// What a server answers a client inside a namespace.
pub(crate) fn ask(inside: &NetNs, server: SocketAddr) -> std::io::Result<String> {
    ask_within(inside, server, LIMIT)
}

/// Whether nobody says anything, not even that nobody is there.
pub(crate) fn is_silent(inside: &NetNs, server: SocketAddr) -> bool {
    ask_within(inside, server, SILENCE).is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

fn ask_within(inside: &NetNs, server: SocketAddr, limit: Duration) -> std::io::Result<String> {
    inside.run(|| {
        let mut stream = TcpStream::connect_timeout(&server, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?
}
