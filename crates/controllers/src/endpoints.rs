//! Publishes the pods behind every service as one `Endpoints` object, for those who do not read slices yet
//! (`pkg/controller/endpoint`). Pods that are being deleted are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use corten_apimachinery::json;
use corten_apimachinery::meta::metadata_mut;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Resource};

use crate::Base;
use crate::backend::{Backend, HEADLESS, Pod, SERVICES, Service, TRIGGER, Triggers, pods_of, services_of, target};
use crate::pod::PODS;

pub(crate) const ENDPOINTS: Resource = Resource::new("", "v1", "endpoints");
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

struct Context {
    client: Client,
    recorder: Recorder,
    services: Informer<Value>,
    pods: Informer<Backend>,
    endpoints: Informer<Value>,
    triggers: Mutex<Triggers>,
}

pub fn controller(base: &Base) -> Controller {
    let services = base.informers.of::<Value>(Scope::all(SERVICES));
    let pods = base.informers.of::<Backend>(Scope::all(PODS));
    let endpoints = base.informers.of::<Value>(Scope::all(ENDPOINTS));
    let context = Context {
        client: (base.client_of)("endpoint-controller"),
        recorder: (base.recorder_of)("endpoint-controller", "endpoint-controller"),
        services: services.clone(),
        pods: pods.clone(),
        endpoints: endpoints.clone(),
        triggers: Mutex::default(),
    };
    Controller::new("endpoints", Arc::new(context), reconcile)
        .watches(&services)
        .watches_for(&pods, move |pod| services_of(pod, &services))
        .watches(&endpoints)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let known = ctx.endpoints.cache().get(&key.namespace, &key.name);
    let Some(service) = ctx.services.cache().get(&key.namespace, &key.name) else {
        ctx.triggers.lock().unwrap_or_else(PoisonError::into_inner).forget(&key);
        // Only what this controller has made goes with the service.
        let own =
            known.filter(|known| known.head.labels.iter().any(|(key, value)| key == MANAGED_BY && value == MANAGER));
        if let Some(own) = own {
            let delete = Delete::of(&own.head.uid);
            unless_gone(ctx.client.delete(&ENDPOINTS, &key.namespace, &key.name, &delete).await)?;
        }
        return Ok(Next::Change);
    };
    if !Service(&service).selects() {
        return Ok(Next::Change);
    }
    let pods = pods_of(&service, &ctx.pods);
    let trigger = ctx.triggers.lock().unwrap_or_else(PoisonError::into_inner).since(&service, &pods);
    let Some(mut wanted) = plan(&service, &pods, known.as_ref().map(|known| &known.view)) else {
        return Ok(Next::Change);
    };
    let annotations = metadata_mut(&mut wanted).object_entry("annotations");
    match trigger {
        Some(trigger) => drop(annotations.insert(TRIGGER, trigger)),
        None => drop(annotations.remove(TRIGGER)),
    }
    ctx.write(&service, known.is_some(), &wanted).await.map(|()| Next::Change)
}

impl Context {
    async fn write(&self, service: &Held<Value>, known: bool, wanted: &Value) -> Result<(), Error> {
        let (namespace, name) = (&service.head.namespace, &service.head.name);
        let done = match known {
            true => self.client.update(&ENDPOINTS, "", wanted).await,
            false => self.client.create(&ENDPOINTS, namespace, wanted).await,
        };
        let Err(error) = done else { return Ok(()) };
        if error.is_namespace_terminating() {
            return Ok(());
        }
        let (reason, note) = match known {
            true => ("FailedToUpdateEndpoint", format!("Failed to update endpoint {namespace}/{name}: {error}")),
            false => {
                ("FailedToCreateEndpoint", format!("Failed to create endpoint for service {namespace}/{name}: {error}"))
            }
        };
        self.recorder.warning(&Reference::of("v1", "Endpoints", wanted), reason, note);
        Err(error)
    }
}

/// The object that a service should have; `None` where it is as it should be.
fn plan(service: &Held<Value>, pods: &[Pod], known: Option<&Value>) -> Option<Value> {
    let of = Service(service);
    let mut labels = of.labels(&[HEADLESS, MANAGED_BY]);
    labels.insert(MANAGED_BY, MANAGER);
    let (labels, subsets) = (Value::Object(labels), subsets(&of, pods));
    if let Some(known) = known {
        let old = known.get("subsets").and_then(Value::as_array).unwrap_or_default();
        if old == subsets && known.at(&["metadata", "labels"]) == Some(&labels) {
            return None;
        }
    }
    let mut wanted = known.cloned().unwrap_or_else(|| {
        let head = &service.head;
        value!({
            "kind": "Endpoints", "apiVersion": "v1",
            "metadata": {"name": (head.name.clone()), "namespace": (head.namespace.clone())}
        })
    });
    metadata_mut(&mut wanted).insert("labels", labels);
    let map = wanted.as_object_mut()?;
    if subsets.is_empty() {
        map.remove("subsets");
    } else {
        map.insert("subsets", subsets);
    }
    Some(wanted)
}

/// Addresses by readiness and text; ports that have the same ones make a subset.
type Addresses = BTreeMap<(bool, String), Value>;

