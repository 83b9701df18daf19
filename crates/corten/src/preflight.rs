//! What must hold before a start, and who stands in the way where it does not.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use corten_apimachinery::value::Str;
use corten_sys::cgroup::Hierarchies;

use crate::args::{Controllers, Network, Up};

/// The controllers without which a pod could take the whole server.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The port of a node's server.
const NODE_PORT: u16 = 10250;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("port {} is in use{holder}; stop that, or choose another address with {flag}", address.port())]
    InUse { address: SocketAddr, holder: String, flag: &'static str },
    #[error("{} is no address of this server; choose one of its own with {flag}", address.ip())]
    NotOurs { address: SocketAddr, flag: &'static str },
    #[error("port {} needs root; run as root, or choose a port above 1023 with {flag}", address.port())]
    Forbidden { address: SocketAddr, flag: &'static str },
    #[error("cannot listen on {address}; choose another address with {flag}")]
    Other { address: SocketAddr, flag: &'static str, source: std::io::Error },
}

/// A server that cannot run pods.
#[derive(Debug, thiserror::Error)]
pub enum UnfitError {
    #[error(
        "running pods needs root; run as root, or leave pods and Services to others with --controllers none --network none"
    )]
    NotRoot,
    #[error(
        "pods cannot be limited: no control group of this server has {missing}; mount them (mount -t cgroup2 none /sys/fs/cgroup), \
         or start the kernel with them, then start again"
    )]
    NoController { missing: String },
    #[error("the control groups of this server cannot be read; mount them at /sys/fs/cgroup, then start again")]
    Groups(#[source] corten_sys::cgroup::Error),
}

/// Whether this server can do what is asked of it. Nothing is touched.
pub fn fit(settings: &Up) -> Result<(), UnfitError> {
    let pods = settings.controllers == Controllers::All;
    if pods {
        return fit_for_pods();
    }
    if settings.network == Network::All { root() } else { Ok(()) }
}

/// Whether this server can run pods.
pub fn fit_for_pods() -> Result<(), UnfitError> {
    root()?;
    check_controllers(&Hierarchies::detect().map_err(UnfitError::Groups)?)
}

fn root() -> Result<(), UnfitError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(UnfitError::NotRoot) }
}

fn check_controllers(hierarchies: &Hierarchies) -> Result<(), UnfitError> {
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|controller| !hierarchies.has(controller)).collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(UnfitError::NoController { missing: missing.join(", ") }),
    }
}

/// Binds an address, or says who holds it and which flag, such as `--listen ADDR:PORT`, chooses another one.
pub fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => {
            let holder = holder(Path::new("/proc"), address.port()).unwrap_or_default();
            ListenError::InUse { address, holder, flag }
        }
        ErrorKind::AddrNotAvailable => ListenError::NotOurs { address, flag },
        ErrorKind::PermissionDenied => ListenError::Forbidden { address, flag },
        _ => ListenError::Other { address, flag, source },
    })
}

/// Binds the node's server: where it is told to, else at Kubernetes' port, else, since nodes tell their port, at any free one.
pub fn listen_node(asked: Option<SocketAddr>) -> Result<TcpListener, ListenError> {
    const FLAG: &str = "--node-listen ADDR:PORT";
    if let Some(address) = asked {
        return listen(address, FLAG);
    }
    let usual = SocketAddr::from((Ipv4Addr::UNSPECIFIED, NODE_PORT));
    TcpListener::bind(usual).or_else(|_| listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), FLAG))
}

/// Protocols and ports at which programs of this server listen that can be reached at an address.
pub fn listening(address: Ipv4Addr) -> BTreeSet<(Str, u16)> {
    listening_in(Path::new("/proc/net"), address)
}

fn listening_in(tables: &Path, address: Ipv4Addr) -> BTreeSet<(Str, u16)> {
    // States of tcp_states.h: 10 listens, and 7 is how a socket of datagrams waits for anybody.
    let kinds = [("tcp", "TCP", "0A"), ("tcp6", "TCP", "0A"), ("udp", "UDP", "07"), ("udp6", "UDP", "07")];
    let own = format!("{:08X}", u32::from_ne_bytes(address.octets()));
    let of_us = |hex: &str| hex.bytes().all(|digit| digit == b'0') || hex == own || hex == format!("{MAPPED}{own}");
    let mut found = BTreeSet::new();
    for (table, protocol, listens) in kinds {
        // A kernel without IPv6 has no tables of it.
        let text = std::fs::read_to_string(tables.join(table)).unwrap_or_default();
        for fields in text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            let (Some(local), Some(state)) = (fields.get(1), fields.get(3)) else { continue };
            let Some((hex, port)) = local.split_once(':') else { continue };
            if let (true, true, Ok(port)) = (*state == listens, of_us(hex), u16::from_str_radix(port, 16)) {
                found.insert((Str::const_new(protocol), port));
            }
        }
    }
    found
}

