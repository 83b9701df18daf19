//! Endpoints that are no stored object: access reviews, tokens, bindings, exec, logs, proxies. The binary registers a
//! [`Connector`] for each under `group/resource` or `group/resource/subresource`.

use std::collections::HashMap;
use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use futures_core::future::BoxFuture;

use crate::auth::User;
use crate::http::body::{Request, Response};
use crate::http::query::Query;
use crate::registry::{Target, WriteOptions};

/// A request to a connector, authenticated and authorized.
pub struct Call {
    pub user: Arc<User>,
    /// `create`, `get`, `update`, …
    pub verb: String,
    /// For a subresource, the object that it belongs to; for a kind that is not stored, without a name on create.
    pub target: Target,
    /// What follows the subresource in the path, with its slashes: `/metrics/cadvisor`. Empty for most.
    pub path: String,
    pub query: Query,
    pub options: WriteOptions,
    pub body: CallBody,
}

/// What a call carries.
pub enum CallBody {
    /// No body (get), or one that the endpoint does not read.
    None,
    /// An object of the endpoint's kind: conformed, defaults applied, validated.
    Object(Value),
    /// The request itself, body unread and upgrade possible, for a connector that asked for it.
    Raw(Box<Request>),
}

/// What a connector answers.
pub enum Answer {
    /// An object, sent in the encoding that the client negotiated.
    Object { code: u16, value: Value },
    /// To `get` and `list` of a kind that is not stored: its objects, at least those that were asked for. The generic path
    /// selects, and shows them in the form that the client negotiated.
    Objects(Vec<Value>),
    /// An answer of its own: a stream, an upgrade, a proxied response.
    Response(Response),
}

/// Answers an endpoint.
pub trait Connector: Send + Sync {
    /// Wants the request as it came, rather than a decoded object; such calls may last as long as they like.
    fn raw(&self) -> bool {
        false
    }

    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>>;
}

/// The connectors by endpoint.
#[derive(Clone, Default)]
pub struct Connectors(HashMap<String, Arc<dyn Connector>, ahash::RandomState>);

impl Connectors {
    /// Registers a connector for `subresource` (may be empty) of `group` (may be empty) and `resource`.
    pub fn register(&mut self, group: &str, resource: &str, subresource: &str, connector: Arc<dyn Connector>) {
        self.0.insert(key(group, resource, subresource), connector);
    }

    pub fn find(&self, group: &str, resource: &str, subresource: &str) -> Option<&Arc<dyn Connector>> {
        self.0.get(&key(group, resource, subresource))
    }
}

fn key(group: &str, resource: &str, subresource: &str) -> String {
    match subresource {
        "" => format!("{group}/{resource}"),
        subresource => format!("{group}/{resource}/{subresource}"),
    }
}

/// A path of the server that is no resource, registered by the binary: `/openid/v1/jwks`.
pub trait Route: Send + Sync {
    fn serve(&self, request: Request, user: Arc<User>) -> BoxFuture<'_, Response>;
}

/// Routes by path; one that ends in a slash serves everything below it.
#[derive(Clone, Default)]
pub struct Routes(Vec<(String, Arc<dyn Route>)>);

impl Routes {
    pub fn register(&mut self, path: &str, route: Arc<dyn Route>) {
        self.0.push((path.to_owned(), route));
    }

    pub fn find(&self, path: &str) -> Option<&Arc<dyn Route>> {
        let serves = |own: &str| own == path || (own.ends_with('/') && path.starts_with(own));
        self.0.iter().find(|(own, _)| serves(own)).map(|(_, route)| route)
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(path, _)| path.trim_end_matches('/'))
    }
}
