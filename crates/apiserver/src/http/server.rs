//! Sockets: accepting, TLS, HTTP/1.1 and HTTP/2, limits on connections, and the drain at the end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use corten_stdx::error::Chain;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::auth::User;
use crate::http::body::{Request, Response};
use crate::http::tls::{ClientCertificate, Tls};

/// What connections may cost. Each limit has one name here and one metric or log line where it bites.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections at one time; more wait in the listener's backlog.
    pub connections_max: usize,
    /// From accept to the end of the TLS handshake: a client that sends nothing holds no slot for longer.
    pub handshake_timeout: Duration,
    /// For the whole header of an HTTP/1.1 request, idle time before it included.
    pub header_timeout: Duration,
    /// Header lines of a request.
    pub headers_max: usize,
    /// Bytes of a request's header.
    pub header_bytes_max: usize,
    /// Requests at one time on an HTTP/2 connection, watches included (upstream: 250).
    pub streams_max: u32,
    /// An HTTP/2 connection that does not answer a ping is closed.
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(32),
            headers_max: 200,
            header_bytes_max: 256 * 1024,
            streams_max: 250,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(15),
        }
    }
}

/// Who is at the other end of a request.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A socket; the request has to prove an identity.
    Network { address: SocketAddr, certificate: ClientCertificate },
    /// A part of this process. Only code can make this; no header can.
    InProcess(Arc<User>),
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    fn handle(self: Arc<Self>, request: Request, peer: Peer) -> BoxFuture<'static, Response>;
}

/// Pause after a failed accept (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// HTTP/2 windows: a list of some megabytes must not wait for a round trip every 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// A socket that takes connections.
pub struct Door {
    pub listener: TcpListener,
    /// Which peers may come in; all where nothing is said. Others are hung up on before TLS.
    pub admits: Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>,
}

impl Door {
    pub fn to_all(listener: TcpListener) -> Self {
        Self { listener, admits: None }
    }
}

/// A running server. Ends when its tasks are stopped ([`Tasks::stop`] also waits for the connections).
pub struct Server {
    addresses: Vec<SocketAddr>,
}

struct Shared {
    tls: Arc<Tls>,
    handler: Arc<dyn Handler>,
    limits: ConnectionLimits,
    tasks: Tasks,
    slots: Arc<Semaphore>,
}

impl Server {
    /// Serves behind doors until `tasks` is stopped; then accepts no more, lets requests end, and closes.
    pub fn start(
        doors: Vec<Door>,
        tls: Arc<Tls>,
        handler: Arc<dyn Handler>,
        limits: ConnectionLimits,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let slots = Arc::new(Semaphore::new(limits.connections_max));
        let shared = Arc::new(Shared { tls, handler, limits, tasks: tasks.clone(), slots });
        let addresses = doors.iter().map(|door| door.listener.local_addr()).collect::<io::Result<_>>()?;
        for door in doors {
            tasks.spawn("http-accept", shared.clone().accept(door));
        }
        Ok(Self { addresses })
    }

    /// Where it listens, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, door: Door) {
        let mut stopped = self.tasks.stopped();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped.wait() => return,
                accepted = self.clone().accept_one(&door.listener) => accepted,
            };
            match accepted {
                Ok((_, address, _)) if door.admits.as_ref().is_some_and(|admits| !admits(address.ip())) => {
                    tracing::debug!(%address, "not admitted at this door");
                }
                Ok((stream, address, slot)) => {
                    self.tasks.spawn("http-connection", self.clone().connection(stream, address, slot));
                }
                Err(error) => {
                    tracing::warn!(error = %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(
        self: Arc<Self>,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, address, slot))
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, _slot: OwnedSemaphorePermit) {
        let tls = self.tls.current();
        let handshake = TlsAcceptor::from(tls.config.clone()).accept(stream);
        let mut stopped = self.tasks.stopped();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.limits.handshake_timeout, handshake) => shaken,
            // Nothing was asked yet.
            () = stopped.wait() => return,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%address, error = %Chain(&error), "TLS handshake failed"),
            Err(_) => return tracing::debug!(%address, "TLS handshake timed out"),
        };
        let certificate = self.tls.judge(&tls, stream.get_ref().1.peer_certificates());
        self.serve(stream, Peer::Network { address, certificate }).await;
    }

    async fn serve(&self, stream: TlsStream<TcpStream>, peer: Peer) {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let answer =
                self.handler.clone().handle(request.map(|body| body.map_err(Into::into).boxed_unsync()), peer.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let builder = self.builder(http2);
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut stopped = self.tasks.stopped();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "connection ended");
        }
    }

    fn builder(&self, http2: bool) -> auto::Builder<Spawner> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(Spawner(self.tasks.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.header_bytes_max);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout);
        if http2 { builder.http2_only() } else { builder.http1_only() }
    }
}

/// Runs the streams of HTTP/2 connections as tasks of the server's family.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        self.0.spawn("http2-stream", future);
    }
}
