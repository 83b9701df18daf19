//! Services and endpoints as what the node's kernel is told ([`corten_network::services`]).
//!
//! A change of a Service or of one of its slices is one transaction in the kernel, at once. The first look takes in everything,
//! so that a table that still stands from an earlier process is replaced as a whole and never has a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::informer::{Informer, Scope};
use corten_client::{Error, Informers};
use corten_network::services::{self as kernel, Policy, Protocol, Services};
use corten_network::{NetworkError, Range};
use tokio::sync::watch;

use crate::view::{Endpoint, Kind, Port, SERVICES, SLICES, Service, Slice, slices_of};

/// How often the kernel's table is compared with what it should be. Changes do not wait for that: it tells what they missed.
const CHECK_PERIOD: Duration = Duration::from_secs(600);

/// The key of all Services together.
fn everything() -> Key {
    Key::new("", "")
}

/// What does not come from the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name: endpoints on it are local.
    pub node: String,
    /// Cluster IPs that this node answers itself, such as that of cluster DNS; they are left alone.
    pub own_addresses: Vec<Ipv4Addr>,
}

/// What the kernel has been told, for those who wait for it. Cheap to clone.
#[derive(Clone)]
pub struct DataPath {
    told: Arc<Mutex<Told>>,
    /// How often the kernel was told.
    changes: watch::Receiver<u64>,
}

struct Told {
    services: Services,
    /// The parts that each Service has.
    parts: BTreeMap<Key, BTreeSet<String>>,
    begun: bool,
}

struct Context {
    settings: Settings,
    services: Informer<Service>,
    slices: Informer<Slice>,
    told: Arc<Mutex<Told>>,
    changes: watch::Sender<u64>,
    /// Feeds the caches for as long as it is held.
    _informers: Informers,
}

/// Tells the kernel what the API says.
pub fn controller(informers: &Informers, settings: Settings, services: Services) -> (Controller, DataPath) {
    let told = Arc::new(Mutex::new(Told { services, parts: BTreeMap::new(), begun: false }));
    let (changes, changed) = watch::channel(0);
    let context = Arc::new(Context {
        settings,
        services: informers.of::<Service>(Scope::all(SERVICES)),
        slices: informers.of::<Slice>(Scope::all(SLICES)),
        told: told.clone(),
        changes,
        _informers: informers.clone(),
    });
    let controller = Controller::new("services", context.clone(), reconcile)
        .watches(&context.services)
        .watches_for(&context.slices, |slice| vec![Key::new(slice.head.namespace.clone(), slice.service.clone())])
        // The table is written even if there is no Service.
        .begins(|mark| mark.now(everything()));
    (controller, DataPath { told, changes: changed })
}

impl DataPath {
    /// Resolves when the kernel's table is complete for the first time.
    pub async fn written(&self) {
        self.until(|told| told.begun).await;
    }

    /// Resolves when no new connection goes to an endpoint any more: when its pod may stop.
    pub async fn left(&self, endpoint: IpAddr) {
        self.until(|told| match endpoint {
            IpAddr::V4(address) => !told.services.leads_to(address),
            IpAddr::V6(_) => true,
        })
        .await;
    }

