//! SPDY/3.1, the server's side: streams that the client opens, each with headers and two directions.
//!
//! Windows: the client is told what was used, for one that obeys windows; what is sent waits for the connection alone, as the
//! implementation that Kubernetes' clients use neither keeps nor opens windows.

mod dictionary;
pub mod frame;
mod header;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use self::frame::{Decoder, Encoder, Frame, FrameError, status};
pub use self::header::{BLOCK_BYTES_MAX, HEADERS_MAX, Headers};
use crate::stream::{Out, State};
use crate::{CHUNKS_WAITING_MAX, Driver, Incoming, LINGER_LIMIT, Outgoing};

/// Streams of one connection at a time; one more is refused. A forwarded connection takes two.
pub const STREAMS_MAX: usize = 2048;

/// Streams that wait to be accepted.
const STREAMS_WAITING_MAX: usize = 64;

/// A stream that the client has opened.
#[derive(Debug)]
pub struct Stream {
    pub id: u32,
    pub headers: Headers,
    pub incoming: Incoming,
    pub outgoing: Outgoing,
    answer: mpsc::Sender<Out>,
}

/// The connection, as long as it is wanted: when it and all sending ends are dropped, the connection closes.
#[derive(Debug)]
pub struct Connection {
    streams: mpsc::Receiver<Stream>,
    /// Keeps the connection open between streams.
    _open: mpsc::Sender<Out>,
}

impl Connection {
    /// The next stream that the client opens; none when the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

impl Stream {
    /// Tells the client that the stream is open; it waits for that.
    pub async fn reply(&self) {
        self.tell(Out::Accept { stream: self.id }).await;
    }

    /// Tells the client that the stream is not served.
    pub async fn refuse(self) {
        self.outgoing.abandon();
        self.tell(Out::Refuse { stream: self.id }).await;
    }

    async fn tell(&self, out: Out) {
        if self.answer.send(out).await.is_err() {
            tracing::debug!(stream = self.id, "client is gone");
        }
    }
}

/// Serves a connection that was upgraded.
pub fn serve<S>(io: S) -> (Connection, Driver)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (out, outs) = mpsc::channel(CHUNKS_WAITING_MAX);
    let (opened, streams) = mpsc::channel(STREAMS_WAITING_MAX);
    let (reading, writing) = tokio::io::split(io);
    let reader = Reader { opened: Some(opened), out: out.downgrade(), streams: HashMap::new(), last: 0 };
    let driver = async move {
        let mut read = pin!(reader.run(reading));
        let mut write = pin!(write(writing, outs));
        tokio::select! {
            () = &mut read => {}
            () = &mut write => {
                if tokio::time::timeout(LINGER_LIMIT, read).await.is_err() {
                    tracing::debug!("SPDY client has not closed");
                }
            }
        }
    };
    (Connection { streams, _open: out }, Box::pin(driver))
}

/// What the reader knows of a stream.
struct Entry {
    /// None when the client has finished.
    chunks: Option<mpsc::Sender<Bytes>>,
    state: Arc<State>,
}

impl Entry {
    /// Nothing comes or goes any more.
    fn is_over(&self) -> bool {
        let read = self.chunks.as_ref().is_none_or(mpsc::Sender::is_closed);
        read && self.state.finished.load(Ordering::Acquire)
    }
}

struct Reader {
    /// None when the client has said goodbye: no more streams, those that are open go on.
    opened: Option<mpsc::Sender<Stream>>,
    out: mpsc::WeakSender<Out>,
    streams: HashMap<u32, Entry>,
    /// The highest stream that the client has opened.
    last: u32,
}

