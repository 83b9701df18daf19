//! One stream of bytes to the client, each piece a message: logs over a WebSocket. What the client sends means nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use http::{Request, Response};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;

use crate::handshake::{Refused, negotiate};
use crate::{LINGER_LIMIT, OpenError, websocket};

const PROTOCOLS: [&str; 3] = ["", "binary.k8s.io", "base64.binary.k8s.io"];

/// A request that is being upgraded.
#[derive(Debug)]
pub struct Upgrading {
    upgrade: OnUpgrade,
    base64: bool,
}

/// Chooses the protocol.
///
/// # Errors
/// When the request is no WebSocket that is served.
pub fn upgrade<B>(request: &mut Request<B>) -> Result<(Response<Full<Bytes>>, Upgrading), Refused> {
    let (_, protocol, response) = negotiate(request, &PROTOCOLS, &[])?;
    let base64 = protocol.starts_with("base64.");
    Ok((response, Upgrading { upgrade: hyper::upgrade::on(request), base64 }))
}

impl Upgrading {
    /// Sends every piece until they end or the client leaves.
    ///
    /// # Errors
    /// When the connection is not upgraded.
    pub async fn send<E>(self, pieces: impl Stream<Item = Result<Bytes, E>> + Unpin) -> Result<(), OpenError> {
        let io = TokioIo::new(self.upgrade.await?);
        serve(io, self.base64, pieces).await;
        Ok(())
    }
}

/// The same on a connection that was upgraded.
pub async fn serve<S, E>(io: S, base64: bool, mut pieces: impl Stream<Item = Result<Bytes, E>> + Unpin)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let message = |bytes: &[u8]| {
        if base64 { Message::text(BASE64.encode(bytes)) } else { Message::binary(bytes.to_vec()) }
    };
    let (mut sink, mut received) = websocket::accept(io).await.split();
    // An empty message tells the client that the stream stands.
    let mut sent = sink.send(message(&[])).await;
    while sent.is_ok() {
        tokio::select! {
            piece = pieces.next() => match piece {
                Some(Ok(bytes)) => sent = sink.send(message(&bytes)).await,
                Some(Err(_)) | None => break,
            },
            message = received.next() => {
                if !matches!(message, Some(Ok(message)) if !message.is_close()) {
                    return tracing::debug!("WebSocket client left");
                }
            }
        }
    }
    if let Err(error) = sink.send(websocket::goodbye()).await {
        return tracing::debug!(%error, "WebSocket did not close cleanly");
    }
    let rest = async { while let Some(Ok(_)) = received.next().await {} };
    if tokio::time::timeout(LINGER_LIMIT, rest).await.is_err() {
        tracing::debug!("WebSocket client has not closed");
    }
}
