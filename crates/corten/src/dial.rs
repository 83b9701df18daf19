//! How the API server reaches nodes and pods: nodes over TLS that proves both sides, pods as they are.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use corten_builtin::connect::{BoxStream, Dial};
use corten_client::trust::{Trust, TrustError};
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection and its handshake may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What the API server shows to nodes, and who vouches for them.
pub struct NodeClient {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    pub root: CertificateDer<'static>,
}

/// Connections over the network.
pub struct Connections {
    /// Replaced when the certificate is renewed.
    nodes: RwLock<TlsConnector>,
    /// A pod's certificate is the pod's affair: the proxies of the API promise a connection, not whose it is.
    pods: TlsConnector,
    clock: Clock,
}

/// Certificates of nodes are judged by the clock that they are made by.
#[derive(Debug)]
struct ByClock(Clock);

impl TimeProvider for ByClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.wall_s().unsigned_abs())))
    }
}

impl Connections {
    pub fn new(client: NodeClient, clock: Clock) -> Result<Self, TrustError> {
        let pods = Trust::Anybody.config()?.with_no_client_auth();
        let nodes = RwLock::new(connector(client, &clock)?);
        Ok(Self { nodes, pods: TlsConnector::from(Arc::new(pods)), clock })
    }

    /// Takes a renewed certificate for every connection from now on.
    pub fn replace(&self, client: NodeClient) -> Result<(), TrustError> {
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = connector(client, &self.clock)?;
        Ok(())
    }

    async fn open(&self, host: &str, port: u16, tls: Option<TlsConnector>) -> io::Result<BoxStream> {
        let connect = async {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = tls else { return Ok(Box::new(stream) as BoxStream) };
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Ok(Box::new(tls.connect(name, stream).await?) as BoxStream)
        };
        tokio::time::timeout(CONNECT_LIMIT, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Dial for Connections {
    fn node<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        let tls = self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(self.open(host, port, Some(tls)))
    }

    fn pod<'a>(&'a self, host: &'a str, port: u16, tls: bool) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(self.open(host, port, tls.then(|| self.pods.clone())))
    }
}

fn connector(client: NodeClient, clock: &Clock) -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(client.root)?;
    let time = Arc::new(ByClock(clock.clone()));
    let config = ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), time)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.certificate], client.key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}
