//! Links and addresses of pods.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use corten_network::pods::Pods;
use corten_network::{HostPort, NetworkError, PodNetwork as _, Protocol};
use corten_sys::namespace::NetNs;
use corten_sys::route::Change;

use crate::rig::{LIMIT, Node, Outside, Pod, SILENCE, ask, is_silent, root};

/// Far less than the quarter of an hour after which TCP gives up by itself.
const WAIT_MAX: Duration = Duration::from_secs(20);

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 1));

#[tokio::test]
async fn pods_reach_each_other_and_the_node() {
    if !root() {
        return;
    }
    let node = Node::new();
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let (one, two) = (Pod::attached(&pods, "one").await, Pod::attached(&pods, "two").await);
    assert_eq!((one.at(80).to_string().as_str(), two.at(80).to_string().as_str()), ("10.244.1.2:80", "10.244.1.3:80"));
    two.serve(80, "two");
    crate::rig::serve(&node.inside, 81, "node");
    assert_eq!(ask(&one.inside, two.at(80)).unwrap(), "two 10.244.1.2");
    assert_eq!(ask(&node.inside, two.at(80)).unwrap(), "two 10.244.1.1");
    assert_eq!(ask(&one.inside, (GATEWAY, 81).into()).unwrap(), "node 10.244.1.2");
    one.serve(82, "one");
    assert_eq!(ask(&one.inside, "127.0.0.1:82".parse().unwrap()).unwrap(), "one 127.0.0.1");
    assert_eq!(node.shell("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
}

#[tokio::test]
async fn addresses_outlive_the_one_who_gave_them() {
    if !root() {
        return;
    }
    let node = Node::new();
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let one = Pod::attached(&pods, "one").await;
    let two = Pod::attached(&pods, "two").await;
    let three = Pod::attached(&pods, "three").await;
    drop(pods);
    node.routing().apply("as a crash does", &[Change::SetAlias(link_of(&node, "three"), "")]).unwrap();

    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    assert_eq!(pods.attached(), ["one", "two"]);
    assert_eq!(pods.attach("two", two.pid()).await.unwrap(), [two.address.unwrap()]);
    assert_eq!(node.links(), ["caaaaaa2", "caaaaaa3", "lo"]);
    let again = pods.attach("three", three.pid()).await.unwrap();
    assert_eq!(again, three.address.into_iter().collect::<Vec<_>>());

    pods.detach("one").await.unwrap();
    pods.detach("one").await.unwrap();
    pods.detach("never was").await.unwrap();
    assert_eq!(pods.attached(), ["three", "two"]);
    assert_eq!(node.links(), ["caaaaaa3", "caaaaaa4", "lo"]);
    drop(one);
}

#[tokio::test]
async fn a_pod_whose_process_was_replaced_is_linked_anew() {
    if !root() {
        return;
    }
    let node = Node::new();
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let before = Pod::attached(&pods, "one").await;
    let after = Pod::attached(&pods, "one").await;
    assert_eq!(before.address, after.address);
    after.serve(80, "after");
    assert_eq!(ask(&node.inside, after.at(80)).unwrap(), "after 10.244.1.1");
    let gone = pods.attach("two", u32::MAX).await;
    assert!(matches!(gone, Err(NetworkError::Failed { .. })), "{gone:?}");
    assert_eq!(pods.attached(), ["one"]);
}

#[tokio::test]
async fn a_failed_attachment_leaves_nothing() {
    if !root() {
        return;
    }
    let node = Node::new();
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let pod = Pod::new();
    crate::rig::shell(&pod.inside, "ip link add eth0 type veth peer name other");
    assert!(pods.attach("one", pod.pid()).await.is_err());
    assert_eq!((pods.attached(), node.links()), (Vec::new(), vec!["lo".to_owned()]));
}

#[tokio::test]
async fn instances_keep_apart() {
    if !root() {
        return;
    }
    let node = Node::new();
    let first = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let _one = Pod::attached(&first, "one").await;
    let clash = node.pods("bbbbbb", "10.244.0.0/16").unwrap_err();
    let expected = "the pod addresses 10.244.0.0/16 clash with the route 10.244.1.2/32 of link \"caaaaaa2\"; choose others with \
                    --pod-cidr";
    assert_eq!(clash.to_string(), expected);

    let second = node.pods("bbbbbb", "10.245.1.0/24").unwrap();
    let _two = Pod::attached(&second, "one").await;
    node.purge("aaaaaa");
    assert_eq!(node.links(), ["cbbbbbb2", "lo"]);
    node.purge("bbbbbb");
    assert_eq!((node.links(), node.routing().routes().unwrap()), (vec!["lo".to_owned()], Vec::new()));
    assert_eq!(node.routing().unreachable().unwrap(), []);
}

#[tokio::test]
async fn the_range_is_closed_with_the_first_pod_and_opened_by_purge() {
    if !root() {
        return;
    }
    let node = Node::new();
    node.shell("ip route add unreachable 10.0.0.0/8");
    let closed = || node.shell("ip route show type unreachable | sort");
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    assert_eq!(closed(), "unreachable 10.0.0.0/8 \n");
    let _one = Pod::attached(&pods, "one").await;
    let both = "unreachable 10.0.0.0/8 \nunreachable 10.244.0.0/16 metric 3349850794 \n";
    assert_eq!(closed(), both);
    pods.detach("one").await.unwrap();
    drop(pods);
    let again = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    assert_eq!((closed(), again.attached()), (both.to_owned(), Vec::new()));
    let pods = node.pods("aaaaaa", "10.244.2.0/24").unwrap();
    let _two = Pod::attached(&pods, "two").await;
    assert_eq!(closed(), both);
    node.purge("aaaaaa");
    assert_eq!(closed(), "unreachable 10.0.0.0/8 \n");
}

#[tokio::test]
async fn switches_are_put_back_by_the_last_who_needed_them() {
    if !root() {
        return;
    }
    let node = Node::new();
    let values = || {
        node.shell("cd /proc/sys/net/ipv4; cat ip_forward conf/lo/forwarding conf/all/accept_redirects | tr '\\n' ' '")
    };
    node.shell(
        "cd /proc/sys/net/ipv4; echo 0 >ip_forward; echo 1 >conf/lo/forwarding; echo 0 >conf/all/accept_redirects",
    );
    let before = values();
    assert_eq!(before, "0 1 0 ");
    for _ in 0..2 {
        node.pods("aaaaaa", "10.244.1.0/24").unwrap();
        node.pods("bbbbbb", "10.245.1.0/24").unwrap();
    }
    node.shell("echo 1 >/proc/sys/net/ipv4/conf/all/accept_redirects");
    node.purge("aaaaaa");
    assert_eq!(values(), "1 1 1 ");
    node.purge("bbbbbb");
    node.purge("bbbbbb");
    assert_eq!(values(), before);
    assert_eq!(std::fs::read_dir(node.records.path()).unwrap().count(), 0);
    node.shell("echo 1 >/proc/sys/net/ipv4/ip_forward");
    node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    node.purge("aaaaaa");
    assert_eq!(node.shell("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
}

#[tokio::test]
async fn what_was_before_outlives_a_kill_in_the_middle_of_writing() {
    if !root() {
        return;
    }
    let node = Node::new();
    node.shell("echo 0 >/proc/sys/net/ipv4/ip_forward");
    node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let record = std::fs::read_dir(node.records.path()).unwrap().next().unwrap().unwrap().path();
    // A kill leaves what is there between two calls of the kernel: the file itself is never less than it was.
    let written = std::fs::read_to_string(&record).unwrap();
    let seen = node.records.path().join("seen");
    std::fs::hard_link(&record, &seen).unwrap();
    node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    node.pods("bbbbbb", "10.245.1.0/24").unwrap();
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), written);
    assert_ne!(std::fs::read_to_string(&record).unwrap(), written);
    node.purge("bbbbbb");
    assert_eq!(std::fs::read_to_string(&record).unwrap(), written);
    node.purge("aaaaaa");
    assert_eq!(node.shell("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
}

#[tokio::test]
async fn what_is_sent_to_no_pod_does_not_leave_the_node() {
    if !root() {
        return;
    }
    let (node, outside) = (Node::new(), Outside::new());
    outside.link(&node);
    // A stranger who answers at the default route's end.
    crate::rig::shell(
        &outside.inside,
        "ip link set lo up && ip addr add 10.244.1.2/32 dev lo && ip addr add 10.244.1.9/32 dev lo",
    );
    crate::rig::serve(&outside.inside, 80, "stranger");
    let nobody = |last: u8| SocketAddr::from(([10, 244, 1, last], 80));
    assert_eq!(ask(&node.inside, nobody(2)).unwrap(), "stranger 192.0.2.1");
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let (one, two) = (Pod::attached(&pods, "one").await, Pod::attached(&pods, "two").await);
    one.serve(80, "one");
    for from in [&node.inside, &two.inside] {
        assert!(ask(from, nobody(2)).unwrap().starts_with("one "));
    }
    pods.detach("one").await.unwrap();
    for address in [2, 9] {
        assert_eq!(ask(&two.inside, nobody(address)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ask(&node.inside, nobody(address)).unwrap_err().kind(), ErrorKind::HostUnreachable);
    }
}

#[tokio::test]
async fn connections_to_a_pod_that_is_gone_end() {
    if !root() {
        return;
    }
    let node = Node::new();
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let (one, two) = (Pod::attached(&pods, "one").await, Pod::attached(&pods, "two").await);
    let listener = one.inside.run(|| TcpListener::bind(("0.0.0.0", 80))).unwrap().unwrap();
    let connect = |from: &NetNs| {
        let stream = from.run(|| TcpStream::connect_timeout(&one.at(80), LIMIT)).unwrap().unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream
    };
    let (mut from_node, mut from_pod) = (connect(&node.inside), connect(&two.inside));
    // Its own sockets are still there: nobody has said good-bye.
    pods.detach("one").await.unwrap();
    assert_eq!(from_node.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    from_pod.write_all(b"?").unwrap();
    assert_eq!(from_pod.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(listener);
}

#[tokio::test]
async fn a_full_range_is_an_error_that_passes() {
    if !root() {
        return;
    }
    let node = Node::new();
    let pods = Pods::open(node.settings("aaaaaa", "10.244.1.0/30")).unwrap();
    let one = Pod::attached(&pods, "one").await;
    let full = pods.attach("two", one.pid()).await;
    assert_eq!(full, Err(NetworkError::NoAddress { range: "10.244.1.0/30".to_owned() }));
    pods.detach("one").await.unwrap();
    let two = Pod::attached(&pods, "two").await;
    assert_eq!(two.address, one.address);
}

fn link_of(node: &Node, pod: &str) -> u32 {
    let links = node.routing().links().unwrap();
    links.iter().find(|link| link.alias == pod).unwrap().index
}

#[tokio::test]
async fn ports_of_the_node_lead_to_pods() {
    if !root() {
        return;
    }
    let (node, outside) = (Node::new(), Outside::new());
    outside.link(&node);
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let (one, two) = (Pod::attached(&pods, "one").await, Pod::attached(&pods, "two").await);
    one.serve(8080, "one");
    two.serve(8080, "two");
    let at = |address: Option<Ipv4Addr>, port| HostPort { address, protocol: Protocol::Tcp, port, to: 8080 };
    pods.publish("one", &[at(None, 80)]).await.unwrap();
    pods.publish("two", &[at(Some(Outside::NODE), 81), at(Some(Ipv4Addr::new(192, 0, 2, 9)), 82)]).await.unwrap();
    let from_outside = |port| ask(&outside.inside, (Outside::NODE, port).into());
    let everything = || {
        assert_eq!(from_outside(80).unwrap(), "one 192.0.2.2");
        assert_eq!(from_outside(81).unwrap(), "two 192.0.2.2");
        assert_eq!(ask(&one.inside, (Outside::NODE, 80).into()).unwrap(), "one 10.244.1.1");
        assert_eq!(ask(&node.inside, (Outside::NODE, 81).into()).unwrap(), "two 192.0.2.1");
        assert_eq!(ask(&node.inside, localhost(80)).unwrap(), "one 10.244.1.1");
        assert_eq!(from_outside(82).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    };
    everything();
    drop(pods);
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    everything();
    pods.publish("one", &[]).await.unwrap();
    pods.detach("two").await.unwrap();
    for port in [80, 81] {
        assert_eq!(from_outside(port).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{port}");
    }
    let nobody = pods.publish("two", &[at(None, 80)]).await;
    assert_eq!(nobody, Err(NetworkError::Unlinked { pod: "two".to_owned() }));
}

#[tokio::test]
async fn the_nodes_own_loopback_is_its_own() {
    if !root() {
        return;
    }
    let (node, outside) = (Node::new(), Outside::new());
    outside.link(&node);
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let (one, two) = (Pod::attached(&pods, "one").await, Pod::attached(&pods, "two").await);
    one.serve(8080, "one");
    let at_loopback = HostPort { address: Some(Ipv4Addr::LOCALHOST), protocol: Protocol::Tcp, port: 80, to: 8080 };
    pods.publish("one", &[at_loopback]).await.unwrap();
    crate::rig::serve(&node.inside, 81, "node");
    assert_eq!(ask(&node.inside, localhost(80)).unwrap(), "one 10.244.1.1");
    assert_eq!(ask(&node.inside, localhost(81)).unwrap(), "node 127.0.0.1");
    assert_eq!(ask(&node.inside, "127.0.0.53:80".parse().unwrap()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // Whoever sends to the node's loopback by a link, having talked their own kernel into it, is not heard.
    let talked = "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip addr del 127.0.0.1/8 dev lo; \
                  ip route del local 127.0.0.0/8 dev lo table local 2>/dev/null; ip route replace 127.0.0.1/32 via";
    crate::rig::shell(&two.inside, &format!("{talked} 10.244.1.1 dev eth0"));
    crate::rig::shell(&outside.inside, &format!("ip addr add 127.0.0.1/8 dev lo; {talked} 192.0.2.1 dev up1"));
    for (from, port) in [(&two.inside, 80), (&two.inside, 81), (&outside.inside, 80), (&outside.inside, 81)] {
        assert!(is_silent(from, localhost(port)), "{port}");
    }
}

fn localhost(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[tokio::test]
async fn pods_leave_the_cluster_under_the_nodes_address_and_never_under_anothers() {
    if !root() {
        return;
    }
    let (node, outside) = (Node::new(), Outside::new());
    outside.link(&node);
    let pods = node.pods("aaaaaa", "10.244.1.0/24").unwrap();
    let (one, two) = (Pod::attached(&pods, "one").await, Pod::attached(&pods, "two").await);
    crate::rig::serve(&outside.inside, 80, "outside");
    let server = ("192.0.2.2".parse::<IpAddr>().unwrap(), 80).into();
    assert_eq!(ask(&one.inside, server).unwrap(), "outside 192.0.2.1");
    // In another pod's name nothing arrives, not even at the node itself.
    let forged = two.address.unwrap();
    crate::rig::shell(&one.inside, &format!("ip addr add {forged}/32 dev eth0"));
    let receiver = node.inside.run(|| UdpSocket::bind((GATEWAY, 500))).unwrap().unwrap();
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    let send = |from: IpAddr| {
        let send = || UdpSocket::bind((from, 0)).and_then(|socket| socket.send_to(b"x", (GATEWAY, 500)));
        one.inside.run(send).unwrap().unwrap();
        receiver.recv_from(&mut [0]).map(|(_, sender)| sender.ip())
    };
    assert_eq!(send(one.address.unwrap()).unwrap(), one.address.unwrap());
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(send(forged).is_err());
}
