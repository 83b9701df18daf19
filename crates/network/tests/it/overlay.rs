//! Pods of several servers, and what comes between them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use corten_network::NetworkError;
use corten_network::overlay::{self, Overlay, PORT, Peer};
use corten_network::services::Service;
use corten_sys::conntrack::{Flow, Tracking};
use corten_sys::namespace::NetNs;

use crate::rig::{LIMIT, Node, SILENCE, ask, is_silent, root, serve, shell};
use crate::servers::{INSTANCE, LINK, NUMBER, Server, Switch, address, peer, settings, sorted};

/// Far more than what fits into buffers on the way.
const BULK: usize = 24 << 20;

#[tokio::test]
async fn pods_of_two_servers_reach_each_other_under_their_own_addresses() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (one, two) = Server::two(&switch);
    // As strict as a host can be about where packets come from.
    for server in [&one, &two] {
        server.node.shell("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done");
    }
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    assert_eq!(ask(&near.inside, far.at(8080)).unwrap(), "far 10.244.1.2");
    assert_eq!(ask(&far.inside, near.at(8080)).unwrap(), "near 10.244.2.2");
    // Programs of a server have its own address of the cluster.
    assert_eq!(ask(&one.node.inside, far.at(8080)).unwrap(), "far 10.244.1.1");
    serve(&two.node.inside, 81, "server");
    let gateway = |last| SocketAddr::from(([10, 244, last, 1], 81));
    for from in [&near.inside, &one.node.inside] {
        assert!(ask(from, gateway(2)).unwrap().starts_with("server 10.244.1."));
    }
    // From an address that the other server could not answer by the same way.
    let bound = || {
        let socket = UdpSocket::bind((address(1), 0)).unwrap();
        socket.send_to(b"x", (far.address.unwrap(), 500)).unwrap();
    };
    let receiver = far.inside.run(|| UdpSocket::bind(("0.0.0.0", 500))).unwrap().unwrap();
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    one.node.inside.run(bound).unwrap();
    assert_eq!(receiver.recv_from(&mut [0]).unwrap().1.ip(), IpAddr::from([10, 244, 1, 1]));
}

#[tokio::test]
async fn long_packets_and_many_of_them_arrive() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (one, two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    assert!(shell(&near.inside, "ip link show eth0").contains("mtu 1450"));
    assert!(one.node.shell(&format!("ip link show {LINK}")).contains("mtu 1450"));
    let receiver = far.inside.run(|| UdpSocket::bind(("0.0.0.0", 500))).unwrap().unwrap();
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    // The longest that goes whole, and one that is cut.
    for length in [1400, 1450 - 28, 4000] {
        let send = || UdpSocket::bind(("0.0.0.0", 0)).and_then(|s| s.send_to(&vec![7; length], far.at(500)));
        near.inside.run(send).unwrap().unwrap();
        assert_eq!(receiver.recv_from(&mut [0; 5000]).unwrap().0, length);
    }
    let listener = far.inside.run(|| TcpListener::bind(("0.0.0.0", 81))).unwrap().unwrap();
    let mut stream = near.inside.run(|| TcpStream::connect_timeout(&far.at(81), LIMIT)).unwrap().unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&vec![7; BULK]));
    let mut received = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
    sender.join().unwrap().unwrap();
    assert!(received.len() == BULK && received.iter().all(|&byte| byte == 7));
    // The kernel has tracked what was inside alone.
    let tracked = |of| {
        let is_of = |flow: &Flow| flow.first.source.0 == of || flow.answer.source.0 == of;
        Tracking::open(&one.node.inside).unwrap().list(is_of).unwrap().len()
    };
    assert!(tracked(far.endpoint(0).0) > 0 && tracked(address(2)) == 0);
}

