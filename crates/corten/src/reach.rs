//! Where the API is reached: by clients where it listens, by pods behind the `kubernetes` Service at an address of this
//! server. An API that listens on the loopback alone gets a second door for pods, which opens to nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use corten_apiserver::http::server::Door;
use ipnet::Ipv4Net;

/// Where connections are taken, and where pods come.
pub struct Reach {
    pub doors: Vec<Door>,
    /// `None` where pods cannot come: this server has no address but its loopback's.
    pub endpoint: Option<SocketAddrV4>,
}

/// Opens the doors. `pods` is the range of the addresses that pods have.
pub fn open(listener: TcpListener, pods: Ipv4Net) -> anyhow::Result<Reach> {
    let listening = listener.local_addr()?;
    let mut doors = vec![Door::to_all(listen(listener)?)];
    let endpoint = endpoint(listening);
    if let Some(endpoint) = endpoint.filter(|_| listening.ip().is_loopback()) {
        let second = TcpListener::bind(endpoint).with_context(|| format!("pods cannot reach the API at {endpoint}"))?;
        let own = *endpoint.ip();
        let is_pod = move |peer: IpAddr| matches!(peer, IpAddr::V4(peer) if pods.contains(&peer) || peer == own);
        doors.push(Door { listener: listen(second)?, admits: Some(Arc::new(is_pod)) });
    }
    if endpoint.is_none() {
        tracing::warn!("this server has no address of its own; pods cannot reach the API");
    }
    Ok(Reach { doors, endpoint })
}

fn listen(listener: TcpListener) -> anyhow::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

/// Where pods come to an API that listens there.
fn endpoint(listening: SocketAddr) -> Option<SocketAddrV4> {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if !ip.is_unspecified() && !ip.is_loopback() => Some(ip),
        IpAddr::V6(ip) if !ip.is_unspecified() && !ip.is_loopback() => None,
        _ => node_address(),
    };
    ip.map(|ip| SocketAddrV4::new(ip, listening.port()))
}

/// The address under which others reach a server that listens there; its loopback's where it has no other.
pub fn address(listen: SocketAddr) -> IpAddr {
    address_of(listen, node_address())
}

fn address_of(listen: SocketAddr, towards_others: Option<Ipv4Addr>) -> IpAddr {
    let own = Some(listen.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
    own.or(towards_others.map(IpAddr::V4)).unwrap_or_else(|| from_here(listen.ip()))
}

/// Where this server itself reaches an address that is listened on: one for all addresses is reached by loopback.
pub fn from_here(listening: IpAddr) -> IpAddr {
    match listening {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// This server's address towards others: the source that the kernel would choose. Nothing is sent.
pub fn node_address() -> Option<Ipv4Addr> {
    const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_come_to_an_address_of_this_server() {
        let node = node_address().map(|ip| SocketAddrV4::new(ip, 6443));
        let check = |listening: &str, expect| {
            assert_eq!(endpoint(listening.parse().expect("an address")), expect, "{listening}");
        };
        check("10.0.0.7:6443", Some(SocketAddrV4::new([10, 0, 0, 7].into(), 6443)));
        check("0.0.0.0:6443", node);
        check("127.0.0.1:6443", node);
        check("[::1]:6443", node);
        check("[2001:db8::1]:6443", None);
    }

    #[test]
    fn a_server_without_a_network_is_at_its_loopback() {
        let check = |listen: &str, towards_others: Option<[u8; 4]>, expect: &str| {
            let found = address_of(listen.parse().expect("an address"), towards_others.map(Ipv4Addr::from));
            assert_eq!(found, expect.parse::<IpAddr>().expect("an address"), "{listen}");
        };
        check("0.0.0.0:6443", Some([10, 0, 0, 7]), "10.0.0.7");
        check("0.0.0.0:6443", None, "127.0.0.1");
        check("[::]:6443", None, "::1");
        check("127.0.0.1:6443", None, "127.0.0.1");
        check("10.0.0.8:6443", Some([10, 0, 0, 7]), "10.0.0.8");
    }

    #[tokio::test]
    async fn the_second_door_is_for_pods() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let pods = "10.244.0.0/16".parse().expect("a range");
        let reach = open(listener, pods).expect("opened");
        assert!(reach.doors[0].admits.is_none());
        if let Some(endpoint) = reach.endpoint {
            let admits = reach.doors[1].admits.as_ref().expect("not to all");
            let peers = ["10.244.3.9", "127.0.0.1", "10.245.0.1"].map(|peer| admits(peer.parse().expect("an address")));
            assert_eq!(peers, [true, false, false]);
            assert!(admits(IpAddr::V4(*endpoint.ip())), "the node's own programs may come the pods' way");
        }
    }
}
