//! The node's own object: what it is ([`object`]), and the task that registers it, keeps it true and renews its lease.

pub mod facts;

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Patch, Resource};
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_stdx::task::Stopped;
use tokio::sync::Notify;

use crate::eviction::pressure::{self, Kind, Pressures};
use crate::eviction::threshold::Signal;
use crate::settings::Settings;
use facts::Facts;

pub const NODES: Resource = Resource::new("", "v1", "nodes");
const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// A lease is renewed four times in its life.
const LEASE_S: i64 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// After a failure.
const RETRY: Duration = Duration::from_secs(1);
/// A status that has not changed is written so often nevertheless.
const REPORT_MS: i64 = 300_000;
/// After this a node says that it waits for its range.
const RANGE_SOON: Duration = Duration::from_secs(5);
/// What holds of a node that runs.
struct Condition {
    kind: &'static str,
    state: &'static str,
    reason: &'static str,
    message: &'static str,
    /// What is told when it begins to hold.
    event: &'static str,
}

/// The node's conditions: those that it can be in by what it is short of, and that it is ready.
fn conditions_under(pressures: Pressures) -> [Condition; 4] {
    let [memory, disk, pid] = Kind::ALL.map(|kind| pressures.has(kind));
    [
        Condition {
            kind: Kind::Memory.condition(),
            state: state(memory),
            reason: if memory { "KubeletHasInsufficientMemory" } else { "KubeletHasSufficientMemory" },
            message: if memory {
                "kubelet has insufficient memory available"
            } else {
                "kubelet has sufficient memory available"
            },
            event: if memory { "NodeHasInsufficientMemory" } else { "NodeHasSufficientMemory" },
        },
        Condition {
            kind: Kind::Disk.condition(),
            state: state(disk),
            reason: if disk { "KubeletHasDiskPressure" } else { "KubeletHasNoDiskPressure" },
            message: if disk { "kubelet has disk pressure" } else { "kubelet has no disk pressure" },
            event: if disk { "NodeHasDiskPressure" } else { "NodeHasNoDiskPressure" },
        },
        Condition {
            kind: Kind::Pid.condition(),
            state: state(pid),
            reason: if pid { "KubeletHasInsufficientPID" } else { "KubeletHasSufficientPID" },
            message: if pid {
                "kubelet has insufficient PID available"
            } else {
                "kubelet has sufficient PID available"
            },
            event: if pid { "NodeHasInsufficientPID" } else { "NodeHasSufficientPID" },
        },
        Condition {
            kind: "Ready",
            state: "True",
            reason: "KubeletReady",
            message: "kubelet is posting ready status",
            event: "NodeReady",
        },
    ]
}