#[tokio::test]
async fn services_lead_to_endpoints_on_other_servers() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (one, two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    let service = Service {
        addresses: vec![Ipv4Addr::new(10, 96, 0, 7)],
        port: 80,
        node_port: Some(30080),
        endpoints: vec![far.endpoint(8080)],
        ..Service::default()
    };
    let mut kernel = one.services();
    kernel.change(vec![("web".to_owned(), Some(service))]).unwrap();
    let cluster_ip = "10.96.0.7:80".parse().unwrap();
    assert_eq!(ask(&near.inside, cluster_ip).unwrap(), "far 10.244.1.2");
    assert_eq!(ask(&one.node.inside, cluster_ip).unwrap(), "far 10.244.1.1");
    // Who comes from outside gets the answer by the server that was asked.
    let node_port = |server: Ipv4Addr| SocketAddr::from((server, 30080));
    let outside = NetNs::create().unwrap();
    switch.join(&outside, 9);
    assert_eq!(ask(&outside, node_port(address(1))).unwrap(), "far 10.244.1.1");
    assert_eq!(ask(&two.node.inside, node_port(address(1))).unwrap(), "far 10.244.1.1");
    assert_eq!(ask(&one.node.inside, node_port(Ipv4Addr::LOCALHOST)).unwrap(), "far 10.244.1.1");
    assert_eq!(ask(&near.inside, node_port(address(1))).unwrap(), "far 10.244.1.2");
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable_at_once() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (mut one, mut two) = Server::two(&switch);
    let mut three = Server::new(&switch, 3);
    one.overlay.set(&[peer(2), peer(3)]).unwrap();
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    let mut stream = near.inside.run(|| TcpStream::connect_timeout(&far.at(8080), LIMIT)).unwrap().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let listener = far.inside.run(|| TcpListener::bind(("0.0.0.0", 81))).unwrap().unwrap();
    let mut held = near.inside.run(|| TcpStream::connect_timeout(&far.at(81), LIMIT)).unwrap().unwrap();
    held.set_read_timeout(Some(LIMIT)).unwrap();
    stream.read_to_string(&mut String::new()).unwrap();

    one.overlay.set(&[peer(3)]).unwrap();
    let to_nobody = "10.244.9.9:80".parse().unwrap();
    for server in [far.at(8080), far.at(80), to_nobody] {
        assert_eq!(ask(&near.inside, server).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{server}");
        assert_eq!(ask(&one.node.inside, server).unwrap_err().kind(), ErrorKind::HostUnreachable, "{server}");
    }
    held.write_all(b"?").unwrap();
    assert_eq!(held.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(listener);

    // The last one: nothing is left but what keeps packets from leaving.
    one.overlay.set(&[]).unwrap();
    two.overlay.set(&[]).unwrap();
    assert!(!one.node.links().contains(&LINK.to_owned()));
    assert!(!one.node.shell("nft list tables").contains("overlay"));
    assert_eq!(ask(&one.node.inside, far.at(80)).unwrap_err().kind(), ErrorKind::HostUnreachable);
    // And it comes back.
    one.overlay.set(&[peer(2)]).unwrap();
    two.overlay.set(&[peer(1)]).unwrap();
    assert_eq!(ask(&near.inside, far.at(8080)).unwrap(), "far 10.244.1.2");

    // A server without pods of its own.
    assert_eq!(ask(&three.node.inside, to_nobody).unwrap(), "stranger 198.51.100.3");
    three.overlay.set(&[peer(1)]).unwrap();
    three.overlay.set(&[]).unwrap();
    for server in [near.at(80), to_nobody] {
        assert_eq!(ask(&three.node.inside, server).unwrap_err().kind(), ErrorKind::HostUnreachable, "{server}");
    }
}

#[tokio::test]
async fn a_server_may_get_another_address() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (mut one, mut two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    assert_eq!(ask(&near.inside, far.at(8080)).unwrap(), "far 10.244.1.2");
    // Without its first address a link loses the others, and the routes by them.
    two.node.shell(
        "ip addr del 198.51.100.2/24 dev up2 && ip addr add 198.51.100.22/24 dev up2 && ip route add default via 198.51.100.254",
    );
    two.overlay = Overlay::open(overlay::Settings { address: address(22), ..settings(&two.node, 2) }).unwrap();
    // Its datagrams come from a stranger, and ours go to nobody.
    assert!(is_silent(&near.inside, far.at(8080)) && is_silent(&far.inside, near.at(8080)));
    one.overlay.set(&[Peer { address: address(22), ..peer(2) }]).unwrap();
    assert_eq!(ask(&near.inside, far.at(8080)).unwrap(), "far 10.244.1.2");
    assert_eq!(ask(&far.inside, near.at(8080)).unwrap(), "near 10.244.2.2");
}

#[tokio::test]
async fn a_restart_changes_nothing_and_loses_nothing() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (mut one, two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    let listener = far.inside.run(|| TcpListener::bind(("0.0.0.0", 81))).unwrap().unwrap();
    let mut stream = near.inside.run(|| TcpStream::connect_timeout(&far.at(81), LIMIT)).unwrap().unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let before = one.everything();
    let sender = std::thread::spawn(move || stream.write_all(&vec![7; BULK]));
    let mut received = 0;
    let mut piece = vec![0; 64 << 10];
    let mut restarts = 0;
    loop {
        match receiver.read(&mut piece).unwrap() {
            0 => break,
            count => received += count,
        }
        if received > restarts * BULK / 8 {
            one.restart();
            one.overlay.set(&[peer(2)]).unwrap();
            restarts += 1;
        }
    }
    sender.join().unwrap().unwrap();
    assert_eq!((received, restarts), (BULK, 8));
    assert_eq!(one.everything(), before);
    assert_eq!(one.overlay.check().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_somebody_has_meddled_with_is_put_right() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (mut one, two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    let before = one.everything();
    for (meddling, told) in [
        (format!("ip link del {LINK}"), "the link caaaaaax"),
        (format!("ip link set {LINK} down"), "caaaaaax is down"),
        (format!("ip link set {LINK} mtu 1300"), "the longest packet of caaaaaax"),
        ("ip route del 10.244.2.0/24".to_owned(), "the route to 10.244.2.0/24"),
        (format!("ip route add 10.244.7.0/24 dev {LINK}"), "the route to 10.244.7.0/24"),
        (format!("ip neigh del 10.244.2.1 dev {LINK}"), "the neighbour 10.244.2.1"),
        (format!("bridge fdb del 02:c7:0a:f4:02:00 dev {LINK}"), "the server of 02:c7:0a:f4:02:00"),
        (format!("bridge fdb append 00:00:00:00:00:00 dev {LINK} dst 198.51.100.9"), "the server of 00:00:00:00:00:00"),
        (
            format!("bridge fdb replace 02:c7:0a:f4:02:00 dev {LINK} dst 198.51.100.9"),
            "the server of 02:c7:0a:f4:02:00",
        ),
        (format!("ip addr add 10.9.9.9/32 dev {LINK}"), "the address 10.9.9.9"),
        ("nft delete table ip corten-aaaaaa-overlay".to_owned(), "the table corten-aaaaaa-overlay"),
        ("nft flush chain ip corten-aaaaaa-overlay wrapped".to_owned(), "the table corten-aaaaaa-overlay"),
        ("nft add element ip corten-aaaaaa-overlay peers '{ 198.51.100.9 }'".to_owned(), "the set peers"),
    ] {
        one.node.shell(&meddling);
        let differences = one.overlay.check().unwrap();
        assert!(differences.iter().any(|difference| difference == told), "{meddling}: {differences:?}");
        assert_eq!(without_indexes(&one.everything()), without_indexes(&before), "{meddling}");
        assert_eq!(ask(&near.inside, far.at(8080)).unwrap(), "far 10.244.1.2", "{meddling}");
    }
}

/// A link that is made anew has another index.
fn without_indexes(everything: &[String]) -> Vec<String> {
    sorted(everything.iter().map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit())))
}

#[tokio::test]
async fn datagrams_of_strangers_are_not_taken() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (one, two) = Server::two(&switch);
    let near = one.pod("near").await;
    let far = two.pod("far").await;
    // Somebody else with the right number, who plays server 2, and one of its pods.
    let stranger = NetNs::create().unwrap();
    switch.join(&stranger, 9);
    let vxlan = format!("ip link add x0 type vxlan id {NUMBER} dstport {PORT} local 198.51.100.9 nolearning");
    let entries = "ip link set x0 address 02:c7:0a:f4:02:00 up && ip addr add 10.244.2.2/16 dev x0 && ip neigh add 10.244.1.2 lladdr \
                   02:c7:0a:f4:01:00 dev x0 && ip neigh add 10.244.1.1 lladdr 02:c7:0a:f4:01:00 dev x0 && bridge fdb add \
                   02:c7:0a:f4:01:00 dev x0 dst 198.51.100.1";
    shell(&stranger, &format!("{vxlan} && {entries}"));
    let receiver = near.inside.run(|| UdpSocket::bind(("0.0.0.0", 500))).unwrap().unwrap();
    let hears = |from: &NetNs, limit| {
        receiver.set_read_timeout(Some(limit)).unwrap();
        let send = || UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| socket.send_to(b"x", near.at(500)));
        from.run(send).unwrap().unwrap();
        receiver.recv_from(&mut [0]).map(|(_, sender)| sender.ip()).ok()
    };
    assert_eq!(hears(&far.inside, LIMIT), far.address);
    assert_eq!(hears(&stranger, SILENCE), None);
    // The table alone keeps the stranger out.
    let wrapped = "ip corten-aaaaaa-overlay wrapped";
    let rules = one.node.shell(&format!("nft list chain {wrapped}"));
    assert!(rules.contains("udp dport 4789") && rules.contains("drop"), "{rules}");
    one.node.shell(&format!("nft flush chain {wrapped}"));
    assert_eq!(hears(&stranger, LIMIT), far.address);
}

