//! Publishes the pods behind every service in slices of at most a hundred endpoints (`pkg/controller/endpointslice`,
//! `k8s.io/endpointslice`). A pod that is being deleted is no longer ready from that moment, whatever it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Resource};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::backend::{Backend, HEADLESS, Pod, SERVICES, Service, TRIGGER, Triggers, pods_of, services_of, target};
use crate::node::NODES;
use crate::pod::PODS;

pub(crate) const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices");
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
const ENDPOINTS_MAX: usize = 100;

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    services: Informer<Value>,
    pods: Informer<Backend>,
    nodes: Informer<()>,
    slices: Informer<Value>,
    triggers: Mutex<Triggers>,
}

pub fn controller(base: &Base) -> Controller {
    let services = base.informers.of::<Value>(Scope::all(SERVICES));
    let pods = base.informers.of::<Backend>(Scope::all(PODS));
    let nodes = base.informers.of::<()>(Scope::metadata(NODES));
    let slices = base.informers.of::<Value>(Scope::all(SLICES));
    let context = Context {
        client: (base.client_of)("endpointslice-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("endpointslice-controller", "endpoint-slice-controller"),
        services: services.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
        slices: slices.clone(),
        triggers: Mutex::default(),
    };
    Controller::new("endpoint-slice", Arc::new(context), reconcile)
        .watches_for(&nodes, |_| Vec::new())
        .watches(&services)
        .watches_for(&pods, move |pod| services_of(pod, &services))
        .watches_for(&slices, |slice| service_of(slice).into_iter().collect())
}

/// The service whose slice this is, where it is this controller's.
fn service_of(slice: &Held<Value>) -> Option<Key> {
    let meta = Meta::of(&slice.view);
    let own = meta.label(MANAGED_BY) == Some(MANAGER);
    meta.label(SERVICE_LABEL).filter(|_| own).map(|name| Key::new(slice.head.namespace.clone(), name))
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let service = ctx.services.cache().get(&key.namespace, &key.name);
    let Some(service) = service.filter(|service| Service(service).selects()) else {
        ctx.triggers.lock().unwrap_or_else(PoisonError::into_inner).forget(&key);
        return Ok(Next::Change);
    };
    let pods = pods_of(&service, &ctx.pods);
    let trigger = ctx.triggers.lock().unwrap_or_else(PoisonError::into_inner).since(&service, &pods);
    let mut known = ctx.slices.cache().in_namespace(&key.namespace);
    known.retain(|slice| !slice.head.deleting && service_of(slice).as_ref() == Some(&key));
    let zones = |node: &str| ctx.nodes.cache().get("", node).map(|node| zone(&node));
    let plan = plan(&service, &pods, &known, &zones);
    ctx.carry_out(&service, plan, trigger.as_deref()).await.map(|()| Next::Change)
}

/// The zone of a node; empty where it says none.
fn zone(node: &Held<()>) -> Str {
    node.head.labels.iter().find(|(key, _)| key == ZONE).map(|(_, zone)| zone.clone()).unwrap_or_default()
}

impl Context {
    async fn carry_out(&self, service: &Held<Value>, plan: Plan, trigger: Option<&str>) -> Result<(), Error> {
        let head = &service.head;
        let done = self.write(service, plan, trigger).await;
        match done {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                let note =
                    format!("Error updating Endpoint Slices for Service {}/{}: {error}", head.namespace, head.name);
                let reference = Reference::of_head("v1", "Service", head);
                self.recorder.warning(&reference, "FailedToUpdateEndpointSlices", note);
                Err(error)
            }
            Ok(Some(last)) => self.slices.caught_up(&last.to_string(), &self.clock).await,
            Ok(None) => Ok(()),
        }
    }

    /// Writes what differs; gives the last revision.
    async fn write(&self, service: &Held<Value>, plan: Plan, trigger: Option<&str>) -> Result<Option<u64>, Error> {
        let namespace = &service.head.namespace;
        let mut last = None;
        let mut written = |slice: &Value| last = last.max(Meta::of(slice).resource_version().parse::<u64>().ok());
        if !service.head.deleting {
            for mut slice in plan.create {
                mark(&mut slice, trigger);
                written(&self.client.create(&SLICES, namespace, &slice).await?);
            }
        }
        for mut slice in plan.update {
            mark(&mut slice, trigger);
            written(&self.client.update(&SLICES, "", &slice).await?);
        }
        for (name, uid) in plan.delete {
            unless_gone(self.client.delete(&SLICES, namespace, &name, &Delete::of(&uid)).await)?;
        }
        if !plan.homeless.is_empty() {
            let (pod, node) = &plan.homeless[0];
            return Err(Error::Shape(format!("skipping Pod {pod}: Node {node} Not Found")));
        }
        Ok(last)
    }
}

