//! Links and addresses of pods.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use corten_network::pods::{Pods, purge};
use corten_network::{HostPort, NetworkError, PodNetwork as _, Protocol};
use corten_sys::route::Change;

use crate::rig::{Node, Outside, Pod, ask, root};

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
    crate::rig::serve(&node.0, 81, "node");
    assert_eq!(ask(&one.inside, two.at(80)).unwrap(), "two 10.244.1.2");
    assert_eq!(ask(&node.0, two.at(80)).unwrap(), "two 10.244.1.1");
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
    assert_eq!(ask(&node.0, after.at(80)).unwrap(), "after 10.244.1.1");
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
    purge("aaaaaa", &node.0).unwrap();
    assert_eq!(node.links(), ["cbbbbbb2", "lo"]);
    purge("bbbbbb", &node.0).unwrap();
    assert_eq!((node.links(), node.routing().routes().unwrap()), (vec!["lo".to_owned()], Vec::new()));
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
        assert_eq!(ask(&node.0, (Outside::NODE, 81).into()).unwrap(), "two 192.0.2.1");
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
    let receiver = node.0.run(|| UdpSocket::bind((GATEWAY, 500))).unwrap().unwrap();
    receiver.set_read_timeout(Some(crate::rig::LIMIT)).unwrap();
    let send = |from: IpAddr| {
        let send = || UdpSocket::bind((from, 0)).and_then(|socket| socket.send_to(b"x", (GATEWAY, 500)));
        one.inside.run(send).unwrap().unwrap();
        receiver.recv_from(&mut [0]).map(|(_, sender)| sender.ip())
    };
    assert_eq!(send(one.address.unwrap()).unwrap(), one.address.unwrap());
    assert!(send(forged).is_err());
}
