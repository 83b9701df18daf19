//! A plain HTTP/1.1 client over TLS with a client certificate: it sends exactly the request it is given, and shows
//! exactly what came back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use corten_stdx::task::Tasks;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::kubeconfig::Endpoint;

/// How long one answer may take. Watches end by their own limit long before.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Lower-case names, in the order of arrival.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

pub(crate) struct Client {
    address: String,
    connector: TlsConnector,
    connection: Option<SendRequest<Full<Bytes>>>,
    tasks: Tasks,
}

/// An answer that goes on, such as a watch.
pub(crate) struct Lines {
    body: Incoming,
    /// What has come and is no whole line.
    rest: Vec<u8>,
    /// Ends with its owner, and the answer with it.
    _connection: SendRequest<Full<Bytes>>,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), ..Self::default() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body and its content type.
    pub(crate) fn body(self, kind: &str, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self.header("content-type", kind) }
    }
}

impl Answer {
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&endpoint.ca_pem) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&endpoint.certificate_pem).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&endpoint.key_pem)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { address: endpoint.address.clone(), connector, connection: None, tasks: Tasks::new() })
    }

    /// Sends a request over the open connection, or a new one. One more attempt if the server had closed it meanwhile.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Answer> {
        let reused = self.connection.is_some();
        match self.attempt(request).await {
            Err(_) if reused => {
                self.connection = None;
                self.attempt(request).await
            }
            other => other,
        }
    }

    /// Sends a request whose answer is lines without an end, on a connection of its own.
    pub(crate) async fn lines(&self, request: &Request) -> Result<Lines> {
        let mut connection = self.connect().await?;
        connection.ready().await?;
        let incoming = connection.send_request(self.outgoing(request)?).await?;
        ensure!(incoming.status().is_success(), "{} {}: {}", request.method, request.path, incoming.status());
        Ok(Lines { body: incoming.into_body(), rest: Vec::new(), _connection: connection })
    }

    /// Sends a request once, over the open connection or a new one.
    pub(crate) async fn attempt(&mut self, request: &Request) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        let outgoing = self.outgoing(request)?;
        let answer = async {
            connection.ready().await?;
            let incoming = connection.send_request(outgoing).await?;
            let (head, body) = incoming.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>((head, body))
        };
        let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, answer).await else {
            bail!("no answer within {ANSWER_LIMIT:?} to {} {}", request.method, request.path)
        };
        let (head, body) = answer.with_context(|| format!("{} {}", request.method, request.path))?;
        self.connection = Some(connection);
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Ok(Answer { code: head.status.as_u16(), headers, body })
    }

    fn outgoing(&self, request: &Request) -> Result<http::Request<Full<Bytes>>> {
        let mut builder = http::Request::builder().method(request.method).uri(&request.path);
        builder = builder.header("host", &self.address);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::new(Bytes::from(request.body.clone()))).context("the request is malformed")
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await.with_context(|| format!("no one at {}", self.address))?;
        stream.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').context("an address has a port")?.0.to_owned();
        let stream = self.connector.connect(ServerName::try_from(host)?, stream).await?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        self.tasks.spawn("connection", async {
            if let Err(error) = driver.await {
                eprintln!("connection: {error}");
            }
        });
        Ok(connection)
    }
}

impl Lines {
    /// The next line, when it comes.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let after = self.rest.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.rest, after));
            }
            let frame = self.body.frame().await.context("the answer has ended")??;
            if let Some(data) = frame.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }
}
