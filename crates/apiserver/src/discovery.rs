//! What is served, for clients that ask: the legacy documents (`/api`, `/apis`, `/apis/G`, `/apis/G/V`) and the
//! aggregated one (`APIGroupDiscoveryList`, KEP-3352), all made from the kinds' records when those change.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use corten_apimachinery::kind::{KindInfo, Scope, Subresource, api_version};
use corten_apimachinery::value::{Map, Str, Value};
use corten_apimachinery::{json, value};

use crate::http::negotiate::Clause;
use crate::registry::KindSet;

const AGGREGATED_GROUP: &str = "apidiscovery.k8s.io";
const AGGREGATED_KIND: &str = "APIGroupDiscoveryList";

/// The documents of the last set of kinds that was asked for.
#[derive(Default)]
pub struct Discovery(Mutex<Option<Arc<Documents>>>);

/// All documents of one set of kinds.
pub struct Documents {
    of: Arc<KindSet>,
    groups: Vec<Group>,
    aggregated: [Aggregated; 4],
}

/// One aggregated document in one version.
struct Aggregated {
    path: &'static str,
    version: &'static str,
    document: Document,
}

/// Bytes and their entity tag.
#[derive(Clone, Debug)]
pub struct Document {
    pub bytes: Bytes,
    pub etag: String,
}

/// One API group: its versions, the preferred one first, with their kinds sorted by resource.
struct Group {
    name: Str,
    versions: Vec<(Str, Vec<Arc<KindInfo>>)>,
}

/// An aggregated form that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Legacy,
    /// `v2` or `v2beta1`.
    Aggregated(&'static str),
}

impl Form {
    /// Picks the form by an `Accept` header; `None`: 406.
    pub fn accepted(accept: &str) -> Option<Self> {
        if accept.is_empty() {
            return Some(Self::Legacy);
        }
        Clause::parse_all(accept).iter().find_map(|clause| {
            if !clause.matches("json") && !clause.matches("yaml") {
                return None;
            }
            if !clause.converts() {
                return Some(Self::Legacy);
            }
            let known = clause.parameter("g") == AGGREGATED_GROUP && clause.parameter("as") == AGGREGATED_KIND;
            match clause.parameter("v") {
                "v2" if known => Some(Self::Aggregated("v2")),
                "v2beta1" if known => Some(Self::Aggregated("v2beta1")),
                _ => None,
            }
        })
    }

    pub fn media_type(self) -> String {
        match self {
            Self::Legacy => "application/json".to_owned(),
            Self::Aggregated(version) => {
                format!("application/json;g={AGGREGATED_GROUP};v={version};as={AGGREGATED_KIND}")
            }
        }
    }
}

impl Document {
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let etag = format!("\"{}\"", hash(&bytes));
        Self { bytes, etag }
    }
}

/// SHA-512 in upper-case hex, as upstream's entity tags and OpenAPI hashes are.
pub(crate) fn hash(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA512, bytes).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

impl Discovery {
    /// The documents of these kinds, made at most once a set.
    pub fn of(&self, kinds: &Arc<KindSet>) -> Arc<Documents> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref().filter(|documents| Arc::ptr_eq(&documents.of, kinds)) {
            Some(documents) => documents.clone(),
            None => last.insert(Arc::new(Documents::new(kinds.clone()))).clone(),
        }
    }
}

impl Documents {
    fn new(of: Arc<KindSet>) -> Self {
        let groups = groups(&of);
        let aggregated = [("/api", "v2"), ("/api", "v2beta1"), ("/apis", "v2"), ("/apis", "v2beta1")];
        let aggregated = aggregated.map(|(path, version)| {
            let shown = groups.iter().filter(|group| group.name.is_empty() == (path == "/api"));
            let items: Vec<Value> = shown.map(Group::aggregated).collect();
            let list = value!({
                "kind": AGGREGATED_KIND, "apiVersion": (format!("{AGGREGATED_GROUP}/{version}")), "metadata": {},
                "items": items,
            });
            Aggregated { path, version, document: Document::new(line(&list)) }
        });
        Self { of, groups, aggregated }
    }

    /// `/api` or `/apis` in an aggregated form.
    pub fn aggregated(&self, path: &str, version: &str) -> Option<&Document> {
        let found = self.aggregated.iter().find(|own| own.path == path && own.version == version);
        found.map(|own| &own.document)
    }