#[tokio::test]
async fn pods_cannot_wrap_packets_themselves() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (one, two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    let receiver = far.inside.run(|| UdpSocket::bind(("0.0.0.0", 500))).unwrap().unwrap();
    // What server 1 would send for a pod of its own, made by a pod: sent on, it would have server 1's address.
    let datagram = wrapped(Ipv4Addr::new(10, 244, 1, 77), Ipv4Addr::new(10, 244, 2, 2), 500);
    let send = |from: &NetNs, limit| {
        receiver.set_read_timeout(Some(limit)).unwrap();
        let send = || UdpSocket::bind(("0.0.0.0", 0)).and_then(|s| s.send_to(&datagram, (address(2), PORT)));
        from.run(send).unwrap().unwrap();
        receiver.recv_from(&mut [0]).map(|(_, sender)| sender.ip()).ok()
    };
    let forged = Some(IpAddr::from([10, 244, 1, 77]));
    assert_eq!(send(&one.node.inside, LIMIT), forged);
    assert_eq!(send(&near.inside, SILENCE), None);
    let table = "ip corten-aaaaaa-overlay";
    one.node.shell(&format!("nft flush chain {table} wrapping && nft flush chain {table} arriving"));
    assert_eq!(send(&near.inside, LIMIT), forged);
}