    async fn until(&self, done: impl Fn(&Told) -> bool) {
        let mut changes = self.changes.clone();
        while !done(&lock(&self.told)) {
            // The other end is gone when the server stops: nobody is told anything any more.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let whole = key == everything();
    let done = ctx.tell(&mut lock(&ctx.told), key);
    ctx.changes.send_modify(|changes| *changes += 1);
    let next = if whole { Next::After(CHECK_PERIOD) } else { Next::Change };
    done.map(|()| next).map_err(|error| Error::Outside(Box::new(error)))
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    // The kernel's table and what is known of it are compared and mended by every failed change.
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Told {
    /// The parts of a Service as they are to be, and those that it has no more.
    fn parts_changed(
        &mut self,
        key: Key,
        wanted: BTreeMap<String, kernel::Service>,
    ) -> Vec<(String, Option<kernel::Service>)> {
        let names: BTreeSet<String> = wanted.keys().cloned().collect();
        let had = if names.is_empty() { self.parts.remove(&key) } else { self.parts.insert(key, names.clone()) };
        let gone = had.unwrap_or_default().into_iter().filter(|name| !names.contains(name)).map(|name| (name, None));
        gone.chain(wanted.into_iter().map(|(name, part)| (name, Some(part)))).collect()
    }
}

impl Context {
    fn tell(&self, told: &mut Told, key: Key) -> Result<(), NetworkError> {
        let check = told.begun && key == everything();
        let keys = if told.begun && !check { vec![key] } else { self.keys(told) };
        let changes = keys.into_iter().flat_map(|key| {
            let wanted = self.wanted(&key);
            told.parts_changed(key, wanted)
        });
        let changes = changes.collect();
        told.services.change(changes)?;
        told.begun = true;
        if check {
            let differences = told.services.check()?;
            if !differences.is_empty() {
                tracing::warn!(?differences, "the kernel's table of Services was not as it was left; written anew");
            }
        }
        Ok(())
    }

    /// All Services that there are, and those that the kernel was told of.
    fn keys(&self, told: &Told) -> Vec<Key> {
        let there = self.services.cache().all();
        let keys: BTreeSet<Key> = there.iter().map(|held| Key::of(held)).chain(told.parts.keys().cloned()).collect();
        keys.into_iter().collect()
    }

    fn wanted(&self, key: &Key) -> BTreeMap<String, kernel::Service> {
        let Some(service) = self.services.cache().get(&key.namespace, &key.name) else { return BTreeMap::new() };
        let slices = self.slices.cache().by_key(&slices_of(&key.namespace, &key.name));
        parts(&self.settings, key, &service, &slices)
    }
}

/// One part for each port of a Service.
fn parts(
    settings: &Settings,
    key: &Key,
    service: &Service,
    slices: &[Arc<Held<Slice>>],
) -> BTreeMap<String, kernel::Service> {
    let addresses = v4(&service.cluster_ips);
    let own = addresses.iter().any(|address| settings.own_addresses.contains(address));
    if own || service.other_proxy || service.is_headless() || service.kind == Kind::ExternalName {
        return BTreeMap::new();
    }
    let source_ranges: Vec<Range> =
        service.source_ranges.iter().filter_map(|range| range.trim().parse().ok()).collect();
    let part = |port: &Port| {
        let (endpoints, local_endpoints) = endpoints(&settings.node, port, slices);
        let part = kernel::Service {
            addresses: addresses.clone(),
            external_addresses: v4(&service.external_ips),
            balancer_addresses: balancer_addresses(service, &source_ranges),
            protocol: protocol(&port.protocol)?,
            port: port.number,
            node_port: (port.node_port > 0).then_some(port.node_port),
            internal: policy(service.internal_local),
            external: policy(service.external_local),
            affinity_s: service.affinity_s,
            source_ranges: source_ranges.clone(),
            endpoints,
            local_endpoints,
        };
        Some((format!("{key}:{}/{}", port.number, port.protocol), part))
    };
    service.ports.iter().filter_map(part).collect()
}

/// The balancer's addresses. Where only networks of another family may use them, nobody may: no network at all would mean
/// everybody.
fn balancer_addresses(service: &Service, source_ranges: &[Range]) -> Vec<Ipv4Addr> {
    let closed = source_ranges.is_empty() && !service.source_ranges.is_empty();
    if closed { Vec::new() } else { v4(&service.balancer_ips) }
}

type Addresses = Vec<(Ipv4Addr, u16)>;

/// Those that are ready, everywhere and on this node; where none is, those that still answer while they end, as upstream has it.
fn endpoints(node: &str, port: &Port, slices: &[Arc<Held<Slice>>]) -> (Addresses, Addresses) {
    let ready = |endpoint: &Endpoint| endpoint.ready;
    let ending = |endpoint: &Endpoint| endpoint.serving && endpoint.terminating;
    let here = |endpoint: &Endpoint| endpoint.node == node;
    let all = |wanted: &dyn Fn(&Endpoint) -> bool| -> Addresses {
        let slices = slices.iter().flat_map(|slice| {
            let number = slice.ports.iter().find(|own| own.name == port.name && own.protocol == port.protocol);
            let number = number.map(|own| own.number).filter(|number| *number > 0);
            number.into_iter().flat_map(|number| slice.endpoints.iter().map(move |endpoint| (endpoint, number)))
        });
        let addresses = slices.filter(|(endpoint, _)| wanted(endpoint)).filter_map(|(endpoint, number)| {
            let IpAddr::V4(address) = endpoint.address else { return None };
            Some((address, number))
        });
        addresses.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let either = |first: Addresses, second: &dyn Fn(&Endpoint) -> bool| {
        if first.is_empty() { all(second) } else { first }
    };
    let everywhere = either(all(&ready), &ending);
    let local =
        either(all(&|endpoint| here(endpoint) && ready(endpoint)), &|endpoint| here(endpoint) && ending(endpoint));
    (everywhere, local)
}

fn v4(addresses: &[IpAddr]) -> Vec<Ipv4Addr> {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    };
    addresses.iter().filter_map(v4).collect()
}

fn policy(local: bool) -> Policy {
    if local { Policy::Local } else { Policy::Cluster }
}

fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    fn translate(spec: Value, slices: &[Value]) -> BTreeMap<String, kernel::Service> {
        let object = value!({"metadata": {"namespace": "shop", "name": "www"}, "spec": (spec)});
        let service: Held<Service> = Held::from_object(&object).expect("of interest");
        let slices: Vec<_> =
            slices.iter().map(|slice| Arc::new(Held::<Slice>::from_object(slice).expect("of interest"))).collect();
        let settings = Settings { node: "here".to_owned(), own_addresses: vec![Ipv4Addr::new(10, 96, 0, 10)] };
        parts(&settings, &Key::new("shop", "www"), &service, &slices)
    }

    fn slice(port: Value, endpoints: Value) -> Value {
        value!({"metadata": {"namespace": "shop", "name": "www-x", "labels": {"kubernetes.io/service-name": "www"}},
            "ports": [(port)], "endpoints": (endpoints)})
    }

    fn http(endpoints: Value) -> Value {
        slice(value!({"name": "http", "port": 8080}), endpoints)
    }

    fn spec() -> Value {
        value!({"clusterIPs": ["10.96.0.7", "fd00::7"], "type": "NodePort", "externalTrafficPolicy": "Local",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "log", "port": 514, "protocol": "UDP"}]})
    }

