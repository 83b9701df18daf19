//! The way to one webhook and back: connections that are kept for the next call, a limit on calls under way, a limit on
//! what is read.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use corten_apimachinery::json;
use corten_apimachinery::value::Value;
use corten_stdx::clock::Stopwatch;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::tls::{self, Trust};
use super::verdict::Failure;
use super::{Ground, resolve};

/// Calls of one webhook under way: what one that hangs may hold of the requests that the server answers at one time.
pub(super) const CALLS_MAX: usize = 64;

/// Connections kept open without a call, and for how long: endpoints come and go.
const IDLE_MAX: usize = 16;
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Bytes of an answer: a patch that replaces the largest object, in base64, and what is around it.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What upstream says that it is.
const AGENT: &str = "kube-apiserver-admission";

/// `service.port` where it is not given.
const PORT: u16 = 443;

type Connection = SendRequest<Full<Bytes>>;

pub(super) struct Caller {
    /// Where, or why there is no way there.
    to: Result<To, String>,
    calls: Semaphore,
    idle: Mutex<Vec<(Connection, Stopwatch)>>,
}

/// Where a webhook is.
struct To {
    /// As messages and upstream's requests spell it, with the time-out in the query.
    url: String,
    place: Place,
    name: ServerName<'static>,
    authority: HeaderValue,
    path: Uri,
    tls: TlsConnector,
}

enum Place {
    Host(String, u16),
    Service { namespace: String, name: String, port: u16 },
}

/// Why one attempt has failed.
enum Broken {
    /// Over a connection that had been idle, and whose other end had gone: a new one may do better.
    Stale,
    For(String),
}

impl Caller {
    /// The way that a `clientConfig` describes.
    pub(super) fn new(config: &Value, timeout_s: i64, trust: &Trust) -> Self {
        let to = To::read(config, timeout_s, trust);
        Self { to, calls: Semaphore::new(CALLS_MAX), idle: Mutex::default() }
    }

    /// Sends a review and reads what comes back.
    pub(super) async fn call(&self, ground: &Ground, review: Bytes, limit: Duration) -> Result<Value, Failure> {
        let to = self.to.as_ref().map_err(|why| Failure::Calling(format!("could not get REST client: {why}")))?;
        let Ok(_permit) = self.calls.try_acquire() else { return Err(Failure::Busy) };
        let posted = |why: &str| Failure::Calling(format!("failed to call webhook: Post {:?}: {why}", to.url));
        let answered = tokio::time::timeout(limit, self.attempt(ground, to, review)).await;
        let (code, bytes) = match answered {
            Err(_) => return Err(posted("context deadline exceeded")),
            Ok(Err(why)) => return Err(posted(&why)),
            Ok(Ok(answer)) => answer,
        };
        let unusable = |why: String| Failure::Calling(format!("failed to call webhook: {why}"));
        if !code.is_success() {
            return Err(unusable(refused(code, &bytes)));
        }
        let parsed = json::parse(&bytes).map(|parsed| parsed.value);
        parsed.map_err(|error| unusable(format!("couldn't get version/kind; json parse error: {error}")))
    }

    /// One call: over a connection that is there, else over a new one.
    async fn attempt(&self, ground: &Ground, to: &To, review: Bytes) -> Result<(StatusCode, Bytes), String> {
        while let Some(connection) = self.take_idle() {
            match self.send(to, connection, review.clone(), true).await {
                Ok(answer) => return Ok(answer),
                Err(Broken::Stale) => {}
                Err(Broken::For(why)) => return Err(why),
            }
        }
        let connection = to.connect(ground).await?;
        let sent = self.send(to, connection, review, false).await;
        sent.map_err(|broken| match broken {
            Broken::For(why) => why,
            Broken::Stale => "EOF".to_owned(),
        })
    }

