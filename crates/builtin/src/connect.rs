//! Endpoints that lead to a node or a pod: logs, exec, attach, port-forward, and the proxies. What upstream's options allow is
//! checked here; then the request goes to the node's own server, and what comes back is handed on: after an upgrade byte for
//! byte, without a look at what is inside.

mod pods;
pub(crate) mod proxy;
mod tunnel;

use std::io;
use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::{Attributes, Authorizer, AuthzTarget, Decision, User};
use corten_apiserver::connect::{Answer, Call, CallBody, Connector, Connectors};
use corten_apiserver::http::body::Request;
use corten_apiserver::http::query::Query;
use corten_apiserver::registry::Target;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::lookup::{Lookup, PODS, Resource, tree};

pub(crate) const NODES: Resource = Resource { group: "", plural: "nodes" };

/// The port of a node's server, where the node does not say.
const NODE_PORT: u16 = 10250;

/// Kinds of addresses of a node, by preference.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// A connection to somewhere.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type BoxStream = Box<dyn Stream>;

/// How nodes and pods are reached.
pub trait Dial: Send + Sync {
    /// TLS to a node's server: it is the node, and this is the API server.
    fn node<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>>;

    /// A pod's or a Service's port; TLS there is not verified, as nobody says whose it should be.
    fn pod<'a>(&'a self, host: &'a str, port: u16, tls: bool) -> BoxFuture<'a, io::Result<BoxStream>>;
}

/// What the endpoints stand on.
#[derive(Clone)]
pub struct Ground {
    pub lookup: Arc<dyn Lookup>,
    pub authorizer: Arc<dyn Authorizer>,
    pub dial: Arc<dyn Dial>,
    pub random: Random,
    pub tasks: Tasks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Log,
    Exec,
    Attach,
    PortForward,
    NodeProxy,
    PodProxy,
    ServiceProxy,
}

struct Endpoint {
    what: What,
    ground: Ground,
}

/// Registers every endpoint.
pub fn register(connectors: &mut Connectors, ground: &Ground) {
    let endpoints = [
        ("pods", "log", What::Log),
        ("pods", "exec", What::Exec),
        ("pods", "attach", What::Attach),
        ("pods", "portforward", What::PortForward),
        ("nodes", "proxy", What::NodeProxy),
        ("pods", "proxy", What::PodProxy),
        ("services", "proxy", What::ServiceProxy),
    ];
    for (resource, subresource, what) in endpoints {
        connectors.register("", resource, subresource, Arc::new(Endpoint { what, ground: ground.clone() }));
    }
}

impl Connector for Endpoint {
    fn raw(&self) -> bool {
        true
    }

    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move { self.answer(call).await.map(Answer::Response) })
    }
}

impl Endpoint {
    async fn answer(&self, call: Call) -> Result<corten_apiserver::http::body::Response, Status> {
        let Call { user, target, path, query, body, .. } = call;
        let CallBody::Raw(request) = body else {
            return Err(Status::internal("the request came without its connection"));
        };
        let call = Asked { user, target, path, query };
        let ground = &self.ground;
        match self.what {
            What::NodeProxy => return proxy::node(ground, &call, *request).await,
            What::PodProxy => return proxy::pod(ground, &call, *request).await,
            What::ServiceProxy => return proxy::service(ground, &call, *request).await,
            What::Log => {}
            What::Exec | What::Attach | What::PortForward => ground.may_create(&call).await?,
        }
        let pod = ground.pod(&call.target.namespace, &call.target.name).await?;
        let path = match self.what {
            What::Log => pods::log(&pod, &call.query)?,
            What::Exec => pods::program(&pod, &call.query, "exec")?,
            What::Attach => pods::program(&pod, &call.query, "attach")?,
            _ => pods::forward(&pod, &call.query)?,
        };
        let node = pod.str_at(&["spec", "nodeName"]);
        if node.is_empty() {
            return match self.what {
                // As upstream: an empty log.
                What::Log => Ok(corten_apiserver::http::body::respond(200, "text/plain", "")),
                _ => Err(Status::bad_request(format!("pod {} does not have a host assigned", call.target.name))),
            };
        }
        let place = ground.node_place(node).await?;
        let stream = ground.reach(&place).await?;
        if self.what == What::Log {
            return tunnel::log(ground, stream, &place, &path, &call.target.name, *request).await;
        }
        tunnel::upgrade(ground, stream, &place, &path, *request).await
    }
}

