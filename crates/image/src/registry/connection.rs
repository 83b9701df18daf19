//! Connections to registries: HTTP/1.1, over TLS with the authorities that this machine trusts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_stdx::error::Chain;
use corten_stdx::task::Tasks;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::share::Dial;

const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Makes connections. Cheap to clone; the authorities are read when the first one needs them.
#[derive(Clone)]
pub(crate) struct Connector {
    authorities_pem: Arc<[u8]>,
    tls: Arc<OnceCell<TlsConnector>>,
    /// Makes the connections itself, with whatever proves both sides.
    dial: Option<Arc<dyn Dial>>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Trusts these authorities beside the machine's own.
    pub(crate) fn new(authorities_pem: &[u8]) -> Self {
        Self { authorities_pem: authorities_pem.into(), tls: Arc::default(), dial: None }
    }

    pub(crate) fn through(dial: Arc<dyn Dial>) -> Self {
        Self { dial: Some(dial), ..Self::new(&[]) }
    }

    /// Asks on a connection of its own; the answer's body may last longer than `silence_max`, its head may not.
    pub(super) async fn get(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        silence_max: Duration,
        tasks: &Tasks,
    ) -> Result<Response<Incoming>, String> {
        let host = uri.host().ok_or_else(|| format!("{uri} has no host"))?;
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let name = host.trim_matches(['[', ']']);
        let request = request(uri, headers)?;
        let answer = async {
            if let Some(dial) = &self.dial {
                let stream = dial.dial(name, port).await;
                return ask(
                    stream.map_err(|error| format!("no connection to {host}:{port}: {error}"))?,
                    request,
                    tasks,
                )
                .await;
            }
            self.ask_registry(host, port, tls, request, tasks).await
        };
        match tokio::time::timeout(silence_max, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{host} does not answer")),
        }
    }

    async fn ask_registry(
        &self,
        host: &str,
        port: u16,
        tls: bool,
        request: Request<Empty<Bytes>>,
        tasks: &Tasks,
    ) -> Result<Response<Incoming>, String> {
        let name = host.trim_matches(['[', ']']);
        let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect((name, port))).await;
        let stream = match connected {
            Ok(stream) => stream.map_err(|error| format!("no connection to {host}:{port}: {error}"))?,
            Err(_) => return Err(format!("no connection to {host}:{port} within {} s", CONNECT_MAX.as_secs())),
        };
        if !tls {
            return ask(stream, request, tasks).await;
        }
        let server = ServerName::try_from(name.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let connector = self.tls.get_or_try_init(|| connector(&self.authorities_pem)).await?;
        let stream = connector.connect(server, stream).await;
        ask(stream.map_err(|error| format!("no TLS session with {host}: {error}"))?, request, tasks).await
    }
}

fn request(uri: &Uri, headers: HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
    let wrong = |error: http::Error| format!("{uri}: {error}");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::get(path).body(Empty::new()).map_err(wrong)?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(authority).map_err(|error| wrong(error.into()))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(concat!("corten/", env!("CARGO_PKG_VERSION"))));
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn ask<S>(stream: S, request: Request<Empty<Bytes>>, tasks: &Tasks) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Chain(&error).to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tasks.spawn("registry connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %Chain(&error), "a registry's connection broke");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

async fn connector(authorities_pem: &[u8]) -> Result<TlsConnector, String> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = found.map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities_pem) {
        let authority = authority.map_err(|error| format!("the authorities are no PEM: {error}"))?;
        roots.add(authority).map_err(|error| format!("an authority cannot be used: {error}"))?;
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("this machine trusts no certificate authority; apt-get install ca-certificates".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
