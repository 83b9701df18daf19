//! What nodes and pods use (`metrics.k8s.io`), and how many requests pods get (`custom.metrics.k8s.io`), asked of the nodes when somebody asks for it and kept in memory: nothing is
//! collected while nobody looks, and nothing reaches the store.
//!
//! A rate needs two looks. Whoever asks regularly gets windows of fifteen seconds, up to date to a few; whoever asks for the first
//! time waits a second for the second look.

mod text;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::duration;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_apiserver::connect::{Answer, Call, Connector, Connectors};
use corten_apiserver::registry::Object;
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;

use self::text::{Reading, Sample};
use self::window::{History, Rate, Used, used};
use crate::connect::{Ground, NODES};
use crate::lookup::{PODS, tree};
use crate::rbac::Policy;
use crate::rbac::defaults::{self, FactsError};

const GROUP: &str = "metrics.k8s.io";
const API_VERSION: &str = "metrics.k8s.io/v1beta1";
const CUSTOM_GROUP: &str = "custom.metrics.k8s.io";
const CUSTOM_API_VERSION: &str = "custom.metrics.k8s.io/v1beta2";
/// What the edges of all nodes give to a pod.
const REQUESTS: &str = "requests_per_second";
/// In place of a name: all that the selector selects.
const ALL: &str = "*";

const PATH: &str = "/metrics/resource";

/// What is not older than this is told again without asking the nodes.
const FRESH_MS: i64 = 2_500;

/// Between the two looks of somebody who asks for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// For one node's answer; who is slower is left out.
const NODE_LIMIT: Duration = Duration::from_secs(4);

/// Nodes that are asked at one time.
const NODES_AT_ONCE: usize = 32;

/// What upstream's metrics server brings with it.
const ROLES: &str = "\
ClusterRole system:aggregated-metrics-reader rbac.authorization.k8s.io/aggregate-to-view=true rbac.authorization.k8s.io/aggregate-to-edit=true rbac.authorization.k8s.io/aggregate-to-admin=true
  get,list,watch pods,nodes in metrics.k8s.io
  get pods/requests_per_second in custom.metrics.k8s.io
";

/// The roles of those who may read it.
///
/// # Errors
/// Where the table cannot be read, which a test would show.
pub fn roles() -> Result<Vec<(Policy, Value)>, FactsError> {
    defaults::read(ROLES.lines())
}

/// Registers all kinds.
pub fn register(connectors: &mut Connectors, ground: &Ground, clock: &Clock) {
    let collector = Arc::new(Collector { ground: ground.clone(), clock: clock.clone(), histories: Mutex::default() });
    for what in [What::Nodes, What::Pods] {
        let resource = if what == What::Nodes { "nodes" } else { "pods" };
        connectors.register(GROUP, resource, "", Arc::new(Endpoint { what, collector: collector.clone() }));
    }
    connectors.register(CUSTOM_GROUP, "pods", REQUESTS, Arc::new(Requests(collector)));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Nodes,
    Pods,
}

struct Endpoint {
    what: What,
    collector: Arc<Collector>,
}

impl Connector for Endpoint {
    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move {
            let objects = match self.what {
                What::Nodes => self.collector.nodes().await?,
                What::Pods => self.collector.pods(&call.target.namespace).await?,
            };
            Ok(Answer::Objects(objects))
        })
    }
}

/// The answer is a list of values, also for one pod.
struct Requests(Arc<Collector>);

impl Connector for Requests {
    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move {
            let text = call.query.first("labelSelector").unwrap_or_default();
            let selector = LabelSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?;
            if call.query.first("metricLabelSelector").is_some_and(|labels| !labels.is_empty()) {
                return Err(Status::bad_request(format!("the metric {REQUESTS} has no labels to select it by")));
            }
            let wanted = |pod: &Object| match call.target.name.as_str() {
                ALL => selector.matches(&pod.head.labels),
                name => pod.head.name == *name,
            };
            let values = self.0.requests(&call.target.namespace, wanted).await?;
            let list =
                value!({"kind": "MetricValueList", "apiVersion": CUSTOM_API_VERSION, "metadata": {}, "items": values});
            Ok(Answer::Object { code: 200, value: list })
        })
    }
}

