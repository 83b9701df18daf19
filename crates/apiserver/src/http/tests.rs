//! Requests against an in-process API server with hand-made kinds, and over real TLS sockets.

mod admitted;
mod calls;
mod tls;
mod unstored;

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::value::Value;
use corten_stdx::random::Random;
use futures_core::future::BoxFuture;
use http::HeaderMap;
use http_body_util::BodyExt as _;

use crate::auth::{Attributes, Authenticator, AuthnError, Authorizer, Credentials, Decision, User};
use crate::connect::{Connectors, Routes};
use crate::health::{Checks, VersionInfo};
use crate::http::access::Access;
use crate::http::body::{self, Response};
use crate::http::pipeline::{Api, ApiConfig, RequestLimits};
use crate::testing::{Bench, kinds};

/// Lets everybody in by the common name of their certificate, and everybody do everything but touch `secret` things.
struct Open;

impl Authenticator for Open {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<User>, AuthnError>> {
        let name = credentials.certificates.first().map(|_| User { name: "certified".into(), ..User::default() });
        Box::pin(std::future::ready(Ok(name)))
    }
}

impl Authorizer for Open {
    fn authorize<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        let refused = matches!(attributes.target, crate::auth::AuthzTarget::Resource { namespace: "secret", .. });
        let decision = if refused { Decision::NoOpinion(String::new()) } else { Decision::Allow };
        Box::pin(std::future::ready(decision))
    }
}

/// An API server with widgets (namespaced) and gadgets (cluster-scoped).
fn server() -> (Arc<Api>, Bench) {
    with(RequestLimits::default(), Connectors::default())
}

fn with(limits: RequestLimits, connectors: Connectors) -> (Arc<Api>, Bench) {
    let bench = Bench::new([kinds::widget(), kinds::gadget(), kinds::scale()]);
    (over(&bench, limits, connectors), bench)
}

fn over(bench: &Bench, limits: RequestLimits, connectors: Connectors) -> Arc<Api> {
    let access = Access { authenticators: vec![Arc::new(Open)], authorizers: vec![Arc::new(Open)], anonymous: true };
    let version =
        VersionInfo { major: "1".into(), minor: "36".into(), git_version: "v1.36.3".into(), ..Default::default() };
    let config = ApiConfig {
        registry: bench.registry.clone(),
        access,
        connectors,
        routes: Routes::default(),
        checks: Checks::default(),
        version,
        limits,
        metrics: Arc::default(),
        clock: bench.clock.clone(),
        random: Random::seeded(1),
        tasks: bench.tasks.clone(),
    };
    Api::new(config)
}

/// An answer, read to its end.
struct Answer {
    code: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Self { code: head.status.as_u16(), headers: head.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    fn value(&self) -> Value {
        json::parse(self.text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {}", self.text)).value
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends `GET /path` and the like, with headers and a body.
async fn send(api: &Arc<Api>, line: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let (method, uri) = line.split_once(' ').unwrap();
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body::full(body.to_owned())).unwrap();
    let user = User { name: "tester".into(), groups: vec!["system:authenticated".into()], ..User::default() };
    api.call(request, Arc::new(user)).await
}

async fn ask(api: &Arc<Api>, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    Answer::of(send(api, line, headers, body).await).await
}