/// Why reading ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client has closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Reader {
    async fn run<S: AsyncRead>(mut self, io: ReadHalf<S>) {
        if let Err(end) = self.read(io).await {
            tracing::debug!(%end, "SPDY connection ended");
        }
    }

    async fn read<S: AsyncRead>(&mut self, mut io: ReadHalf<S>) -> Result<(), End> {
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::with_capacity(crate::CHUNK_BYTES_MAX);
        loop {
            while let Some(frame) = decoder.decode(&mut buffer)? {
                self.take(frame).await;
            }
            buffer.reserve(crate::CHUNK_BYTES_MAX);
            if io.read_buf(&mut buffer).await? == 0 {
                return Err(End::Closed);
            }
        }
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.open(stream, fin, headers).await,
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, bytes).await,
            Frame::Headers { stream, fin, .. } => self.data(stream, fin, Bytes::new()).await,
            Frame::Reset { stream, .. } => {
                if let Some(entry) = self.streams.remove(&stream) {
                    entry.state.reset.store(true, Ordering::Release);
                }
            }
            // An even number would answer a ping of ours; none are sent.
            Frame::Ping { id } if id % 2 == 1 => self.tell(Out::Pong { id }).await,
            Frame::GoAway { .. } => self.opened = None,
            Frame::SynReply { .. } | Frame::Ping { .. } | Frame::WindowUpdate { .. } | Frame::Other => {}
        }
    }

    /// Streams have odd, rising numbers.
    async fn open(&mut self, id: u32, fin: bool, headers: Headers) {
        let (Some(out), Some(opened)) = (self.out.upgrade(), self.opened.clone()) else { return };
        self.streams.retain(|_, entry| !entry.is_over());
        if id.is_multiple_of(2) || id <= self.last || self.streams.len() >= STREAMS_MAX {
            return self.tell(Out::Refuse { stream: id }).await;
        }
        self.last = id;
        let state = Arc::new(State::default());
        let (incoming, chunks) = Incoming::new(id, Some(self.out.clone()), state.clone());
        let outgoing = Outgoing::new(id, out.clone(), state.clone());
        self.streams.insert(id, Entry { chunks: (!fin).then_some(chunks), state });
        let stream = Stream { id, headers, incoming, outgoing, answer: out };
        if opened.send(stream).await.is_err() {
            tracing::debug!(stream = id, "no more streams are accepted");
        }
    }

    /// What comes for a stream that nobody reads any more is thrown away.
    async fn data(&mut self, id: u32, fin: bool, bytes: Bytes) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if let Some(chunks) = &entry.chunks
            && !bytes.is_empty()
            && chunks.send(bytes).await.is_err()
        {
            entry.chunks = None;
        }
        if fin {
            entry.chunks = None;
        }
    }

    async fn tell(&self, message: Out) {
        let Some(out) = self.out.upgrade() else { return };
        if out.send(message).await.is_err() {
            tracing::debug!("SPDY client takes nothing any more");
        }
    }
}

/// Sends what is asked for until nobody can ask any more, then says goodbye.
async fn write<S: AsyncWrite>(mut io: WriteHalf<S>, mut outs: mpsc::Receiver<Out>) {
    if let Err(end) = write_all(&mut io, &mut outs).await {
        tracing::debug!(%end, "SPDY connection cannot be written");
    }
}

async fn write_all<S: AsyncWrite>(io: &mut WriteHalf<S>, outs: &mut mpsc::Receiver<Out>) -> Result<(), End> {
    let mut encoder = Encoder::default();
    let mut buffer = BytesMut::new();
    while let Some(out) = outs.recv().await {
        frames(out, &mut encoder, &mut buffer)?;
        while let Ok(out) = outs.try_recv() {
            frames(out, &mut encoder, &mut buffer)?;
        }
        io.write_all(&buffer).await?;
        io.flush().await?;
        buffer.clear();
    }
    io.shutdown().await?;
    Ok(())
}

fn frames(out: Out, encoder: &mut Encoder, buffer: &mut BytesMut) -> Result<(), FrameError> {
    let frame = match out {
        Out::Data { stream, bytes } => Frame::Data { stream, fin: false, bytes },
        Out::Finish { stream } => Frame::Data { stream, fin: true, bytes: Bytes::new() },
        Out::Accept { stream } => Frame::SynReply { stream, fin: false, headers: Headers::default() },
        Out::Refuse { stream } => Frame::Reset { stream, status: status::REFUSED_STREAM },
        Out::Pong { id } => Frame::Ping { id },
        Out::Consumed { stream, bytes } => {
            // The stream's window and the connection's.
            encoder.encode(&Frame::WindowUpdate { stream, delta: bytes }, buffer)?;
            Frame::WindowUpdate { stream: 0, delta: bytes }
        }
    };
    encoder.encode(&frame, buffer)
}
