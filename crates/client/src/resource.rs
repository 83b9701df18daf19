//! The name of a resource, and the paths of its objects.

use std::fmt;

use corten_apimachinery::kind::api_version;
use corten_apimachinery::value::Str;

/// Group, version and plural name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    pub group: Str,
    pub version: Str,
    pub plural: Str,
}

impl Resource {
    /// A resource of a fixed name. The core group is `""`.
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group: Str::const_new(group), version: Str::const_new(version), plural: Str::const_new(plural) }
    }

    pub fn api_version(&self) -> Str {
        api_version(&self.group, &self.version)
    }

    /// The path of a collection (without a name), an object, or a subresource; parts that are empty are left out.
    pub fn path(&self, namespace: &str, name: &str, subresource: &str) -> String {
        let mut path = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        push(&mut path, &self.version);
        if !namespace.is_empty() {
            path.push_str("/namespaces");
            push(&mut path, namespace);
        }
        push(&mut path, &self.plural);
        for part in [name, subresource].into_iter().filter(|part| !part.is_empty()) {
            push(&mut path, part);
        }
        path
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plural)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

fn push(path: &mut String, segment: &str) {
    path.push('/');
    percent_encode(segment, path);
}

/// Appends text with everything encoded that is not unreserved (RFC 3986 § 2.3).
pub(crate) fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let pods = Resource::new("", "v1", "pods");
        assert_eq!(pods.path("", "", ""), "/api/v1/pods");
        assert_eq!(pods.path("shop", "a", "status"), "/api/v1/namespaces/shop/pods/a/status");
        let roles = Resource::new("rbac.authorization.k8s.io", "v1", "clusterroles");
        assert_eq!(roles.path("", "system:a/b", ""), "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Aa%2Fb");
        assert_eq!(roles.to_string(), "clusterroles.rbac.authorization.k8s.io");
    }
}