/// Notes when that happened which the slice shows.
fn mark(slice: &mut Value, trigger: Option<&str>) {
    let annotations = metadata_mut(slice).object_entry("annotations");
    match trigger {
        Some(trigger) => drop(annotations.insert(TRIGGER, trigger)),
        None => drop(annotations.remove(TRIGGER)),
    }
}

#[derive(Debug, Default)]
struct Plan {
    create: Vec<Value>,
    update: Vec<Value>,
    /// Names and UIDs.
    delete: Vec<(Str, Str)>,
    /// Pods whose node is not known, with its name.
    homeless: Vec<(Str, Str)>,
}

/// Endpoints that share their ports, by the pod's UID.
#[derive(Default)]
struct Group {
    ports: Vec<Value>,
    endpoints: BTreeMap<Str, Value>,
}

/// Which slices a service should have. `zones` gives the zone of a node that is there.
fn plan(service: &Held<Value>, pods: &[Pod], known: &[Arc<Held<Value>>], zones: &dyn Fn(&str) -> Option<Str>) -> Plan {
    let of = Service(service);
    let mut plan = Plan::default();
    let families = of.families();
    let kind = |v6: bool| if v6 { "IPv6" } else { "IPv4" };
    for slice in known {
        if !families.iter().any(|v6| slice.view.str_at(&["addressType"]) == kind(*v6)) {
            plan.delete.push((slice.head.name.clone(), slice.head.uid.clone()));
        }
    }
    for v6 in families {
        let own: Vec<_> = known.iter().filter(|slice| slice.view.str_at(&["addressType"]) == kind(v6)).collect();
        let groups = groups(&of, pods, v6, zones, &mut plan);
        let mut family = Plan::default();
        settle(service, kind(v6), groups, &own, &mut family);
        reuse(service, &own, &mut family);
        plan.create.append(&mut family.create);
        plan.update.append(&mut family.update);
        plan.delete.append(&mut family.delete);
    }
    plan
}

fn groups(
    of: &Service<'_>,
    pods: &[Pod],
    v6: bool,
    zones: &dyn Fn(&str) -> Option<Str>,
    plan: &mut Plan,
) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for pod in pods {
        let zone = if pod.node.is_empty() { None } else { zones(&pod.node) };
        if zone.is_none() && !of.publishes_unready() {
            plan.homeless.push((pod.head.name.clone(), pod.node.clone()));
            continue;
        }
        let addresses: Vec<Value> =
            pod.addresses.iter().filter(|ip| ip.is_ipv6() == v6).map(|ip| ip.to_string().into()).collect();
        let ports: Vec<Value> = of.ports().iter().filter_map(|port| slice_port(port, pod)).collect();
        let group = groups.entry(ports_key(&ports)).or_insert_with(|| Group { ports, ..Group::default() });
        if !addresses.is_empty() {
            let endpoint = endpoint(of, pod, addresses, zone.filter(|zone| !zone.is_empty()));
            group.endpoints.insert(pod.head.uid.clone(), endpoint);
        }
    }
    groups
}

fn slice_port(port: &Value, pod: &Backend) -> Option<Value> {
    let number = Service::number(port, pod)?;
    let protocol = Some(port.str_at(&["protocol"])).filter(|text| !text.is_empty()).unwrap_or("TCP");
    let mut own = value!({"name": (port.str_at(&["name"])), "protocol": protocol, "port": number});
    if let (Some(app), Some(own)) = (port.get("appProtocol"), own.as_object_mut()) {
        own.insert("appProtocol", app.clone());
    }
    Some(own)
}

/// The same for the same ports in any order.
fn ports_key(ports: &[Value]) -> String {
    let text = |port: &Value| {
        let number = port.i64_at(&["port"]).unwrap_or_default();
        let text = |field| port.str_at(&[field]);
        format!("{} {} {number} {}", text("name"), text("protocol"), text("appProtocol"))
    };
    let mut ports: Vec<String> = ports.iter().map(text).collect();
    ports.sort();
    ports.join(",")
}

