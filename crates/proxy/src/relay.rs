//! Bodies on their way: what is read from one side waits in the other side's output, and when that is full nothing more is
//! read. So a slow reader slows its writer, and memory does not grow.

use std::io;
use std::task::{Context, Poll, ready};

use crate::codec::body::Body;
use crate::codec::chunked::{LAST_CHUNK, write_chunk};
use crate::fault::Fault;
use crate::link::{Link, OUTPUT_BYTES};

/// A body between two connections.
#[derive(Debug)]
pub(crate) struct Relay {
    body: Body,
    /// It leaves in chunks.
    chunked: bool,
    /// Bytes of data that may still come.
    room: u64,
    /// All of it is in the output.
    is_written: bool,
    /// The side that is read has ended too early; what came of it is still passed on.
    is_cut: bool,
    /// Bytes of data.
    pub(crate) bytes: u64,
}

/// Which side made it end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// What was read was refused, or was too much.
    Refused(Fault),
    /// The side that is read has ended or failed.
    Source,
    /// The side that is written to has failed.
    Sink,
}

impl Relay {
    pub(crate) fn new(body: Body, chunked: bool, bytes_max: u64) -> Self {
        Self { body, chunked, room: bytes_max, is_written: false, is_cut: false, bytes: 0 }
    }

    /// The whole body has been read, and all of it is in the output.
    pub(crate) fn is_written(&self) -> bool {
        self.is_written
    }

    /// Moves what was read already, up to what may wait.
    pub(crate) fn take(&mut self, from: &mut Link, out: &mut Vec<u8>) -> Result<(), Broken> {
        while !self.body.is_done() && !from.input().is_empty() && out.len() < OUTPUT_BYTES {
            let input = from.input();
            let piece = self.body.piece(input).map_err(|bad| Broken::Refused(bad.into()))?;
            let data = &input[piece.skip..piece.skip + piece.data];
            self.room = self.room.checked_sub(data.len() as u64).ok_or(Broken::Refused(Fault::BodyTooLarge))?;
            self.bytes += data.len() as u64;
            if self.chunked {
                write_chunk(out, data)
            } else {
                out.extend_from_slice(data)
            }
            from.consume(piece.skip + piece.data);
        }
        if self.body.is_done() {
            self.finish(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.chunked && !self.is_written {
            out.extend_from_slice(LAST_CHUNK);
        }
        self.is_written = true;
    }

    /// Until the body has been read and sent.
    pub(crate) fn poll(&mut self, from: &mut Link, to: &mut Link, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            self.take(from, to.output())?;
            if self.is_written || self.is_cut || to.output().len() >= OUTPUT_BYTES {
                ready!(to.poll_flush(cx)).map_err(|_| Broken::Sink)?;
                match () {
                    () if self.is_written => return Poll::Ready(Ok(())),
                    () if self.is_cut => return Poll::Ready(Err(Broken::Source)),
                    () => continue,
                }
            }
            match from.poll_fill(cx) {
                Poll::Ready(Ok(0)) if matches!(self.body, Body::UntilClose) => self.finish(to.output()),
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => self.is_cut = true,
                Poll::Pending => {
                    // Nothing waits here for what may be long in coming.
                    ready!(to.poll_flush(cx)).map_err(|_| Broken::Sink)?;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// One direction of a connection that has left HTTP.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    is_at_end: bool,
}

impl Tunnel {
    /// Until one side ends; the other is told so.
    pub(crate) fn poll(&mut self, from: &mut Link, to: &mut Link, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let length = from.input().len();
            to.output().extend_from_slice(from.input());
            from.consume(length);
            ready!(to.poll_flush(cx))?;
            if self.is_at_end {
                return to.poll_shutdown(cx);
            }
            self.is_at_end = ready!(from.poll_fill(cx))? == 0;
        }
    }
}
