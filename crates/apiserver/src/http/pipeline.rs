//! The way of every request, from a socket or from inside the process: identity, limits, permission, then the handler;
//! around them panics, time, warnings, metrics and the audit id.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_stdx::clock::{Clock, Stopwatch};
use corten_stdx::random::Random;
use corten_stdx::task::{Stopped, Tasks};
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, HeaderName, HeaderValue, USER_AGENT, WARNING};
use http::{HeaderMap, Method};
use tracing::Instrument as _;

use crate::auth::User;
use crate::connect::{Connectors, Routes};
use crate::discovery::Discovery;
use crate::health::{Checks, VersionInfo};
use crate::http::access::{self, Access};
use crate::http::body::{self, Output, Request, Response};
use crate::http::negotiate::{Encoding, Offer, is_human, negotiate};
use crate::http::query::{Query, percent_decode};
use crate::http::request::RequestInfo;
use crate::http::server::{Handler, Peer};
use crate::metrics::{Gauge, Metrics, RequestLabels};
use crate::openapi::OpenApi;
use crate::registry::Registry;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const AUDIT_ID_BYTES_MAX: usize = 64;

/// Bytes of one warning's text, and of all of a response's (upstream's limits).
const WARNING_BYTES_MAX: usize = 256;
const WARNINGS_BYTES_MAX: usize = 4096;

/// What requests may cost.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Requests that only read, at one time; watches and streams do not count (upstream's defaults).
    pub reads_in_flight_max: i64,
    pub writes_in_flight_max: i64,
    /// For everything but watches and streams.
    pub timeout: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { reads_in_flight_max: 400, writes_in_flight_max: 200, timeout: Duration::from_secs(60) }
    }
}

/// What an API server is made of.
pub struct ApiConfig {
    pub registry: Registry,
    pub access: Access,
    pub connectors: Connectors,
    pub routes: Routes,
    pub checks: Checks,
    pub version: VersionInfo,
    pub limits: RequestLimits,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub random: Random,
    /// Watches end when this family is stopped.
    pub tasks: Tasks,
}

/// The API server without its sockets. [`Api::call`] is the way in for parts of this process.
pub struct Api {
    pub(crate) registry: Registry,
    pub(crate) access: Access,
    pub(crate) connectors: Connectors,
    pub(crate) routes: Routes,
    pub(crate) checks: Checks,
    pub(crate) version: VersionInfo,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    limits: RequestLimits,
    random: Random,
}

/// One request on its way, as handlers see it.
pub(crate) struct Call {
    pub(crate) info: RequestInfo,
    pub(crate) query: Query,
    pub(crate) user: Arc<User>,
    pub(crate) request: Request,
    /// How errors and plain objects go out.
    pub(crate) output: Output,
    /// The kind that the path names, if it is served.
    pub(crate) kind: Option<Arc<KindInfo>>,
    pub(crate) stopped: Stopped,
}

impl Call {
    pub(crate) fn header(&self, name: HeaderName) -> &str {
        header(self.request.headers(), name)
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Handler for Api {
    fn handle(self: Arc<Self>, request: Request, peer: Peer) -> BoxFuture<'static, Response> {
        Box::pin(self.answer(request, peer))
    }
}

impl Api {
    pub fn new(config: ApiConfig) -> Arc<Self> {
        let ApiConfig { registry, access, connectors, routes, checks, version, limits, metrics, clock, random, tasks } =
            config;
        Arc::new(Self {
            registry,
            access,
            connectors,
            routes,
            checks,
            version,
            metrics,
            discovery: Discovery::default(),
            openapi: OpenApi::default(),
            clock,
            tasks,
            limits,
            random,
        })
    }