/// How an address of IPv4 begins in the tables of IPv6.
const MAPPED: &str = "0000000000000000FFFF0000";

/// ` by NAME (process PID)`: the process that listens on a TCP port, as far as this user may see it.
fn holder(proc: &Path, port: u16) -> Option<String> {
    let socket = ["net/tcp", "net/tcp6"].iter().find_map(|table| {
        let text = std::fs::read_to_string(proc.join(table)).ok()?;
        text.lines().find_map(|line| listening_inode(line, port))
    })?;
    let wanted = format!("socket:[{socket}]");
    for process in std::fs::read_dir(proc).ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |link: std::io::Result<std::path::PathBuf>| link.is_ok_and(|to| to.as_os_str() == wanted.as_str());
        if files.flatten().any(|file| holds(std::fs::read_link(file.path()))) {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!(" by {} (process {pid})", command.trim()));
        }
    }
    None
}

/// The socket's inode in a line of `/proc/net/tcp` if it listens (state 0A) on the port.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, hex) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(hex, 16) == Ok(port);
    listens.then_some((*fields.get(9)?).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAG: &str = "--listen ADDR:PORT";

    #[test]
    fn a_busy_port_names_its_holder_and_the_flag() {
        let held = listen(([127, 0, 0, 1], 0).into(), FLAG).expect("a free port");
        let address = held.local_addr().expect("bound");
        let text = listen(address, FLAG).expect_err("held").to_string();
        let expected = format!("(process {})", std::process::id());
        assert!(text.contains(&format!("port {} is in use by ", address.port())), "{text}");
        assert!(text.contains(&expected) && text.ends_with("--listen ADDR:PORT"), "{text}");
    }

    #[test]
    fn a_missing_controller_is_named() {
        let line = |options: &str| format!("30 24 0:26 / /sys/fs/cgroup/{options} rw - cgroup cgroup rw,{options}\n");
        let all = [line("cpu,cpuacct"), line("memory"), line("pids")];
        check_controllers(&Hierarchies::mounted(&all.concat())).expect("all are there");
        let text = check_controllers(&Hierarchies::mounted(&all[..2].concat())).expect_err("one is not").to_string();
        assert!(text.starts_with("pods cannot be limited: no control group of this server has pids; mount "), "{text}");
        let text = check_controllers(&Hierarchies::default()).expect_err("none is").to_string();
        assert!(text.contains("has cpu, memory, pids;"), "{text}");
    }

    #[test]
    fn a_node_listens_anywhere_unless_told_where() {
        let held = listen_node(None).expect("some port");
        assert_ne!(listen_node(None).expect("another port").local_addr().expect("bound").port(), 0);
        let address = ([127, 0, 0, 1], held.local_addr().expect("bound").port()).into();
        let text = listen_node(Some(address)).expect_err("held").to_string();
        assert!(text.ends_with("--node-listen ADDR:PORT"), "{text}");
    }

    #[test]
    fn who_listens_is_known_by_protocol_and_address() {
        let any = TcpListener::bind("0.0.0.0:0").expect("a port");
        let loopback = TcpListener::bind("127.0.0.1:0").expect("a port");
        let datagrams = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port");
        let port = |address: std::io::Result<SocketAddr>| address.expect("bound").port();
        let (any, loopback, datagrams) =
            (port(any.local_addr()), port(loopback.local_addr()), port(datagrams.local_addr()));
        let found = listening(Ipv4Addr::new(192, 0, 2, 1));
        let has = |protocol: &'static str, port| found.contains(&(Str::const_new(protocol), port));
        assert_eq!((has("TCP", any), has("TCP", loopback), has("UDP", datagrams)), (true, false, true));
        assert!(listening(Ipv4Addr::LOCALHOST).contains(&(Str::const_new("TCP"), loopback)));
    }

    #[test]
    fn a_foreign_address_is_named() {
        let text = listen(([192, 0, 2, 1], 0).into(), FLAG).expect_err("a documentation address").to_string();
        assert!(text.contains("192.0.2.1 is no address of this server"), "{text}");
    }
}
