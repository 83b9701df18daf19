//! What a Service has beside its object: cluster addresses and node ports, taken before it is written and given back
//! when it goes or no longer wants them. The rules and texts are upstream's (`pkg/registry/core/service`).
//!
//! An address is taken by creating its `IPAddress` object (KEP-1880), which is the truth about it; a node port by marking
//! it in memory, where the Services of the store are the truth. [`repair`](crate::service::repair) mends what a crash
//! between two writes has left.

mod addresses;
mod aligned;
mod families;
mod node_ports;
mod ports;
pub mod repair;

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::around::{Around, Begun, Outcome};
use corten_apiserver::auth::User;
use corten_apiserver::registry::Registry;
use corten_stdx::random::Random;
use futures_core::future::BoxFuture;

use addresses::{Addresses, Holder};
use ports::{Operation, Ports};

use crate::lookup::Resource;

pub(crate) use addresses::SERVICE_CIDRS;

pub const SERVICES: Resource = Resource { group: "", plural: "services" };

/// Takes and gives back what Services have. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    addresses: Addresses,
    ports: Arc<Ports>,
}

impl Services {
    /// `user` is the identity under which address objects are written.
    pub fn new(registry: Registry, user: Arc<User>, random: Random) -> Self {
        Self { addresses: Addresses::new(registry, user, random.clone()), ports: Arc::new(Ports::new(random)) }
    }

    async fn begin_create(&self, service: &mut Value, dry_run: bool) -> Result<Taken, Status> {
        aligned::cluster_ips(service, None);
        families::settle(service, None)?;
        let mut taken = Taken::new(self, dry_run);
        let addresses = taken.addresses(service).await;
        let taken_all = addresses.and_then(|()| node_ports::create(service, &mut taken.ports));
        taken.or_give_back(taken_all).await
    }

    async fn begin_update(&self, service: &mut Value, old: &Value, dry_run: bool) -> Result<Taken, Status> {
        aligned::allocated(service, old);
        aligned::cluster_ips(service, Some(old));
        families::settle(service, Some(old))?;
        let mut taken = Taken::new(self, dry_run);
        let addresses = match (is_name(old), is_name(service)) {
            (true, false) => taken.addresses(service).await,
            (false, true) => {
                taken.leaving = cluster_ips(old);
                Ok(())
            }
            _ => Ok(()),
        };
        let taken_all = addresses.and_then(|()| node_ports::update(service, old, &mut taken.ports));
        taken.or_give_back(taken_all).await
    }
}

impl Around for Services {
    fn create<'a>(&'a self, object: &'a mut Value, dry_run: bool) -> BoxFuture<'a, Result<Box<dyn Begun>, Status>> {
        Box::pin(async move { Ok(Box::new(self.begin_create(object, dry_run).await?) as Box<dyn Begun>) })
    }

    fn update<'a>(
        &'a self,
        object: &'a mut Value,
        old: &'a Value,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Box<dyn Begun>, Status>> {
        Box::pin(async move { Ok(Box::new(self.begin_update(object, old, dry_run).await?) as Box<dyn Begun>) })
    }

    fn deleted<'a>(&'a self, object: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.ports.give_back(&node_ports::held(object));
            self.addresses.give_back(&cluster_ips(object)).await;
        })
    }
}

/// What one write has taken, and what it leaves if it succeeds.
struct Taken {
    of: Addresses,
    dry_run: bool,
    taken: Vec<String>,
    leaving: Vec<String>,
    ports: Operation,
}

impl Taken {
    fn new(services: &Services, dry_run: bool) -> Self {
        let ports = Operation::new(services.ports.clone(), dry_run);
        Self { of: services.addresses.clone(), dry_run, taken: Vec::new(), leaving: Vec::new(), ports }
    }

    /// Takes the service's cluster addresses: those it names, any for the families that name none.
    async fn addresses(&mut self, service: &mut Value) -> Result<(), Status> {
        if is_name(service) || is_headless(service) {
            return Ok(());
        }
        let families = texts(service, "ipFamilies");
        let mut wanted = texts(service, "clusterIPs");
        wanted.resize(wanted.len().max(families.len()), String::new());
        for index in 0..families.len() {
            let holder = Holder::of(service, &wanted);
            let address = self.of.take(&holder, index, self.dry_run).await?;
            if !self.dry_run {
                self.taken.push(address.clone());
            }
            wanted[index] = address;
        }
        let spec = service.object_entry("spec");
        if let Some(first) = wanted.first() {
            spec.insert("clusterIP", first.as_str());
        }
        spec.insert("clusterIPs", wanted);
        Ok(())
    }

    async fn or_give_back(self, taken: Result<(), Status>) -> Result<Self, Status> {
        match taken {
            Ok(()) => Ok(self),
            Err(status) => {
                self.of.give_back(&self.taken).await;
                Err(status)
            }
        }
    }
}

impl Begun for Taken {
    fn end(self: Box<Self>, outcome: Outcome) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { of, dry_run, taken, leaving, ports } = *self;
            if dry_run {
                return;
            }
            match outcome {
                Outcome::Written => {
                    ports.commit();
                    of.give_back(&leaving).await;
                }
                Outcome::Refused => {
                    drop(ports);
                    of.give_back(&taken).await;
                }
                // Kept on both sides: what turns out to belong to nobody is found by the repair.
                Outcome::Unknown => ports.keep(),
            }
        })
    }
}

fn is_name(service: &Value) -> bool {
    service.str_at(&["spec", "type"]) == "ExternalName"
}

fn is_headless(service: &Value) -> bool {
    texts(service, "clusterIPs").first().is_some_and(|first| first == "None")
}

/// The addresses that a stored service holds.
fn cluster_ips(service: &Value) -> Vec<String> {
    if is_name(service) || is_headless(service) { Vec::new() } else { texts(service, "clusterIPs") }
}

/// A list of texts in the spec.
fn texts(service: &Value, field: &str) -> Vec<String> {
    let list = service.at(&["spec", field]).and_then(Value::as_array).unwrap_or_default();
    list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
