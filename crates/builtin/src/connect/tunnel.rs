//! A request carried to somewhere else, and the answer back.

use bytes::Bytes;
use corten_apimachinery::status::Status;
use corten_apiserver::http::body::{self, BoxError, Request, Response};
use corten_streaming::{handshake, reader};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::{BoxStream, Ground, Place};

/// Bytes of a refusal that are read (upstream: 50,000).
const REFUSAL_BYTES_MAX: usize = 50_000;

/// Bytes of a text from a node that are read: a hundred times what a full node says of its pods.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Headers of an upgrade; the others are between the client and this server.
const UPGRADE_HEADERS: [&str; 8] = [
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
    "origin",
];

/// Sends one request over a connection of its own.
pub(super) async fn send(
    ground: &Ground,
    stream: BoxStream,
    request: Request,
) -> Result<http::Response<Incoming>, Status> {
    let failed = |error: hyper::Error| Status::internal(format_args!("error dialing backend: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    ground.tasks.spawn("backend-connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

/// Fetches a container's log.
pub(super) async fn log(
    ground: &Ground,
    stream: BoxStream,
    place: &Place,
    path: &str,
    pod: &str,
    mut from: Request,
) -> Result<Response, Status> {
    let request = request(Method::GET, place, path, HeaderMap::new(), body::full(""))?;
    let response = send(ground, stream, request).await?;
    let code = response.status();
    if (200..=206).contains(&code.as_u16()) {
        if handshake::is_websocket(from.headers()) {
            return Ok(log_by_messages(ground, &mut from, response));
        }
        let mut answer = handed_on(response);
        answer.headers_mut().clear();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        return Ok(answer);
    }
    let bytes = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(Status::internal)?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Err(match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status {
            message: format!("the server could not find the requested resource ( pods/log {pod})"),
            ..Status::not_found("", "pods/log", pod)
        },
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        other => Status::internal(format_args!(
            "an error on the server ({text:?}) has prevented the request from succeeding: {other}"
        )),
    })
}

/// Fetches a short text.
pub(super) async fn text(ground: &Ground, stream: BoxStream, place: &Place, path: &str) -> Result<String, Status> {
    let request = request(Method::GET, place, path, HeaderMap::new(), body::full(""))?;
    let response = send(ground, stream, request).await?;
    let code = response.status();
    if code != StatusCode::OK {
        return Err(Status::internal(format_args!("{}:{}{path} answers {code}", place.host, place.port)));
    }
    let bytes = Limited::new(response.into_body(), TEXT_BYTES_MAX).collect().await.map_err(Status::internal)?;
    String::from_utf8(bytes.to_bytes().into()).map_err(Status::internal)
}

/// A log over a WebSocket.
fn log_by_messages(ground: &Ground, from: &mut Request, response: http::Response<Incoming>) -> Response {
    let (answer, upgrading) = match reader::upgrade(from) {
        Ok(upgraded) => upgraded,
        Err(refused) => return refused.into_response().map(whole),
    };
    ground.tasks.spawn_endless("log-websocket", async move {
        if let Err(error) = upgrading.send(response.into_body().into_data_stream()).await {
            tracing::debug!(%error, "log was not upgraded");
        }
    });
    answer.map(whole)
}

fn whole(body: Full<Bytes>) -> body::StreamBody {
    body.map_err(|never| match never {}).boxed_unsync()
}

/// Carries an upgrade through: when the other side switches, both connections become one.
pub(super) async fn upgrade(
    ground: &Ground,
    stream: BoxStream,
    place: &Place,
    path: &str,
    mut from: Request,
) -> Result<Response, Status> {
    let mut headers = HeaderMap::new();
    for name in UPGRADE_HEADERS {
        for value in from.headers().get_all(name) {
            headers.append(HeaderName::from_static(name), value.clone());
        }
    }
    let asks = headers.contains_key(UPGRADE) && headers.contains_key(CONNECTION);
    if !asks {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let to = request(from.method().clone(), place, path, headers, body::full(""))?;
    let response = send(ground, stream, to).await?;
    Ok(join(ground, &mut from, response))
}

/// The answer for the client. After a switch of protocols, bytes go both ways until both sides have ended.
pub(super) fn join(ground: &Ground, from: &mut Request, mut response: http::Response<Incoming>) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return handed_on(response);
    }
    let (client, backend) = (hyper::upgrade::on(from), hyper::upgrade::on(&mut response));
    ground.tasks.spawn_endless("tunnel", async move {
        match tokio::try_join!(client, backend) {
            Ok((client, backend)) => {
                let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
                    tracing::debug!(%error, "tunnel ended");
                }
            }
            Err(error) => tracing::debug!(%error, "connection was not upgraded"),
        }
    });
    handed_on(response)
}

/// A request for a place, with these headers alone.
pub(super) fn request(
    method: Method,
    place: &Place,
    path: &str,
    headers: HeaderMap,
    body: body::StreamBody,
) -> Result<Request, Status> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::try_from(path).map_err(Status::internal)?;
    *request.headers_mut() = headers;
    let host = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() };
    let host = HeaderValue::try_from(format!("{host}:{}", place.port)).map_err(Status::internal)?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

fn handed_on(response: http::Response<Incoming>) -> Response {
    response.map(|body| body.map_err(|error| -> BoxError { Box::new(error) }).boxed_unsync())
}
