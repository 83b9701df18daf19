//! Servers that lose packets, or each other.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::rig::{LIMIT, Pod, ask, is_silent, root};
use crate::servers::{Server, Switch, peer};

/// The kernel waits twice as long with every try.
const HEALED: Duration = Duration::from_secs(60);
/// Some hundred packets, however they are put together.
const SENT: usize = 2 << 20;

/// A connection between two pods.
fn connection(from: &Pod, to: &Pod) -> (TcpStream, TcpStream) {
    let listener = to.inside.run(|| TcpListener::bind(("0.0.0.0", 0))).unwrap().unwrap();
    let port = listener.local_addr().unwrap().port();
    let near = from.inside.run(|| TcpStream::connect_timeout(&to.at(port), LIMIT)).unwrap().unwrap();
    let (far, _) = listener.accept().unwrap();
    for end in [&near, &far] {
        end.set_read_timeout(Some(HEALED)).unwrap();
    }
    (near, far)
}

#[tokio::test]
async fn packets_that_are_lost_between_servers_are_sent_again() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (one, two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    for server in [&one, &two] {
        server.node.shell(
            "nft add table ip loss && nft add chain ip loss in '{ type filter hook prerouting priority -500; }' && \
             nft add rule ip loss in udp dport 4789 numgen random mod 100 \\< 3 counter drop",
        );
    }
    let (mut sender, mut receiver) = connection(&near, &far);
    let sent: Vec<u8> = (0..SENT).map(|at| (at % 251) as u8).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || sender.write_all(&sent));
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(received == expected);
}

#[tokio::test]
async fn servers_that_have_lost_each_other_go_on_when_they_are_back() {
    if !root() {
        return;
    }
    let switch = Switch::new();
    let (mut one, mut two) = Server::two(&switch);
    let (near, far) = (one.pod("near").await, two.pod("far").await);
    let neighbour = one.pod("neighbour").await;
    let (mut sender, mut receiver) = connection(&near, &far);
    switch.cut(2, true);
    // Pods of one server reach each other; the others are silent, and nobody answers in their name.
    sender.write_all(b"cut").unwrap();
    assert_eq!(ask(&near.inside, neighbour.at(8080)).unwrap(), "neighbour 10.244.1.2");
    assert!(is_silent(&near.inside, far.at(8080)) && is_silent(&one.node.inside, far.at(8080)));
    assert!(is_silent(&far.inside, near.at(8080)));
    // Neither control has anything to do about it, also if it begins anew now.
    for (server, other) in [(&mut one, 2), (&mut two, 1)] {
        assert_eq!(server.overlay.check().unwrap(), Vec::<String>::new());
        server.restart();
        server.overlay.set(&[peer(other)]).unwrap();
        assert_eq!(server.overlay.check().unwrap(), Vec::<String>::new());
    }
    switch.cut(2, false);
    let mut text = [0; 3];
    receiver.read_exact(&mut text).unwrap();
    receiver.write_all(&text).unwrap();
    sender.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"cut");
    assert_eq!(ask(&near.inside, far.at(8080)).unwrap(), "far 10.244.1.2");
}
