//! WebSockets (RFC 6455): the upgrade, and streams of text messages to the client.

use bytes::Bytes;
use corten_apimachinery::status::Status;
use corten_stdx::task::Tasks;
use futures_util::stream::{BoxStream, StreamExt as _};
use futures_util::{SinkExt as _, future};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::http::body::{self, Request, Response};

/// Clients of a watch have nothing to say; a message beyond this ends the connection.
const RECEIVED_BYTES_MAX: usize = 64 * 1024;

/// Whether the request asks for a WebSocket.
pub fn is_upgrade(request: &Request) -> bool {
    let has = |name, token: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// The answer that switches protocols; refused where the handshake is no version 13.
pub fn switch(request: &Request) -> Result<Response, Status> {
    let header = |name| request.headers().get(name).map(http::HeaderValue::as_bytes);
    let key = header(SEC_WEBSOCKET_KEY).ok_or_else(|| Status::bad_request("missing Sec-WebSocket-Key"))?;
    if header(SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(Status::bad_request("unsupported Sec-WebSocket-Version, only 13 is supported"));
    }
    let mut response = body::text(101, "");
    response.headers_mut().clear();
    body::set(&mut response, CONNECTION, "Upgrade");
    body::set(&mut response, UPGRADE, "websocket");
    body::set(&mut response, SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key));
    Ok(response)
}

/// Upgrades, and sends every chunk of every frame as a text message until either side ends.
pub(crate) fn serve(
    request: &mut Request,
    tasks: &Tasks,
    frames: BoxStream<'static, Vec<Bytes>>,
) -> Result<Response, Status> {
    let response = switch(request)?;
    let upgrade = hyper::upgrade::on(request);
    tasks.spawn("websocket", async move {
        match upgrade.await {
            Ok(upgraded) => pump(TokioIo::new(upgraded), frames).await,
            Err(error) => tracing::debug!(error = %error, "upgrade failed"),
        }
    });
    Ok(response)
}

async fn pump(stream: TokioIo<hyper::upgrade::Upgraded>, mut frames: BoxStream<'static, Vec<Bytes>>) {
    let config =
        WebSocketConfig::default().max_message_size(Some(RECEIVED_BYTES_MAX)).max_frame_size(Some(RECEIVED_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut sink, received) = socket.split();
    let mut closed =
        received.take_while(|message| future::ready(matches!(message, Ok(message) if !message.is_close())));
    loop {
        tokio::select! {
            message = closed.next() => if message.is_none() { break },
            frame = frames.next() => {
                let Some(frame) = frame else { break };
                for event in frame {
                    let text = Utf8Bytes::try_from(event).unwrap_or_default();
                    if let Err(error) = sink.send(Message::Text(text)).await {
                        return tracing::debug!(error = %error, "WebSocket client is gone");
                    }
                }
            }
        }
    }
    if let Err(error) = sink.close().await {
        tracing::debug!(error = %error, "WebSocket did not close cleanly");
    }
}
