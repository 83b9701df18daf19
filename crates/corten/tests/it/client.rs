//! A client that knows a kubeconfig and nothing else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value::Value;
use corten_apimachinery::{json, yaml};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) struct Client {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Client {
    pub(crate) fn new(kubeconfig: &Path) -> Self {
        Self::with(kubeconfig, true)
    }

    /// Without the certificate that proves who asks.
    pub(crate) fn anonymous(kubeconfig: &Path) -> Self {
        Self::with(kubeconfig, false)
    }

    fn with(kubeconfig: &Path, certificate: bool) -> Self {
        let text = std::fs::read(kubeconfig).expect("a kubeconfig");
        let config = yaml::parse(&text).expect("YAML").value;
        let first = |list: &str, of: &str| {
            config.get(list).and_then(Value::as_array).expect(list)[0].get(of).expect(of).clone()
        };
        let (cluster, user) = (first("clusters", "cluster"), first("users", "user"));
        let pem = |of: &Value, field: &str| STANDARD.decode(of.str_at(&[field])).expect("base64");
        let mut roots = RootCertStore::empty();
        let authority = pem(&cluster, "certificate-authority-data");
        roots.add(CertificateDer::from_pem_slice(&authority).expect("PEM")).expect("a CA");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let tls = if certificate {
            let chain = CertificateDer::from_pem_slice(&pem(&user, "client-certificate-data")).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(&pem(&user, "client-key-data")).expect("PEM");
            builder.with_client_auth_cert(vec![chain], key).expect("a pair")
        } else {
            builder.with_no_client_auth()
        };
        let server = cluster.str_at(&["server"]).strip_prefix("https://").expect("TLS");
        Self { address: server.parse().expect("an address"), tls: TlsConnector::from(Arc::new(tls)) }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, Bytes::new(), || ()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> u16 {
        self.send("DELETE", path, Bytes::new(), || ()).await.0
    }

    /// A merge patch.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> (u16, Value) {
        self.send("PATCH", path, json::to_vec(patch).into(), || ()).await
    }

    /// Tells when the answer has begun, and reads on to its end.
    pub(crate) async fn stream(&self, path: &str, begun: impl FnOnce()) -> u16 {
        self.send("GET", path, Bytes::new(), begun).await.0
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> (u16, Value) {
        self.send("POST", path, json::to_vec(object).into(), || ()).await
    }

    async fn send(&self, method: &str, path: &str, body: Bytes, begun: impl FnOnce()) -> (u16, Value) {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.tls.connect(name, stream).await.expect("TLS");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        let request = http::Request::builder().method(method).uri(path).header("host", "kubernetes");
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = request.header("content-type", media).body(Full::new(body)).expect("a request");
        let exchange = async move {
            let response = sender.send_request(request).await.expect("an answer");
            begun();
            let code = response.status().as_u16();
            (code, response.into_body().collect().await.expect("a body").to_bytes())
        };
        // The connection moves the bytes, and ends after the exchange has dropped its sender.
        let ((code, bytes), ended) = tokio::join!(exchange, connection);
        ended.expect("a whole exchange");
        (code, json::parse(&bytes).map_or(Value::Null, |parsed| parsed.value))
    }
}
