//! The node's own HTTPS server: logs, exec, attach, port-forward, and what the node tells of itself. The API server comes here, on
//! behalf of users whom it has authorized, and proves itself with its client certificate. Other nodes of the cluster may come with
//! theirs, for images and nothing else; nobody else is served.
//!
//! The server asks of the node what [`Host`] says, and of the engine the streams of containers. It needs no pod workers to be
//! tested.

mod answer;
mod fd;
mod follow;
mod forward;
mod images;
mod logs;
mod program;
mod resource;
mod route;
mod summary;
mod tls;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value::Value;
use corten_image::Shared;
use corten_runtime::engine::{ContainerId, Engine, Usage};
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use self::answer::{Answer, Refusal, text};
use self::route::Route;
use self::tls::Visitor;
use crate::machine::Machine;

pub use self::tls::{Identity, TlsError};

/// Connections at a time; each is one session of a user's, or the API server's spare.
const CONNECTIONS_MAX: usize = 2000;

/// How long a handshake, and the head of a request, may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Pause after a failed accept (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A pod as the server needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// Names the pod to the engine.
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub containers: Vec<ContainerView>,
}

/// One container of any kind (init, ephemeral too).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerView {
    pub name: String,
    /// The attempt that runs.
    pub running: Option<u32>,
    /// The newest attempt that has a log, or why there is none, in upstream's words: `container "c" in pod "p" is waiting to
    /// start: ContainerCreating`.
    pub log: Result<LogFile, String>,
    /// The same of the attempt before.
    pub previous_log: Result<LogFile, String>,
}

/// Where an attempt's output lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    pub attempt: u32,
}

/// What the server asks of the node.
pub trait Host: Send + Sync + 'static {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodView>;

    /// Every pod of this node.
    fn pods(&self) -> Vec<PodView>;

    /// The objects of every pod of this node.
    fn objects(&self) -> Vec<Value>;

    /// Resolves when this attempt of a container does not run, which may be at once.
    fn ended<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, ()>;
}

/// What the server asks of the node's edge.
pub trait Edge: Send + Sync + 'static {
    /// Requests that it has given to each address since it has started; empty where it does not run.
    fn requests(&self) -> BoxFuture<'_, Vec<(IpAddr, u64)>>;
}

/// What the server stands on.
#[derive(Clone)]
pub struct Server {
    pub node: String,
    /// Where the node keeps everything; what is left there is the node's disk.
    pub dir: PathBuf,
    /// Who this server is and who may come; new connections see a change.
    pub identity: watch::Receiver<Identity>,
    pub host: Arc<dyn Host>,
    pub engine: Arc<dyn Engine>,
    /// For other nodes.
    pub images: Arc<dyn Shared>,
    pub edge: Arc<dyn Edge>,
    pub clock: Clock,
    pub tasks: Tasks,
}

impl PodView {
    pub fn container(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }

    fn id(&self, container: &str, attempt: u32) -> ContainerId {
        ContainerId { pod: self.uid.clone(), name: container.to_owned(), attempt }
    }
}

impl Server {
    /// What a container uses, or with an empty name the whole pod; `None` where it has just ended.
    async fn usage(&self, pod: &PodView, container: &str) -> Option<Usage> {
        match self.engine.usage(&pod.uid, container).await {
            Ok(usage) => Some(usage),
            Err(error) => {
                tracing::debug!(%error, pod = pod.name, container, "usage is not known");
                None
            }
        }
    }

    /// When each container that runs was started, in nanoseconds since 1970, by pod and name.
    async fn started(&self) -> HashMap<(String, String), i64> {
        match self.engine.pods().await {
            Ok(pods) => {
                let running = pods.into_iter().flat_map(|pod| pod.containers).filter(|state| state.exit.is_none());
                running.map(|state| ((state.id.pod, state.id.name), state.started_ns)).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "starts of containers are not known");
                HashMap::new()
            }
        }
    }

    fn machine(&self) -> Option<Machine> {
        Machine::read(&self.dir).inspect_err(|error| tracing::warn!(%error, "what this machine uses is not known")).ok()
    }

    /// Serves until the tasks are stopped.
    ///
    /// # Errors
    /// When the first identity cannot be used.
    pub fn start(self, listener: TcpListener) -> Result<(), TlsError> {
        self.identity.borrow().config()?;
        let tasks = self.tasks.clone();
        tasks.spawn("kubelet-accept", Arc::new(self).accept(listener));
        Ok(())
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut stopped = self.tasks.stopped();
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            let accepted = tokio::select! {
                biased;
                () = stopped.wait() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (server, identity) = (self.clone(), self.identity.borrow().clone());
                    self.tasks.spawn("kubelet-connection", async move {
                        server.connection(stream, identity).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, identity: Identity) {
        let mut stopped = self.tasks.stopped();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(stream, &identity)) => shaken,
            // Nothing was asked yet.
            () = stopped.wait() => return,
        };
        match shaken {
            Ok(Ok(Some((stream, visitor)))) => self.serve(stream, visitor).await,
            Ok(Ok(None)) => tracing::warn!("a client that is neither the API server nor a node was turned away"),
            Ok(Err(error)) => tracing::debug!(error = %Chain(&error), "handshake failed"),
            Err(_) => tracing::debug!("handshake timed out"),
        }
    }

    async fn serve(self: Arc<Self>, stream: tokio_rustls::server::TlsStream<TcpStream>, visitor: Visitor) {
        let mut stopped = self.tasks.stopped();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request, visitor).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_LIMIT);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn answer(&self, request: http::Request<Incoming>, visitor: Visitor) -> Answer {
        let method = request.method().clone();
        match self.route(request, &method, visitor).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into_answer(),
        }
    }

    async fn route(
        &self,
        request: http::Request<Incoming>,
        method: &Method,
        visitor: Visitor,
    ) -> Result<Answer, Refusal> {
        let route =
            Route::of(request.uri()).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "404 page not found"))?;
        let is_image = matches!(route, Route::Manifest { .. } | Route::Blob { .. });
        if visitor == Visitor::Node && !is_image {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "nodes may have images alone"));
        }
        let streams = matches!(route, Route::Exec { .. } | Route::Attach { .. } | Route::PortForward { .. });
        if !(method == Method::GET || method == Method::HEAD || (streams && method == Method::POST)) {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
        }
        match route {
            Route::Healthz => Ok(text("ok")),
            Route::Pods => Ok(summary::pods(&*self.host)),
            Route::Summary => Ok(summary::summary(self).await),
            Route::Metrics => Ok(summary::metrics(self).await),
            Route::Resource => Ok(resource::metrics(self).await),
            Route::Logs { target, options } => logs::serve(self, &target, options?).await,
            Route::Exec { target, wanted, command } => program::exec(self, request, &target, wanted?, command),
            Route::Attach { target, wanted } => program::attach(self, request, &target, wanted?),
            Route::Manifest { repository, version } => images::manifest(self, repository, version).await,
            Route::Blob { digest } => images::blob(self, digest, request.headers()).await,
            Route::PortForward { target, ports } => forward::serve(self, request, &target, ports?),
        }
    }
}

/// The stream of a client that may come, and who it is.
async fn handshake(
    stream: TcpStream,
    identity: &Identity,
) -> io::Result<Option<(tokio_rustls::server::TlsStream<TcpStream>, Visitor)>> {
    stream.set_nodelay(true)?;
    let config = identity.config().map_err(io::Error::other)?;
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let visitor = identity.visitor(stream.get_ref().1.peer_certificates());
    Ok(visitor.map(|visitor| (stream, visitor)))
}

#[cfg(test)]
mod tests;
