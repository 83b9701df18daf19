//! Links and addresses of pods.

use std::net::{IpAddr, Ipv4Addr};

use corten_network::pods::{Pods, purge};
use corten_network::{NetworkError, PodNetwork as _};
use corten_sys::route::Change;

use crate::rig::{Node, Pod, ask, root};

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