    /// `/apis`.
    pub fn group_list(&self) -> Value {
        let groups: Vec<Value> = self.named().map(Group::legacy).collect();
        value!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// `/apis/G`.
    pub fn group(&self, name: &str) -> Option<Value> {
        let mut group = self.named().find(|group| group.name == name)?.legacy();
        let map = group.as_object_mut().expect("groups are objects");
        map.insert("kind", "APIGroup");
        map.insert("apiVersion", "v1");
        Some(group)
    }

    /// `/api`; the server's address is one that clients reach it at.
    pub fn versions(&self, server_address: &str) -> Value {
        let core = self.groups.iter().filter(|group| group.name.is_empty());
        let versions: Vec<Str> =
            core.flat_map(|group| group.versions.iter().map(|(version, _)| version.clone())).collect();
        value!({
            "kind": "APIVersions", "versions": versions,
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
        })
    }

    /// `/api/V` or `/apis/G/V`.
    pub fn resource_list(&self, group: &str, version: &str) -> Option<Value> {
        let group = self.groups.iter().find(|own| own.name == group)?;
        let (version, kinds) = group.versions.iter().find(|(own, _)| own == version)?;
        let mut resources: Vec<Value> = Vec::new();
        for kind in kinds {
            resources.push(legacy_resource(kind, &self.of));
            let mut subresources: Vec<&Subresource> = kind.subresources.iter().collect();
            subresources.sort_by(|a, b| a.name.cmp(&b.name));
            resources.extend(subresources.into_iter().map(|sub| legacy_subresource(kind, sub)));
        }
        let group_version = api_version(&group.name, version);
        let mut list = value!({"kind": "APIResourceList"});
        let map = list.as_object_mut().expect("made an object above");
        if !group.name.is_empty() {
            map.insert("apiVersion", "v1");
        }
        map.insert("groupVersion", group_version);
        map.insert("resources", resources);
        Some(list)
    }

    /// Paths of groups and versions, for the index.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = vec!["/api".to_owned(), "/apis".to_owned()];
        for group in &self.groups {
            let root = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
            if !group.name.is_empty() {
                paths.push(root.clone());
            }
            paths.extend(group.versions.iter().map(|(version, _)| format!("{root}/{version}")));
        }
        paths
    }

    pub fn serves(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own.name == group)
    }

    fn named(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| !group.name.is_empty())
    }
}

fn line(value: &Value) -> Vec<u8> {
    let mut bytes = json::to_vec(value);
    bytes.push(b'\n');
    bytes
}

/// The served kinds by group, in the order the groups were installed.
fn groups(kinds: &KindSet) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.is_resource()) {
        let index = groups.iter().position(|group| group.name == kind.gvk.group).unwrap_or_else(|| {
            groups.push(Group { name: kind.gvk.group.clone(), versions: Vec::new() });
            groups.len() - 1
        });
        let versions = &mut groups[index].versions;
        match versions.iter_mut().find(|(version, _)| *version == kind.gvk.version) {
            Some((_, kinds)) => kinds.push(kind.clone()),
            None => versions.push((kind.gvk.version.clone(), vec![kind.clone()])),
        }
    }
    for group in &mut groups {
        group.versions.sort_by(|(a, _), (b, _)| version_rank(b).cmp(&version_rank(a)).then(a.cmp(b)));
        for (_, kinds) in &mut group.versions {
            kinds.sort_by(|a, b| a.plural.cmp(&b.plural));
        }
    }
    groups
}

