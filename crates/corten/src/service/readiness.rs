//! Tells whoever runs this process as a service how far it is, as sd_notify(3) describes: without such a one, nothing.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where it listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Everything is ready.
pub fn ready(what: &str) {
    tell(&format!("READY=1\nSTATUS={what}"));
}

/// What is being waited for or was done, in a line.
pub fn status(what: &str) {
    tell(&format!("STATUS={what}"));
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = send(path.as_bytes(), state) {
        tracing::warn!(%error, socket = ?path, "who runs this as a service is not told: {state}");
    }
}

/// A name that begins with `@` is not in the file system (unix(7)).
fn send(path: &[u8], state: &str) -> io::Result<()> {
    let address = match path.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_either_kind_of_socket() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let name = format!("corten-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");
        send(path.as_os_str().as_bytes(), "READY=1").expect("sent");
        send(format!("@{name}").as_bytes(), "STATUS=x").expect("sent");
        let mut buffer = [0; 32];
        let length = by_path.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"READY=1");
        let length = by_name.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"STATUS=x");
        assert!(send(dir.path().join("nobody").as_os_str().as_bytes(), "READY=1").is_err());
    }
}
