//! One GET request to a container, for probes and hooks. Certificates are not checked: a container is asked by its
//! address, and answers for itself (`pkg/probe/http`).

use std::sync::Arc;

use bytes::Bytes;
use corten_apimachinery::value::Value;
use corten_client::trust::Trust;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::deed::Subjected;
use crate::pod::Container;

/// Bytes of an answer that are read.
const BODY_MAX: usize = 10 << 10;

/// What is asked, and where.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) host: String,
    pub(crate) port: u16,
    tls: bool,
    path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// From an `httpGet` action.
    pub(crate) fn of(get: &Value, container: Container<'_>, of: &Subjected, agent: &str) -> Result<Self, String> {
        let own = get.str_at(&["host"]);
        let host = if own.is_empty() { address(of)? } else { own.to_owned() };
        let listed = get.get("httpHeaders").and_then(Value::as_array).unwrap_or_default();
        let mut headers: Vec<(String, String)> =
            listed.iter().map(|one| (one.str_at(&["name"]).to_owned(), one.str_at(&["value"]).to_owned())).collect();
        let mut add = |name: &str, value: String| {
            if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                headers.push((name.to_owned(), value));
            }
        };
        let port = port(get.get("port"), container)?;
        add("User-Agent", agent.to_owned());
        add("Accept", "*/*".to_owned());
        add("Host", format!("{}:{port}", bracketed(&host)));
        let path = get.str_at(&["path"]);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host, port, tls: get.str_at(&["scheme"]) == "HTTPS", path, headers })
    }

    /// As in errors.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", bracketed(&self.host), self.port, self.path)
    }

    /// The code of the answer.
    pub(crate) async fn send(&self) -> Result<u16, String> {
        let stream = connect(&self.host, self.port).await.map_err(|error| format!("Get {:?}: {error}", self.url()))?;
        if !self.tls {
            return self.ask(stream).await;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(trusting()?));
        let stream = connector.connect(name, stream).await;
        self.ask(stream.map_err(|error| format!("Get {:?}: {error}", self.url()))?).await
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S) -> Result<u16, String> {
        let failed = |error: &dyn std::fmt::Display| format!("Get {:?}: {error}", self.url());
        let mut request = http::Request::builder().uri(&self.path).header("Connection", "close");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
            let code = answer.status().as_u16();
            // What is longer is left unread; the code is what counts.
            drop(Limited::new(answer.into_body(), BODY_MAX).collect().await);
            Ok(code)
        };
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            answer = &mut asked => answer,
            ended = connection => match ended {
                Ok(()) => asked.await,
                Err(error) => Err(failed(&error)),
            },
        }
    }
}

/// A connection, with the errors that Go gives.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let shown = format!("{}:{port}", bracketed(host));
    TcpStream::connect((host, port)).await.map_err(|error| {
        let text = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {shown}: {text}")
    })
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The pod's main address.
pub(crate) fn address(of: &Subjected) -> Result<String, String> {
    let own = if of.pod().is_host_network() { &of.ground.parts.settings.addresses } else { &of.addresses };
    own.first().map(ToString::to_string).ok_or_else(|| "the pod has no address".to_owned())
}

/// A port by number, or by the name that the container gives it.
pub(crate) fn port(port: Option<&Value>, container: Container<'_>) -> Result<u16, String> {
    let number = match port {
        Some(Value::Int(number)) => Some(*number),
        Some(Value::String(name)) => {
            let named = container.list("ports").iter().find(|port| port.str_at(&["name"]) == name.as_str());
            named.and_then(|port| port.i64_at(&["containerPort"])).or_else(|| name.parse().ok())
        }
        _ => None,
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| "couldn't find the port".to_owned())
}

fn trusting() -> Result<ClientConfig, String> {
    let config = Trust::Anybody.config().map_err(|error| error.to_string())?;
    Ok(config.with_no_client_auth())
}