    /// Answers a request of a part of this process under an identity that no network client can claim.
    pub async fn call(self: &Arc<Self>, request: Request, user: Arc<User>) -> Response {
        self.clone().answer(request, Peer::InProcess(user)).await
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn answer(self: Arc<Self>, request: Request, peer: Peer) -> Response {
        let audit_id = self.audit_id(request.headers());
        let output = output_for(request.headers(), request.uri().query().unwrap_or_default());
        let span = tracing::info_span!("request", method = %request.method(), path = request.uri().path(), audit_id);
        let answered =
            AssertUnwindSafe(self.clone().route(request, peer, output).instrument(span)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_| {
            self.metrics.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(audit_id, "request panicked");
            let message = "This request caused apiserver to panic. Look in the logs for details.";
            output.status(&Status::internal(message))
        });
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        if let Ok(value) = HeaderValue::from_str(&audit_id) {
            response.headers_mut().insert(AUDIT_ID, value);
        }
        response
    }

    /// The client's audit id where it is a plausible one, else a new one.
    fn audit_id(&self, headers: &HeaderMap) -> String {
        let sent = header(headers, AUDIT_ID);
        let plausible = !sent.is_empty() && sent.len() <= AUDIT_ID_BYTES_MAX;
        if plausible { sent.to_owned() } else { self.random.uuid() }
    }

    async fn route(self: Arc<Self>, request: Request, peer: Peer, output: Output) -> Response {
        let took = Stopwatch::start();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let Some(path) = percent_decode(request.uri().path()) else {
            return output.status(&Status::bad_request("the path is not valid percent-encoded UTF-8"));
        };
        let info = match RequestInfo::parse(request.method(), &path, &query) {
            Ok(info) => info,
            Err(error) => {
                let message = format!("Internal Server Error: {path:?}: failed to create RequestInfo: {error}\n");
                return body::text(500, &message);
            }
        };
        let user = match self.admit(request.headers(), &peer, &info).await {
            Ok(user) => user,
            Err(status) => return self.refuse(&info, output, &status),
        };
        let kinds = self.registry.kinds();
        let kind = kinds.resource(&info.group, &info.version, &info.resource).filter(|_| info.is_resource).cloned();
        let long = self.is_long_running(&info);
        let labels = Labels::of(&info, kind.as_deref());
        let in_process = matches!(peer, Peer::InProcess(_));
        let call = Call { info, query, user, request, output, kind, stopped: self.tasks.stopped() };
        let response = if long { self.clone().dispatch(call).await } else { self.limited(call, in_process).await };
        let duration = (!long).then(|| took.elapsed());
        self.metrics.request(labels.borrow(), response.status().as_u16(), duration);
        response
    }

    /// Authentication, impersonation, authorization.
    async fn admit(&self, headers: &HeaderMap, peer: &Peer, info: &RequestInfo) -> Result<Arc<User>, Status> {
        let user = self.access.authenticate(peer, headers, self.clock.wall_s()).await?;
        let user = self.access.impersonate(user, headers).await?;
        self.access.authorize(&access::attributes(&user, info)).await?;
        Ok(user)
    }

    fn refuse(&self, info: &RequestInfo, output: Output, status: &Status) -> Response {
        let labels = RequestLabels { verb: metric_verb(&info.verb), ..RequestLabels::default() };
        self.metrics.request(labels, status.code, None);
        let mut response = output.status(status);
        if status.code == 403 {
            body::set(&mut response, http::header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        }
        response
    }

    /// Watches, and subresources whose connector takes the raw request.
    fn is_long_running(&self, info: &RequestInfo) -> bool {
        let connector = self.connectors.find(&info.group, &info.resource, &info.subresource);
        info.verb == "watch" || (info.is_resource && connector.is_some_and(|connector| connector.raw()))
    }

    /// Dispatches within the limits on time and number.
    async fn limited(self: &Arc<Self>, call: Call, in_process: bool) -> Response {
        let reads = matches!(*call.request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let (gauge, limit) = if reads {
            (&self.metrics.reads_in_flight, self.limits.reads_in_flight_max)
        } else {
            (&self.metrics.writes_in_flight, self.limits.writes_in_flight_max)
        };
        let exempt = in_process || call.user.in_group("system:masters");
        let _held = Gauge::hold(gauge);
        if !exempt && gauge.load(Ordering::Relaxed) > limit {
            self.metrics.rejected.fetch_add(1, Ordering::Relaxed);
            let mut response = body::text(429, "Too many requests, please try again later.\n");
            body::set(&mut response, http::header::RETRY_AFTER, "1");
            return response;
        }
        let output = call.output;
        match tokio::time::timeout(self.limits.timeout, self.clone().dispatch(call)).await {
            Ok(response) => response,
            Err(_) => output.status(&Status::timeout("Timeout: request did not complete within the allotted timeout")),
        }
    }

    /// Boxed: the handlers' futures are large, and their types end here.
    fn dispatch(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        match call.info.is_resource {
            true => Box::pin(async move { self.serve_resource(call).await }),
            false => Box::pin(async move { self.serve_path(call).await }),
        }
    }
}

/// The form of errors and other plain objects.
fn output_for(headers: &HeaderMap, query: &str) -> Output {
    let offer = Offer { protobuf: false, protobuf_named: true, stream: false, collection: false };
    let accepted = negotiate(header(headers, ACCEPT), offer).ok();
    let encoding = accepted.map_or(Encoding::Json, |accepted| accepted.encoding);
    let asked = query.contains("pretty").then(|| Query::parse(query)).and_then(|query| {
        let pretty = query.first("pretty").filter(|value| !value.is_empty());
        pretty.map(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    });
    let pretty = accepted.is_some_and(|accepted| accepted.pretty)
        || asked.unwrap_or_else(|| is_human(header(headers, USER_AGENT)));
    let gzip = header(headers, ACCEPT_ENCODING).split(',').any(|coding| coding.trim() == "gzip");
    Output { encoding, pretty, gzip }
}

/// Adds `Warning:` headers (RFC 7234 § 5.5), each text once.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    let mut bytes = 0;
    let mut seen: Vec<&str> = Vec::new();
    for text in warnings {
        if seen.contains(&text.as_str()) {
            continue;
        }
        seen.push(text);
        let mut shown: String = text.chars().filter(|character| !character.is_control()).collect();
        if warnings.len() > WARNINGS_BYTES_MAX / WARNING_BYTES_MAX {
            shown.truncate(shown.floor_char_boundary(WARNING_BYTES_MAX));
        }
        bytes += shown.len();
        if bytes > WARNINGS_BYTES_MAX {
            return;
        }
        let quoted = shown.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// Owned metric labels of a request; only names of served kinds get in.
struct Labels {
    verb: &'static str,
    kind: Option<(String, String, String)>,
    subresource: String,
    scope: &'static str,
}

impl Labels {
    fn of(info: &RequestInfo, kind: Option<&KindInfo>) -> Self {
        let subresource = kind.and_then(|kind| kind.subresource(&info.subresource)).map(|sub| sub.name.to_string());
        let scope = match kind {
            None => "",
            Some(_) if !info.name.is_empty() => "resource",
            Some(kind) if kind.namespaced() && !info.namespace.is_empty() => "namespace",
            Some(_) => "cluster",
        };
        let kind = kind.map(|kind| (kind.gvk.group.to_string(), kind.gvk.version.to_string(), kind.plural.to_string()));
        Self { verb: metric_verb(&info.verb), kind, subresource: subresource.unwrap_or_default(), scope }
    }

    fn borrow(&self) -> RequestLabels<'_> {
        let (group, version, resource) =
            self.kind.as_ref().map_or(("", "", ""), |(group, version, resource)| (group, version, resource));
        RequestLabels { verb: self.verb, group, version, resource, subresource: &self.subresource, scope: self.scope }
    }
}

/// Upstream's names of verbs in metrics.
fn metric_verb(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "proxy" => "CONNECT",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_told_once() {
        let mut response = body::text(200, "");
        warn(&mut response, &["unknown field \"spec.a\"".to_owned(), "b".to_owned(), "b".to_owned()]);
        let texts: Vec<_> = response.headers().get_all(WARNING).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(texts, [r#"299 - "unknown field \"spec.a\"""#, r#"299 - "b""#]);
    }

    #[test]
    fn the_form_of_errors() {
        let output = |pairs: &[(HeaderName, &'static str)], query| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            output_for(&headers, query)
        };
        assert!(output(&[(USER_AGENT, "curl/8")], "").pretty);
        assert!(!output(&[(USER_AGENT, "curl/8")], "pretty=false").pretty);
        assert!(!output(&[], "").pretty);
        assert!(output(&[], "pretty=1").pretty);
        assert_eq!(output(&[(ACCEPT, "application/yaml")], "").encoding, Encoding::Yaml);
        assert_eq!(output(&[(ACCEPT, "image/png")], "").encoding, Encoding::Json);
        assert!(output(&[(ACCEPT_ENCODING, "br, gzip")], "").gzip);
    }
}