struct Collector {
    ground: Ground,
    clock: Clock,
    /// By the node's name. Whoever asks while the nodes are being asked waits for their answers.
    histories: Mutex<BTreeMap<Str, History>>,
}

impl Collector {
    async fn nodes(&self) -> Result<Vec<Value>, Status> {
        let nodes = self.ground.lookup.list(NODES).await?;
        let mut histories = self.histories.lock().await;
        self.look(&nodes, &mut histories).await?;
        let of = |node: &Arc<Object>| node_metrics(node, histories.get(&node.head.name)?);
        Ok(nodes.iter().filter_map(of).collect())
    }

    async fn pods(&self, namespace: &str) -> Result<Vec<Value>, Status> {
        let nodes = self.ground.lookup.list(NODES).await?;
        let pods = self.ground.lookup.list(PODS).await?;
        let mut histories = self.histories.lock().await;
        self.look(&nodes, &mut histories).await?;
        let mut used = BTreeMap::new();
        for history in histories.values() {
            pod_usage(history, &mut used);
        }
        let asked = pods.iter().filter(|pod| namespace.is_empty() || pod.head.namespace == namespace);
        let of = |pod: &Arc<Object>| {
            used.get(&(pod.head.namespace.clone(), pod.head.name.clone())).map(|used| pod_metrics(pod, used))
        };
        Ok(asked.filter_map(of).collect())
    }

    /// What pods get lately. One that no edge leads to is not told.
    async fn requests(&self, namespace: &str, wanted: impl Fn(&Object) -> bool) -> Result<Vec<Value>, Status> {
        let nodes = self.ground.lookup.list(NODES).await?;
        let pods = self.ground.lookup.list(PODS).await?;
        let mut histories = self.histories.lock().await;
        self.look(&nodes, &mut histories).await?;
        let mut rates: BTreeMap<&str, Rate> = BTreeMap::new();
        for (address, rate) in histories.values().flat_map(History::requests) {
            rates.entry(address).or_default().add(rate);
        }
        let mut values = Vec::new();
        for pod in pods.iter().filter(|pod| pod.head.namespace == namespace && wanted(pod)) {
            let object = tree(pod)?;
            if let Some(rate) = rates.get(object.str_at(&["status", "podIP"])) {
                values.push(metric_value(&object, rate));
            }
        }
        Ok(values)
    }

    /// Brings the histories up to date, with a second look where one has no window yet.
    async fn look(&self, nodes: &[Arc<Object>], histories: &mut BTreeMap<Str, History>) -> Result<(), Status> {
        histories.retain(|name, _| nodes.iter().any(|node| node.head.name == *name));
        let oldest = self.clock.now_ms() - FRESH_MS;
        let is_fresh = |history: &History| history.newest().is_some_and(|sample| sample.taken_ms >= oldest);
        let fresh = |histories: &BTreeMap<Str, History>, node: &Arc<Object>| {
            histories.get(&node.head.name).is_some_and(is_fresh)
        };
        let stale: Vec<Value> =
            nodes.iter().filter(|node| !fresh(histories, node)).map(|node| tree(node)).collect::<Result<_, _>>()?;
        let asked = self.ask(stale, histories).await;
        let narrow = |node: &Value| {
            let history = histories.get(node.str_at(&["metadata", "name"]));
            history.is_some_and(|history| history.newest().is_some() && history.earlier().is_none())
        };
        let again: Vec<Value> = asked.into_iter().filter(narrow).collect();
        if !again.is_empty() {
            self.clock.sleep(FIRST_LOOK).await;
            self.ask(again, histories).await;
        }
        Ok(())
    }

