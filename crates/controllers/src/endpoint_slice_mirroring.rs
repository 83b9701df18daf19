//! Shows the `Endpoints` that users write for services without a selector as slices (`pkg/controller/endpointslicemirroring`):
//! one slice for the addresses of one family in one subset.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::backend::{SERVICES, Service, TRIGGER};
use crate::endpoint_slice::{MANAGED_BY, SERVICE_LABEL, SLICES};
use crate::endpoints::ENDPOINTS;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation are locks.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of a subset that are shown.
const ADDRESSES_MAX: usize = 1000;

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    services: Informer<Value>,
    endpoints: Informer<Value>,
    slices: Informer<Value>,
}

pub fn controller(base: &Base) -> Controller {
    let services = base.informers.of::<Value>(Scope::all(SERVICES));
    let endpoints = base.informers.of::<Value>(Scope::all(ENDPOINTS));
    let slices = base.informers.of::<Value>(Scope::all(SLICES));
    const ACCOUNT: &str = "endpointslicemirroring-controller";
    let context = Context {
        client: (base.client_of)(ACCOUNT),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)(ACCOUNT, "endpoint-slice-mirroring-controller"),
        services: services.clone(),
        endpoints: endpoints.clone(),
        slices: slices.clone(),
    };
    Controller::new("endpoint-slice-mirroring", Arc::new(context), reconcile)
        .watches(&services)
        .watches(&endpoints)
        .watches_for(&slices, |slice| owner(slice).into_iter().collect())
}

/// The service whose mirrored slice this is.
fn owner(slice: &Held<Value>) -> Option<Key> {
    let meta = Meta::of(&slice.view);
    let own = meta.label(MANAGED_BY) == Some(MANAGER);
    meta.label(SERVICE_LABEL).filter(|_| own).map(|name| Key::new(slice.head.namespace.clone(), name))
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let service = ctx.services.cache().get(&key.namespace, &key.name);
    let endpoints = ctx.endpoints.cache().get(&key.namespace, &key.name);
    let mirrors = |endpoints: &Arc<Held<Value>>| {
        let meta = Meta::of(&endpoints.view);
        let own = service.as_ref().is_some_and(|service| !Service(service).has_selector());
        own && meta.label(SKIP) != Some("true") && meta.annotation(LEADER).is_none()
    };
    let mut known = ctx.slices.cache().in_namespace(&key.namespace);
    known.retain(|slice| !slice.head.deleting && owner(slice).as_ref() == Some(&key));
    let endpoints = endpoints.filter(mirrors);
    let plan = plan(endpoints.as_deref(), &known);
    if let (Some(endpoints), 1..) = (&endpoints, plan.invalid) {
        let note = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", plan.invalid);
        ctx.recorder.warning(&Reference::of("v1", "Endpoints", &endpoints.view), "InvalidIPAddress", note);
    }
    if let (Some(endpoints), 1..) = (&endpoints, plan.surplus) {
        let note = format!(
            "A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
            plan.surplus
        );
        ctx.recorder.warning(&Reference::of("v1", "Endpoints", &endpoints.view), "TooManyAddressesToMirror", note);
    }
    ctx.carry_out(&key, plan).await.map(|()| Next::Change)
}

