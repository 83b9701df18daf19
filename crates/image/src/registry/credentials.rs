//! Which credentials are for which image. The rules are the kubelet's: a secret may name a host, a port, a part of the path, and
//! hosts by wildcard; the most specific come first; Docker Hub has a name of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::Credentials;
use crate::reference::Reference;

/// Under which Docker keeps those of its own registry.
const DOCKER_HUB: &str = "index.docker.io";

/// Those for an image, in the order in which they are tried.
pub(crate) fn fitting(all: &[Credentials], reference: &Reference) -> Vec<Credentials> {
    let mut keyed: Vec<(String, &Credentials)> = all.iter().map(|one| (key(&one.registry), one)).collect();
    // Stable, so that those of one key stay in their order.
    keyed.sort_by(|(a, _), (b, _)| b.cmp(a));
    let name = reference.name();
    let of = |fits: &dyn Fn(&str) -> bool| -> Vec<Credentials> {
        keyed.iter().filter(|(key, _)| fits(key)).map(|(_, one)| (*one).clone()).collect()
    };
    let found = of(&|key| matches(key, &name));
    if found.is_empty() && reference.registry() == "docker.io" {
        return of(&|key| key == DOCKER_HUB);
    }
    found
}

/// Host and path without the scheme; the API's version, which Docker writes, is no path.
fn key(registry: &str) -> String {
    let rest = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let (host, path) = split(rest);
    let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { &path[3..] } else { path };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

fn split(text: &str) -> (&str, &str) {
    text.find('/').map_or((text, ""), |at| text.split_at(at))
}

fn matches(pattern: &str, name: &str) -> bool {
    let ((pattern, prefix), (target, path)) = (split(pattern), split(name));
    let ((pattern, port), (target, target_port)) = (split_port(pattern), split_port(target));
    let (parts, targets): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), target.split('.').collect());
    port == target_port
        && path.starts_with(prefix)
        && parts.len() == targets.len()
        && parts.iter().zip(targets).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
}

fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    }
}

/// `*` is any text, `?` any character.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        ([b'?', rest @ ..], [_, text @ ..]) => glob(rest, text),
        ([first, rest @ ..], [c, text @ ..]) => first == c && glob(rest, text),
        _ => false,
    }
}

/// The header of RFC 7617.
pub(super) fn basic(credentials: &Credentials) -> HeaderValue {
    let both = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
    let mut header = HeaderValue::try_from(format!("Basic {both}")).expect("base64 stands in a header");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(registries: &[&str], image: &str, expected: &[&str]) {
        let one = |registry: &&str| Credentials { registry: (*registry).to_owned(), ..Credentials::default() };
        let all: Vec<Credentials> = registries.iter().map(one).collect();
        let found = fitting(&all, &Reference::parse(image).expect(image));
        let found: Vec<&str> = found.iter().map(|one| one.registry.as_str()).collect();
        assert_eq!(found, expected, "{image}");
    }

    #[test]
    fn the_most_specific_come_first() {
        let all = ["gcr.io", "https://gcr.io/team/app", "gcr.io/team", "quay.io", "http://gcr.io/v2/"];
        check(&all, "gcr.io/team/app/web", &["https://gcr.io/team/app", "gcr.io/team", "gcr.io", "http://gcr.io/v2/"]);
        check(&all, "gcr.io/other", &["gcr.io", "http://gcr.io/v2/"]);
        check(&all, "registry.example/a", &[]);
    }

    #[test]
    fn hosts_match_by_part_and_port() {
        check(&["*.azurecr.io", "*.*.io"], "team.azurecr.io/a", &["*.azurecr.io", "*.*.io"]);
        check(&["*.io"], "team.azurecr.io/a", &[]);
        check(&["prefix*.example.com"], "prefix-7.example.com/a", &["prefix*.example.com"]);
        check(&["host.example:5000"], "host.example/a", &[]);
        check(&["host.example", "*.example:5000"], "host.example:5000/a", &["*.example:5000"]);
    }

    #[test]
    fn docker_hub_has_its_own_name() {
        check(&["https://index.docker.io/v1/"], "nginx", &["https://index.docker.io/v1/"]);
        check(&["https://index.docker.io/v1/", "docker.io"], "nginx", &["docker.io"]);
        check(&["https://index.docker.io/v1/"], "quay.io/a", &[]);
    }
}