fn state(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

/// Tells `status.images`.
pub type ListImages = Box<dyn Fn() -> Vec<Value> + Send + Sync>;

/// The node's task.
pub struct Node {
    client: Client,
    settings: Settings,
    clock: Clock,
    recorder: Recorder,
    images: ListImages,
    pressure: pressure::Shared,
    /// What was last written, and when.
    written: Option<(Value, i64)>,
}

impl Node {
    pub fn new(
        client: Client,
        settings: Settings,
        clock: Clock,
        recorder: Recorder,
        pressure: pressure::Shared,
        images: impl Fn() -> Vec<Value> + Send + Sync + 'static,
    ) -> Self {
        Self { client, settings, clock, recorder, images: Box::new(images), pressure, written: None }
    }

    /// Tells what happened to the node. Its name stands for its identity, as upstream has it: a node tells of itself before it has one.
    fn tell(&self, reason: &str, note: impl Into<String>) {
        let name = self.settings.name.as_str();
        let own = Reference { kind: "Node".into(), name: name.into(), uid: name.into(), ..Reference::default() };
        self.recorder.normal(&own, reason, note);
    }

    /// Makes the object, or takes over the one there is, and says that the node is ready.
    pub async fn register(&mut self) -> Result<(), Error> {
        let facts = Facts::read(&self.settings.dir);
        let object = object(&self.settings, &facts);
        let name = self.settings.name.as_str();
        let known = match self.client.create(&NODES, "", &object).await {
            Err(error) if error.is_already_exists() => {
                let patch = value!({"metadata": {"labels": (labels(&self.settings))}});
                self.client.patch(&NODES, "", name, "", &Patch::Strategic(patch)).await?
            }
            made => made?,
        };
        self.tell("Starting", "Starting kubelet.");
        self.report(&known).await?;
        self.renew().await
    }

    /// The range of this node's pods, such as `10.244.1.0/24`. It is given to a node once it is registered; waits for that.
    pub async fn range(&self) -> Result<String, Error> {
        let given = |node: Option<&Value>| {
            let range = node.map(|node| node.str_at(&["spec", "podCIDR"])).unwrap_or_default();
            (!range.is_empty()).then(|| range.to_owned())
        };
        let nodes = NODES;
        let range = self.client.until(&nodes, "", &self.settings.name, given);
        tokio::pin!(range);
        tokio::select! {
            range = &mut range => return range,
            () = self.clock.sleep(RANGE_SOON) => {}
        }
        tracing::warn!(
            "this node has no range of pod addresses yet; --pod-cidr of the cluster may be too small for it"
        );
        range.await
    }

    /// Renews and reports until the end: at times, and at once when it runs short of something, or when somebody has given this node
    /// up or deleted its object, which `own` follows.
    pub async fn keep(mut self, own: Informer<Value>, mut stopped: Stopped) {
        let news = Arc::new(Notify::new());
        let (heard, pressure) = (news.clone(), self.pressure.clone());
        own.subscribe(move |change| {
            if change.new.is_none_or(|node| !is_told(node, pressure.now())) {
                heard.notify_one();
            }
        });
        let mut pause = RENEW;
        let mut short = self.pressure.follow();
        loop {
            tokio::select! {
                () = stopped.wait() => return,
                () = self.clock.sleep(pause) => {}
                () = news.notified() => {}
                Ok(()) = short.changed() => {}
            }
            pause = match self.look(&own).await {
                Ok(()) => RENEW,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the node cannot say that it is there");
                    self.written = None;
                    RETRY
                }
            };
        }
    }

    /// One sign of life. A node that runs is registered: where its object is gone, it is made again.
    async fn look(&mut self, own: &Informer<Value>) -> Result<(), Error> {
        let held = own.cache().get("", &self.settings.name).map(|held| held.view.clone());
        let known = if own.is_synced() && self.written.is_some() {
            held
        } else {
            // What is held may be old: the API was not reached meanwhile.
            unless_gone(self.client.get(&NODES, "", &self.settings.name).await)?
        };
        let Some(known) = known else { return self.register().await };
        self.renew().await?;
        self.report(&known).await
    }

    /// Writes the status where it has changed, is old, or where somebody has given this node up meanwhile.
    async fn report(&mut self, known: &Value) -> Result<(), Error> {
        let name = self.settings.name.clone();
        let now_ms = self.clock.now_ms();
        let facts = Facts::read(&self.settings.dir);
        let mut status = status(&self.settings, &facts);
        if let Some(map) = status.as_object_mut() {
            map.insert("images", (self.images)());
        }
        let old = self.written.as_ref().is_none_or(|(_, at_ms)| now_ms - at_ms >= REPORT_MS);
        let same = self.written.as_ref().is_some_and(|(written, _)| *written == status);
        let pressures = self.pressure.now();
        if same && !old && is_told(known, pressures) {
            return Ok(());
        }
        let mut dated = status.clone();
        if let Some(map) = dated.as_object_mut() {
            map.insert("conditions", conditions(known, pressures, now_ms));
        }
        self.client.patch(&NODES, "", &name, "status", &Patch::Strategic(value!({"status": dated}))).await?;
        for condition in conditions_under(pressures).iter().filter(|condition| condition.held(known).is_none()) {
            self.tell(condition.event, format!("Node {name} status is now: {}", condition.event));
        }
        self.written = Some((status, now_ms));
        Ok(())
    }

    async fn renew(&self) -> Result<(), Error> {
        let name = self.settings.name.as_str();
        let now = Time::from_millis(self.clock.now_ms()).to_rfc3339_micro();
        let spec = value!({"holderIdentity": name, "leaseDurationSeconds": LEASE_S, "renewTime": now});
        let patch = Patch::Strategic(value!({"spec": (spec.clone())}));
        if unless_gone(self.client.patch(&LEASES, LEASE_NAMESPACE, name, "", &patch).await)?.is_some() {
            return Ok(());
        }
        let node = self.client.get(&NODES, "", name).await?;
        let owner = value!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": (Meta::of(&node).uid())});
        let lease = value!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
            "spec": spec
        });
        self.client.create(&LEASES, LEASE_NAMESPACE, &lease).await?;
        Ok(())
    }
}

/// The node's own object, to be followed.
pub fn scope(name: &str) -> Scope {
    Scope { fields: format!("metadata.name={name}"), ..Scope::all(NODES) }
}

/// The object as it is registered.
pub(crate) fn object(settings: &Settings, facts: &Facts) -> Value {
    let annotations = value!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    value!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": (settings.name.as_str()), "labels": (labels(settings)), "annotations": annotations},
        "status": (status(settings, facts))
    })
}

fn labels(settings: &Settings) -> Value {
    let arch = facts::architecture();
    value!({
        "beta.kubernetes.io/arch": arch, "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": arch,
        "kubernetes.io/os": "linux", "kubernetes.io/hostname": (settings.name.as_str())
    })
}