    /// Asks nodes that live. One that does not answer has no figures until it does. Gives those that were asked.
    async fn ask(&self, nodes: Vec<Value>, histories: &mut BTreeMap<Str, History>) -> Vec<Value> {
        let asked = nodes.into_iter().map(|node| async move {
            let answer = match lives(&node) {
                true => tokio::time::timeout(NODE_LIMIT, self.ground.read_node(&node, PATH)).await,
                false => Ok(Err(Status::internal("it is not ready"))),
            };
            (node, answer, self.clock.now_ms())
        });
        let mut asked = stream::iter(asked).buffer_unordered(NODES_AT_ONCE);
        let mut all = Vec::new();
        while let Some((node, answer, now_ms)) = asked.next().await {
            let name = node.str_at(&["metadata", "name"]);
            match answer {
                Ok(Ok(text)) => histories.entry(name.into()).or_default().add(Sample::parse(&text, now_ms)),
                Ok(Err(status)) => {
                    tracing::debug!(node = name, reason = status.message, "a node does not say what it uses");
                    histories.remove(name);
                }
                Err(_) => {
                    tracing::debug!(node = name, "a node is slow to say what it uses");
                    histories.remove(name);
                }
            }
            all.push(node);
        }
        all
    }
}

/// Whether a node is worth the wait for an answer.
fn lives(node: &Value) -> bool {
    let conditions = node.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Ready");
    ready.is_none_or(|ready| ready.str_at(&["status"]) != "Unknown")
}

type Containers = Vec<(Str, Used)>;

/// What the containers of each pod of a node used; a pod with one that nothing is known of is left out.
fn pod_usage(history: &History, all: &mut BTreeMap<(Str, Str), Containers>) {
    let Some(newest) = history.newest() else { return };
    let earlier = history.earlier();
    for (pod, containers) in &newest.pods {
        let before = |name: &Str| earlier.and_then(|sample| sample.pods.get(pod)?.get(name));
        let of = |(name, now): (&Str, &Reading)| Some((name.clone(), used(before(name), now)?));
        if let Some(containers) = containers.iter().map(of).collect::<Option<Containers>>() {
            all.insert(pod.clone(), containers);
        }
    }
}

fn node_metrics(node: &Object, history: &History) -> Option<Value> {
    let used = used(history.earlier().map(|sample| &sample.node), &history.newest()?.node)?;
    let mut metrics = object("NodeMetrics", node, &used);
    metrics.insert("usage", amounts(&used));
    Some(Value::Object(metrics))
}

fn pod_metrics(pod: &Object, used: &Containers) -> Value {
    let newest = used.iter().map(|(_, used)| *used).max_by_key(|used| used.at_ms);
    let none = Used { at_ms: 0, window_ms: 0, cpu_nano: 0, memory_bytes: 0 };
    let mut metrics = object("PodMetrics", pod, &newest.unwrap_or(none));
    let containers = used.iter().map(|(name, used)| value!({"name": (name.clone()), "usage": (amounts(used))}));
    metrics.insert("containers", containers.collect::<Vec<Value>>());
    Value::Object(metrics)
}

fn metric_value(pod: &Value, rate: &Rate) -> Value {
    let meta = Meta::of(pod);
    value!({
        "describedObject": {
            "kind": "Pod", "namespace": (meta.namespace()), "name": (meta.name()), "apiVersion": "v1", "uid": (meta.uid())
        },
        "metric": {"name": REQUESTS, "selector": null},
        "timestamp": (Time::from_millis(rate.at_ms).to_rfc3339()),
        "windowSeconds": (rate.window_ms / 1000),
        "value": (Quantity::from_milli(rate.milli_per_s, Format::DecimalSi).to_string())
    })
}

