//! Mends what a crash between two writes has left: addresses that no Service has, Services whose address has no object.
//! Runs at every start, before the first request, and then once in a while, for writes whose outcome was unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Value;
use corten_apiserver::registry::{ListOptions, Registry};
use corten_stdx::clock::Clock;
use corten_stdx::task::Stopped;

use super::addresses::{ALLOCATOR, Holder, IP_ADDRESSES, MANAGED_BY};
use super::{SERVICES, Services, cluster_ips, node_ports};
use crate::lookup::{Resource, kind_of, tree};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(180);

/// An address may be older than its Service by this; nobody takes longer to write one.
const GRACE_S: i64 = 60;

/// What was out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Addresses that nobody had.
    pub freed: usize,
    /// Addresses whose object was missing.
    pub taken: usize,
}

impl Services {
    /// Takes the ports and mends the addresses of all Services; before anybody else writes.
    pub async fn begin(&self) -> Result<Mended, Status> {
        for service in objects(&self.addresses.registry, SERVICES).await? {
            for port in node_ports::held(&service) {
                if let Err(error) = self.ports.take(port) {
                    tracing::warn!(service = named(&service), port, %error, "a stored node port is not as it should be");
                }
            }
        }
        self.mend(i64::MAX).await
    }

    /// Looks again and again until it is told to stop.
    pub async fn keep(self, clock: Clock, mut stopped: Stopped) {
        loop {
            tokio::select! {
                () = stopped.wait() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match self.mend(clock.now_s() - GRACE_S).await {
                Ok(mended) if mended == Mended::default() => {}
                Ok(mended) => tracing::warn!(mended.freed, mended.taken, "addresses of Services were mended"),
                Err(error) => tracing::warn!(%error, "addresses of Services could not be looked at"),
            }
        }
    }

    /// `made_until_s`: younger addresses may belong to a Service that is being written.
    async fn mend(&self, made_until_s: i64) -> Result<Mended, Status> {
        let mut missing: BTreeMap<String, Value> = BTreeMap::new();
        for service in objects(&self.addresses.registry, SERVICES).await? {
            for address in cluster_ips(&service) {
                missing.insert(address, service.clone());
            }
        }
        let mut mended = Mended::default();
        for object in objects(&self.addresses.registry, IP_ADDRESSES).await? {
            let address = object.str_at(&["metadata", "name"]);
            match missing.remove(address) {
                Some(service) if holds(&object, &service) => {}
                None if is_own(&object) && created_s(&object) <= made_until_s => {
                    self.addresses.give_back(&[address.to_owned()]).await;
                    mended.freed += 1;
                }
                None => {}
                Some(service) => {
                    tracing::warn!(service = named(&service), address, "the address belongs to somebody else");
                }
            }
        }
        for (address, service) in missing {
            let holder = Holder::of(&service, &[address]);
            match self.addresses.take(&holder, 0, false).await {
                Ok(_) => mended.taken += 1,
                Err(error) => tracing::warn!(service = named(&service), %error, "an address could not be taken again"),
            }
        }
        Ok(mended)
    }
}

async fn objects(registry: &Registry, resource: Resource) -> Result<Vec<Value>, Status> {
    let list = registry.list(&kind_of(registry, resource)?, "", &ListOptions::default()).await?;
    list.items.iter().map(|object| tree(object)).collect()
}

fn named(service: &Value) -> String {
    format!("{}/{}", service.str_at(&["metadata", "namespace"]), service.str_at(&["metadata", "name"]))
}

/// Whether an address object is of this service.
fn holds(address: &Value, service: &Value) -> bool {
    let parent = |field| address.str_at(&["spec", "parentRef", field]);
    let metadata = |field| service.str_at(&["metadata", field]);
    parent("group").is_empty()
        && parent("resource") == "services"
        && ["namespace", "name"].iter().all(|field| parent(field) == metadata(field))
}

/// Whether the server made it; what users make is theirs.
fn is_own(address: &Value) -> bool {
    address.str_at(&["metadata", "labels", MANAGED_BY]) == ALLOCATOR
}

fn created_s(address: &Value) -> i64 {
    let created = address.str_at(&["metadata", "creationTimestamp"]);
    Time::parse(created).map_or(i64::MIN, |time| time.seconds)
}
