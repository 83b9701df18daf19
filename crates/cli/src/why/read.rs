//! What has to be read for an answer: no more than the object's own surroundings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::{Client, Error, Resource, Select};
use corten_scheduler::{NodeChange, Snapshot, decode, explain};
use futures_util::future::{BoxFuture, try_join_all};

use super::finding::{Finding, list};
use super::namespace::Remains;
use super::{Kind, Named, claim, ingress, namespace, node, notifier, pod, service, workload};

const PODS: Resource = Resource::new("", "v1", "pods");
const NODES: Resource = Resource::new("", "v1", "nodes");
const EVENTS: Resource = Resource::new("", "v1", "events");
const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
const SERVICES: Resource = Resource::new("", "v1", "services");
const SECRETS: Resource = Resource::new("", "v1", "secrets");
const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices");
const INGRESS_CLASSES: Resource = Resource::new("networking.k8s.io", "v1", "ingressclasses");
const STORAGE_CLASSES: Resource = Resource::new("storage.k8s.io", "v1", "storageclasses");

/// Pods of a workload that are looked at, the worst are told of.
const PODS_MAX: usize = 20;

/// Reads what stands around an object.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) client: &'a Client,
    pub(crate) namespace: &'a str,
    /// Unix seconds.
    pub(crate) now_s: i64,
}

impl<'a> Reader<'a> {
    pub(crate) async fn explain(self, named: &Named, object: &Value) -> Result<Vec<Finding>, Error> {
        match named.kind {
            Kind::Pod => self.pod(object).await,
            Kind::Service => self.service(object).await,
            Kind::Ingress => self.ingress(object).await,
            Kind::Claim => self.claim(object).await,
            Kind::Namespace => self.namespace(object).await,
            Kind::Node => Ok(node::explain(object)),
            Kind::Notifier => Ok(notifier::explain(object, self.now_s)),
            Kind::Workload(kind) => self.workload(kind, object).await,
        }
    }

    async fn all(self, resource: &Resource, namespace: &str, select: Select) -> Result<Vec<Value>, Error> {
        Ok(self.client.list(resource, namespace, &select).await?.items)
    }

    async fn events(self, uid: &str) -> Result<Vec<Value>, Error> {
        let select = Select { fields: format!("involvedObject.uid={uid}"), ..Select::default() };
        self.all(&EVENTS, self.namespace, select).await
    }

    pub(crate) async fn pod(self, pod: &Value) -> Result<Vec<Finding>, Error> {
        let events = self.events(Meta::of(pod).uid()).await?;
        let last_lines = self.last_lines(pod).await;
        let bound = pod.str_at(&["spec", "nodeName"]);
        let (refusals, node) = match bound {
            "" => (self.refusals(pod).await?, None),
            name => match self.client.get(&NODES, "", name).await {
                Ok(node) => (Vec::new(), Some(node)),
                Err(error) if error.is_not_found() => (Vec::new(), None),
                Err(error) => return Err(error),
            },
        };
        let facts =
            pod::Facts { pod, events: &events, last_lines: &last_lines, refusals: &refusals, node: node.as_ref() };
        Ok(pod::explain(&facts))
    }

    /// The last line that each container printed that keeps dying. A log that is not there is no answer, and no error.
    async fn last_lines(self, pod: &Value) -> BTreeMap<String, String> {
        let mut lines = BTreeMap::new();
        let statuses = ["initContainerStatuses", "containerStatuses"];
        for status in statuses.iter().flat_map(|field| list(pod, &["status", field])) {
            if status.str_at(&["state", "waiting", "reason"]) != "CrashLoopBackOff" {
                continue;
            }
            let container = status.str_at(&["name"]);
            let path = PODS.path(self.namespace, Meta::of(pod).name(), "log");
            match self.client.text(&format!("{path}?container={container}&previous=true&tailLines=1")).await {
                Ok(text) => {
                    let line = text.lines().last().unwrap_or_default().trim().to_owned();
                    if !line.is_empty() {
                        lines.insert(container.to_owned(), line);
                    }
                }
                Err(error) => tracing::debug!(%error, container, "its log cannot be read"),
            }
        }
        lines
    }

    /// What each node says of a pod, as the scheduler would hear it now. What cannot be read of another pod or node leaves
    /// that out.
    async fn refusals(self, pod: &Value) -> Result<Vec<(String, Vec<String>)>, Error> {
        let nodes = self.all(&NODES, "", Select::default()).await?;
        let pods = self.all(&PODS, "", Select::default()).await?;
        let namespaces = self.all(&NAMESPACES, "", Select::default()).await?;
        let Ok(own) = decode::pod(pod) else { return Ok(Vec::new()) };
        let mut snapshot = Snapshot::new();
        for namespace in &namespaces {
            let labels = decode::labels(namespace.at(&["metadata", "labels"]));
            snapshot.apply(NodeChange::Namespace(Meta::of(namespace).name().into(), labels));
        }
        for node in nodes.iter().filter_map(|node| decode::node(node).ok()) {
            snapshot.apply(NodeChange::Set(node));
        }
        let placed = pods.iter().filter(|pod| !decode::is_over(pod) && !pod.str_at(&["spec", "nodeName"]).is_empty());
        for placed in placed {
            if let Ok(decoded) = decode::pod(placed) {
                snapshot.assume(&Arc::new(decoded), placed.str_at(&["spec", "nodeName"]));
            }
        }
        // A pod that no node is asked about has its reason in its own condition.
        let Ok(verdicts) = explain(&snapshot, &own) else { return Ok(Vec::new()) };
        Ok(verdicts.into_iter().filter_map(|verdict| Some((verdict.node.into(), verdict.outcome.err()?))).collect())
    }

