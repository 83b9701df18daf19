//! The two ends of one stream, whatever carries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{CHUNK_BYTES_MAX, CHUNKS_WAITING_MAX};

/// What a connection's writer is asked to send.
#[derive(Debug)]
pub(crate) enum Out {
    Data {
        stream: u32,
        bytes: Bytes,
    },
    /// Nothing more comes on the stream.
    Finish {
        stream: u32,
    },
    /// Received bytes were used: as many may follow.
    Consumed {
        stream: u32,
        bytes: u32,
    },
    /// The stream is accepted.
    Accept {
        stream: u32,
    },
    Refuse {
        stream: u32,
    },
    Pong {
        id: u32,
    },
}

/// What reader and ends know of a stream.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The client has given it up, in both directions.
    pub(crate) reset: AtomicBool,
    /// Nothing more is sent.
    pub(crate) finished: AtomicBool,
}

/// The client is not there any more, or has given the stream up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub struct Gone;

/// What the client sends on one stream.
#[derive(Debug)]
pub struct Incoming {
    stream: u32,
    chunks: mpsc::Receiver<Bytes>,
    /// Where used bytes are told; a connection that ends needs no telling.
    out: Option<mpsc::WeakSender<Out>>,
    used: u32,
    state: Arc<State>,
}

/// What is sent to the client on one stream. Dropping it ends the stream.
#[derive(Debug)]
pub struct Outgoing {
    stream: u32,
    out: mpsc::Sender<Out>,
    state: Arc<State>,
}

/// The client is told after this many bytes that they were used: half of SPDY's first window.
const CREDIT_BYTES: u32 = 32 * 1024;

impl Incoming {
    /// The end to be read, and the one that a connection's reader fills. `out`: where used bytes are told, if that is asked for.
    pub(crate) fn new(
        stream: u32,
        out: Option<mpsc::WeakSender<Out>>,
        state: Arc<State>,
    ) -> (Self, mpsc::Sender<Bytes>) {
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
        (Self { stream, chunks, out, used: 0, state }, sender)
    }

    /// The next bytes; none when the stream has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.chunks.recv().await?;
        if let Some(out) = &self.out {
            self.used = self.used.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            // A full queue is no reason to wait: the credit goes with a later one.
            if self.used >= CREDIT_BYTES
                && let Some(out) = out.upgrade()
                && out.try_send(Out::Consumed { stream: self.stream, bytes: self.used }).is_ok()
            {
                self.used = 0;
            }
        }
        Some(bytes)
    }

    /// Whether the stream ended because the client gave it up, rather than by being complete.
    pub fn was_reset(&self) -> bool {
        self.state.reset.load(Ordering::Acquire)
    }
}

impl Outgoing {
    pub(crate) const fn new(stream: u32, out: mpsc::Sender<Out>, state: Arc<State>) -> Self {
        Self { stream, out, state }
    }

    /// Sends bytes; waits while the client does not take what was sent before.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn send(&self, mut bytes: Bytes) -> Result<(), Gone> {
        while bytes.len() > CHUNK_BYTES_MAX {
            self.send_one(bytes.split_to(CHUNK_BYTES_MAX)).await?;
        }
        self.send_one(bytes).await
    }

    async fn send_one(&self, bytes: Bytes) -> Result<(), Gone> {
        if self.state.reset.load(Ordering::Acquire) {
            return Err(Gone);
        }
        self.out.send(Out::Data { stream: self.stream, bytes }).await.map_err(|_| Gone)
    }

    /// Ends the stream after what was sent.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn finish(self) -> Result<(), Gone> {
        self.state.finished.store(true, Ordering::Release);
        self.out.send(Out::Finish { stream: self.stream }).await.map_err(|_| Gone)
    }

    /// Nothing is sent any more, not even an end.
    pub(crate) fn abandon(&self) {
        self.state.finished.store(true, Ordering::Release);
    }

    /// Resolves when the connection has ended.
    pub async fn gone(&self) {
        self.out.closed().await;
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // With a full queue the end of the connection is the end of the stream.
        if !self.state.finished.swap(true, Ordering::AcqRel)
            && self.out.try_send(Out::Finish { stream: self.stream }).is_err()
        {
            tracing::trace!(stream = self.stream, "stream ends with its connection");
        }
    }
}
