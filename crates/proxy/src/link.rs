//! One connection, to a client or to a server, with what was read and not yet understood and what is written and not yet sent.
//! Between messages it holds no buffer: most connections are idle most of the time.

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::LocalKey;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Bytes of a connection's input; a head has to fit.
pub(crate) const INPUT_BYTES: usize = 16 * 1024;

/// Bytes that may wait to be sent before nothing more is read for them: the back-pressure.
pub(crate) const OUTPUT_BYTES: usize = 32 * 1024;

/// Buffers of each kind that a core keeps for the next connection.
const SPARE_BUFFERS_MAX: usize = 64;

// Kept apart: one for input has its full length, and an output that took its place would have to be filled up each time.
thread_local! {
    static SPARE_INPUTS: Spare = const { RefCell::new(Vec::new()) };
    static SPARE_OUTPUTS: Spare = const { RefCell::new(Vec::new()) };
}

type Spare = RefCell<Vec<Vec<u8>>>;

/// The bytes' way.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Debug)]
pub(crate) struct Link {
    io: Io,
    /// Empty, or of its full length.
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    sent: usize,
    /// Bytes that went in or out, to see progress by.
    pub(crate) moved: u64,
}

impl Link {
    pub(crate) const fn new(io: Io) -> Self {
        Self { io, input: Vec::new(), start: 0, end: 0, output: Vec::new(), sent: 0, moved: 0 }
    }

    /// What was read and not yet consumed.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = spare(&SPARE_OUTPUTS);
            self.output.clear();
        }
        &mut self.output
    }

    /// Bytes that wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Gives the buffers back; what is in them stays with the connection.
    pub(crate) fn rest(&mut self) {
        self.rest_input();
        if self.unsent() == 0 {
            give_back(&SPARE_OUTPUTS, std::mem::take(&mut self.output));
            self.sent = 0;
        }
    }

    fn rest_input(&mut self) {
        if self.start == self.end {
            give_back(&SPARE_INPUTS, std::mem::take(&mut self.input));
        }
    }

    /// Reads more input, if there is room. `Ok(0)` is the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            self.input = spare(&SPARE_INPUTS);
            self.input.resize(INPUT_BYTES, 0);
        }
        if self.start > 0 && self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let mut room = ReadBuf::new(&mut self.input[self.end..]);
        let read = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, &mut room),
        };
        let count = room.filled().len();
        if read.is_pending() {
            // Whoever waits keeps no buffer for what may never come.
            self.rest_input();
        }
        ready!(read)?;
        self.end += count;
        self.moved += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Sends what waits.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let waiting = &self.output[self.sent..];
            let count = ready!(match &mut self.io {
                Io::Plain(stream) => Pin::new(stream).poll_write(cx, waiting),
                Io::Tls(stream) => Pin::new(stream).poll_write(cx, waiting),
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
            self.moved += count as u64;
        }
        self.output.clear();
        self.sent = 0;
        match &mut self.io {
            Io::Plain(_) => Poll::Ready(Ok(())),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Whether an idle connection has said something or has ended: then it is not fit for a request.
    pub(crate) fn is_disturbed(&self) -> bool {
        let Io::Plain(stream) = &self.io else { return true };
        let mut byte = [0];
        let quiet = matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.start != self.end || self.unsent() > 0 || !quiet
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        give_back(&SPARE_INPUTS, std::mem::take(&mut self.input));
        give_back(&SPARE_OUTPUTS, std::mem::take(&mut self.output));
    }
}

/// A buffer that is borrowed from those for output, and empty.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn take() -> Self {
        let mut buffer = spare(&SPARE_OUTPUTS);
        buffer.clear();
        Self(buffer)
    }
}

impl Deref for Scratch {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        give_back(&SPARE_OUTPUTS, std::mem::take(&mut self.0));
    }
}

fn spare(among: &'static LocalKey<Spare>) -> Vec<u8> {
    let found = among.with_borrow_mut(Vec::pop);
    found.unwrap_or_else(|| Vec::with_capacity(INPUT_BYTES))
}

fn give_back(among: &'static LocalKey<Spare>, buffer: Vec<u8>) {
    // One that has grown is not kept, so that spare memory has a limit.
    if buffer.capacity() == 0 || buffer.capacity() > 2 * OUTPUT_BYTES {
        return;
    }
    among.with_borrow_mut(|spare| {
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    });
}
