//! The administrator's kubeconfig, `D/admin.kubeconfig`: certificates inside, so that the file can be copied.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Leaf;
use crate::reach::from_here;

/// The file's text.
pub fn text(server: &str, authority_pem: &str, client: &Leaf) -> String {
    let [authority, certificate, key] =
        [authority_pem, &client.certificate_pem, &client.key_pem].map(|pem| STANDARD.encode(pem));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: corten
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: kubernetes-admin@corten
  context:
    cluster: corten
    user: kubernetes-admin
current-context: kubernetes-admin@corten
"
    )
}

/// Where this server's own clients reach an API that listens there.
pub fn server_url(listening: SocketAddr) -> String {
    format!("https://{}", SocketAddr::new(from_here(listening.ip()), listening.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_reached_where_it_listens() {
        let check = |listening: &str, expect: &str| {
            assert_eq!(server_url(listening.parse().expect("an address")), expect);
        };
        check("0.0.0.0:6443", "https://127.0.0.1:6443");
        check("[::]:6443", "https://[::1]:6443");
        check("10.0.0.7:443", "https://10.0.0.7:443");
    }
}
