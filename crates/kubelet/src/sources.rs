//! What a pod takes from other objects: ConfigMaps and Secrets. Whoever reads the pod names them first
//! ([`references`]), the loop fetches them, and everything after that is pure.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value::Value;
use corten_client::Resource;

use crate::pod::{Container, Pod};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    pub fn resource(self) -> Resource {
        match self {
            Self::ConfigMap => Resource::new("", "v1", "configmaps"),
            Self::Secret => Resource::new("", "v1", "secrets"),
        }
    }

    /// As errors about a missing one name it.
    fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

pub type Reference = (Kind, String);

/// The objects of one namespace that were fetched; `None` where there is none.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub namespace: String,
    pub objects: BTreeMap<Reference, Option<Value>>,
}

/// Why a container or a volume cannot be made of what there is. The texts are upstream's.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    #[error("{word} {name:?} not found")]
    Missing { word: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { kind: &'static str, namespace: String, name: String, key: String },
    #[error("references non-existent config key: {0}")]
    Item(String),
    #[error("the data of {word} {name:?} is no base64")]
    Encoding { word: &'static str, name: String },
    #[error("{0}")]
    Field(String),
}

impl Sources {
    /// The object; `Ok(None)` for an optional one that is not there.
    pub fn object(&self, kind: Kind, name: &str, optional: bool) -> Result<Option<&Value>, SourceError> {
        let found = self.objects.get(&(kind, name.to_owned())).and_then(Option::as_ref);
        match found {
            None if !optional => Err(SourceError::Missing { word: kind.word(), name: name.to_owned() }),
            found => Ok(found),
        }
    }

    /// Everything in an object, by key.
    pub fn data(kind: Kind, object: &Value) -> Result<BTreeMap<String, Vec<u8>>, SourceError> {
        let mut data = BTreeMap::new();
        let fields: &[(&str, bool)] = match kind {
            Kind::ConfigMap => &[("data", false), ("binaryData", true)],
            Kind::Secret => &[("data", true)],
        };
        for (field, encoded) in fields {
            let map = object.get(field).and_then(Value::as_object);
            for (key, value) in map.into_iter().flat_map(|map| map.iter()) {
                let text = value.as_str().unwrap_or_default();
                let bytes = if *encoded { decode(kind, object, text)? } else { text.as_bytes().to_vec() };
                data.insert(key.to_string(), bytes);
            }
        }
        Ok(data)
    }

    /// One value as text; `Ok(None)` where it is optional and absent.
    pub fn key(&self, kind: Kind, reference: &Value) -> Result<Option<String>, SourceError> {
        let (name, key) = (reference.str_at(&["name"]), reference.str_at(&["key"]));
        let optional = is_optional(reference);
        let Some(object) = self.object(kind, name, optional)? else { return Ok(None) };
        match Self::data(kind, object)?.remove(key) {
            Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            None if optional => Ok(None),
            None => Err(SourceError::Key {
                kind: kind.name(),
                namespace: self.namespace.clone(),
                name: name.to_owned(),
                key: key.to_owned(),
            }),
        }
    }
}

fn decode(kind: Kind, object: &Value, text: &str) -> Result<Vec<u8>, SourceError> {
    let name = || object.str_at(&["metadata", "name"]).to_owned();
    STANDARD.decode(text).map_err(|_| SourceError::Encoding { word: kind.word(), name: name() })
}

pub fn is_optional(reference: &Value) -> bool {
    reference.get("optional").and_then(Value::as_bool).unwrap_or_default()
}

/// What the environment of a container refers to.
pub fn of_environment(container: Container<'_>) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind, reference: Option<&Value>| {
        if let Some(reference) = reference.filter(|reference| !reference.is_null()) {
            found.insert((kind, reference.str_at(&["name"]).to_owned()));
        }
    };
    for source in container.list("envFrom") {
        add(Kind::ConfigMap, source.get("configMapRef"));
        add(Kind::Secret, source.get("secretRef"));
    }
    for variable in container.list("env") {
        add(Kind::ConfigMap, variable.at(&["valueFrom", "configMapKeyRef"]));
        add(Kind::Secret, variable.at(&["valueFrom", "secretKeyRef"]));
    }
    found
}

/// What a volume refers to.
pub fn of_volume(volume: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    if let Some(source) = volume.get("configMap").filter(|source| !source.is_null()) {
        found.insert((Kind::ConfigMap, source.str_at(&["name"]).to_owned()));
    }
    if let Some(source) = volume.get("secret").filter(|source| !source.is_null()) {
        found.insert((Kind::Secret, source.str_at(&["secretName"]).to_owned()));
    }
    let projected = volume.at(&["projected", "sources"]).and_then(Value::as_array).unwrap_or_default();
    for source in projected {
        for (field, kind) in [("configMap", Kind::ConfigMap), ("secret", Kind::Secret)] {
            if let Some(source) = source.get(field).filter(|source| !source.is_null()) {
                found.insert((kind, source.str_at(&["name"]).to_owned()));
            }
        }
    }
    found
}

/// Everything that a pod refers to.
pub fn references(pod: Pod<'_>) -> BTreeSet<Reference> {
    let of_volumes = pod.spec_list("volumes").iter().flat_map(of_volume);
    pod.containers().flat_map(of_environment).chain(of_volumes).collect()
}

/// Names of the Secrets with the credentials for its images.
pub fn pull_secrets(pod: Pod<'_>) -> BTreeSet<Reference> {
    let names = pod.spec_list("imagePullSecrets").iter().map(|secret| secret.str_at(&["name"]).to_owned());
    names.map(|name| (Kind::Secret, name)).collect()
}
