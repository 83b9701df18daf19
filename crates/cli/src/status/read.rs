//! What is read of a cluster, and what each node says of itself through the API.

use std::collections::BTreeMap;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::{Client, Error, Resource, Select};
use corten_stats::Stats;
use corten_stdx::error::Chain;
use futures_util::future::join_all;

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
    /// What each node says of itself, or why it says nothing.
    pub(super) said: BTreeMap<String, Result<Stats, String>>,
    /// Unix seconds.
    pub(super) now_s: i64,
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

/// What a node says of itself, or why it says nothing.
async fn said(client: &Client, node: &str) -> Result<Stats, String> {
    let metrics = client.text(&format!("{}/metrics", NODES.path("", node, "proxy"))).await;
    metrics.map(|text| Stats::parse(&text)).map_err(|error| Chain(&error).to_string())
}