fn object(kind: &str, of: &Object, used: &Used) -> Map {
    let mut metadata = Map::new();
    metadata.insert("name", of.head.name.clone());
    if !of.head.namespace.is_empty() {
        metadata.insert("namespace", of.head.namespace.clone());
    }
    let timestamp = Time::from_millis(used.at_ms).to_rfc3339();
    metadata.insert("creationTimestamp", timestamp.clone());
    if !of.head.labels.is_empty() {
        let labels = of.head.labels.iter().map(|(label, value)| (label.clone(), Value::from(value.clone())));
        metadata.insert("labels", labels.collect::<Map>());
    }
    let mut object = Map::new();
    object.insert("kind", kind);
    object.insert("apiVersion", API_VERSION);
    object.insert("metadata", metadata);
    object.insert("timestamp", timestamp);
    object.insert("window", duration::print(used.window_ms * 1_000_000));
    object
}

/// Quantities in the units that upstream's metrics server has.
fn amounts(used: &Used) -> Value {
    let memory = match used.memory_bytes {
        bytes if bytes % 1024 == 0 => format!("{}Ki", bytes / 1024),
        bytes => bytes.to_string(),
    };
    let cpu = if used.cpu_nano > 0 { format!("{}n", used.cpu_nano) } else { "0".to_owned() };
    value!({"cpu": cpu, "memory": memory})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(taken_ms: i64, cpu_s: f64) -> Sample {
        let reading = Reading { at_ms: taken_ms, cpu_s, memory_bytes: 3 << 20, started_ms: 0 };
        let pod = (Str::from("shop"), Str::from("web"));
        let pods = BTreeMap::from([(pod, BTreeMap::from([(Str::from("app"), reading)]))]);
        Sample { taken_ms, node: reading, pods, ..Sample::default() }
    }

    #[test]
    fn objects_are_the_metrics_servers() {
        let mut history = History::default();
        history.add(sample(1_000, 1.0));
        history.add(sample(11_000, 3.5));
        let object = |namespace: &str, name: &str| {
            let labels = value!({"app": "web"});
            Object::of(&value!({"metadata": {"name": name, "namespace": namespace, "labels": labels}}), 1, &[])
        };
        let expected = value!({
            "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "one", "creationTimestamp": "1970-01-01T00:00:11Z", "labels": {"app": "web"}},
            "timestamp": "1970-01-01T00:00:11Z", "window": "10s", "usage": {"cpu": "250000000n", "memory": "3072Ki"}
        });
        assert_eq!(node_metrics(&object("", "one"), &history), Some(expected));
        let mut used = BTreeMap::new();
        pod_usage(&history, &mut used);
        let pod = pod_metrics(&object("shop", "web"), &used[&("shop".into(), "web".into())]);
        let containers = value!([{"name": "app", "usage": {"cpu": "250000000n", "memory": "3072Ki"}}]);
        assert_eq!(pod.at(&["containers"]), Some(&containers));
    }

    #[test]
    fn a_pod_with_an_unknown_container_is_left_out() {
        let mut history = History::default();
        history.add(sample(1_000, 1.0));
        let mut newest = sample(11_000, 3.5);
        let young = Reading { at_ms: 11_000, started_ms: 10_900, ..Reading::default() };
        newest.pods.values_mut().for_each(|pod| pod.extend([("new".into(), young)]));
        history.add(newest);
        let mut used = BTreeMap::new();
        pod_usage(&history, &mut used);
        assert!(used.is_empty());
    }

    #[test]
    fn silent_nodes_are_not_asked() {
        let node = |ready: &str| value!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        assert!(lives(&node("True")) && lives(&node("False")) && lives(&value!({})) && !lives(&node("Unknown")));
    }

    #[test]
    fn the_roles_are_readable() {
        assert_eq!(roles().expect("a table").len(), 1);
    }

    #[test]
    fn values_are_those_of_the_custom_metrics_api() {
        let pod = value!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}});
        let expected = value!({
            "describedObject": {"kind": "Pod", "namespace": "shop", "name": "web", "apiVersion": "v1", "uid": "u"},
            "metric": {"name": "requests_per_second", "selector": null},
            "timestamp": "1970-01-01T00:00:11Z", "windowSeconds": 5, "value": "12500m"
        });
        assert_eq!(metric_value(&pod, &Rate { at_ms: 11_000, window_ms: 5_000, milli_per_s: 12_500 }), expected);
    }
}
