//! Events of a pod process, one datagram at a time.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_podspec::Event;

use crate::{Error, datagram};

pub(crate) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
    match datagram::send(socket, bytes, descriptors) {
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Err(Error::Closed),
        other => Ok(other?),
    }
}

pub(crate) fn receive(socket: impl AsFd) -> Result<(u32, Event, Option<OwnedFd>), Error> {
    let (bytes, descriptors) = datagram::receive(socket)?.ok_or(Error::Closed)?;
    let (id, event) = Event::decode(&bytes)?;
    Ok((id, event, descriptors.into_iter().next()))
}