fn subsets(of: &Service<'_>, pods: &[Pod]) -> Vec<Value> {
    let mut by_port: BTreeMap<String, (Option<Value>, Addresses)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| of.publishes_unready() || !pod.head.deleting) {
        let Some((key, address)) = address(of, pod) else { continue };
        let ready = of.publishes_unready() || pod.ready;
        let numbered = |port: &Value| Some(subset_port(port, Service::number(port, pod)?));
        let ports: Vec<Option<Value>> = match of.ports() {
            // A headless service may have none.
            [] if of.is_headless() => vec![None],
            ports => ports.iter().filter_map(numbered).map(Some).collect(),
        };
        for port in ports {
            let text = port.as_ref().map(json::to_string).unwrap_or_default();
            let entry = by_port.entry(text).or_insert_with(|| (port, Addresses::new()));
            entry.1.insert((!ready, key.clone()), address.clone());
        }
    }
    let mut by_addresses: BTreeMap<BTreeSet<(bool, String)>, (Vec<Value>, Addresses)> = BTreeMap::new();
    for (port, addresses) in by_port.into_values() {
        let entry = by_addresses.entry(addresses.keys().cloned().collect()).or_insert((Vec::new(), addresses));
        entry.0.extend(port);
    }
    by_addresses.into_values().map(|(ports, addresses)| subset(ports, addresses)).collect()
}

fn subset(ports: Vec<Value>, addresses: Addresses) -> Value {
    let mut subset = Value::object();
    let (unready, ready): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|((unready, _), _)| *unready);
    if let Some(map) = subset.as_object_mut() {
        for (field, own) in [("addresses", ready), ("notReadyAddresses", unready)] {
            let own: Vec<Value> = own.into_iter().map(|(_, address)| address).collect();
            if !own.is_empty() {
                map.insert(field, own);
            }
        }
        if !ports.is_empty() {
            map.insert("ports", ports);
        }
    }
    subset
}

/// The pod's address of the service's first family, with a text to sort by.
fn address(of: &Service<'_>, pod: &Held<Backend>) -> Option<(String, Value)> {
    let v6 = of.families().first().copied().unwrap_or_default();
    let ip = pod.addresses.iter().find(|ip| ip.is_ipv6() == v6)?;
    let mut address = value!({"ip": (ip.to_string()), "targetRef": (target(pod))});
    let map = address.as_object_mut()?;
    if let Some(hostname) = of.hostname(pod) {
        map.insert("hostname", hostname.clone());
    }
    if !pod.node.is_empty() {
        map.insert("nodeName", pod.node.clone());
    }
    Some((format!("{ip} {}", pod.head.uid), address))
}

fn subset_port(port: &Value, number: i64) -> Value {
    let mut own = value!({"port": number});
    if let Some(map) = own.as_object_mut() {
        for field in ["name", "protocol", "appProtocol"] {
            if let Some(text) = port.get(field).filter(|text| text.as_str() != Some("")) {
                map.insert(field, text.clone());
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(ports: Value) -> Held<Value> {
        let service = value!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "s", "labels": {"team": "a"}},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"], "ports": ports}
        });
        Held::from_object(&service).expect("held")
    }

    fn pod(name: &str, ip: &str, ready: &str, metrics: i64) -> Pod {
        let pod = value!({
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": {"containers": [{"ports": [{"name": "metrics", "containerPort": metrics, "protocol": "TCP"}]}]},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}
        });
        Arc::new(Held::from_object(&pod).expect("held"))
    }

    /// `ready/unready:ports` of each subset.
    fn seen(endpoints: &Value) -> Vec<String> {
        let list = |subset: &Value, field| subset.get(field).and_then(Value::as_array).unwrap_or_default().to_vec();
        let texts = |items: Vec<Value>, field| {
            items.iter().map(|item| json::to_string(item.get(field).expect("a field"))).collect::<Vec<_>>().join(",")
        };
        let subset = |subset: &Value| {
            let [ready, unready] =
                ["addresses", "notReadyAddresses"].map(|field| texts(list(subset, field), "ip").replace('"', ""));
            format!("{ready}/{unready}:{}", texts(list(subset, "ports"), "port"))
        };
        list(endpoints, "subsets").iter().map(subset).collect()
    }

    #[test]
    fn addresses_of_the_same_ports_are_one_subset() {
        let ports = value!([
            {"name": "http", "port": 80, "protocol": "TCP"}, {"name": "m", "port": 9, "targetPort": "metrics", "protocol": "TCP"}
        ]);
        let service = service(ports);
        let pods = [pod("a", "10.0.0.1", "True", 9090), pod("b", "10.0.0.2", "False", 9090)];
        let made = plan(&service, &pods, None).expect("it is new");
        assert_eq!(seen(&made), ["10.0.0.1/10.0.0.2:80,9090"]);
        assert_eq!(plan(&service, &pods, Some(&made)), None);
        let other = [pods[0].clone(), pod("b", "10.0.0.2", "True", 9191)];
        let changed = plan(&service, &other, Some(&made)).expect("it changes");
        assert_eq!(seen(&changed), ["10.0.0.1/:9090", "10.0.0.1,10.0.0.2/:80", "10.0.0.2/:9191"]);
        let none = plan(&service, &[], Some(&made)).expect("it changes");
        assert_eq!((seen(&none).len(), none.get("subsets")), (0, None));
    }
}