/// Everything of the status that does not depend on the time.
fn status(settings: &Settings, facts: &Facts) -> Value {
    let mut addresses: Vec<Value> =
        settings.addresses.iter().map(|ip| value!({"type": "InternalIP", "address": (ip.to_string())})).collect();
    addresses.push(value!({"type": "Hostname", "address": (settings.name.as_str())}));
    let mut capacity = Map::new();
    capacity.insert("cpu", facts.processors.to_string());
    capacity.insert("ephemeral-storage", format!("{}Ki", facts.disk_bytes / 1024));
    for (size, count) in &facts.hugepages {
        capacity.insert(format!("hugepages-{size}"), count.clone());
    }
    capacity.insert("memory", format!("{}Ki", facts.memory_bytes / 1024));
    capacity.insert("pods", settings.pods_max.to_string());
    let mut allocatable = capacity.clone();
    // What the node ends pods for is nobody's to ask for.
    let least = |signal, bytes: i64| {
        let least = settings.eviction.hard.least(signal, u64::try_from(bytes).unwrap_or_default());
        (bytes - least.map_or(0, |least| least.value())).max(0)
    };
    allocatable.insert("ephemeral-storage", least(Signal::NodefsAvailable, facts.disk_bytes).to_string());
    allocatable.insert("memory", format!("{}Ki", least(Signal::MemoryAvailable, facts.memory_bytes) / 1024));
    value!({
        "capacity": capacity,
        "allocatable": allocatable,
        "addresses": addresses,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": (i64::from(settings.port))}},
        "nodeInfo": {
            "machineID": (facts.machine_id.as_str()), "systemUUID": (facts.system_uuid.as_str()),
            "bootID": (facts.boot_id.as_str()), "kernelVersion": (facts.kernel.as_str()),
            "osImage": (facts.os_image.as_str()), "containerRuntimeVersion": (runtime_version()),
            "kubeletVersion": (settings.version.as_str()), "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": (facts::architecture())
        },
        "features": {"supplementalGroupsPolicy": true},
        "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": false, "userNamespaces": false}}]
    })
}

fn runtime_version() -> String {
    format!("corten://{}", env!("CARGO_PKG_VERSION"))
}

impl Condition {
    /// This condition of the node that the API server has, if it holds there already.
    fn held<'a>(&self, node: &'a Value) -> Option<&'a Value> {
        let known = node.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        known.iter().find(|old| old.str_at(&["type"]) == self.kind && old.str_at(&["status"]) == self.state)
    }
}

/// Whether all conditions are there as this node tells them: those of a node that was silent are not.
fn is_told(node: &Value, pressures: Pressures) -> bool {
    conditions_under(pressures).iter().all(|condition| condition.held(node).is_some())
}

/// The node's conditions with the times of their changes, from those that the API server has.
fn conditions(node: &Value, pressures: Pressures, now_ms: i64) -> Vec<Value> {
    let now = Time::from_millis(now_ms).to_rfc3339();
    let condition = |condition: &Condition| {
        let Condition { kind, state, reason, message, .. } = *condition;
        let since =
            condition.held(node).map(|old| old.str_at(&["lastTransitionTime"])).filter(|since| !since.is_empty());
        value!({
            "type": kind, "status": state, "reason": reason, "message": message,
            "lastHeartbeatTime": (now.clone()), "lastTransitionTime": (since.map_or_else(|| now.clone(), Into::into))
        })
    };
    conditions_under(pressures).iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_given_up_tells_that_it_is_there() {
        let with = |of_ready: &str| {
            let state = |condition: &Condition| {
                if condition.kind == "Ready" { of_ready.to_owned() } else { condition.state.to_owned() }
            };
            let all = conditions_under(Pressures::default());
            let conditions: Vec<Value> =
                all.iter().map(|own| value!({"type": (own.kind), "status": (state(own))})).collect();
            value!({"status": {"conditions": conditions}})
        };
        let none = Pressures::default();
        assert!(is_told(&with("True"), none));
        assert!(!is_told(&with("True"), Pressures::of(&[Kind::Memory])));
        assert!(!is_told(&with("Unknown"), none));
        assert!(!is_told(&value!({}), none));
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_holds() {
        let node = value!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"},
            {"type": "PIDPressure", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"}
        ]}});
        let since: Vec<_> = conditions(&node, Pressures::default(), 0)
            .iter()
            .map(|condition| format!("{} {}", condition.str_at(&["type"]), condition.str_at(&["lastTransitionTime"])))
            .collect();
        assert_eq!(since[2..], ["PIDPressure 2020-01-01T00:00:00Z", "Ready 1970-01-01T00:00:00Z"]);
    }

    #[test]
    fn a_condition_is_told_of_when_it_begins_to_hold() {
        let node = value!({"status": {"conditions": [
            {"type": "Ready", "status": "Unknown"}, {"type": "PIDPressure", "status": "False"}
        ]}});
        let told = |under: &[Kind]| {
            let all = conditions_under(Pressures::of(under)).into_iter();
            all.filter(|condition| condition.held(&node).is_none()).map(|condition| condition.event).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeReady"]);
        let all = ["NodeHasInsufficientMemory", "NodeHasDiskPressure", "NodeHasInsufficientPID", "NodeReady"];
        assert_eq!(told(&Kind::ALL), all);
    }
}
