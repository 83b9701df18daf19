//! What a server has to know to join: where the API is and who vouches for it, in the form that upstream's tools read too, and the
//! ranges of the cluster (`kube-public/cluster-info`). Nothing of it is secret.

use corten_apimachinery::value::{Map, Value};
use ipnet::Ipv4Net;

use super::object;
use crate::lookup::Resource;

const CONFIG_MAPS: Resource = Resource { group: "", plural: "configmaps" };
/// Where it is.
pub const NAMESPACE: &str = "kube-public";
pub const NAME: &str = "cluster-info";

/// Keys of the object's data: upstream's, and ours.
pub const KUBECONFIG: &str = "kubeconfig";
pub const POD_RANGE: &str = "podCIDR";
pub const SERVICE_RANGE: &str = "serviceCIDR";

/// The cluster as a new server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// `https://10.0.0.1:6443`; `None` where other servers cannot reach the API.
    pub server: Option<String>,
    /// Base64 of the authority's PEM.
    pub authority: String,
    pub pods: Ipv4Net,
    pub services: Ipv4Net,
}

impl Joining {
    /// The object that is published.
    pub fn object(&self) -> (Resource, Value) {
        let server = self.server.as_deref().unwrap_or_default();
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    server: {server:?}\n    \
             certificate-authority-data: {}\ncontexts: []\ncurrent-context: \"\"\nusers: []\n",
            self.authority
        );
        let texts =
            [(KUBECONFIG, kubeconfig), (POD_RANGE, self.pods.to_string()), (SERVICE_RANGE, self.services.to_string())];
        let data: Map = texts.into_iter().map(|(key, text)| (key.into(), text.into())).collect();
        let mut map = object("v1", "ConfigMap", NAME, [("data", data.into())]);
        map.object_entry("metadata").insert("namespace", NAMESPACE);
        (CONFIG_MAPS, map)
    }
}
