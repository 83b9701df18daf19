//! What the kernel's packet filter tells of its own changes, as netlink(7) has it: each commit ends with a message that names
//! the new generation.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt};
use tokio::io::unix::AsyncFd;

/// The group that hears of changes of tables (`NFNLGRP_NFTABLES`), as a mask.
const GROUP: u32 = 1 << 6;
/// The subsystem of tables and the message of a new generation (`NFNL_SUBSYS_NFTABLES`, `NFT_MSG_NEWGEN`).
const NEW_GENERATION: u16 = 10 << 8 | 15;
/// A whole table is told element by element.
const QUEUE_BYTES: usize = 256 << 20;
const RECEIVE_BYTES: usize = 64 << 10;

pub(super) struct Notices {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Notices {
    /// Of this network namespace, from now on.
    pub(super) fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES).context("the queue of a netlink socket")?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
        Ok(Self { socket: watched(socket)?, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Forgets what was told until now.
    pub(super) fn forget(&mut self) -> Result<()> {
        loop {
            match recv(self.socket.get_ref(), &mut self.buffer[..], RecvFlags::empty()) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error).context("what the packet filter tells"),
            }
        }
    }

    /// Resolves when the kernel has committed a change.
    pub(super) async fn commit(&mut self) -> Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            match recv(self.socket.get_ref(), &mut self.buffer[..], RecvFlags::empty()) {
                Ok((length, _)) if ends_commit(&self.buffer[..length]) => return Ok(()),
                Ok(_) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error).context("what the packet filter tells"),
            }
        }
    }
}

/// Puts a descriptor on the event loop.
#[expect(deprecated, reason = "its successor is unsafe for the sake of other types; an owned descriptor stays open")]
fn watched(socket: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(socket)
}

/// Whether one of the messages of a datagram names a new generation.
fn ends_commit(mut datagram: &[u8]) -> bool {
    while let Some((length, kind)) = header(datagram) {
        if kind == NEW_GENERATION {
            return true;
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// Length and type of the first message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (length >= 16).then_some((usize::try_from(length).ok()?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_ends_with_its_generation() {
        let message = |kind: u16| [&20u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 14]].concat();
        assert!(ends_commit(&[message(10 << 8 | 12), message(NEW_GENERATION)].concat()));
        assert!(!ends_commit(&message(10 << 8 | 12)));
        assert!(!ends_commit(&[0; 12]) && !ends_commit(&message(NEW_GENERATION)[..3]));
    }
}
