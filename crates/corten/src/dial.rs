//! How the API server reaches nodes and pods: nodes over TLS that proves both sides, pods as they are.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use corten_builtin::connect::{BoxStream, Dial};
use corten_client::trust::{Trust, TrustError};
use futures_core::future::BoxFuture;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
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
}

impl Connections {
    pub fn new(client: NodeClient) -> Result<Self, TrustError> {
        let pods = Trust::Anybody.config()?.with_no_client_auth();
        Ok(Self { nodes: RwLock::new(connector(client)?), pods: TlsConnector::from(Arc::new(pods)) })
    }

    /// Takes a renewed certificate for every connection from now on.
    pub fn replace(&self, client: NodeClient) -> Result<(), TrustError> {
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = connector(client)?;
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

fn connector(client: NodeClient) -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(client.root)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.certificate], client.key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}
