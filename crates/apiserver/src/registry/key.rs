//! Where objects stand in the store: `<storage prefix>/<namespace>/<name>`, as upstream lays etcd out.

use bytes::Bytes;
use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::value::Str;

/// The key below a kind's prefix, which is also its key in the cache: `namespace/name`, or `name`.
pub(crate) fn relative(kind: &KindInfo, namespace: &str, name: &str) -> Str {
    if kind.namespaced() { compact_str::format_compact!("{namespace}/{name}") } else { name.into() }
}

/// The whole key of an object.
pub(crate) fn absolute(kind: &KindInfo, namespace: &str, name: &str) -> Bytes {
    absolute_of(&kind.storage_prefix, &relative(kind, namespace, name))
}

pub(crate) fn absolute_of(storage_prefix: &str, relative: &str) -> Bytes {
    let mut key = Vec::with_capacity(storage_prefix.len() + 1 + relative.len());
    key.extend_from_slice(storage_prefix.as_bytes());
    key.push(b'/');
    key.extend_from_slice(relative.as_bytes());
    key.into()
}

/// The relative keys of one namespace start with it; empty for all namespaces and cluster-scoped kinds.
pub(crate) fn namespace_prefix(kind: &KindInfo, namespace: &str) -> Str {
    if kind.namespaced() && !namespace.is_empty() {
        compact_str::format_compact!("{namespace}/")
    } else {
        Str::default()
    }
}

/// Whether a name from a URL or body can be one segment of a key.
pub(crate) fn is_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}
