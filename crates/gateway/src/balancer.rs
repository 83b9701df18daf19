//! Services of type LoadBalancer, on a server that has no balancer beside it: the node's own address becomes theirs, and the kernel's
//! table leads their ports at that address to their endpoints, as it does for the address of any balancer.
//!
//! A port of the node is one Service's alone, and never one at which a program of the node listens already: somebody who asks for
//! port 22 does not get it. Who cannot be served stays without an address, and is told why by an event. Services of another
//! class, or to which somebody else has given an address, are left alone.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Informers, Patch};

use crate::view::{SERVICES, list, number, protocol, told_by};

/// The class of those who ask for this balancer by name; it is also that of those who name none.
pub const CLASS: &str = "corten.dev/node";

/// The program's name in the status that it has written, by which it knows it again.
pub const AGENT: &str = "corten-balancer";

/// Programs of the node come and go without a word: whoever waits for a port is looked at again so often.
const RETRY: Duration = Duration::from_secs(30);

/// A protocol's name and a port.
pub type Claim = (Str, u16);

/// What does not come from the API.
pub struct Settings {
    /// The node's, where clients outside reach it.
    pub address: Ipv4Addr,
    /// Ports of that address at which programs of the node listen.
    pub busy: Box<dyn Fn() -> BTreeSet<Claim> + Send + Sync>,
}

struct Context {
    settings: Settings,
    services: Informer<Balanced>,
    client: Client,
    recorder: Recorder,
}

/// What is read of a Service that wants an address, or has one from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Balanced {
    /// Older ones come first; text that sorts by time.
    created: Str,
    is_wanted: bool,
    ports: BTreeSet<Claim>,
    /// Its addresses, or names.
    given: Vec<Str>,
    /// For which ports they were given.
    given_for: BTreeSet<Claim>,
    by_us: bool,
}

impl View for Balanced {
    fn from_object(service: &Value) -> Option<Self> {
        let spec = service.at(&["spec"])?;
        let class = spec.str_at(&["loadBalancerClass"]);
        let is_wanted = spec.str_at(&["type"]) == "LoadBalancer" && (class.is_empty() || class == CLASS);
        let by_us = told_by(service, AGENT);
        let ingress = list(service, &["status", "loadBalancer", "ingress"]);
        let name = |ingress: &Value| match ingress.str_at(&["ip"]) {
            "" => ingress.str_at(&["hostname"]).into(),
            ip => Str::from(ip),
        };
        let claim = |port: &Value| (protocol(port), number(port, "port"));
        let balanced = Self {
            created: Meta::of(service).creation_timestamp().into(),
            is_wanted,
            ports: list(spec, &["ports"]).iter().map(claim).collect(),
            given: ingress.iter().map(name).collect(),
            given_for: ingress.iter().flat_map(|ingress| list(ingress, &["ports"])).map(claim).collect(),
            by_us,
        };
        (is_wanted || (by_us && !balanced.given.is_empty())).then_some(balanced)
    }
}

/// Gives Services the node's address, in their status.
pub fn controller(informers: &Informers, settings: Settings, client: Client, recorder: Recorder) -> Controller {
    let services = informers.of::<Balanced>(Scope::all(SERVICES));
    let context = Arc::new(Context { settings, services, client, recorder });
    // Services compete for ports, so they are looked at together.
    Controller::new("load-balancer", context.clone(), reconcile)
        .watches_for(&context.services, |_| vec![Key::new("", "balancer")])
}

async fn reconcile(ctx: Arc<Context>, _: Key) -> Result<Next, Error> {
    let services = ctx.services.cache().all();
    let address: Str = ctx.settings.address.to_string().into();
    let answers = plan(&services, &address, &ctx.settings.busy);
    let mut next = Next::Change;
    for (service, answer) in answers {
        let about = || Reference::of_head("v1", "Service", &service.head);
        match answer {
            Answer::Give => {
                ctx.tell(&service, Some(&address)).await?;
                ctx.recorder.normal(&about(), "EnsuredLoadBalancer", format!("Reached at {address}"));
            }
            Answer::Take => ctx.tell(&service, None).await?,
            Answer::Refuse((protocol, port), whose) => {
                next = Next::After(RETRY);
                let note = format!("Port {port}/{protocol} of this server's address {address} {whose}");
                ctx.recorder.warning(&about(), "SyncLoadBalancerFailed", note);
                if !service.given.is_empty() {
                    ctx.tell(&service, None).await?;
                }
            }
        }
    }
    Ok(next)
}

