//! The connection to control: at most one, the newest wins. Sending never waits: a peer that does not read is cut off and
//! learns everything again when it comes back.

use std::io;
use std::os::fd::OwnedFd;

use corten_podspec::{DecodeError, Event, Failed, MESSAGE_BYTES_MAX, Request, Step, id_of};

use crate::sys;

/// The connection, if there is one.
pub(crate) struct Control {
    socket: Option<OwnedFd>,
    /// Counts connections.
    generation: u64,
}

/// A request and the connection that it came on: nobody else may get the answer.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    generation: u64,
    id: u32,
}

/// What one look at the connection gave.
pub(crate) enum Received {
    Request {
        ticket: Ticket,
        request: Box<Request>,
        descriptors: Vec<OwnedFd>,
    },
    /// Nothing to carry out; an answer was sent if one was due, and a closed connection is given up.
    Nothing,
}

impl Control {
    pub(crate) const fn none() -> Self {
        Self { socket: None, generation: 0 }
    }

    pub(crate) const fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Takes a waiting connection in the place of the one before, unless it comes from another user.
    pub(crate) fn accept(&mut self, listener: &OwnedFd) -> io::Result<Option<&OwnedFd>> {
        let socket = sys::accept(listener)?;
        if sys::peer_uid(&socket)? != sys::own_uid() {
            return Ok(None);
        }
        self.generation += 1;
        Ok(Some(self.socket.insert(socket)))
    }

    pub(crate) fn receive(&mut self) -> Received {
        let Some(socket) = &self.socket else { return Received::Nothing };
        let mut buffer = vec![0; MESSAGE_BYTES_MAX + 1];
        match sys::receive(socket, &mut buffer) {
            Ok(Some((length, descriptors))) => self.decode(&buffer[..length], descriptors),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Received::Nothing
            }
            Ok(None) | Err(_) => self.close(),
        }
    }

    fn decode(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Received {
        match Request::decode(bytes) {
            Ok((id, request)) => Received::Request { ticket: self.ticket(id), request: Box::new(request), descriptors },
            Err(error) => self.refuse(id_of(bytes), error),
        }
    }

    /// Answers what could not be read. Without an id there is nobody to answer, and the peer speaks something else.
    fn refuse(&mut self, id: Option<u32>, error: DecodeError) -> Received {
        let Some(id) = id else { return self.close() };
        let errno = if matches!(error, DecodeError::UnknownKind { .. }) { libc::ENOSYS } else { libc::EBADMSG };
        let failed = Failed { step: Step::Decode, errno, about: error.to_string() };
        self.answer(self.ticket(id), &failed.into(), None);
        Received::Nothing
    }

    fn close(&mut self) -> Received {
        self.socket = None;
        Received::Nothing
    }

    const fn ticket(&self, id: u32) -> Ticket {
        Ticket { generation: self.generation, id }
    }

    /// Answers a request; whether whoever sent it is still there and was told.
    pub(crate) fn answer(&mut self, ticket: Ticket, event: &Event, descriptor: Option<&OwnedFd>) -> bool {
        ticket.generation == self.generation && self.send(ticket.id, event, descriptor)
    }

    /// Tells what nobody asked for, to whoever is there.
    pub(crate) fn tell(&mut self, event: &Event) {
        self.send(0, event, None);
    }

    fn send(&mut self, id: u32, event: &Event, descriptor: Option<&OwnedFd>) -> bool {
        let Some(socket) = &self.socket else { return false };
        let sent = match event.encode(id) {
            Ok(bytes) => sys::send(socket, &bytes, descriptor),
            Err(_) => Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
        };
        if sent.is_err() {
            self.socket = None;
        }
        sent.is_ok()
    }
}
