//! Where a registry is, and which other places it may send us to.

use std::net::IpAddr;

use http::header::LOCATION;
use http::{HeaderMap, Uri};

/// A registry's place on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    url: String,
}

impl Address {
    /// HTTPS, except on this machine itself and where the node was told otherwise.
    pub(super) fn of(registry: &str, plain: bool) -> Self {
        let host = match registry {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let scheme = if plain || is_loopback(host_of(host)) { "http" } else { "https" };
        Self { url: format!("{scheme}://{host}") }
    }

    /// Another node of the cluster.
    pub(super) fn of_peer(host: &str, port: u16) -> Self {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Self { url: format!("https://{host}:{port}") }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Encrypted, or on this machine.
pub(super) fn is_safe(uri: &Uri) -> bool {
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => is_loopback(host),
        _ => false,
    }
}

pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

/// Where an answer sends us; never from an encrypted place to an open one.
pub(super) fn redirect(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let to = headers.get(LOCATION)?.to_str().ok()?;
    let uri: Uri = if to.starts_with('/') && !to.starts_with("//") {
        format!("{}://{}{to}", from.scheme_str()?, from.authority()?).parse().ok()?
    } else {
        to.parse().ok()?
    };
    let allowed = is_safe(&uri) || (uri.scheme_str() == Some("http") && from.scheme_str() == Some("http"));
    allowed.then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_in_the_open() {
        let url = |registry: &str| Address::of(registry, false).url;
        assert_eq!(url("docker.io"), "https://registry-1.docker.io");
        assert_eq!(url("registry.example:5000"), "https://registry.example:5000");
        assert_eq!(url("10.0.0.1:5000"), "https://10.0.0.1:5000");
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert_eq!(url(local), format!("http://{local}"));
        }
        assert_eq!(Address::of("10.0.0.1:5000", true).url, "http://10.0.0.1:5000");
    }

    #[test]
    fn redirects_stay_encrypted() {
        let to = |from: &'static str, location: &'static str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().expect("a value"))]);
            redirect(&Uri::from_static(from), &headers).map(|uri| uri.to_string())
        };
        assert_eq!(to("https://a/v2/x", "/y?z").as_deref(), Some("https://a/y?z"));
        assert_eq!(to("https://a/v2/x", "https://b/y").as_deref(), Some("https://b/y"));
        assert_eq!((to("https://a/v2/x", "http://b/y"), to("https://a/v2/x", "file:///etc/passwd")), (None, None));
        assert_eq!(to("http://10.0.0.1/x", "http://b/y").as_deref(), Some("http://b/y"));
    }
}
