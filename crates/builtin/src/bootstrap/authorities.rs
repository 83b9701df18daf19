//! What aggregated API servers read to know whom to trust: the authority of clients, and the one by which the API server
//! vouches for them (`kube-system/extension-apiserver-authentication`).

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::object;
use crate::lookup::Resource;
use crate::rbac::defaults::Change;

const CONFIG_MAPS: Resource = Resource { group: "", plural: "configmaps" };
const NAME: &str = "extension-apiserver-authentication";

/// The cluster's authorities, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities {
    pub clients: String,
    pub front_proxy: String,
}

impl Authorities {
    /// The object that is published.
    pub fn object(&self) -> (Resource, Value) {
        let data = value!({
            "client-ca-file": (self.clients.as_str()),
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-client-ca-file": (self.front_proxy.as_str()),
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]"
        });
        let mut map = object("v1", "ConfigMap", NAME, [("data", data)]);
        map.object_entry("metadata").insert("namespace", "kube-system");
        (CONFIG_MAPS, map)
    }
}

/// Gives back what is missing or has changed; what others have added stays.
pub(crate) fn keep(existing: Option<&Value>, wanted: &Value) -> Option<Change> {
    let Some(existing) = existing else { return Some(Change::Create(wanted.clone())) };
    let mut kept = existing.clone();
    for (key, text) in wanted.get("data").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        kept.object_entry("data").insert(key.clone(), text.clone());
    }
    (kept != *existing).then_some(Change::Update(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_authority_is_published_and_other_keys_stay() {
        let first = Authorities { clients: "a".to_owned(), front_proxy: "b".to_owned() };
        let mut stored = first.object().1;
        stored.object_entry("data").insert("own", "x");
        assert_eq!(keep(Some(&stored), &first.object().1), None);
        let second = Authorities { clients: "c".to_owned(), ..first };
        let Some(Change::Update(kept)) = keep(Some(&stored), &second.object().1) else { panic!("an update") };
        let data = |key| kept.str_at(&["data", key]);
        assert_eq!((data("client-ca-file"), data("requestheader-client-ca-file"), data("own")), ("c", "b", "x"));
    }
}
