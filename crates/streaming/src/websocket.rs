//! WebSockets as carriers: channels, named by each message's first byte, and one stream of bytes for SPDY inside.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf as _, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::stream::{Out, State};
use crate::{CHUNKS_WAITING_MAX, Driver, Incoming, LINGER_LIMIT, Outgoing};

/// Bytes of one message (upstream: the same). Clients send whole files in one.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// In the place of a channel: the channel in the byte behind it is complete.
const CLOSE_CHANNEL: u8 = 255;

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Text messages: a digit for the channel, then base64. Otherwise binary messages with a plain byte.
    pub base64: bool,
    /// The client may end a channel.
    pub close: bool,
}

/// Which way a channel's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Its bytes are thrown away.
    None,
    FromClient,
    ToClient,
    Both,
}

/// The ends of one channel.
#[derive(Debug)]
pub struct Channel {
    pub incoming: Option<Incoming>,
    pub outgoing: Option<Outgoing>,
}

/// The server's side of a WebSocket on an upgraded connection.
pub async fn accept<S>(io: S) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves channels, numbered from 0.
pub fn channels<S>(socket: WebSocketStream<S>, encoding: Encoding, directions: &[Direction]) -> (Vec<Channel>, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (out, outs) = mpsc::channel(CHUNKS_WAITING_MAX);
    let mut feeds = Vec::new();
    let channels = directions.iter().zip(0..).map(|(direction, number)| {
        let state = Arc::new(State::default());
        let (incoming, feed) = Incoming::new(number, None, state.clone());
        let reads = matches!(direction, Direction::FromClient | Direction::Both);
        let writes = matches!(direction, Direction::ToClient | Direction::Both);
        feeds.push(reads.then_some(feed));
        let outgoing = writes.then(|| Outgoing::new(number, out.clone(), state));
        Channel { incoming: reads.then_some(incoming), outgoing }
    });
    let channels = channels.collect();
    drop(out);
    let driver = async move {
        let (sink, messages) = socket.split();
        let mut read = pin!(read(messages, encoding, feeds));
        let mut write = pin!(write(sink, encoding, outs));
        tokio::select! {
            () = &mut read => {}
            () = &mut write => {
                if tokio::time::timeout(LINGER_LIMIT, read).await.is_err() {
                    tracing::debug!("WebSocket client has not closed");
                }
            }
        }
    };
    (channels, Box::pin(driver))
}

async fn read<S>(
    mut messages: SplitStream<WebSocketStream<S>>,
    encoding: Encoding,
    mut feeds: Vec<Option<mpsc::Sender<Bytes>>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = messages.next().await {
        let taken = match message {
            Ok(Message::Binary(bytes)) => take(bytes, encoding, &mut feeds).await,
            Ok(Message::Text(text)) => take(text.into(), encoding, &mut feeds).await,
            Ok(Message::Close(_)) => Err("the client has closed"),
            Ok(_) => Ok(()),
            Err(error) => return tracing::debug!(%error, "WebSocket cannot be read"),
        };
        if let Err(end) = taken {
            return tracing::debug!(end, "WebSocket ends");
        }
    }
}

/// Hands a message to its channel. What is meant for no channel, or for one that nobody reads, is thrown away.
async fn take(
    mut message: Bytes,
    encoding: Encoding,
    feeds: &mut [Option<mpsc::Sender<Bytes>>],
) -> Result<(), &'static str> {
    if message.is_empty() {
        return Ok(());
    }
    let first = message.get_u8();
    if encoding.close && first == CLOSE_CHANNEL {
        let [channel] = *message else { return Err("one channel must follow the close signal") };
        let feed = feeds.get_mut(usize::from(channel)).ok_or("the close signal names no channel")?;
        *feed = None;
        return Ok(());
    }
    let channel = if encoding.base64 { first.wrapping_sub(b'0') } else { first };
    let Some(Some(feed)) = feeds.get_mut(usize::from(channel)) else { return Ok(()) };
    let bytes = if encoding.base64 {
        let Ok(bytes) = BASE64.decode(&message) else { return Ok(()) };
        Bytes::from(bytes)
    } else {
        message
    };
    if !bytes.is_empty() && feed.send(bytes).await.is_err() {
        feeds[usize::from(channel)] = None;
    }
    Ok(())
}

async fn write<S>(mut sink: SplitSink<WebSocketStream<S>, Message>, encoding: Encoding, mut outs: mpsc::Receiver<Out>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(out) = outs.recv().await {
        // A channel has no end towards the client; only the whole connection has.
        let Out::Data { stream, bytes } = out else { continue };
        if let Err(error) = sink.send(message(encoding, stream, &bytes)).await {
            return tracing::debug!(%error, "WebSocket cannot be written");
        }
    }
    if let Err(error) = sink.send(goodbye()).await {
        tracing::debug!(%error, "WebSocket did not close cleanly");
    }
}

/// Clients take a close without a code for a failure.
pub(crate) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

fn message(encoding: Encoding, channel: u32, bytes: &[u8]) -> Message {
    let channel = u8::try_from(channel).unwrap_or(u8::MAX);
    if encoding.base64 {
        let mut text = String::from(char::from(b'0'.wrapping_add(channel)));
        BASE64.encode_string(bytes, &mut text);
        return Message::text(text);
    }
    Message::binary([&[channel], bytes].concat())
}

/// The bytes of all messages as one stream in each direction.
#[derive(Debug)]
pub struct Tunnel<S> {
    socket: WebSocketStream<S>,
    /// Of the message that is being read.
    rest: Bytes,
    said_goodbye: bool,
}

impl<S> Tunnel<S> {
    pub const fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, rest: Bytes::new(), said_goodbye: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => return Poll::Ready(Ok(())),
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.socket).start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.said_goodbye {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
            self.said_goodbye = true;
            Pin::new(&mut self.socket).start_send(goodbye()).map_err(io::Error::other)?;
        }
        match ready!(Pin::new(&mut self.socket).poll_flush(cx)) {
            Ok(()) | Err(Error::ConnectionClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io::Error::other(error))),
        }
    }
}
