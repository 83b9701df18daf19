//! Descriptors of pipes and terminals on the event loop.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::Bytes;
use corten_streaming::remote::{Size, Sizes};
use corten_streaming::{CHUNK_BYTES_MAX, Incoming, Outgoing};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is waited for.
#[derive(Debug)]
pub(super) struct Fd(AsyncFd<OwnedFd>);

/// Reading and writing end of a new pipe.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

impl Fd {
    pub(super) fn readable(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::READABLE)
    }

    pub(super) fn writable(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::WRITABLE)
    }

    /// A terminal is read and written.
    pub(super) fn both(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::READABLE | Interest::WRITABLE)
    }

    fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        watched(fd, interest).map(Self)
    }

    /// Some bytes; none at the end, which for a terminal is an error of its own.
    pub(super) async fn read(&self) -> io::Result<Bytes> {
        let read = self.0.async_io(Interest::READABLE, |fd| {
            let mut buffer = vec![0; CHUNK_BYTES_MAX];
            let length = rustix::io::read(fd, &mut buffer)?;
            buffer.truncate(length);
            Ok(Bytes::from(buffer))
        });
        match read.await {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(Bytes::new()),
            other => other,
        }
    }

    pub(super) async fn write_all(&self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.0.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, &bytes)?));
            let written = written.await?;
            drop(bytes.split_to(written));
        }
        Ok(())
    }

    fn resize(&self, size: Size) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.get_ref().as_fd(), size)?)
    }
}

/// Puts a descriptor on the event loop.
#[expect(deprecated, reason = "its successor is unsafe for the sake of other types; an owned descriptor stays open")]
pub(super) fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

/// Writes what the client sends until it ends, or nobody reads it any more.
pub(super) async fn feed(mut from: Incoming, to: &Fd) {
    while let Some(bytes) = from.next().await {
        if let Err(error) = to.write_all(bytes).await {
            return tracing::debug!(%error, "input is not read any more");
        }
    }
}

/// Sends what is printed until it ends, or the client has gone. `seen` counts bytes.
pub(super) async fn drain(from: &Fd, to: Outgoing, seen: impl Fn(usize)) {
    loop {
        match from.read().await {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => {
                seen(bytes.len());
                if to.send(bytes).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "output cannot be read");
                break;
            }
        }
    }
    if to.finish().await.is_err() {
        tracing::debug!("client is gone");
    }
}

/// Gives a terminal the sizes that the client tells.
pub(super) async fn follow_sizes(mut sizes: Sizes, terminal: &Fd) {
    while let Some(size) = sizes.next().await {
        if let Err(error) = terminal.resize(size) {
            return tracing::debug!(%error, "terminal takes no size");
        }
    }
}
