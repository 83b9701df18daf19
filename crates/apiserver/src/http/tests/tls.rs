//! Real sockets: certificates that are known, foreign, expired and absent; replacement; drain.

use std::sync::Arc;
use std::time::Duration;

use corten_stdx::task::Tasks;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::server;
use crate::http::server::{ConnectionLimits, Server};
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

/// Sends one request on a connection of its own; the status line's code, or why there was no connection.
async fn code(
    address: std::net::SocketAddr,
    server_ca: &Ca,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Result<(u16, String), String> {
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
    let mut stream =
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())?;
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
    let started = Server::start(vec![listener], tls.clone(), api, ConnectionLimits::default(), &tasks).unwrap();
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