    async fn service(self, service: &Value) -> Result<Vec<Finding>, Error> {
        let pods = self.all(&PODS, self.namespace, Select::default()).await?;
        let labels = format!("kubernetes.io/service-name={}", Meta::of(service).name());
        let slices = self.all(&SLICES, self.namespace, Select { labels, ..Select::default() }).await?;
        Ok(service::explain(service, &pods, &slices))
    }

    async fn ingress(self, ingress: &Value) -> Result<Vec<Finding>, Error> {
        let classes = self.all(&INGRESS_CLASSES, "", Select::default()).await?;
        let services = self.all(&SERVICES, self.namespace, Select::default()).await?;
        let wanted = ingress::services(ingress);
        let mut blocked = BTreeMap::new();
        for service in services.iter().filter(|service| wanted.iter().any(|name| name == Meta::of(service).name())) {
            blocked.insert(Meta::of(service).name().to_owned(), self.service(service).await?);
        }
        let mut secrets = BTreeMap::new();
        for name in ingress::secrets(ingress) {
            let kind = match self.client.get(&SECRETS, self.namespace, &name).await {
                Ok(secret) => Some(secret.str_at(&["type"]).to_owned()),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
            secrets.insert(name, kind);
        }
        let facts =
            ingress::Facts { ingress, classes: &classes, services: &services, blocked: &blocked, secrets: &secrets };
        Ok(ingress::explain(&facts))
    }

    async fn claim(self, claim: &Value) -> Result<Vec<Finding>, Error> {
        let classes = self.all(&STORAGE_CLASSES, "", Select::default()).await?;
        let pods = self.all(&PODS, self.namespace, Select::default()).await?;
        let events = self.events(Meta::of(claim).uid()).await?;
        Ok(claim::explain(claim, &classes, &pods, &events))
    }

    /// Everything that is left in a namespace that goes.
    async fn namespace(self, namespace: &Value) -> Result<Vec<Finding>, Error> {
        let mut remains = Vec::new();
        if Meta::of(namespace).deletion_timestamp().is_some() {
            let name = Meta::of(namespace).name();
            let found = self.client.discover().await?.served;
            let kinds = found.iter().filter(|one| one.namespaced && one.can("list") && one.can("delete"));
            let read = kinds.map(|one| async move {
                let select = Select { metadata_only: true, ..Select::default() };
                self.all(&one.resource, name, select).await.map(|items| (one.resource.to_string(), items))
            });
            for (resource, items) in try_join_all(read).await? {
                // The newer name of the same objects.
                if resource != "events.events.k8s.io" {
                    remains.extend(items.into_iter().map(|object| Remains { resource: resource.clone(), object }));
                }
            }
        }
        Ok(namespace::explain(namespace, &remains))
    }

    async fn workload(self, kind: &str, object: &Value) -> Result<Vec<Finding>, Error> {
        let events = self.events(Meta::of(object).uid()).await?;
        let pods = self.owned(kind, object).await?;
        let mut worst = None;
        for pod in pods.iter().take(PODS_MAX) {
            let found = self.pod(pod).await?;
            if !found.is_empty() {
                worst = Some((Meta::of(pod).name(), found));
                break;
            }
        }
        let worst = worst.as_ref().map(|(name, found)| (*name, found.as_slice()));
        Ok(workload::explain(object, kind, worst, &events))
    }

    /// The pods of a workload that are to stay, the newest first: they have its newest form.
    fn owned<'s>(self, kind: &'s str, object: &'s Value) -> BoxFuture<'s, Result<Vec<Value>, Error>>
    where
        'a: 's,
    {
        Box::pin(async move {
            let mut owners: BTreeSet<String> = BTreeSet::from([Meta::of(object).uid().to_owned()]);
            if kind == "deployment" {
                const SETS: Resource = Resource::new("apps", "v1", "replicasets");
                let sets = self.all(&SETS, self.namespace, Select::default()).await?;
                owners.extend(
                    sets.iter()
                        .filter(|set| is_owned(set, &owners))
                        .map(|set| Meta::of(set).uid().to_owned())
                        .collect::<Vec<_>>(),
                );
            }
            let mut pods = self.all(&PODS, self.namespace, Select::default()).await?;
            pods.retain(|pod| is_owned(pod, &owners) && Meta::of(pod).deletion_timestamp().is_none());
            pods.sort_by(|a, b| Meta::of(b).creation_timestamp().cmp(Meta::of(a).creation_timestamp()));
            Ok(pods)
        })
    }
}

fn is_owned(object: &Value, owners: &BTreeSet<String>) -> bool {
    Meta::of(object).owner_references().any(|owner| owners.contains(owner.uid()))
}
