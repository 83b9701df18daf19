//! Starting a pod process, and finding one again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use crate::{Connection, Program};

/// Connections that wait to be taken: control makes one at a time.
const BACKLOG: i32 = 8;

/// Starts a pod process that listens at `socket`, in a folder that only root may enter. It ends by itself if this process ends
/// before the pod is set up; from then on it lives until it is shut down.
///
/// # Errors
/// When somebody listens at the path, or the system refuses.
pub fn spawn(program: &Program, socket: &Path) -> io::Result<(Child, Connection)> {
    let listener = listener(socket)?;
    // Connected before it runs: if control dies right now, the pod process finds a connection that closes, and ends.
    let connection = adopt(socket)?;
    let mut command = Command::new(program.path());
    command.env_clear().current_dir("/").stdin(Stdio::from(listener)).stdout(Stdio::null());
    Ok((command.spawn()?, connection))
}

/// Connects to the pod process at `socket`; the connection that it had before is closed.
///
/// # Errors
/// `ConnectionRefused` when the socket is there but its pod process is not.
pub fn adopt(socket: &Path) -> io::Result<Connection> {
    connected(socket).map(Connection::new)
}

pub(crate) fn connected(socket: &Path) -> io::Result<OwnedFd> {
    let fd = new_socket()?;
    connect(&fd, &SocketAddrUnix::new(socket)?)?;
    Ok(fd)
}

pub(crate) fn listener(path: &Path) -> io::Result<OwnedFd> {
    match adopt(path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let fd = new_socket()?;
    bind(&fd, &SocketAddrUnix::new(path)?)?;
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}
