//! What stands behind a service: what Endpoints and EndpointSlices tell of pods, and on which ports.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::Resource;
use corten_client::cache::{Held, Key, View};
use corten_client::informer::Informer;

use crate::pod::seconds;

pub(crate) const SERVICES: Resource = Resource::new("", "v1", "services");
pub(crate) const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) type Pod = Arc<Held<Backend>>;

/// A pod that may stand behind services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) node: Str,
    pub(crate) ready: bool,
    /// When it last became ready or not.
    ready_changed_s: i64,
    hostname: Str,
    subdomain: Str,
    /// Named ports of containers, with their protocol.
    ports: Vec<(Str, Str, i64)>,
}

impl View for Backend {
    /// Pods that have ended or have no address yet stand behind nothing.
    fn from_object(pod: &Value) -> Option<Self> {
        let list = |path: &[&str]| pod.at(path).and_then(Value::as_array).unwrap_or_default();
        let mut addresses: Vec<IpAddr> =
            list(&["status", "podIPs"]).iter().filter_map(|ip| ip.str_at(&["ip"]).parse().ok()).collect();
        if addresses.is_empty() {
            addresses.extend(pod.str_at(&["status", "podIP"]).parse::<IpAddr>().ok());
        }
        if addresses.is_empty() || matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed") {
            return None;
        }
        let ready = list(&["status", "conditions"]).iter().find(|of| of.str_at(&["type"]) == "Ready");
        let sidecars = list(&["spec", "initContainers"]).iter().filter(|of| of.str_at(&["restartPolicy"]) == "Always");
        let containers = list(&["spec", "containers"]).iter().chain(sidecars);
        let ports = containers.flat_map(|of| of.get("ports").and_then(Value::as_array).unwrap_or_default());
        let named = ports.filter(|port| !port.str_at(&["name"]).is_empty()).map(|port| {
            let number = port.i64_at(&["containerPort"]).unwrap_or_default();
            (port.str_at(&["name"]).into(), protocol(port), number)
        });
        Some(Self {
            addresses,
            node: pod.str_at(&["spec", "nodeName"]).into(),
            ready: ready.is_some_and(|ready| ready.str_at(&["status"]) == "True"),
            ready_changed_s: ready.map_or(0, |ready| seconds(ready.str_at(&["lastTransitionTime"]))),
            hostname: pod.str_at(&["spec", "hostname"]).into(),
            subdomain: pod.str_at(&["spec", "subdomain"]).into(),
            ports: named.collect(),
        })
    }
}

fn protocol(port: &Value) -> Str {
    match port.str_at(&["protocol"]) {
        "" => Str::const_new("TCP"),
        text => text.into(),
    }
}

/// What a service says of its endpoints.
pub(crate) struct Service<'a>(pub(crate) &'a Held<Value>);

impl Service<'_> {
    fn spec(&self, field: &str) -> &str {
        self.0.view.str_at(&["spec", field])
    }

    pub(crate) fn ports(&self) -> &[Value] {
        self.0.view.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default()
    }

    pub(crate) fn has_selector(&self) -> bool {
        selector(&self.0.view).is_some()
    }

    /// Whether its endpoints follow from pods.
    pub(crate) fn selects(&self) -> bool {
        self.has_selector() && self.spec("type") != "ExternalName"
    }

    pub(crate) fn is_headless(&self) -> bool {
        matches!(self.spec("clusterIP"), "" | "None")
    }

    pub(crate) fn publishes_unready(&self) -> bool {
        self.0.view.at(&["spec", "publishNotReadyAddresses"]).and_then(Value::as_bool).unwrap_or_default()
    }

    /// Whether its addresses are IPv6, for each family that it has.
    pub(crate) fn families(&self) -> Vec<bool> {
        let families = self.0.view.at(&["spec", "ipFamilies"]).and_then(Value::as_array).unwrap_or_default();
        match families {
            [] if self.is_headless() => vec![false, true],
            [] => vec![self.spec("clusterIP").contains(':')],
            families => families.iter().map(|family| family.as_str() == Some("IPv6")).collect(),
        }
    }

    /// The name of the pod in the service's domain.
    pub(crate) fn hostname<'p>(&self, pod: &'p Held<Backend>) -> Option<&'p Str> {
        let own = !pod.hostname.is_empty() && pod.subdomain == self.0.head.name;
        own.then_some(&pod.hostname)
    }

    /// The number of a port on a pod; `None` where the pod has none of the name.
    pub(crate) fn number(port: &Value, pod: &Backend) -> Option<i64> {
        match port.get("targetPort") {
            Some(Value::String(name)) => {
                let protocol = protocol(port);
                let named = pod.ports.iter().find(|(known, of, _)| known == name && *of == protocol);
                named.map(|(.., number)| *number)
            }
            Some(Value::Int(number)) if *number != 0 => Some(*number),
            _ => port.i64_at(&["port"]),
        }
    }

    /// Labels that slices and endpoints get, without those that tell whose they are.
    pub(crate) fn labels(&self, reserved: &[&str]) -> Map {
        let own = self.0.head.labels.iter().filter(|(key, _)| !reserved.contains(&key.as_str()));
        let mut labels = Map::new();
        own.for_each(|(key, value)| drop(labels.insert(key.clone(), value.clone())));
        if self.is_headless() {
            labels.insert(HEADLESS, "");
        }
        labels
    }
}

pub(crate) fn target(pod: &Held<Backend>) -> Value {
    let head = &pod.head;
    value!({
        "kind": "Pod", "namespace": (head.namespace.clone()), "name": (head.name.clone()), "uid": (head.uid.clone())
    })
}

fn selector(service: &Value) -> Option<LabelSelector> {
    let labels = service.at(&["spec", "selector"]).and_then(Value::as_object)?;
    let labels = labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let selector = LabelSelector::from_labels(labels);
    (!selector.is_empty()).then_some(selector)
}

/// The pods behind a service.
pub(crate) fn pods_of(service: &Held<Value>, pods: &Informer<Backend>) -> Vec<Pod> {
    let selector = selector(&service.view);
    selector.map(|selector| pods.cache().selected(&service.head.namespace, &selector)).unwrap_or_default()
}

/// The services that a pod stands behind.
pub(crate) fn services_of(pod: &Held<Backend>, services: &Informer<Value>) -> Vec<Key> {
    let all = services.cache().in_namespace(&pod.head.namespace);
    let own = all.iter().filter(|service| selector(&service.view).is_some_and(|of| of.matches(&pod.head.labels)));
    own.map(|service| service.head.key()).collect()
}

/// When what changed an object's endpoints happened, as far as the last look has not seen it.
#[derive(Debug, Default)]
pub(crate) struct Triggers(HashMap<Key, HashMap<Str, i64>>);

impl Triggers {
    /// The earliest change since the last look; the service's creation at the first one.
    pub(crate) fn since(&mut self, service: &Held<Value>, pods: &[Pod]) -> Option<Str> {
        let times = pods.iter().filter(|pod| pod.ready_changed_s > 0);
        let times = times.map(|pod| (pod.head.uid.clone(), pod.ready_changed_s)).collect();
        let known = self.0.insert(service.head.key(), times);
        let earliest_s = match known {
            None => Some(seconds(Meta::of(&service.view).creation_timestamp())),
            Some(known) => {
                let newer = |pod: &&Pod| pod.ready_changed_s > known.get(&pod.head.uid).copied().unwrap_or_default();
                pods.iter().filter(newer).map(|pod| pod.ready_changed_s).min()
            }
        };
        earliest_s.map(|earliest_s| Time::from_seconds(earliest_s).to_rfc3339())
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }
}
