//! What is read of a cluster, and what each node says of itself through the API.

use std::collections::BTreeMap;

use corten_apimachinery::json;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::{Client, Error, Resource, Select};
use futures_util::future::join_all;

const NODES: Resource = Resource::new("", "v1", "nodes");
const NODE_METRICS: Resource = Resource::new("metrics.k8s.io", "v1beta1", "nodes");
const OTHERS: [Resource; 5] = [
    Resource::new("", "v1", "pods"),
    Resource::new("", "v1", "services"),
    Resource::new("discovery.k8s.io", "v1", "endpointslices"),
    Resource::new("", "v1", "persistentvolumeclaims"),
    Resource::new("", "v1", "namespaces"),
];

/// What is known.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Value>,
    pub(super) pods: Vec<Value>,
    pub(super) services: Vec<Value>,
    pub(super) slices: Vec<Value>,
    pub(super) claims: Vec<Value>,
    pub(super) namespaces: Vec<Value>,
    /// By node; none where the cluster does not measure.
    pub(super) used: BTreeMap<String, Value>,
    pub(super) said: BTreeMap<String, Said>,
    /// Unix seconds.
    pub(super) now_s: i64,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) disk_used_bytes: Option<i64>,
    pub(super) disk_free_bytes: Option<i64>,
    /// How long its certificate is good.
    pub(super) certificate_s: Option<i64>,
}

pub(super) async fn cluster(client: &Client, now_s: i64) -> Result<Cluster, Error> {
    let nodes = client.list(&NODES, "", &Select::default()).await?.items;
    let said = join_all(nodes.iter().map(|node| said(client, Meta::of(node).name()))).await;
    let mut others = Vec::new();
    for resource in &OTHERS {
        others.push(client.list(resource, "", &Select::default()).await?.items);
    }
    let Ok([pods, services, slices, claims, namespaces]) = <[Vec<Value>; 5]>::try_from(others) else {
        unreachable!("one list a resource")
    };
    let used = match client.list(&NODE_METRICS, "", &Select::default()).await {
        Ok(listed) => listed.items,
        Err(error) => {
            tracing::debug!(%error, "the cluster does not say what its servers use");
            Vec::new()
        }
    };
    let named = |value: Value| (Meta::of(&value).name().to_owned(), value);
    let said = nodes.iter().map(|node| Meta::of(node).name().to_owned()).zip(said).collect();
    let used = used.into_iter().map(named).collect();
    Ok(Cluster { nodes, pods, services, slices, claims, namespaces, used, said, now_s })
}

/// What a node does not say stays unknown: it is another's, or silent.
async fn said(client: &Client, node: &str) -> Said {
    let path = NODES.path("", node, "proxy");
    let ask = async |page: &str| {
        let asked = client.text(&format!("{path}/{page}")).await;
        asked.inspect_err(|error| tracing::debug!(%error, node, page, "not said")).ok()
    };
    let mut said = Said::default();
    if let Some(summary) = ask("stats/summary").await.and_then(|text| json::parse(text.as_bytes()).ok()) {
        said.disk_used_bytes = summary.value.i64_at(&["node", "fs", "usedBytes"]);
        said.disk_free_bytes = summary.value.i64_at(&["node", "fs", "availableBytes"]);
    }
    said.certificate_s = ask("metrics").await.as_deref().and_then(certificate);
    said
}

/// The figure of upstream's name, in seconds.
fn certificate(metrics: &str) -> Option<i64> {
    let row = metrics.lines().find_map(|line| line.strip_prefix("kubelet_certificate_manager_server_ttl_seconds "));
    #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
    row.and_then(|value| value.trim().parse::<f64>().ok()).map(|seconds| seconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_certificate_is_found_in_its_figures() {
        let metrics = "# HELP x y\nkubelet_running_pods 1\nkubelet_certificate_manager_server_ttl_seconds 2.592e+06\n";
        assert_eq!(certificate(metrics), Some(2_592_000));
        assert_eq!(certificate("kubelet_running_pods 1\n"), None);
    }
}