impl Context {
    /// Writes the status. What has changed meanwhile is looked at again.
    async fn tell(&self, service: &Held<Balanced>, address: Option<&Str>) -> Result<(), Error> {
        let port = |(protocol, port): &Claim| value!({"port": (i64::from(*port)), "protocol": (protocol.clone())});
        let ports: Vec<Value> = service.ports.iter().map(port).collect();
        let ingress = match address {
            Some(address) => value!([{"ip": (address.clone()), "ipMode": "VIP", "ports": ports}]),
            None => Value::Null,
        };
        let head = &service.head;
        let patch = value!({
            "metadata": {"uid": (head.uid.clone()), "resourceVersion": (head.revision.clone())},
            "status": {"loadBalancer": {"ingress": ingress}}
        });
        let patched = self.client.patch(&SERVICES, &head.namespace, &head.name, "status", &Patch::Merge(patch)).await;
        unless_gone(patched).map(drop)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Give,
    Take,
    /// The port, and whose it is.
    Refuse(Claim, &'static str),
}

/// What is to be done, and for whom. Those that have their address keep it; of the others the oldest comes first.
fn plan(
    services: &[Arc<Held<Balanced>>],
    address: &str,
    busy: &dyn Fn() -> BTreeSet<Claim>,
) -> Vec<(Arc<Held<Balanced>>, Answer)> {
    let has_it = |service: &Balanced| service.by_us && service.given == [address];
    let mut ours: Vec<_> = services.iter().filter(|service| service.by_us || service.given.is_empty()).collect();
    ours.sort_by_key(|service| {
        let head = &service.head;
        (!has_it(service), service.created.clone(), head.namespace.clone(), head.name.clone())
    });
    let mut claimed: BTreeSet<Claim> = BTreeSet::new();
    let mut listening = None;
    let mut answers = Vec::new();
    for service in ours {
        if !service.is_wanted || service.head.deleting {
            let answer = (!service.given.is_empty()).then_some(Answer::Take);
            answers.extend(answer.map(|answer| (service.clone(), answer)));
            continue;
        }
        // What was given stays given: nobody can listen there who would be heard.
        let new = || service.ports.iter().filter(|port| !has_it(service) || !service.given_for.contains(port));
        let taken = service.ports.iter().find(|port| claimed.contains(port));
        let refused = match taken {
            Some(port) => Some((port.clone(), "is another Service's")),
            None if new().next().is_none() => None,
            None => {
                let listening: &BTreeSet<Claim> = listening.get_or_insert_with(busy);
                let port = new().find(|port| listening.contains(port));
                port.map(|port| (port.clone(), "is in use by a program of this server"))
            }
        };
        if let Some((port, whose)) = refused {
            answers.push((service.clone(), Answer::Refuse(port, whose)));
            continue;
        }
        claimed.extend(service.ports.iter().cloned());
        if !has_it(service) || service.given_for != service.ports {
            answers.push((service.clone(), Answer::Give));
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "192.0.2.1";

    fn service(name: &str, created: u8, ports: &[i64]) -> Value {
        let ports: Vec<Value> = ports.iter().map(|port| value!({"port": (*port), "protocol": "TCP"})).collect();
        value!({"metadata": {"namespace": "shop", "name": name, "creationTimestamp": (format!("2026-01-01T00:00:0{created}Z"))},
            "spec": {"type": "LoadBalancer", "ports": ports}})
    }

    /// As it is after an answer.
    fn given(mut service: Value, ip: &str, ports: &[i64], manager: &str) -> Value {
        let ports: Vec<Value> = ports.iter().map(|port| value!({"port": (*port), "protocol": "TCP"})).collect();
        let status = value!({"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP", "ports": ports}]}});
        let object = service.as_object_mut().expect("an object");
        object.insert("status", status);
        let fields = value!([{"manager": manager, "operation": "Update", "subresource": "status"}]);
        object.object_entry("metadata").insert("managedFields", fields);
        service
    }

    fn with(mut service: Value, field: &str, value: &str) -> Value {
        service.object_entry("spec").insert(field, value);
        service
    }

    fn check(services: &[Value], busy: &[u16], expect: &[&str]) {
        let held = |service: &Value| Held::<Balanced>::from_object(service).map(Arc::new);
        let services: Vec<_> = services.iter().filter_map(held).collect();
        let busy = || busy.iter().map(|port| (Str::from("TCP"), *port)).collect();
        let told = |(service, answer): &(Arc<Held<Balanced>>, Answer)| match answer {
            Answer::Give => format!("{} gets it", service.head.name),
            Answer::Take => format!("{} loses it", service.head.name),
            Answer::Refuse((_, port), whose) => format!("{}: {port} {whose}", service.head.name),
        };
        assert_eq!(plan(&services, NODE, &busy).iter().map(told).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn ports_go_to_the_oldest_and_stay() {
        check(&[service("b", 1, &[80]), service("a", 2, &[80, 81])], &[], &["b gets it", "a: 80 is another Service's"]);
        let kept = given(service("young", 9, &[80]), NODE, &[80], AGENT);
        check(&[service("old", 1, &[80]), kept], &[], &["old: 80 is another Service's"]);
    }

    #[test]
    fn programs_of_the_node_keep_their_ports() {
        check(&[service("a", 1, &[22])], &[22], &["a: 22 is in use by a program of this server"]);
        // Given before somebody listened there in vain; then one that is not, by a change of the Service.
        check(&[given(service("a", 1, &[80]), NODE, &[80], AGENT)], &[80], &[]);
        let changed = given(service("a", 1, &[22]), NODE, &[80], AGENT);
        check(std::slice::from_ref(&changed), &[22], &["a: 22 is in use by a program of this server"]);
        check(&[changed], &[], &["a gets it"]);
    }

    #[test]
    fn addresses_follow_the_node_and_the_type() {
        check(&[given(service("a", 1, &[80]), "192.0.2.9", &[80], AGENT)], &[], &["a gets it"]);
        let cluster = with(given(service("a", 1, &[80]), NODE, &[80], AGENT), "type", "ClusterIP");
        check(&[cluster, service("b", 2, &[80])], &[], &["a loses it", "b gets it"]);
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        check(&[given(service("a", 1, &[80]), "203.0.113.7", &[], "metallb")], &[], &[]);
        check(&[with(service("a", 1, &[80]), "loadBalancerClass", "example.com/other")], &[], &[]);
        check(&[with(service("a", 1, &[80]), "loadBalancerClass", CLASS)], &[], &["a gets it"]);
    }
}