#[tokio::test]
async fn what_was_wrapped_must_come_from_a_pod_and_be_for_one() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (one, two) = Server::two(&switch);
    let far = two.pod("far").await;
    let receiver = far.inside.run(|| UdpSocket::bind(("0.0.0.0", 500))).unwrap().unwrap();
    let server = two.node.inside.run(|| UdpSocket::bind(("0.0.0.0", 500))).unwrap().unwrap();
    let pod = Ipv4Addr::new(10, 244, 2, 2);
    let send = |from: [u8; 4], to: Ipv4Addr, socket: &UdpSocket, limit| {
        socket.set_read_timeout(Some(limit)).unwrap();
        let datagram = wrapped(from.into(), to, 500);
        let send = || UdpSocket::bind(("0.0.0.0", 0)).and_then(|s| s.send_to(&datagram, (address(2), PORT)));
        one.node.inside.run(send).unwrap().unwrap();
        socket.recv_from(&mut [0]).map(|(_, sender)| sender.ip()).ok()
    };
    let own = [10, 244, 1, 2];
    assert_eq!(send(own, pod, &receiver, LIMIT), Some(own.into()));
    for forged in [[10, 244, 2, 3], [10, 244, 9, 9], [198, 51, 100, 9], [127, 0, 0, 1]] {
        assert_eq!(send(forged, pod, &receiver, SILENCE), None, "{forged:?}");
    }
    assert_eq!(send(own, Ipv4Addr::new(10, 244, 2, 1), &server, LIMIT), Some(own.into()));
    for other in [address(2), Ipv4Addr::LOCALHOST] {
        assert_eq!(send(own, other, &server, SILENCE), None, "{other}");
    }
}