fn endpoint(of: &Service<'_>, pod: &Held<Backend>, addresses: Vec<Value>, zone: Option<Str>) -> Value {
    let terminating = pod.head.deleting;
    let ready = of.publishes_unready() || pod.ready && !terminating;
    let conditions = value!({"ready": ready, "serving": (pod.ready), "terminating": terminating});
    let mut endpoint = value!({"addresses": addresses, "conditions": conditions, "targetRef": (target(pod))});
    if let Some(endpoint) = endpoint.as_object_mut() {
        let node = Some(pod.node.clone()).filter(|node| !node.is_empty());
        for (field, text) in [("hostname", of.hostname(pod).cloned()), ("nodeName", node), ("zone", zone)] {
            if let Some(text) = text {
                endpoint.insert(field, text);
            }
        }
    }
    endpoint
}

/// Brings the slices of one kind of address to what is wanted, with as few writes as there may be.
fn settle(
    service: &Held<Value>,
    kind: &str,
    mut groups: BTreeMap<String, Group>,
    known: &[&Arc<Held<Value>>],
    plan: &mut Plan,
) {
    let mut left = 0;
    for slice in known {
        let owned = slice.head.owners.iter().any(|owner| owner.uid == service.head.uid && owner.kind == "Service");
        let ports = slice.view.get("ports").and_then(Value::as_array).unwrap_or_default();
        let group = groups.get_mut(&ports_key(ports)).filter(|_| owned);
        let Some(group) = group else {
            plan.delete.push((slice.head.name.clone(), slice.head.uid.clone()));
            continue;
        };
        left += settle_slice(service, slice, group, plan);
    }
    for group in groups.values().filter(|group| !group.endpoints.is_empty()) {
        let mut rest: Vec<Value> = group.endpoints.values().cloned().collect();
        top_up(&mut plan.update, &group.ports, &mut rest);
        for endpoints in rest.chunks(ENDPOINTS_MAX) {
            plan.create.push(new_slice(service, kind, &group.ports, endpoints.to_vec()));
        }
    }
    if left == 0 && plan.create.is_empty() && plan.update.is_empty() {
        placeholder(service, kind, known, plan);
    }
}

/// Keeps what a slice has and is still wanted, and takes that from the group. Says whether the slice stays.
fn settle_slice(service: &Held<Value>, slice: &Arc<Held<Value>>, group: &mut Group, plan: &mut Plan) -> usize {
    let old = slice.view.get("endpoints").and_then(Value::as_array).unwrap_or_default();
    let kept: Vec<Value> =
        old.iter().filter_map(|of| group.endpoints.remove(of.str_at(&["targetRef", "uid"]))).collect();
    if kept.is_empty() && group.endpoints.is_empty() {
        plan.delete.push((slice.head.name.clone(), slice.head.uid.clone()));
        return 0;
    }
    let labels = labels(service);
    let same_labels = slice.view.at(&["metadata", "labels"]) == Some(&labels);
    // What is new goes where there is room, so that no other slice is needed.
    let room = !group.endpoints.is_empty() && kept.len() + group.endpoints.len() <= ENDPOINTS_MAX;
    if kept != old || !same_labels || room || kept.is_empty() {
        let mut new = slice.view.clone();
        metadata_mut(&mut new).insert("labels", labels);
        if let Some(new) = new.as_object_mut() {
            new.insert("endpoints", kept);
        }
        plan.update.push(new);
        return 0;
    }
    1
}

/// Puts what is left into slices of the same ports that are written anyway.
fn top_up(update: &mut [Value], ports: &[Value], rest: &mut Vec<Value>) {
    for slice in update {
        let own = slice.get("ports").and_then(Value::as_array).unwrap_or_default();
        if ports_key(own) != ports_key(ports) {
            continue;
        }
        if let Some(endpoints) = slice.get_mut("endpoints").and_then(Value::as_array_mut) {
            let room = ENDPOINTS_MAX.saturating_sub(endpoints.len()).min(rest.len());
            endpoints.extend(rest.drain(..room));
        }
    }
}