/// Order of versions (`v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > `other`).
pub(crate) fn version_rank(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest[..digits].parse().ok()?;
        let (stage, number) = match &rest[digits..] {
            "" => return Some((3, major, 0)),
            tail if tail.starts_with("beta") => (2, &tail[4..]),
            tail if tail.starts_with("alpha") => (1, &tail[5..]),
            _ => return None,
        };
        Some((stage, major, number.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

impl Group {
    fn legacy(&self) -> Value {
        let version =
            |version: &Str| value!({"groupVersion": (api_version(&self.name, version)), "version": (version.clone())});
        let versions: Vec<Value> = self.versions.iter().map(|(own, _)| version(own)).collect();
        let preferred = versions.first().cloned().unwrap_or_default();
        value!({"name": (self.name.clone()), "versions": versions, "preferredVersion": preferred})
    }

    fn aggregated(&self) -> Value {
        let versions = self.versions.iter().map(|(version, kinds)| {
            let resources: Vec<Value> = kinds.iter().map(|kind| aggregated_resource(kind)).collect();
            value!({"version": (version.clone()), "resources": resources, "freshness": "Current"})
        });
        let versions: Vec<Value> = versions.collect();
        let mut metadata = Map::new();
        if !self.name.is_empty() {
            metadata.insert("name", self.name.clone());
        }
        value!({"metadata": metadata, "versions": versions})
    }
}

fn sorted(texts: &[Str]) -> Vec<Str> {
    let mut texts = texts.to_vec();
    texts.sort_unstable();
    texts
}

fn legacy_resource(kind: &KindInfo, kinds: &KindSet) -> Value {
    let mut resource = value!({
        "name": (kind.plural.clone()), "singularName": (kind.singular.clone()), "namespaced": (kind.namespaced()),
        "kind": (kind.gvk.kind.clone()), "verbs": (sorted(&kind.verbs)),
    });
    let map = resource.as_object_mut().expect("made an object above");
    insert_names(kind, map);
    if !kind.storage_prefix.is_empty() {
        let stored = kinds.home(&kind.storage_prefix).map_or(&kind.gvk, |home| &home.gvk);
        let identity = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
        let digest = digest::digest(&digest::SHA256, identity.as_bytes());
        map.insert("storageVersionHash", STANDARD.encode(&digest.as_ref()[..8]));
    }
    resource
}

fn insert_names(kind: &KindInfo, map: &mut Map) {
    if !kind.short_names.is_empty() {
        map.insert("shortNames", kind.short_names.clone());
    }
    if !kind.categories.is_empty() {
        map.insert("categories", kind.categories.clone());
    }
}

fn legacy_subresource(kind: &KindInfo, sub: &Subresource) -> Value {
    let mut resource = value!({
        "name": (format!("{}/{}", kind.plural, sub.name)), "singularName": "", "namespaced": (kind.namespaced()),
    });
    let map = resource.as_object_mut().expect("made an object above");
    if (&sub.gvk.group, &sub.gvk.version) != (&kind.gvk.group, &kind.gvk.version) {
        map.insert("group", sub.gvk.group.clone());
        map.insert("version", sub.gvk.version.clone());
    }
    map.insert("kind", sub.gvk.kind.clone());
    map.insert("verbs", sorted(&sub.verbs));
    resource
}

fn aggregated_resource(kind: &KindInfo) -> Value {
    let scope = if kind.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" };
    let own_kind = value!({"group": "", "version": "", "kind": (kind.gvk.kind.clone())});
    let mut resource = value!({
        "resource": (kind.plural.clone()), "responseKind": own_kind, "scope": scope,
        "singularResource": (kind.singular.clone()), "verbs": (sorted(&kind.verbs)),
    });
    let map = resource.as_object_mut().expect("made an object above");
    insert_names(kind, map);
    let mut subresources: Vec<&Subresource> = kind.subresources.iter().collect();
    subresources.sort_by(|a, b| a.name.cmp(&b.name));
    let subresources = subresources.into_iter().map(|sub| {
        let own = (&sub.gvk.group, &sub.gvk.version) == (&kind.gvk.group, &kind.gvk.version);
        let (group, version) =
            if own { (Str::default(), Str::default()) } else { (sub.gvk.group.clone(), sub.gvk.version.clone()) };
        let response_kind = value!({"group": group, "version": version, "kind": (sub.gvk.kind.clone())});
        value!({"subresource": (sub.name.clone()), "responseKind": response_kind, "verbs": (sorted(&sub.verbs))})
    });
    let subresources: Vec<Value> = subresources.collect();
    if !subresources.is_empty() {
        map.insert("subresources", subresources);
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let client_go =
            format!("{v2},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json");
        assert_eq!(Form::accepted(&client_go), Some(Form::Aggregated("v2")));
        assert_eq!(Form::Aggregated("v2").media_type(), v2);
        assert_eq!(Form::accepted(""), Some(Form::Legacy));
        assert_eq!(Form::accepted("*/*"), Some(Form::Legacy));
        assert_eq!(Form::accepted("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList"), None);
        assert_eq!(Form::accepted("application/vnd.kubernetes.protobuf"), None);
    }

    #[test]
    fn versions_in_order() {
        let mut versions = ["v1beta1", "v10", "other", "v1alpha2", "v2", "v1", "v1beta10"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta1", "v1alpha2", "other"]);
    }
}
