//! TCP sockets of a network namespace, sock_diag(7): found by their connections, and ended.
//!
//! A socket whose other end is gone without a word learns of it when it has retried for a quarter of an hour. Whoever knows better
//! can tell it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::conntrack::Tuple;
use crate::namespace::NetNs;
use crate::netlink::{Error, Messages, Protocol, Socket};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const DUMP: u16 = 0x300;

/// AF_INET and AF_INET6, address_families(7). Programs that listen to both families have sockets of the second kind.
const FAMILIES: [u8; 2] = [2, 10];
const IPV4: u8 = 2;
const TCP: u8 = 6;

/// Bits of states (tcp_states.h): connected, and not told yet that the other side ends. One that was told may still have an answer
/// to read; one that only tries to connect may be led to somebody else with its next try.
const CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5;

const BYTECODE: u16 = 1;
/// Compares the other end's address.
const DESTINATION_IS: u8 = 8;
const OPERATION_BYTES: u8 = 4;
const CONDITION_BYTES: u8 = 12;
const ANY_PORT: i32 = -1;

/// Where a reply names its socket, and how long the name is.
const ID_OFFSET: usize = 4;
const ID_BYTES: usize = 48;

/// The sockets of a network namespace.
#[derive(Debug)]
pub struct Sockets(Socket);

impl Sockets {
    /// # Errors
    /// When the namespace may not be entered.
    pub fn open(namespace: &NetNs) -> Result<Self, Error> {
        Socket::open(Protocol::Sockets, namespace).map(Self)
    }

    /// Ends the connections of these flows, as far as the socket that began one is here: whoever waits at it is told at once. Gives
    /// their number; none where the kernel cannot do it.
    ///
    /// # Errors
    /// When the kernel does not tell, or refuses.
    pub fn end(&mut self, flows: &[Tuple]) -> Result<usize, Error> {
        let flows = flows.iter().filter(|flow| flow.protocol == TCP);
        let wanted: BTreeSet<_> = flows.map(|flow| (flow.source, flow.destination)).collect();
        let servers: BTreeSet<Ipv4Addr> = wanted.iter().map(|(_, (server, _))| *server).collect();
        let mut ended = 0;
        for (family, server) in FAMILIES.into_iter().flat_map(|family| servers.iter().map(move |at| (family, *at))) {
            let mut messages = Messages::new();
            messages.add(BY_FAMILY, DUMP, &request(family, &[0; ID_BYTES]), |a| {
                a.bytes(BYTECODE, &connected_to(server));
            });
            let replies = self.0.dump("list sockets", &messages)?;
            let ids = replies.iter().filter_map(|reply| reply.body.get(ID_OFFSET..)?.first_chunk::<ID_BYTES>());
            for id in ids.filter(|id| wanted.contains(&ends(family, id))) {
                match self.destroy(family, id) {
                    Ok(()) => ended += 1,
                    // It ended by itself.
                    Err(error) if error.errno() == Some(Errno::NOENT) => {}
                    Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => return Ok(ended),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(ended)
    }

    fn destroy(&mut self, family: u8, id: &[u8]) -> Result<(), Error> {
        let mut messages = Messages::new();
        messages.add(DESTROY, 0, &request(family, id), |_| {});
        self.0.request("end a connection", messages)
    }
}

/// Family, protocol, two bytes of no interest, the states that are asked for, and the socket.
fn request(family: u8, id: &[u8]) -> Vec<u8> {
    [&[family, TCP, 0, 0][..], &CONNECTED.to_ne_bytes(), id].concat()
}

/// One comparison: its operation, how far to go on when it holds and when not (past the end), and the address.
fn connected_to(address: Ipv4Addr) -> Vec<u8> {
    let length = OPERATION_BYTES + CONDITION_BYTES;
    let past_the_end = u16::from(length) + 4;
    let mut code = vec![DESTINATION_IS, length];
    code.extend_from_slice(&past_the_end.to_ne_bytes());
    code.extend_from_slice(&[IPV4, 32, 0, 0]);
    code.extend_from_slice(&ANY_PORT.to_ne_bytes());
    code.extend_from_slice(&address.octets());
    code
}

/// The ends of a socket's connection, its own first. Ports and addresses stand in the network's order; one of IPv4 takes the first
/// four of sixteen bytes, in a socket of both families the last.
fn ends(family: u8, id: &[u8; ID_BYTES]) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let at = if family == IPV4 { 0 } else { 12 };
    let port = |offset: usize| u16::from_be_bytes([id[offset], id[offset + 1]]);
    let address = |offset: usize| {
        let offset = offset + at;
        Ipv4Addr::new(id[offset], id[offset + 1], id[offset + 2], id[offset + 3])
    };
    ((address(4), port(0)), (address(20), port(2)))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_ended_and_its_neighbours_stay() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some(), "ending connections needs root");
            eprintln!("SKIPPED: ending connections needs root");
            return;
        }
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = |server: &str| TcpStream::connect(format!("{server}:{port}")).unwrap();
        let (plain, mapped, neighbour) = (open("127.0.0.1"), open("[::ffff:127.0.0.1]"), open("127.0.0.1"));
        let flow = |stream: &TcpStream| {
            let (std::net::IpAddr::V4(own), number) =
                (stream.local_addr().unwrap().ip().to_canonical(), stream.local_addr().unwrap().port())
            else {
                panic!("an IPv4 connection")
            };
            Tuple { source: (own, number), destination: (Ipv4Addr::LOCALHOST, port), protocol: TCP }
        };
        let mut sockets = Sockets::open(&NetNs::current().unwrap()).unwrap();
        let ended = sockets.end(&[flow(&plain), flow(&mapped)]).unwrap();
        if ended == 0 {
            eprintln!("this kernel cannot end connections");
            return;
        }
        assert_eq!(ended, 2);
        for mut stream in [plain, mapped] {
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
        }
        neighbour.set_nonblocking(true).unwrap();
        let mut neighbour = neighbour;
        assert_eq!(neighbour.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(sockets.end(&[flow(&neighbour), flow(&neighbour)]).unwrap(), 1);
    }
}
