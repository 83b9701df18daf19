//! Requests for certificates of the cluster's authority: those that nodes make are approved by rules ([`approve`]), what is
//! approved is signed ([`sign`]), what is over is taken away ([`clean`]).

pub mod approve;
pub mod clean;
pub mod sign;

use std::net::IpAddr;

use corten_apimachinery::value::Value;
use corten_client::Resource;

pub(crate) const REQUESTS: Resource = Resource::new("certificates.k8s.io", "v1", "certificatesigningrequests");
const ACCOUNT: &str = "certificate-controller";

/// Certificates that the API server takes as identities of nodes, and those that nodes' servers show.
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Certificates with which the data path of a node comes to the API server.
pub const EDGE_CLIENT: &str = "corten.dev/edge";

/// Users that a bootstrap token makes.
pub(crate) const TOKEN_PREFIX: &str = "system:bootstrap:";

/// How long certificates of the cluster's authority last, if nobody asks for less.
pub const LIFETIME_S: i64 = 30 * 24 * 3600;

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const EDGES_GROUP: &str = "corten:edges";
const EDGE_PREFIX: &str = "corten:edge:";

/// The cluster's authority. Requests and certificates are as the objects have them: base64 of PEM.
pub trait Signer: Send + Sync {
    /// Reads a request and checks its signature. The error says what is wrong with it.
    fn read(&self, request: &str) -> Result<Requested, String>;

    /// Makes the certificate.
    fn sign(&self, request: &str, terms: &Terms<'_>) -> Result<String, String>;
}

/// Whom and what a request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
    /// Names of other kinds: e-mail addresses, URIs.
    pub has_other_names: bool,
}

/// What a certificate is good for, and how long.
pub struct Terms<'a> {
    /// `client auth`, `digital signature` and the like.
    pub usages: &'a [&'a str],
    pub lifetime_s: i64,
}

/// The uses that a request names.
fn usages(request: &Value) -> Vec<&str> {
    let usages = request.at(&["spec", "usages"]).and_then(Value::as_array).unwrap_or_default();
    usages.iter().filter_map(Value::as_str).collect()
}

/// Exactly what TLS with a key of its kind needs, for one side.
fn has_usages(usages: &[&str], side: &str) -> bool {
    let known = |usage: &&str| [side, "digital signature", "key encipherment"].contains(usage);
    usages.iter().all(known) && [side, "digital signature"].iter().all(|needed| usages.contains(needed))
}

pub(crate) fn condition<'a>(request: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = request.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.iter().find(|condition| condition.str_at(&["type"]) == kind)
}

pub(crate) fn is_issued(request: &Value) -> bool {
    !request.str_at(&["status", "certificate"]).is_empty()
}

impl Requested {
    /// The node that a request with a subject like `PREFIX:NODE` and one group is for.
    fn of_node(&self, prefix: &str, group: &str) -> Option<&str> {
        let node = self.common_name.strip_prefix(prefix).filter(|node| !node.is_empty())?;
        (self.organizations == [group] && !self.has_other_names).then_some(node)
    }

    fn has_names(&self) -> bool {
        !(self.dns.is_empty() && self.ips.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_tls_needs_these_usages() {
        let check = |usages: &[&str], expect| assert_eq!(has_usages(usages, "client auth"), expect, "{usages:?}");
        check(&["client auth", "digital signature"], true);
        check(&["client auth", "digital signature", "key encipherment"], true);
        check(&["client auth"], false);
        check(&["client auth", "digital signature", "server auth"], false);
    }
}
