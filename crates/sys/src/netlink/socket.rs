//! The socket: sends messages and reads the kernel's answers, which are ready when the sending call returns.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::Error;
use super::message::{Messages, Reply, number, replies};
use crate::namespace::NetNs;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The dump was disturbed by a change.
const DUMP_INTERRUPTED: u16 = 0x10;

/// The kernel fills at most 32 KiB a datagram of a dump.
const RECEIVE_BYTES: usize = 64 << 10;
/// The kernel's accounting counts headers and padding too; twice the bytes is always enough.
const SEND_MARGIN: usize = 2;
const RECEIVE_QUEUE_BYTES: usize = 4 << 20;
/// A dump that is disturbed this often is given up.
const DUMP_ATTEMPTS_MAX: usize = 20;

/// Which part of the kernel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// Packet filters and tracked connections.
    Netfilter,
    /// Sockets.
    Sockets,
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    send_bytes: usize,
}

impl Socket {
    /// Opens one in a namespace; it stays there, whoever uses it.
    ///
    /// # Errors
    /// When the namespace may not be entered or the kernel has no such protocol.
    pub fn open(protocol: Protocol, namespace: &NetNs) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Socket { what: "open", source };
        let fd = namespace.run(|| open(protocol)).map_err(failed)?.map_err(|errno| failed(errno.into()))?;
        Ok(Self { fd, sequence: 1, buffer: vec![0; RECEIVE_BYTES], send_bytes: 0 })
    }

    /// Sends messages and waits until each is acknowledged; the first refusal is the error. They are no transaction.
    ///
    /// # Errors
    /// The kernel's reason, with `what` was tried.
    pub fn request(&mut self, what: &'static str, mut messages: Messages) -> Result<(), Error> {
        let first = self.number(&mut messages, |_| true);
        self.send(what, &messages)?;
        let mut refused = None;
        let mut left = messages.len();
        while left > 0 {
            for reply in self.receive(what, RecvFlags::empty())? {
                let ours = reply.sequence.wrapping_sub(first) < u32::try_from(messages.len()).unwrap_or(u32::MAX);
                if reply.kind == NLMSG_ERROR && ours {
                    left -= 1;
                    refused = refused.or(refusal(what, first, &reply));
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends a transaction of netfilter, of which only the message before the last is acknowledged, so that answers to
    /// thousands do not overflow the queue. Any refusal undoes all of it.
    ///
    /// # Errors
    /// The kernel's first reason.
    pub fn transaction(&mut self, what: &'static str, mut messages: Messages) -> Result<(), Error> {
        let asked = messages.len().saturating_sub(2);
        let first = self.number(&mut messages, |index| index == asked);
        self.send(what, &messages)?;
        let last = first.wrapping_add(u32::try_from(asked).unwrap_or_default());
        let (mut done, mut refused) = (false, None);
        loop {
            // All answers were queued by the sending call.
            let replies = match self.receive(what, RecvFlags::DONTWAIT) {
                Err(error) if error.errno() == Some(Errno::AGAIN) => break,
                other => other?,
            };
            for reply in replies.iter().filter(|reply| reply.kind == NLMSG_ERROR) {
                refused = refused.or(refusal(what, first, reply));
                done |= reply.sequence == last;
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if done => Ok(()),
            None => Err(Error::Short { what }),
        }
    }

    /// Sends one message that asks for a list or an object, and reads all of the answer; from the start again when the
    /// kernel says that changes have disturbed it.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn dump(&mut self, what: &'static str, messages: &Messages) -> Result<Vec<Reply>, Error> {
        self.dump_only(what, messages, |_| true)
    }

    /// The same, where most of what the kernel tells is of no use: the rest is not kept.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn dump_only(
        &mut self,
        what: &'static str,
        messages: &Messages,
        is_wanted: impl Fn(&Reply) -> bool,
    ) -> Result<Vec<Reply>, Error> {
        let mut undisturbed = None;
        for _ in 0..DUMP_ATTEMPTS_MAX {
            undisturbed = self.dump_once(what, messages.clone(), &is_wanted)?;
            if undisturbed.is_some() {
                break;
            }
        }
        undisturbed.ok_or(Error::Refused { what, step: 0, errno: Errno::INTR })
    }

    fn dump_once(
        &mut self,
        what: &'static str,
        mut messages: Messages,
        is_wanted: impl Fn(&Reply) -> bool,
    ) -> Result<Option<Vec<Reply>>, Error> {
        // An object that is asked for by name ends with an acknowledgement, a list with its own end.
        let first = self.number(&mut messages, |_| true);
        self.send(what, &messages)?;
        let (mut found, mut disturbed) = (Vec::new(), false);
        loop {
            for reply in self.receive(what, RecvFlags::empty())? {
                if reply.sequence != first {
                    continue;
                }
                disturbed |= reply.flags & DUMP_INTERRUPTED != 0;
                match (reply.kind, error_of(&reply)) {
                    (NLMSG_ERROR | NLMSG_DONE, Some(errno)) => return Err(Error::Refused { what, step: 0, errno }),
                    (NLMSG_ERROR | NLMSG_DONE, None) => return Ok((!disturbed).then_some(found)),
                    _ if is_wanted(&reply) => found.push(reply),
                    _ => {}
                }
            }
        }
    }

    fn number(&mut self, messages: &mut Messages, acknowledged: impl Fn(usize) -> bool) -> u32 {
        let first = self.sequence;
        messages.number(first, acknowledged);
        self.sequence = first.wrapping_add(u32::try_from(messages.len()).unwrap_or_default());
        first
    }

    fn send(&mut self, what: &'static str, messages: &Messages) -> Result<(), Error> {
        let failed = |errno: Errno| Error::Socket { what, source: errno.into() };
        let wanted = messages.size().saturating_mul(SEND_MARGIN).max(1 << 20);
        if wanted > self.send_bytes {
            sockopt::set_socket_send_buffer_size_force(&self.fd, wanted).map_err(failed)?;
            self.send_bytes = wanted;
        }
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent =
            rustix::io::retry_on_intr(|| rustix::net::sendto(&self.fd, messages.bytes(), SendFlags::empty(), &kernel));
        sent.map(drop).map_err(failed)
    }

    fn receive(&mut self, what: &'static str, flags: RecvFlags) -> Result<Vec<Reply>, Error> {
        let buffer = &mut self.buffer[..];
        let received =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buffer, flags | RecvFlags::TRUNC));
        let (length, whole) = received.map_err(|errno| Error::Socket { what, source: errno.into() })?;
        if whole > length {
            return Err(Error::Short { what });
        }
        replies(&self.buffer[..length]).ok_or(Error::Short { what })
    }
}

fn open(protocol: Protocol) -> Result<OwnedFd, Errno> {
    let protocol = match protocol {
        Protocol::Route => None,
        Protocol::Netfilter => Some(netlink::NETFILTER),
        Protocol::Sockets => Some(netlink::SOCK_DIAG),
    };
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_QUEUE_BYTES)?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
    Ok(fd)
}

/// The error that a reply to one of several messages is.
fn refusal(what: &'static str, first: u32, reply: &Reply) -> Option<Error> {
    error_of(reply).map(|errno| Error::Refused { what, step: reply.sequence.wrapping_sub(first), errno })
}

/// The reason in an error message or at a list's end; none for an acknowledgement.
fn error_of(reply: &Reply) -> Option<Errno> {
    if reply.kind != NLMSG_ERROR && reply.kind != NLMSG_DONE {
        return None;
    }
    let code = number(&reply.body)?.cast_signed();
    (code < 0).then(|| Errno::from_raw_os_error(-code))
}
