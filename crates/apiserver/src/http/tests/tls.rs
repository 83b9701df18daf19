//! Real sockets: certificates that are known, foreign, expired and absent; replacement; drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_stdx::task::Tasks;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::server;
use crate::http::server::{ConnectionLimits, Door, Server};
use crate::http::tls::{Tls, TlsMaterial};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(
    ca: &Ca,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    not_after: i32,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
    let certificate = params.signed_by(&key, ca).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn material(server_ca: &Ca, client_ca: &Ca) -> TlsMaterial {
    let (certificate, key) = leaf(server_ca, "localhost", ExtendedKeyUsagePurpose::ServerAuth, 2090);
    TlsMaterial { chain: vec![certificate], key, client_roots: vec![client_ca.der().clone()] }
}

/// A TLS connection to the server, or why there was none.
async fn connect(
    address: SocketAddr,
    server_ca: &Ca,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(server_ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())
}

/// Sends one request on a connection of its own; the status line's code and the whole answer.
async fn code(
    address: SocketAddr,
    server_ca: &Ca,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Result<(u16, String), String> {
    let mut stream = connect(address, server_ca, identity).await?;
    let request = "GET /apis/test.corten.dev/v1/gadgets HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or_else(|| format!("no status line in {text:?}"))?, text))
}

#[tokio::test]
async fn certificates_prove_identities() {
    let (server_ca, client_ca) = (ca(), ca());
    let (api, bench) = server();
    let tls = Arc::new(Tls::new(material(&server_ca, &client_ca), bench.clock.clone()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = Tasks::new();
    let started =
        Server::start(vec![Door::to_all(listener)], tls.clone(), api, ConnectionLimits::default(), &tasks).unwrap();
    let address = started.addresses()[0];
    let client = |ca: &Ca, not_after| Some(leaf(ca, "ann", ExtendedKeyUsagePurpose::ClientAuth, not_after));

    let (anonymous, text) = code(address, &server_ca, None).await.unwrap();
    assert_eq!(anonymous, 200, "{text}");
    assert_eq!(code(address, &server_ca, client(&client_ca, 2090)).await.unwrap().0, 200);
    let (expired, text) = code(address, &server_ca, client(&client_ca, 2021)).await.unwrap();
    assert_eq!(expired, 401, "{text}");
    assert!(text.contains(r#""message":"Unauthorized""#), "{text}");
    assert_eq!(code(address, &server_ca, client(&ca(), 2090)).await.unwrap().0, 401);

    let renewed = ca();
    tls.replace(material(&renewed, &client_ca)).unwrap();
    assert_eq!(code(address, &renewed, None).await.unwrap().0, 200);
    assert!(code(address, &server_ca, None).await.is_err(), "the old certificate is gone");

    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
    assert!(code(address, &renewed, None).await.is_err(), "nobody listens after the drain");
}

#[tokio::test]
async fn a_watch_over_a_websocket() {
    let (server_ca, client_ca) = (ca(), ca());
    let (api, bench) = server();
    let widgets = "/apis/test.corten.dev/v1/namespaces/n/widgets";
    let body = r#"{"kind":"Widget","apiVersion":"test.corten.dev/v1","metadata":{"name":"a"}}"#;
    assert_eq!(super::ask(&api, &format!("POST {widgets}"), &[], body).await.code, 201);
    let tls = Arc::new(Tls::new(material(&server_ca, &client_ca), bench.clock.clone()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let started =
        Server::start(vec![Door::to_all(listener)], tls, api, ConnectionLimits::default(), &bench.tasks).unwrap();

    let mut stream = connect(started.addresses()[0], &server_ca, None).await.unwrap();
    let request = format!(
        "GET {widgets}?watch=true HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"}\n") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
    let text = String::from_utf8_lossy(&seen);
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    // The key and its answer are RFC 6455's own example.
    assert!(text.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
    let frame = seen.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(seen[frame], 0x81, "one whole text message");
    assert!(text.contains(r#"{"type":"ADDED","object":{"kind":"Widget""#), "{text}");

    drop(stream);
    assert_eq!(bench.tasks.stop(Duration::from_secs(5)).await, 0);
}
