//! The holder from control's side: starting one, finding it again, and what it is asked for. It is the pod program in its
//! second role; it keeps sockets and runs the edge, and outlives the control that started it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_podspec::{End, Forget, Held, Hello, HolderEvent, HolderRequest, Keep, Lend, Run, VERSION};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::spawn::{connected, listener};
use crate::{Error, Program, datagram};

/// How long the holder may take to answer; it never waits for anything itself.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A connection to the holder; dropping it leaves the holder as it is.
#[derive(Debug)]
pub struct Holder {
    socket: OwnedFd,
    last_id: u32,
}

impl Holder {
    /// Starts a holder that listens at `socket`, in a folder that only root may enter. It ends by itself if this process ends
    /// before there is an edge to run.
    ///
    /// # Errors
    /// When somebody listens at the path, or the system refuses.
    pub fn spawn(program: &Program, socket: &Path) -> io::Result<(Child, Self)> {
        let listener = listener(socket)?;
        let holder = Self::adopt(socket)?;
        let mut command = Command::new(program.path());
        command.arg("holder").env_clear().current_dir("/").stdin(Stdio::from(listener)).stdout(Stdio::null());
        Ok((command.spawn()?, holder))
    }

    /// Connects to the holder at `socket`; the connection that it had before is closed.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` when no holder is there.
    pub fn adopt(socket: &Path) -> io::Result<Self> {
        let socket = connected(socket)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_MAX))?;
        Ok(Self { socket, last_id: 0 })
    }

    /// All that the holder knows.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn hello(&mut self) -> Result<Held, Error> {
        match self.ask(&Hello { version: VERSION }.into(), &[])?.0 {
            HolderEvent::Held(held) => Ok(held),
            _ => Err(Error::Unexpected),
        }
    }

    /// Keeps bytes or a descriptor under a name, for every edge that runs from now on.
    ///
    /// # Errors
    /// When the holder has no room, or the connection breaks.
    pub fn keep(&mut self, name: &str, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let keep = Keep { name: name.to_owned(), bytes: bytes.into() };
        self.done(&keep.into(), descriptor.as_slice())
    }

    /// # Errors
    /// When the connection breaks.
    pub fn forget(&mut self, name: &str) -> Result<(), Error> {
        self.done(&Forget { name: name.to_owned() }.into(), &[])
    }

    /// A copy of the descriptor that is kept under a name.
    ///
    /// # Errors
    /// When there is none, the holder is of a version that lends nothing, or the connection breaks.
    pub fn lend(&mut self, name: &str) -> Result<OwnedFd, Error> {
        match self.ask(&Lend { name: name.to_owned() }.into(), &[])? {
            (HolderEvent::Done(_), Some(descriptor)) => Ok(descriptor),
            (HolderEvent::Failed(failed), _) => Err(Error::Failed(failed)),
            _ => Err(Error::Unexpected),
        }
    }

    /// Starts an edge in the place of the one that runs. The descriptors are its program, standard output and standard error.
    ///
    /// # Errors
    /// When too many edges are still ending, or the connection breaks.
    pub fn run(&mut self, plan: Run, descriptors: [BorrowedFd<'_>; 3]) -> Result<(), Error> {
        self.done(&plan.into(), &descriptors)
    }

    /// Ends the edge, and then the holder.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn end(&mut self, drain: Duration) -> Result<(), Error> {
        let drain_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        self.done(&End { drain_ms }.into(), &[])
    }

    fn done(&mut self, request: &HolderRequest, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match self.ask(request, descriptors)?.0 {
            HolderEvent::Done(_) => Ok(()),
            HolderEvent::Failed(failed) => Err(Error::Failed(failed)),
            HolderEvent::Held(_) => Err(Error::Unexpected),
        }
    }

    /// The answer, and the descriptor that has come with it.
    fn ask(
        &mut self,
        request: &HolderRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(HolderEvent, Option<OwnedFd>), Error> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        datagram::send(&self.socket, &request.encode(self.last_id)?, descriptors)?;
        let (bytes, mut descriptors) = datagram::receive(&self.socket)?.ok_or(Error::Closed)?;
        match HolderEvent::decode(&bytes)? {
            (id, event) if id == self.last_id => Ok((event, descriptors.pop())),
            _ => Err(Error::Unexpected),
        }
    }
}
