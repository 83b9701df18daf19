//! A client of SPDY over a connection in memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_streaming::Driver;
use corten_streaming::spdy::Headers;
use corten_streaming::spdy::frame::{Decoder, Encoder, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// What no step of a test reaches.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Client {
    pub(crate) fn new(io: DuplexStream) -> Self {
        Self { io, encoder: Encoder::default(), decoder: Decoder::default(), buffer: BytesMut::new() }
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        self.encoder.encode(&frame, &mut out).unwrap();
        self.io.write_all(&out).await.unwrap();
    }

    pub(crate) async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.send(Frame::SynStream { stream, fin: false, headers: Headers(headers) }).await;
    }

    pub(crate) async fn data(&mut self, stream: u32, bytes: &'static [u8], fin: bool) {
        self.send(Frame::Data { stream, fin, bytes: Bytes::from_static(bytes) }).await;
    }

    /// The next frame; none when the server has closed.
    pub(crate) async fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let read = tokio::time::timeout(LIMIT, self.io.read_buf(&mut self.buffer));
            if read.await.expect("the server answers within the limit").unwrap() == 0 {
                return None;
            }
        }
    }

    /// Everything until the server closes: the text of each stream, in the order of their numbers, and the other frames.
    pub(crate) async fn rest(&mut self) -> (Vec<(u32, String)>, Vec<Frame>) {
        let (mut texts, mut others) = (std::collections::BTreeMap::<u32, String>::new(), Vec::new());
        while let Some(frame) = self.receive().await {
            match frame {
                Frame::Data { stream, bytes, .. } => {
                    texts.entry(stream).or_default().push_str(str::from_utf8(&bytes).unwrap());
                }
                Frame::SynReply { .. } => {}
                other => others.push(other),
            }
        }
        (texts.into_iter().collect(), others)
    }
}

/// Runs a server's driver beside a client.
pub(crate) async fn beside<T>(driver: Driver, client: impl Future<Output = T>) -> T {
    let ((), value) = tokio::time::timeout(LIMIT, async { tokio::join!(driver, client) }).await.expect("both end");
    value
}
