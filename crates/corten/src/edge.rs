//! The edge: the process that carries requests (`process`), and what control does about it: its sockets (`doors`), the holder
//! that runs it (`start`), and the configuration that it is told (`publish`).
//!
//! Control hands the holder what an edge needs, each thing under a name: the listening sockets, the socket for control, the
//! folder of the snapshot, the key that opens it. From then on the edge needs control for news alone. A holder that dies is
//! replaced by control (`guard`), which has the sockets too.

pub mod address;
pub mod doors;
pub mod end;
mod guard;
mod log;
mod names;
pub mod process;
pub mod publish;
pub mod start;
pub mod talk;
pub mod words;

/// Names under which the holder keeps what an edge needs.
const KEY: &str = "key";
const FOLDER: &str = "folder";
const LOGS: &str = "logs";
const CONTROL: &str = "control";
/// Closes with the holder.
const ALIVE: &str = "alive";
/// Followed by an address.
const HTTP: &str = "http ";
const HTTPS: &str = "https ";
const DNS_DATAGRAMS: &str = "dns-udp ";
const DNS_CONNECTIONS: &str = "dns-tcp ";
/// All of those at which the edge listens.
const DOORS: [&str; 4] = [HTTP, HTTPS, DNS_DATAGRAMS, DNS_CONNECTIONS];
/// Followed by what tells one build of the program from another.
const PROGRAM: &str = "program ";

/// The file of the configuration in its folder.
const SNAPSHOT: &str = "snapshot";

/// The user that the edge runs as, who owns nothing else on a server.
const USER: u32 = 64_080;