impl Context {
    async fn carry_out(&self, key: &Key, plan: Plan) -> Result<(), Error> {
        let mut last = None;
        let mut written = |slice: &Value| last = last.max(Meta::of(slice).resource_version().parse::<u64>().ok());
        for slice in &plan.create {
            match self.client.create(&SLICES, &key.namespace, slice).await {
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                made => written(&made?),
            }
        }
        for slice in &plan.update {
            written(&self.client.update(&SLICES, "", slice).await?);
        }
        for (name, uid) in &plan.delete {
            unless_gone(self.client.delete(&SLICES, &key.namespace, name, &Delete::of(uid)).await)?;
        }
        match last {
            Some(last) => self.slices.caught_up(&last.to_string(), &self.clock).await,
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
struct Plan {
    create: Vec<Value>,
    update: Vec<Value>,
    /// Names and UIDs.
    delete: Vec<(Str, Str)>,
    invalid: usize,
    surplus: usize,
}

/// Endpoints by family and ports.
type Groups = BTreeMap<(bool, String), (Vec<Value>, Vec<Value>)>;

fn plan(endpoints: Option<&Held<Value>>, known: &[Arc<Held<Value>>]) -> Plan {
    let mut plan = Plan::default();
    let mut groups = endpoints.map(|endpoints| groups(&endpoints.view, &mut plan)).unwrap_or_default();
    for slice in known {
        let ports = slice.view.get("ports").and_then(Value::as_array).unwrap_or_default();
        let group = groups.remove(&(slice.view.str_at(&["addressType"]) == "IPv6", ports_key(ports)));
        let (Some(endpoints), Some((_, wanted))) = (endpoints, group) else {
            plan.delete.push((slice.head.name.clone(), slice.head.uid.clone()));
            continue;
        };
        let mut new = slice.view.clone();
        describe(&mut new, endpoints);
        if let Some(new) = new.as_object_mut() {
            new.insert("endpoints", wanted);
        }
        plan.update.extend((new != slice.view).then_some(new));
    }
    if let Some(endpoints) = endpoints {
        plan.create.extend(groups.into_iter().map(|((v6, _), group)| new_slice(endpoints, v6, group)));
    }
    plan
}

fn groups(endpoints: &Value, plan: &mut Plan) -> Groups {
    let list = |of: &Value, field| of.get(field).and_then(Value::as_array).unwrap_or_default().to_vec();
    let mut groups = Groups::new();
    for subset in list(endpoints, "subsets") {
        let ports: Vec<Value> = list(&subset, "ports").iter().map(slice_port).collect();
        let mut shown = 0;
        let all = ["addresses", "notReadyAddresses"].map(|field| list(&subset, field));
        for (ready, addresses) in [true, false].into_iter().zip(all) {
            for address in addresses {
                let Ok(ip) = address.str_at(&["ip"]).parse::<IpAddr>() else {
                    plan.invalid += 1;
                    continue;
                };
                if shown == ADDRESSES_MAX {
                    plan.surplus += 1;
                    continue;
                }
                shown += 1;
                let key = (ip.is_ipv6(), ports_key(&ports));
                groups.entry(key).or_insert_with(|| (ports.clone(), Vec::new())).1.push(endpoint(&address, ip, ready));
            }
        }
    }
    groups
}

fn slice_port(port: &Value) -> Value {
    let mut own = value!({"name": (port.str_at(&["name"]))});
    if let Some(own) = own.as_object_mut() {
        for field in ["protocol", "port", "appProtocol"] {
            if let Some(value) = port.get(field).filter(|value| !value.is_null()) {
                own.insert(field, value.clone());
            }
        }
    }
    own
}

fn ports_key(ports: &[Value]) -> String {
    let text = |port: &Value| {
        let number = port.i64_at(&["port"]).unwrap_or_default();
        format!("{} {} {number}", port.str_at(&["name"]), port.str_at(&["protocol"]))
    };
    let mut ports: Vec<String> = ports.iter().map(text).collect();
    ports.sort();
    ports.join(",")
}

fn endpoint(address: &Value, ip: IpAddr, ready: bool) -> Value {
    let mut endpoint = value!({"addresses": [(ip.to_string())], "conditions": {"ready": ready}});
    if let Some(endpoint) = endpoint.as_object_mut() {
        for field in ["targetRef", "nodeName", "hostname"] {
            if let Some(value) = address.get(field).filter(|value| !value.is_null()) {
                endpoint.insert(field, value.clone());
            }
        }
    }
    endpoint
}

/// Gives a slice the labels and annotations of its endpoints.
fn describe(slice: &mut Value, endpoints: &Held<Value>) {
    let meta = Meta::of(&endpoints.view);
    let mut labels = Map::new();
    meta.labels().for_each(|(key, value)| drop(labels.insert(key.clone(), value)));
    labels.insert(SERVICE_LABEL, endpoints.head.name.clone());
    labels.insert(MANAGED_BY, MANAGER);
    let mut annotations = Map::new();
    for (key, value) in meta.annotations().filter(|(key, _)| !matches!(key.as_str(), TRIGGER | APPLIED)) {
        annotations.insert(key.clone(), value);
    }
    let metadata = metadata_mut(slice);
    metadata.insert("labels", labels);
    if annotations.is_empty() {
        metadata.remove("annotations");
    } else {
        metadata.insert("annotations", annotations);
    }
}

fn new_slice(endpoints: &Held<Value>, v6: bool, (ports, list): (Vec<Value>, Vec<Value>)) -> Value {
    let head = &endpoints.head;
    let owner = value!({
        "apiVersion": "v1", "kind": "Endpoints", "name": (head.name.clone()), "uid": (head.uid.clone()),
        "controller": true, "blockOwnerDeletion": true
    });
    let mut slice = value!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "generateName": (format!("{}-", head.name)), "namespace": (head.namespace.clone()), "ownerReferences": [owner]
        },
        "addressType": (if v6 { "IPv6" } else { "IPv4" }), "endpoints": list, "ports": ports
    });
    describe(&mut slice, endpoints);
    slice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(addresses: Value) -> Held<Value> {
        let endpoints = value!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "e", "labels": {"team": "a"}},
            "subsets": [{"addresses": addresses, "notReadyAddresses": [{"ip": "10.0.0.9"}],
                "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}]
        });
        Held::from_object(&endpoints).expect("held")
    }

    fn seen(slice: &Value) -> String {
        let list = slice.get("endpoints").and_then(Value::as_array).expect("a list");
        let one = |of: &Value| {
            let ip = of.get("addresses").and_then(Value::as_array).expect("a list")[0].as_str().expect("a text");
            format!("{ip} {:?}", of.at(&["conditions", "ready"]).and_then(Value::as_bool))
        };
        format!("{}: {}", slice.str_at(&["addressType"]), list.iter().map(one).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn endpoints_become_a_slice_for_each_family() {
        let both = endpoints(value!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "none"}]));
        let made = plan(Some(&both), &[]);
        assert_eq!(
            made.create.iter().map(seen).collect::<Vec<_>>(),
            ["IPv4: 10.0.0.1 Some(true), 10.0.0.9 Some(false)", "IPv6: fd00::1 Some(true)"]
        );
        assert_eq!((made.invalid, made.create[0].str_at(&["metadata", "labels", "team"])), (1, "a"));
        let stored = |slice: &Value| {
            let mut slice = slice.clone();
            metadata_mut(&mut slice).insert("name", "s");
            Arc::new(Held::from_object(&slice).expect("held"))
        };
        let known: Vec<_> = made.create.iter().map(stored).collect();
        let again = plan(Some(&both), &known);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(), "{again:?}");
        let less = plan(Some(&endpoints(value!([{"ip": "10.0.0.2"}]))), &known);
        let less = (less.update.iter().map(seen).collect::<Vec<_>>(), less.delete.len());
        assert_eq!(less, (vec!["IPv4: 10.0.0.2 Some(true), 10.0.0.9 Some(false)".to_owned()], 1));
        assert_eq!(plan(None, &known).delete.len(), 2);
    }
}
