//! TLS towards clients.

use std::net::TcpStream;
use std::sync::Arc;

use corten_proxy::config::Certificate;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::edge::{Client, all_to, settings, start};
use crate::origin::Origin;

fn certificate(host: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    Certificate { hosts: vec![host.to_owned()], chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
}

fn connect(
    address: std::net::SocketAddr,
    host: &str,
    trusted: &Certificate,
) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.chain_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let tls = ClientConnection::new(config, name).unwrap();
    Client::over(StreamOwned::new(tls, TcpStream::connect(address).unwrap()))
}

#[test]
fn each_host_has_its_certificate() {
    let (origin, address) = Origin::start("o");
    let (a, b) = (certificate("a.test"), certificate("b.test"));
    let mut config = all_to(&[address]);
    config.certificates = vec![a.clone(), b.clone()];
    let running = start(&config, settings(), true);
    for (host, trusted) in [("a.test", &a), ("b.test", &b)] {
        let mut client = connect(running.address, host, trusted);
        for _ in 0..3 {
            assert_eq!(client.ask("GET", "/").text(), "o / 0");
        }
    }
    assert!(origin.taken()[0].head.contains("X-Forwarded-Proto: https\r\n"));
    // A new certificate is served to new connections.
    let other = certificate("a.test");
    config.certificates = vec![other.clone()];
    running.edge.apply(&config);
    assert_eq!(connect(running.address, "a.test", &other).ask("GET", "/").status, 200);
}

#[test]
fn plain_requests_are_sent_on_to_tls() {
    let (origin, address) = Origin::start("o");
    let mut config = all_to(&[address]);
    config.https_port = 8443;
    config.hosts[0].routes[0].settings.redirect_to_https = true;
    let running = start(&config, settings(), false);
    let mut client = Client::new(running.address);
    let answer = client.ask("GET", "/x?y");
    assert_eq!(answer.status, 308);
    assert!(answer.head.contains("\r\nLocation: https://a:8443/x?y\r\n"), "{}", answer.head);
    assert_eq!(client.ask("GET", "/").status, 308);
    assert!(origin.taken().is_empty());
}