    /// The last bytes of the addresses.
    fn last(addresses: &Addresses) -> Vec<u8> {
        addresses.iter().map(|(address, _)| address.octets()[3]).collect()
    }

    #[test]
    fn ports_become_parts() {
        let endpoints = value!([{"addresses": ["10.244.0.6"], "nodeName": "here"}, {"addresses": ["10.244.0.5"]},
            {"addresses": ["fd00::5"]}, {"addresses": ["10.244.0.7"], "conditions": {"ready": false}}]);
        let parts = translate(spec(), &[http(endpoints.clone()), http(endpoints)]);
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["shop/www:514/UDP", "shop/www:80/TCP"]);
        let http = &parts["shop/www:80/TCP"];
        assert_eq!(http.endpoints, [(Ipv4Addr::new(10, 244, 0, 5), 8080), (Ipv4Addr::new(10, 244, 0, 6), 8080)]);
        assert_eq!(last(&http.local_endpoints), [6]);
        assert_eq!((http.addresses.len(), http.node_port, http.external), (1, Some(30080), Policy::Local));
        let log = &parts["shop/www:514/UDP"];
        assert_eq!((log.protocol, log.endpoints.len(), log.node_port), (Protocol::Udp, 0, None));
    }

    #[test]
    fn endpoints_that_end_are_asked_only_when_no_other_is_left() {
        let ending = |last: &str, node: &str| {
            value!({"addresses": [(format!("10.244.0.{last}"))], "nodeName": (node),
                "conditions": {"ready": false, "serving": true, "terminating": true}})
        };
        let check = |endpoints: Value, everywhere: &[u8], local: &[u8]| {
            let parts = translate(spec(), &[http(endpoints)]);
            let part = &parts["shop/www:80/TCP"];
            assert_eq!((last(&part.endpoints), last(&part.local_endpoints)), (everywhere.to_vec(), local.to_vec()));
        };
        check(value!([(ending("5", "here")), (ending("6", "there"))]), &[5, 6], &[5]);
        check(value!([(ending("5", "here")), {"addresses": ["10.244.0.7"], "nodeName": "there"}]), &[7], &[5]);
        check(value!([(ending("5", "here")), {"addresses": ["10.244.0.7"], "nodeName": "here"}]), &[7], &[7]);
    }

    #[test]
    fn ranges_of_another_family_let_nobody_in() {
        let service = |ranges: &[&str]| Service {
            balancer_ips: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9))],
            source_ranges: ranges.iter().map(|range| (*range).into()).collect(),
            ..Service::default()
        };
        let led = |given: &[&str]| {
            let usable: Vec<Range> = given.iter().filter_map(|range| range.parse().ok()).collect();
            balancer_addresses(&service(given), &usable).len()
        };
        assert_eq!((led(&[]), led(&["10.0.0.0/8"]), led(&["fd00::/8"])), (1, 1, 0));
        assert_eq!(led(&["fd00::/8", "10.0.0.0/8"]), 1);
    }

    #[test]
    fn what_is_not_for_this_proxy() {
        let of = |spec: Value| translate(spec, &[]).len();
        assert_eq!(of(value!({"clusterIPs": ["10.96.0.7"], "ports": [{"port": 80}]})), 1);
        assert_eq!(of(value!({"clusterIPs": ["None"], "ports": [{"port": 80}]})), 0);
        assert_eq!(of(value!({"clusterIPs": ["10.96.0.10"], "ports": [{"port": 53}]})), 0);
        assert_eq!(of(value!({"type": "ExternalName", "externalName": "a.b", "ports": [{"port": 80}]})), 0);
    }
}
