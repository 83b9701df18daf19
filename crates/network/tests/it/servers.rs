//! Servers with pods: each a namespace, joined by a switch.

use std::net::Ipv4Addr;

use corten_network::overlay::{self, Overlay, PORT, Peer};
use corten_network::pods::Pods;
use corten_network::services::{self, Services};
use corten_sys::namespace::NetNs;
use corten_sys::route::{Change, Routing};

use crate::rig::{Node, Pod, serve, shell};

pub(crate) const INSTANCE: &str = "aaaaaa";
pub(crate) const LINK: &str = "caaaaaax";
pub(crate) const NUMBER: u32 = 77;
/// What joins the servers, with a stranger who answers for every address that is nobody's.
pub(crate) struct Switch {
    pub(crate) inside: NetNs,
}

impl Switch {
    pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);

    pub(crate) fn new() -> Self {
        let inside = NetNs::create().unwrap();
        let stranger = Self::STRANGER;
        shell(
            &inside,
            &format!(
                "ip link set lo up && ip link add br0 type bridge && ip link set br0 up && ip addr add {stranger}/24 dev br0 && \
                 ip route add local 10.244.0.0/16 dev lo"
            ),
        );
        serve(&inside, 80, "stranger");
        Self { inside }
    }

    /// Cuts a server off, or lets it come back: its link has no carrier.
    pub(crate) fn cut(&self, number: u8, cut: bool) {
        let way = if cut { "down" } else { "up" };
        shell(&self.inside, &format!("ip link set port{number} {way}"));
    }

    /// Joins a namespace, whose default route leads to the stranger.
    pub(crate) fn join(&self, other: &NetNs, last: u8) {
        let (own, port) = (format!("up{last}"), format!("port{last}"));
        let pair = Change::AddVeth { name: &port, peer: &own, peer_in: other, mtu: 1500 };
        Routing::open(&self.inside).unwrap().apply("join", &[pair]).unwrap();
        shell(&self.inside, &format!("ip link set {port} master br0"));
        let stranger = Self::STRANGER;
        let up = format!("ip addr add {}/24 dev {own} && ip link set {own} up", address(last));
        shell(other, &format!("{up} && ip route add default via {stranger}"));
    }
}

pub(crate) fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, last)
}

pub(crate) fn range(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

pub(crate) fn peer(number: u8) -> Peer {
    Peer { range: range(number).parse().unwrap(), address: address(number) }
}

/// A server with pods; its number is in its addresses.
pub(crate) struct Server {
    pub(crate) node: Node,
    number: u8,
    pub(crate) pods: Pods,
    pub(crate) overlay: Overlay,
}

impl Server {
    pub(crate) fn new(switch: &Switch, number: u8) -> Self {
        let node = Node::new();
        switch.join(&node.inside, number);
        let pods = node.pods(INSTANCE, &range(number)).unwrap();
        let overlay = Overlay::open(settings(&node, number)).unwrap();
        Self { node, number, pods, overlay }
    }

    /// Two that know each other.
    pub(crate) fn two(switch: &Switch) -> (Self, Self) {
        let (mut one, mut two) = (Self::new(switch, 1), Self::new(switch, 2));
        one.overlay.set(&[peer(2)]).unwrap();
        two.overlay.set(&[peer(1)]).unwrap();
        (one, two)
    }

    /// As another process goes on.
    pub(crate) fn restart(&mut self) {
        self.overlay = Overlay::open(settings(&self.node, self.number)).unwrap();
    }

    pub(crate) async fn pod(&self, id: &str) -> Pod {
        let pod = Pod::attached(&self.pods, id).await;
        pod.serve(8080, id);
        pod
    }

    pub(crate) fn services(&self) -> Services {
        let settings = services::Settings {
            instance: INSTANCE.to_owned(),
            cluster_range: "10.244.0.0/16".parse().unwrap(),
            node_range: range(self.number).parse().unwrap(),
            service_range: "10.96.0.0/16".parse().unwrap(),
            host: self.node.inside.try_clone().unwrap(),
        };
        Services::open(settings).unwrap()
    }

    /// What there is on the link and beside it, in lines. What the kernel finds out by and by is left out.
    pub(crate) fn everything(&self) -> Vec<String> {
        let shown = format!(
            "ip -d link show {LINK} | sed 's/ state [A-Z]*//'; ip -4 addr show {LINK} | sed 's/ state [A-Z]*//'; \
             ip -4 route show table all; ip -4 neigh show nud permanent; bridge fdb show dev {LINK}; nft list ruleset"
        );
        sorted(self.node.shell(&shown).lines())
    }
}

/// The kernel lists tables in the order in which they were written.
pub(crate) fn sorted<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

pub(crate) fn settings(node: &Node, number: u8) -> overlay::Settings {
    overlay::Settings {
        instance: INSTANCE.to_owned(),
        node_range: range(number).parse().unwrap(),
        cluster_range: "10.244.0.0/16".parse().unwrap(),
        address: address(number),
        mtu: None,
        port: PORT,
        number: NUMBER,
        host: node.inside.try_clone().unwrap(),
    }
}
