//! Names of images, with Docker's rules of completion: `nginx` is `docker.io/library/nginx:latest`. The grammar is that of
//! the distribution project's reference package, which the kubelet uses too.

use std::fmt;

use crate::ImageError;
use crate::digest::Digest;

/// Where images come from whose name has no host.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The folder of images there that have no owner.
const DEFAULT_FOLDER: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// Bytes of a repository's path; longer ones are refused by registries.
const PATH_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// A full name: registry and path, and which of the images there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host, with a port where it has one.
    registry: String,
    path: String,
    /// As it was written; completed only when neither tag nor digest was.
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads and completes a name as users write it.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let refused = |problem| ImageError::Reference { reference: text.to_owned(), problem };
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refused("a name of 64 hexadecimal digits looks like an image's id"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| refused("invalid digest format"))?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refused("invalid tag format"));
        }
        let (registry, path) = complete(name);
        check_name(&registry, &path).map_err(refused)?;
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Self { registry, path, tag: tag.map(str::to_owned), digest })
    }

    /// `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and path, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// What a registry is asked for: the digest where there is one, the tag otherwise.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => unreachable!("parse() completes the tag"),
        }
    }

    /// The full reference by tag, unless a digest says which image is meant.
    pub fn tagged(&self) -> Option<String> {
        let tag = self.tag.as_ref().filter(|_| self.digest.is_none())?;
        Some(format!("{}:{tag}", self.name()))
    }

    /// The full reference of a manifest in this repository.
    pub fn with_digest(&self, digest: Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// A colon after the last slash begins the tag; before it, a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first part is a host when it looks like one: a dot, a port, `localhost`, or a capital letter, which no path has.
fn complete(name: &str) -> (String, String) {
    let is_host =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase());
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !path.contains('/') {
        return (registry.to_owned(), format!("{DEFAULT_FOLDER}/{path}"));
    }
    (registry.to_owned(), path.to_owned())
}

fn check_name(registry: &str, path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("repository name must be lowercase");
    }
    if !is_host(registry) || !path.split('/').all(is_path_part) {
        return Err("invalid reference format");
    }
    if path.len() > PATH_BYTES_MAX {
        return Err("repository name must not be more than 255 characters");
    }
    Ok(())
}

fn is_tag(tag: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    tag.len() <= TAG_BYTES_MAX && tag.bytes().all(inner) && tag.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Letters and digits, separated by one dot, one or two underscores, or any number of hyphens.
fn is_path_part(part: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(letter) || !part.ends_with(letter) {
        return false;
    }
    let mut separators = part.split(letter).filter(|separator| !separator.is_empty());
    separators.all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

/// A host name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => match rest.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None => return rest.is_empty(),
        },
        Some(_) => return false,
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok()) && host.is_none_or(|host| host.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Reference::parse(text).expect(text).to_string(), expected);
    }

    #[track_caller]
    fn refuse(text: &str, expected: &str) {
        match Reference::parse(text) {
            Err(ImageError::Reference { problem, .. }) => assert_eq!(problem, expected, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn short_names_are_completed() {
        let digest = Digest::of(b"x");
        check("nginx", "docker.io/library/nginx:latest");
        check("nginx:1.27", "docker.io/library/nginx:1.27");
        check("shop/www", "docker.io/shop/www:latest");
        check("index.docker.io/nginx", "docker.io/library/nginx:latest");
        check("docker.io/nginx", "docker.io/library/nginx:latest");
        check("localhost/a", "localhost/a:latest");
        check("localhost:5000/a:b", "localhost:5000/a:b");
        check("registry.example/a/b/c:v1", "registry.example/a/b/c:v1");
        check("Host/a", "Host/a:latest");
        check("[::1]:5000/a", "[::1]:5000/a:latest");
        check(&format!("a@{digest}"), &format!("docker.io/library/a@{digest}"));
        check(&format!("a:1@{digest}"), &format!("docker.io/library/a:1@{digest}"));
        check("a__b/c--d.e", "docker.io/a__b/c--d.e:latest");
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let digest = Digest::of(b"x");
        let both = Reference::parse(&format!("a:1@{digest}")).expect("well formed");
        assert_eq!((both.version(), both.tagged()), (digest.to_string(), None));
        assert_eq!(both.with_digest(digest), format!("docker.io/library/a@{digest}"));
    }

    #[test]
    fn malformed_names_are_refused() {
        refuse("", "invalid reference format");
        refuse("Nginx", "repository name must be lowercase");
        refuse("a/B:c", "repository name must be lowercase");
        refuse("a//b", "invalid reference format");
        refuse("a/", "invalid reference format");
        refuse("-a", "invalid reference format");
        refuse("a___b", "invalid reference format");
        refuse("a._b", "invalid reference format");
        refuse("a b", "invalid reference format");
        refuse("../a", "invalid reference format");
        refuse("h.example:99999/a", "invalid reference format");
        refuse("a:", "invalid tag format");
        refuse("a:.b", "invalid tag format");
        refuse(&format!("a:{}", "t".repeat(129)), "invalid tag format");
        refuse(&"a".repeat(256), "repository name must not be more than 255 characters");
        refuse("a@sha256:12", "invalid digest format");
        refuse(&Digest::of(b"").hex(), "a name of 64 hexadecimal digits looks like an image's id");
    }
}