    async fn send(
        &self,
        to: &To,
        mut connection: Connection,
        review: Bytes,
        reused: bool,
    ) -> Result<(StatusCode, Bytes), Broken> {
        let broken =
            |error: hyper::Error| match error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
                true if reused => Broken::Stale,
                true => Broken::For("EOF".to_owned()),
                false => Broken::For(error.to_string()),
            };
        connection.ready().await.map_err(broken)?;
        let response = connection.send_request(to.request(review)).await.map_err(broken)?;
        let code = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| Broken::For(error.to_string()))?.to_bytes();
        self.keep(connection);
        Ok((code, bytes))
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, since)| !connection.is_closed() && since.elapsed() < IDLE_LIMIT);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !connection.is_closed() {
            idle.push((connection, Stopwatch::start()));
        }
    }
}

impl To {
    fn read(config: &Value, timeout_s: i64, trust: &Trust) -> Result<Self, String> {
        let service = config.get("service").filter(|service| service.as_object().is_some());
        let (host, port, path, place) = match service {
            Some(service) => {
                let port = service.i64_at(&["port"]).and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT);
                let (namespace, name) =
                    (service.str_at(&["namespace"]).to_owned(), service.str_at(&["name"]).to_owned());
                let host = format!("{name}.{namespace}.svc");
                (host, Some(port), service.str_at(&["path"]).to_owned(), Place::Service { namespace, name, port })
            }
            None => from_url(config.str_at(&["url"]))?,
        };
        let path = format!("/{}", path.trim_matches('/'));
        let authority = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let asked = format!("{path}?timeout={timeout_s}s");
        let bundle = STANDARD.decode(config.str_at(&["caBundle"])).map_err(|error| format!("caBundle: {error}"))?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        Ok(Self {
            url: format!("https://{authority}{asked}"),
            name: name.map_err(|error| format!("{host}: {error}"))?,
            authority: HeaderValue::try_from(authority).map_err(|error| error.to_string())?,
            path: Uri::try_from(asked).map_err(|error| error.to_string())?,
            tls: trust.connector(&bundle)?,
            place,
        })
    }

    /// Opens a connection; its errors are Go's where these are known.
    async fn connect(&self, ground: &Ground) -> Result<Connection, String> {
        let (host, port) = match &self.place {
            Place::Host(host, port) => (host.clone(), *port),
            Place::Service { namespace, name, port } => {
                resolve::service(ground, namespace, name, *port).await.map_err(|status| status.message)?
            }
        };
        let dialled = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = dialled.await.map_err(|error| format!("dial tcp {host}:{port}: {}", connect_error(&error)))?;
        let stream = self.tls.connect(self.name.clone(), stream).await.map_err(|error| tls::told(&error))?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (connection, driver) = shaken.map_err(|error| error.to_string())?;
        ground.tasks.spawn_endless("webhook-connection", async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to a webhook ended");
            }
        });
        Ok(connection)
    }

    fn request(&self, review: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::post(self.path.clone()).body(Full::new(review)).expect("the path was read as one");
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        request
    }
}

/// Host, port where one is spelt, path and place of a URL.
fn from_url(url: &str) -> Result<(String, Option<u16>, String, Place), String> {
    let unusable = || format!("{url:?} is no URL of an HTTPS server");
    let parsed: Uri = url.parse().map_err(|_| unusable())?;
    let authority = parsed.authority().filter(|_| parsed.scheme_str() == Some("https")).ok_or_else(unusable)?;
    let host = authority.host().to_owned();
    let place = Place::Host(host.trim_matches(['[', ']']).to_owned(), authority.port_u16().unwrap_or(PORT));
    Ok((host, authority.port_u16(), parsed.path().to_owned(), place))
}

fn connect_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

/// What a client of Go's says of an answer that is none.
fn refused(code: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = if text.trim().is_empty() { "unknown" } else { text.trim() };
    match code.as_u16() {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 | 406 | 415 => text.to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        409 => "the server reported a conflict".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned()
        }
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        other => format!("the server responded with the status code {other} but did not return more information"),
    }
}