/// A service without endpoints has one empty slice.
fn placeholder(service: &Held<Value>, kind: &str, known: &[&Arc<Held<Value>>], plan: &mut Plan) {
    let wanted = new_slice(service, kind, &[], Vec::new());
    let is_it = |slice: &&Arc<Held<Value>>| {
        let empty = |field| slice.view.get(field).and_then(Value::as_array).is_none_or(<[Value]>::is_empty);
        let owned = slice.head.owners.iter().any(|owner| owner.uid == service.head.uid);
        owned
            && empty("endpoints")
            && empty("ports")
            && slice.view.at(&["metadata", "labels"]) == Some(&labels(service))
    };
    match known {
        [only] if is_it(only) => plan.delete.retain(|(name, _)| *name != only.head.name),
        _ => plan.create.push(wanted),
    }
}

/// A slice that would go takes the place of one that would be made.
fn reuse(service: &Held<Value>, known: &[&Arc<Held<Value>>], plan: &mut Plan) {
    for slice in known {
        let at = plan.delete.iter().position(|(name, _)| *name == slice.head.name);
        let owned = slice.head.owners.iter().any(|owner| owner.uid == service.head.uid);
        let Some(at) = at.filter(|_| owned) else { continue };
        let Some(mut new) = plan.create.pop() else { return };
        plan.delete.remove(at);
        let metadata = metadata_mut(&mut new);
        for (field, text) in
            [("name", &slice.head.name), ("uid", &slice.head.uid), ("resourceVersion", &slice.head.revision)]
        {
            metadata.insert(field, text.clone());
        }
        plan.update.push(new);
    }
}

fn labels(service: &Held<Value>) -> Value {
    let mut labels = Service(service).labels(&[SERVICE_LABEL, MANAGED_BY, HEADLESS]);
    labels.insert(SERVICE_LABEL, service.head.name.clone());
    labels.insert(MANAGED_BY, MANAGER);
    Value::Object(labels)
}

