//! The connection to one pod process: requests with their answers, and exits that come in between.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_podspec::{DecodeError, Done, Event, Exited, Failed, Hello, Request, VERSION, Welcome};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::socket;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no connection to the pod process")]
    Io(#[from] io::Error),
    /// The pod process has closed the connection: it has ended, or a newer connection took over.
    #[error("the pod process has closed the connection")]
    Closed,
    #[error("a message that cannot be read or sent")]
    Message(#[from] DecodeError),
    #[error("the pod process answered something else than was asked")]
    Unexpected,
    #[error("{:?} failed with error {} ({})", .0.step, .0.errno, .0.about)]
    Failed(Failed),
}

/// What a request that was carried out gave.
#[derive(Debug)]
pub struct Answer {
    pub done: Done,
    pub descriptor: Option<OwnedFd>,
}

/// A connection; dropping it leaves the pod as it is.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    last_id: u32,
    exits: VecDeque<Exited>,
}

impl Connection {
    pub(crate) const fn new(socket: OwnedFd) -> Self {
        Self { socket, last_id: 0, exits: VecDeque::new() }
    }

    /// The bare socket, before anything was asked on it.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Asks for all that the pod process knows. The first request on a connection.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn hello(&mut self) -> Result<Welcome, Error> {
        match self.ask(&Hello { version: VERSION }.into(), &[])? {
            (Event::Welcome(welcome), _) => Ok(welcome),
            _ => Err(Error::Unexpected),
        }
    }

    /// Sends a request and waits for its answer. Exits that come before it are kept for [`Self::next_exit`].
    ///
    /// # Errors
    /// `Failed` when the pod process could not do it, others when the connection breaks.
    pub fn call(&mut self, request: impl Into<Request>) -> Result<Answer, Error> {
        self.call_with(request, &[])
    }

    /// The same with descriptors for the pod process.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_with(&mut self, request: impl Into<Request>, descriptors: &[BorrowedFd<'_>]) -> Result<Answer, Error> {
        match self.ask(&request.into(), descriptors)? {
            (Event::Done(done), descriptor) => Ok(Answer { done, descriptor }),
            (Event::Failed(failed), _) => Err(Error::Failed(failed)),
            _ => Err(Error::Unexpected),
        }
    }

    /// The next process that ended, if one does within the limit.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn next_exit(&mut self, limit: Duration) -> Result<Option<Exited>, Error> {
        if let Some(exited) = self.exits.pop_front() {
            return Ok(Some(exited));
        }
        set_socket_timeout(&self.socket, Timeout::Recv, Some(limit)).map_err(io::Error::from)?;
        let received = socket::receive(&self.socket);
        set_socket_timeout(&self.socket, Timeout::Recv, None).map_err(io::Error::from)?;
        match received {
            Ok((_, Event::Exited(exited), _)) => Ok(Some(exited)),
            Ok(_) => Err(Error::Unexpected),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(Event, Option<OwnedFd>), Error> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        socket::send(&self.socket, &request.encode(self.last_id)?, descriptors)?;
        loop {
            match socket::receive(&self.socket)? {
                (0, Event::Exited(exited), _) => self.exits.push_back(exited),
                (id, event, descriptor) if id == self.last_id => return Ok((event, descriptor)),
                _ => return Err(Error::Unexpected),
            }
        }
    }
}

/// For an event loop: readable when an event waits.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
