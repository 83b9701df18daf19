//! What is read of a cluster, and what each node says of itself through the API.

use std::collections::BTreeMap;

use corten_apimachinery::json;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::{Client, Error, Resource, Select};
use corten_stdx::error::Chain;
use futures_util::future::{join, join_all};

use crate::why::NOTIFIERS;

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
    /// None in another cluster.
    pub(super) notifiers: Vec<Value>,
    /// By node; none where the cluster does not measure.
    pub(super) used: BTreeMap<String, Value>,
    pub(super) said: BTreeMap<String, Said>,
    /// Unix seconds.
    pub(super) now_s: i64,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) disk_used_bytes: Option<i64>,
    pub(super) disk_free_bytes: Option<i64>,
    /// How long its certificate is good.
    pub(super) certificate_s: Option<i64>,
    /// Why it says nothing.
    pub(super) silent: Option<String>,
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
    let notifiers = match client.list(&NOTIFIERS, "", &Select::default()).await {
        Ok(listed) => listed.items,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    let named = |value: Value| (Meta::of(&value).name().to_owned(), value);
    let said = nodes.iter().map(|node| Meta::of(node).name().to_owned()).zip(said).collect();
    let used = used.into_iter().map(named).collect();
    Ok(Cluster { nodes, pods, services, slices, claims, namespaces, notifiers, used, said, now_s })
}

/// What a node of another make does not say stays unknown.
async fn said(client: &Client, node: &str) -> Said {
    let path = NODES.path("", node, "proxy");
    let (summary, metrics) = (format!("{path}/stats/summary"), format!("{path}/metrics"));
    let (summary, metrics) = join(client.text(&summary), client.text(&metrics)).await;
    heard(summary.map_err(|error| Chain(&error).to_string()), metrics.map_err(|error| Chain(&error).to_string()))
}

/// Pages that a node has given, or why it has not.
fn heard(summary: Result<String, String>, metrics: Result<String, String>) -> Said {
    let figures = summary
        .and_then(|text| json::parse(text.as_bytes()).map_err(|error| format!("its figures are no JSON: {error}")));
    let bytes = |field| figures.as_ref().ok().and_then(|figures| figures.value.i64_at(&["node", "fs", field]));
    Said {
        disk_used_bytes: bytes("usedBytes"),
        disk_free_bytes: bytes("availableBytes"),
        certificate_s: metrics.as_deref().ok().and_then(certificate),
        silent: figures.err().or(metrics.err()),
    }
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

    #[test]
    fn figures_that_cannot_be_read_are_told() {
        let text = |text: &str| Ok(text.to_owned());
        let whole = heard(text("{\"node\": {\"fs\": {\"usedBytes\": 3, \"availableBytes\": 5}}}"), text(""));
        assert_eq!((whole.disk_used_bytes, whole.disk_free_bytes, whole.silent), (Some(3), Some(5), None));
        let broken = heard(text("<html>"), text("")).silent.expect("it says why");
        assert!(broken.starts_with("its figures are no JSON: "), "{broken}");
        assert_eq!(heard(text("{}"), Err("timed out".to_owned())).silent.as_deref(), Some("timed out"));
    }
}