/// A datagram of the overlay to server 2, with a datagram inside.
fn wrapped(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let udp = [&port.to_be_bytes()[..], &port.to_be_bytes(), &9_u16.to_be_bytes(), &[0, 0], b"x"].concat();
    let length = u16::try_from(20 + udp.len()).unwrap().to_be_bytes();
    let mut ip = [&[0x45, 0][..], &length, &[0, 0, 0, 0, 64, 17, 0, 0], &from.octets(), &to.octets()].concat();
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let frame = [&[2, 0xc7, 10, 244, 2, 0][..], &[2, 0xc7, 10, 244, 1, 0], &[8, 0], &ip, &udp].concat();
    [&[8, 0, 0, 0][..], &(NUMBER << 8).to_be_bytes(), &frame].concat()
}

#[tokio::test]
async fn servers_that_cannot_be_are_refused_and_the_others_led_to() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (mut one, two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    one.node
        .shell("ip link add foreign type bridge && ip link set foreign up && ip route add 10.244.7.0/25 dev foreign");
    let at = |range: &str, address: Ipv4Addr| Peer { range: range.parse().unwrap(), address };
    for (impossible, why) in [
        (at("10.245.3.0/24", address(3)), "they are outside the cluster's 10.244.0.0/16"),
        (at("10.244.0.0/15", address(3)), "they are outside the cluster's 10.244.0.0/16"),
        (at("10.244.1.128/25", address(3)), "this server has 10.244.1.0/24"),
        (at("10.244.2.0/25", address(3)), "198.51.100.2 has 10.244.2.0/24"),
        (at("10.244.3.0/24", address(1)), "that is this server's address"),
        (at("10.244.3.0/24", Ipv4Addr::new(10, 244, 9, 9)), "its own address is one for pods"),
        (at("10.244.3.0/24", Ipv4Addr::LOCALHOST), "nobody can be reached at its address"),
        (at("10.244.3.3/32", address(3)), "there is no room for one of its own"),
        (at("10.244.7.0/24", address(3)), "10.244.7.0/25 of link \"foreign\""),
    ] {
        let refused = one.overlay.set(&[peer(2), impossible]).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(ask(&near.inside, far.at(8080)).unwrap(), "far 10.244.1.2");
        assert_eq!(one.node.shell(&format!("ip route show dev {LINK}")).lines().count(), 1);
    }
    assert!(one.node.shell("ip route show dev foreign").contains("10.244.7.0/25"));
}

#[tokio::test]
async fn purge_leaves_nothing_and_touches_nobody() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let node = Node::new();
    switch.join(&node.inside, 1);
    let state = || {
        let shown = "ip -4 -o addr; ip -4 route show table all; ip -4 neigh show nud permanent; nft list ruleset";
        (node.links(), sorted(node.shell(shown).lines()))
    };
    node.shell(&format!(
        "ip link add foreign type vxlan id 5 dstport {PORT} local 198.51.100.1 && ip link set foreign up"
    ));
    let mut second = Overlay::open(overlay::Settings {
        instance: "bbbbbb".to_owned(),
        cluster_range: "10.245.0.0/16".parse().unwrap(),
        node_range: "10.245.1.0/24".parse().unwrap(),
        number: NUMBER + 1,
        ..settings(&node, 1)
    })
    .unwrap();
    second.set(&[Peer { range: "10.245.2.0/24".parse().unwrap(), address: address(2) }]).unwrap();
    let before = state();
    let mut overlay = Overlay::open(settings(&node, 1)).unwrap();
    assert_eq!(state(), before, "alone, a server does nothing");
    overlay.set(&[peer(2), peer(3)]).unwrap();
    assert_ne!(state(), before);
    assert_eq!(second.check().unwrap(), Vec::<String>::new());
    for _ in 0..2 {
        overlay::purge(INSTANCE, &node.inside).unwrap();
        assert_eq!(state(), before);
    }
    // A number that somebody else has at this port.
    let taken = Overlay::open(overlay::Settings { number: 5, ..settings(&node, 1) }).unwrap().set(&[peer(2)]);
    assert_eq!(taken, Err(NetworkError::NumberTaken { number: 5, port: PORT }));
}