fn new_slice(service: &Held<Value>, kind: &str, ports: &[Value], endpoints: Vec<Value>) -> Value {
    let head = &service.head;
    let owner = value!({
        "apiVersion": "v1", "kind": "Service", "name": (head.name.clone()), "uid": (head.uid.clone()),
        "controller": true, "blockOwnerDeletion": true
    });
    let mut metadata = Map::new();
    metadata.insert("generateName", format!("{}-", head.name));
    metadata.insert("namespace", head.namespace.clone());
    metadata.insert("labels", labels(service));
    metadata.insert("ownerReferences", vec![owner]);
    value!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata, "addressType": kind,
        "endpoints": endpoints, "ports": (ports.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::json;

    use super::*;

    fn service(more: &[(&str, Value)]) -> Held<Value> {
        let mut service = value!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "s", "labels": {"team": "a"}},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"],
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}
        });
        for (field, value) in more {
            service.object_entry("spec").insert(*field, value.clone());
        }
        Held::from_object(&service).expect("held")
    }

    /// `name ip ready`; `!` after the name: being deleted.
    fn pod(text: &str) -> Pod {
        let words: Vec<&str> = text.split(' ').collect();
        let name = words[0].trim_end_matches('!');
        let mut pod = value!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "hostname": "h", "subdomain": "web", "containers": [
                {"ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"podIPs": [{"ip": (words[1])}], "conditions": [{"type": "Ready", "status": (words[2])}]}
        });
        if name != words[0] {
            pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        Arc::new(Held::from_object(&pod).expect("held"))
    }

    fn run(service: &Held<Value>, pods: &[Pod], known: &[Arc<Held<Value>>]) -> Plan {
        plan(service, pods, known, &|node| (node == "n1").then(|| "z".into()))
    }

    /// As the server would show what was made.
    fn stored(slice: &Value, name: &str) -> Arc<Held<Value>> {
        let mut slice = slice.clone();
        metadata_mut(&mut slice).insert("name", name);
        metadata_mut(&mut slice).insert("uid", name);
        metadata_mut(&mut slice).insert("resourceVersion", "7");
        Arc::new(Held::from_object(&slice).expect("held"))
    }

    #[test]
    fn a_slice_shows_pods_with_their_conditions() {
        let pods = [pod("a 10.0.0.1 True"), pod("b! 10.0.0.2 True"), pod("c 10.0.0.3 False")];
        let plan = run(&service(&[]), &pods, &[]);
        let [slice] = &plan.create[..] else { panic!("one slice: {plan:?}") };
        assert_eq!(
            json::to_string(&slice.get("endpoints").expect("endpoints").as_array().expect("a list")[1]),
            "{\"addresses\":[\"10.0.0.2\"],\"conditions\":{\"ready\":false,\"serving\":true,\"terminating\":true},\
             \"targetRef\":{\"kind\":\"Pod\",\"namespace\":\"shop\",\"name\":\"b\",\"uid\":\"b\"},\"hostname\":\"h\",\
             \"nodeName\":\"n1\",\"zone\":\"z\"}"
        );
        let ports = json::to_string(slice.get("ports").expect("ports"));
        assert_eq!(ports, "[{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":8080}]");
        let labels = json::to_string(slice.at(&["metadata", "labels"]).expect("labels"));
        assert_eq!(
            labels,
            "{\"team\":\"a\",\"kubernetes.io/service-name\":\"web\",\"endpointslice.kubernetes.io/managed-by\":\
             \"endpointslice-controller.k8s.io\"}"
        );
    }

    fn ready(slice: &Value) -> usize {
        let endpoints = slice.get("endpoints").and_then(Value::as_array).expect("a list");
        endpoints.iter().filter(|of| of.at(&["conditions", "ready"]) == Some(&Value::Bool(true))).count()
    }

    #[test]
    fn nothing_is_written_twice_and_slices_are_reused() {
        let service = service(&[]);
        let pods = [pod("a 10.0.0.1 True"), pod("b 10.0.0.2 True")];
        let made = stored(&run(&service, &pods, &[]).create[0], "web-1");
        let again = run(&service, &pods, std::slice::from_ref(&made));
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(), "{again:?}");
        // One leaves: the same slice says so.
        let left = run(&service, &[pod("a 10.0.0.1 True"), pod("b! 10.0.0.2 True")], std::slice::from_ref(&made));
        assert_eq!((left.create.len(), left.update.iter().map(ready).collect::<Vec<_>>()), (0, vec![1]));
        // All leave: it becomes the placeholder, and stays it.
        let none = run(&service, &[], &[made]);
        assert_eq!((none.create.len(), none.update.len(), none.delete.len()), (0, 1, 0), "{none:?}");
        let empty = stored(&none.update[0], "web-1");
        let again = run(&service, &[], std::slice::from_ref(&empty));
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(), "{again:?}");
        let back = run(&service, &pods, &[empty]);
        assert_eq!((back.create.len(), back.update.iter().map(ready).collect::<Vec<_>>()), (0, vec![2]));
    }

    #[test]
    fn many_endpoints_are_spread_over_slices() {
        let service = service(&[]);
        let pods: Vec<Pod> = (0..150).map(|number| pod(&format!("p{number:03} 10.0.1.{number} True"))).collect();
        let plan = run(&service, &pods, &[]);
        let sizes = |slices: &[Value]| slices.iter().map(ready).collect::<Vec<_>>();
        assert_eq!(sizes(&plan.create), [100, 50]);
        let known = [stored(&plan.create[0], "web-1"), stored(&plan.create[1], "web-2")];
        let more: Vec<Pod> = (0..151).map(|number| pod(&format!("p{number:03} 10.0.1.{number} True"))).collect();
        let plan = run(&service, &more, &known);
        assert_eq!((sizes(&plan.update), plan.create.len()), (vec![51], 0));
    }

    #[test]
    fn headless_and_unready_services() {
        let pods = [pod("a 10.0.0.1 False")];
        let none = Value::Array(Vec::new());
        let headless = [("clusterIP", Value::from("None")), ("ports", none), ("publishNotReadyAddresses", true.into())];
        let plan = run(&service(&headless), &pods, &[]);
        assert_eq!(plan.create.iter().map(ready).collect::<Vec<_>>(), [1]);
        assert_eq!(plan.create[0].at(&["metadata", "labels", HEADLESS]), Some(&Value::from("")));
        let families = Value::Array(vec!["IPv4".into(), "IPv6".into()]);
        let plan = run(&service(&[("ipFamilies", families)]), &pods, &[]);
        let kinds: Vec<&str> = plan.create.iter().map(|slice| slice.str_at(&["addressType"])).collect();
        assert_eq!(kinds, ["IPv4", "IPv6"]);
    }

    #[test]
    fn pods_of_unknown_nodes_wait() {
        let plan = plan(&service(&[]), &[pod("a 10.0.0.1 True")], &[], &|_| None);
        assert_eq!((plan.homeless.len(), ready(&plan.create[0])), (1, 0));
    }
}
