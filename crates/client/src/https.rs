//! Requests over HTTPS: one HTTP/2 connection for everything, made again when it has ended.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use corten_apimachinery::value::Value;
use corten_apimachinery::yaml;
use corten_stdx::error::Chain;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use http::{HeaderValue, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::transport::{BoxError, StreamBody, Transport, TransportError};
use crate::trust::{Trust, TrustError};

/// A silent peer is asked so often whether it is there, and is gone when it does not answer for so long.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection and its handshake may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where a server is and how a client proves who it is.
pub struct Server {
    /// `https://10.0.0.1:6443`.
    pub url: String,
    pub trust: Trust,
    pub certificate_pem: Option<(Vec<u8>, Vec<u8>)>,
    pub token: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the kubeconfig cannot be read")]
    File(#[from] std::io::Error),
    #[error("the kubeconfig is no YAML")]
    Yaml(#[from] yaml::YamlError),
    #[error("the kubeconfig has no {0}; name a context that is there")]
    Missing(&'static str),
    #[error("the kubeconfig's {0} is no base64")]
    Base64(&'static str, #[source] base64::DecodeError),
    #[error("a certificate or key is no PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("the certificates cannot be used")]
    Tls(#[from] rustls::Error),
    #[error("{0:?} is not the URL of an HTTPS server")]
    Url(String),
    #[error("the token cannot stand in a header")]
    Token(#[from] http::header::InvalidHeaderValue),
}

/// The transport over the network.
pub struct Https {
    host: String,
    port: u16,
    name: ServerName<'static>,
    authority: HeaderValue,
    authorization: Option<HeaderValue>,
    /// Replaced when the client's certificate is renewed.
    tls: RwLock<TlsConnector>,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
    tasks: Tasks,
}

impl Server {
    /// The server and user of a kubeconfig's current context.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, ConfigError> {
        let config = yaml::parse(&std::fs::read(path)?)?.value;
        let context = named(&config, "contexts", "context", config.str_at(&["current-context"]))?;
        let cluster = named(&config, "clusters", "cluster", context.str_at(&["cluster"]))?;
        let user = named(&config, "users", "user", context.str_at(&["user"]))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let authorities_pem = data(cluster, "certificate-authority", "certificate-authority-data", directory)?
            .ok_or(ConfigError::Missing("certificate-authority"))?;
        let certificate = data(user, "client-certificate", "client-certificate-data", directory)?;
        let key = data(user, "client-key", "client-key-data", directory)?;
        let token = user.str_at(&["token"]);
        Ok(Self {
            url: cluster.str_at(&["server"]).to_owned(),
            trust: Trust::Authorities(authorities_pem),
            certificate_pem: certificate.zip(key),
            token: (!token.is_empty()).then(|| token.to_owned()),
        })
    }
}

fn named<'a>(config: &'a Value, list: &'static str, of: &'static str, name: &str) -> Result<&'a Value, ConfigError> {
    let entries = config.get(list).and_then(Value::as_array).unwrap_or_default();
    let entry = entries.iter().find(|entry| entry.str_at(&["name"]) == name);
    entry.and_then(|entry| entry.get(of)).ok_or(ConfigError::Missing(of))
}

/// A file that the kubeconfig names or holds.
fn data(of: &Value, file: &str, inline: &'static str, directory: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    match (of.str_at(&[inline]), of.str_at(&[file])) {
        ("", "") => Ok(None),
        ("", file) => Ok(Some(std::fs::read(directory.join(file))?)),
        (text, _) => STANDARD.decode(text).map(Some).map_err(|error| ConfigError::Base64(inline, error)),
    }
}

impl Https {
    pub fn new(server: &Server, tasks: Tasks) -> Result<Self, ConfigError> {
        let refused = || ConfigError::Url(server.url.clone());
        let url: Uri = server.url.parse().map_err(|_| refused())?;
        let authority = url.authority().filter(|_| url.scheme_str() == Some("https")).ok_or_else(refused)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let authorization = match &server.token {
            Some(token) => {
                let mut header = HeaderValue::from_str(&format!("Bearer {token}"))?;
                header.set_sensitive(true);
                Some(header)
            }
            None => None,
        };
        Ok(Self {
            port: authority.port_u16().unwrap_or(443),
            name: ServerName::try_from(host.clone()).map_err(|_| refused())?,
            host,
            authority: HeaderValue::from_str(authority.as_str())?,
            authorization,
            tls: RwLock::new(TlsConnector::from(Arc::new(tls(server)?))),
            connection: Mutex::default(),
            tasks,
        })
    }

    /// Takes a renewed certificate for every request from now on; what is under way ends over the old connection.
    pub async fn renew(&self, server: &Server) -> Result<(), ConfigError> {
        let renewed = TlsConnector::from(Arc::new(tls(server)?));
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        *self.connection.lock().await = None;
        Ok(())
    }

    async fn open(&self) -> Result<TlsStream<TcpStream>, TransportError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port));
        let stream = stream.await.map_err(|error| TransportError::new("no connection to the server", error))?;
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = tls.connect(self.name.clone(), stream);
        stream.await.map_err(|error| TransportError::new("no TLS session with the server", error))
    }

    /// The connection there is, or a new one.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let opened = tokio::time::timeout(CONNECT_LIMIT, self.open()).await;
        let stream = opened.map_err(|error| TransportError::new("no answer from the server in time", error))??;
        let mut builder = http2::Builder::new(Spawn(self.tasks.clone()));
        builder.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_LIMIT);
        let (sender, driver) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| TransportError::new("the server does not speak HTTP/2", error))?;
        let mut stopped = self.tasks.stopped();
        self.tasks.spawn("connection", async move {
            tokio::select! {
                () = stopped.wait() => {}
                ended = driver => if let Err(error) = ended {
                    tracing::debug!(error = %Chain(&error), "the connection to the server ended");
                }
            }
        });
        Ok(connection.insert(sender).clone())
    }
}

impl Transport for Https {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            let target = Uri::builder().scheme("https").authority(self.authority.as_bytes()).path_and_query(path);
            head.uri = target.build().map_err(|error| TransportError::new("the path cannot be asked", error))?;
            if let Some(authorization) = &self.authorization {
                head.headers.insert(http::header::AUTHORIZATION, authorization.clone());
            }
            let mut connection = self.connection().await?;
            let answer = connection.send_request(http::Request::from_parts(head, Full::new(body)));
            let answer = answer.await.map_err(|error| TransportError::new("no answer from the server", error))?;
            Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        })
    }
}

/// Runs HTTP/2's own futures in the family.
#[derive(Clone)]
struct Spawn(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        let mut stopped = self.0.stopped();
        self.0.spawn("http2", async move {
            tokio::select! {
                () = stopped.wait() => {}
                _ = future => {}
            }
        });
    }
}

fn tls(server: &Server) -> Result<ClientConfig, ConfigError> {
    let builder = server.trust.config()?;
    let mut config = match &server.certificate_pem {
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