/// What is asked for, without the request itself, which cannot be shared between threads.
struct Asked {
    user: Arc<User>,
    target: Target,
    path: String,
    query: Query,
}

/// Where something is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Ground {
    async fn pod(&self, namespace: &str, name: &str) -> Result<Value, Status> {
        self.object(PODS, namespace, name).await
    }

    async fn object(&self, resource: Resource, namespace: &str, name: &str) -> Result<Value, Status> {
        let found = self.lookup.get(resource, namespace, name).await?;
        tree(&*found.ok_or_else(|| Status::not_found(resource.group, resource.plural, name))?)
    }

    /// A WebSocket comes with GET, so that whoever may only read would run programs: it needs what POST needs.
    async fn may_create(&self, call: &Asked) -> Result<(), Status> {
        let (kind, subresource) = (&call.target.kind, &call.target.subresource);
        let target = AuthzTarget::Resource {
            group: &kind.gvk.group,
            version: &kind.gvk.version,
            resource: kind.plural.as_ref(),
            subresource,
            namespace: &call.target.namespace,
            name: &call.target.name,
        };
        let attributes = Attributes { user: &call.user, verb: "create", target };
        if self.authorizer.authorize(&attributes).await == Decision::Allow {
            return Ok(());
        }
        let why = format!(
            "User {:?} cannot create resource \"{}/{subresource}\" in API group {:?} in the namespace {:?}",
            call.user.name.as_str(),
            kind.plural,
            kind.gvk.group,
            call.target.namespace.as_str(),
        );
        Err(Status::forbidden(&kind.gvk.group, kind.plural.as_ref(), &call.target.name, &why))
    }

    async fn node_place(&self, name: &str) -> Result<Place, Status> {
        place(&self.object(NODES, "", name).await?)
    }

    /// Asks a node's server for a text; not for one that grows without end.
    pub(crate) async fn read_node(&self, node: &Value, path: &str) -> Result<String, Status> {
        let place = place(node)?;
        let stream = self.reach(&place).await?;
        tunnel::text(self, stream, &place, path).await
    }

    async fn reach(&self, place: &Place) -> Result<BoxStream, Status> {
        self.dial.node(&place.host, place.port).await.map_err(|error| unreachable(place, &error))
    }
}

fn unreachable(place: &Place, error: &io::Error) -> Status {
    Status::internal(format_args!("error dialing backend: dial tcp {}:{}: {error}", place.host, place.port))
}

/// The address that the node tells, by preference, and its port.
fn place(node: &Value) -> Result<Place, Status> {
    let addresses = node.at(&["status", "addresses"]).and_then(Value::as_array).unwrap_or_default();
    let of = |kind: &str| addresses.iter().find(|address| address.str_at(&["type"]) == kind);
    let address = ADDRESS_TYPES.into_iter().find_map(of).map(|address| address.str_at(&["address"]));
    let host = address.ok_or_else(|| {
        Status::internal(format_args!("no preferred addresses found; known addresses: {}", addresses.len()))
    })?;
    let port = node.i64_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(NODE_PORT);
    Ok(Place { host: host.to_owned(), port })
}

/// Percent-encodes what may not stand in a part of a path or a query as it is.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value)]);
                out.extend(['%', digit(other >> 4), digit(other & 15)]);
            }
        }
    }
    out
}

/// The raw query of a request, with its question mark.
fn raw_query(request: &Request) -> String {
    request.uri().query().map(|query| format!("?{query}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
