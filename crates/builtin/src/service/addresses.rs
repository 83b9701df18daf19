//! Cluster addresses: an `IPAddress` object for each that is taken, out of the ranges of the `ServiceCIDR` objects.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name::lenient_ip;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::auth::User;
use corten_apiserver::registry::{Body, Context, DeleteOptions, ListOptions, Registry, Target, WriteOptions};
use corten_stdx::random::Random;
use ipnet::Ipv4Net;

use crate::lookup::{Resource, kind_of, tree};

pub(super) const IP_ADDRESSES: Resource = Resource { group: "networking.k8s.io", plural: "ipaddresses" };
pub(crate) const SERVICE_CIDRS: Resource = Resource { group: "networking.k8s.io", plural: "servicecidrs" };

/// Marks address objects that are the server's own.
pub(super) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const ALLOCATOR: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// Why an address cannot be had.
#[derive(Debug, thiserror::Error)]
enum AddressError {
    #[error("range is full")]
    Full,
    #[error("provided IP is already allocated")]
    Taken,
    #[error("the provided network does not match the current range")]
    Mismatched,
    #[error("the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}")]
    OutOfRange { address: Ipv4Addr, range: Ipv4Net },
    #[error("{0}")]
    Failed(Status),
}

/// The service for which an address is taken.
pub(super) struct Holder {
    namespace: String,
    name: String,
    /// Its addresses so far; empty ones are to be chosen.
    addresses: Vec<String>,
}

impl Holder {
    pub(super) fn of(service: &Value, addresses: &[String]) -> Self {
        let metadata = |field| service.str_at(&["metadata", field]).to_owned();
        Self { namespace: metadata("namespace"), name: metadata("name"), addresses: addresses.to_vec() }
    }

    fn refused(&self, why: &str) -> Status {
        let mut errors = FieldErrors::default();
        errors.invalid(&FieldPath::new("spec").child("clusterIPs"), self.addresses.clone(), why);
        Status::invalid("", "Service", &self.name, &errors)
    }
}

#[derive(Clone)]
pub(super) struct Addresses {
    pub(super) registry: Registry,
    context: Context,
    random: Random,
}

impl Addresses {
    pub(super) fn new(registry: Registry, user: Arc<User>, random: Random) -> Self {
        Self { registry, context: Context::new(user, ALLOCATOR), random }
    }

    /// Takes one of a service's addresses: the one it names, else any.
    pub(super) async fn take(&self, holder: &Holder, index: usize, dry_run: bool) -> Result<String, Status> {
        let named = &holder.addresses[index];
        let ranges = self.ranges().await?;
        if named.is_empty() {
            return match self.take_any(&ranges, holder, dry_run).await {
                Ok(address) => Ok(address.to_string()),
                Err(AddressError::Full) => Err(Status::internal(format_args!(
                    "failed to allocate a serviceIP for Service {:?}: range is full",
                    holder.name
                ))),
                Err(error) => Err(holder.refused(&format!("failed to allocate IP: {error}"))),
            };
        }
        let Some(IpAddr::V4(address)) = lenient_ip(named) else {
            return Err(Status::internal(format_args!("failed to parse service IP {named:?}")));
        };
        match self.take_named(&ranges, holder, address, dry_run).await {
            Ok(()) => Ok(named.clone()),
            Err(error) => Err(holder.refused(&format!("failed to allocate IP {named}: {error}"))),
        }
    }

    /// Frees addresses. What cannot be freed now is freed by the repair.
    pub(super) async fn give_back(&self, addresses: &[String]) {
        for address in addresses {
            if let Err(status) = self.delete(address).await {
                tracing::warn!(address, error = %status, "an address could not be freed; a later look frees it");
            }
        }
    }

    async fn delete(&self, address: &str) -> Result<(), Status> {
        // Objects have the plain form of what a service may write with leading zeros.
        let plain = lenient_ip(address).map_or_else(|| address.to_owned(), |address| address.to_string());
        let deleted = self.registry.delete(&self.context, &self.target(&plain)?, &DeleteOptions::default()).await;
        match deleted {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }

    /// The ranges that addresses are taken from now.
    async fn ranges(&self) -> Result<Vec<Ipv4Net>, Status> {
        let kind = kind_of(&self.registry, SERVICE_CIDRS)?;
        let mut ranges = Vec::new();
        for object in self.registry.list(&kind, "", &ListOptions::default()).await?.items {
            let object = tree(&object)?;
            if is_ready(&object) {
                let cidrs = object.at(&["spec", "cidrs"]).and_then(Value::as_array).unwrap_or_default();
                ranges.extend(cidrs.iter().filter_map(|cidr| cidr.as_str()?.parse::<Ipv4Net>().ok()));
            }
        }
        Ok(ranges)
    }

    async fn take_named(
        &self,
        ranges: &[Ipv4Net],
        holder: &Holder,
        address: Ipv4Addr,
        dry_run: bool,
    ) -> Result<(), AddressError> {
        let range = *ranges.iter().find(|range| range.contains(&address)).ok_or(AddressError::Mismatched)?;
        if address == range.network() || address == range.broadcast() {
            return Err(AddressError::OutOfRange { address, range });
        }
        if dry_run {
            return Ok(());
        }
        self.create(holder, address).await
    }

    async fn take_any(&self, ranges: &[Ipv4Net], holder: &Holder, dry_run: bool) -> Result<Ipv4Addr, AddressError> {
        if dry_run {
            // Nothing is chosen; upstream shows the range.
            return ranges.first().map(Ipv4Net::network).ok_or(AddressError::Full);
        }
        for range in ranges {
            for address in candidates(*range, self.random.next_u64()) {
                if self.is_taken(address).await.map_err(AddressError::Failed)? {
                    continue;
                }
                match self.create(holder, address).await {
                    Err(AddressError::Taken) => {}
                    Ok(()) => return Ok(address),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(AddressError::Full)
    }

    async fn is_taken(&self, address: Ipv4Addr) -> Result<bool, Status> {
        match self.registry.get(&self.target(&address.to_string())?, &ListOptions::default()).await {
            Ok(_) => Ok(true),
            Err(status) if status.code == 404 => Ok(false),
            Err(status) => Err(status),
        }
    }

    async fn create(&self, holder: &Holder, address: Ipv4Addr) -> Result<(), AddressError> {
        let name = address.to_string();
        let target = self.target(&name).map_err(AddressError::Failed)?;
        let object = object(&name, &holder.namespace, &holder.name);
        let body = Body::from(object);
        match self.registry.create(&self.context, &target, body, WriteOptions::default()).await {
            Ok(_) => Ok(()),
            Err(status) if status.code == 409 => Err(AddressError::Taken),
            Err(status) => Err(AddressError::Failed(status)),
        }
    }

    fn target(&self, name: &str) -> Result<Target, Status> {
        let kind = kind_of(&self.registry, IP_ADDRESSES)?;
        Ok(Target { kind, namespace: "".into(), name: name.into(), subresource: "".into() })
    }
}

/// The object of an address that a service holds.
fn object(address: &str, namespace: &str, name: &str) -> Value {
    let labels: Map =
        [(FAMILY, "IPv4"), (MANAGED_BY, ALLOCATOR)].map(|(key, text)| (key.into(), text.into())).into_iter().collect();
    value!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": address, "labels": (Value::Object(labels))},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}}
    })
}

/// Ready unless it says that it is not, or is going.
fn is_ready(range: &Value) -> bool {
    let conditions = range.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Ready");
    range.at(&["metadata", "deletionTimestamp"]).is_none()
        && ready.is_none_or(|condition| condition.str_at(&["status"]) == "True")
}

/// The addresses of a range in the order in which they are tried: from a random one on, and those that somebody is
/// likely to name (the first ones) last (KEP-3070).
fn candidates(range: Ipv4Net, random: u64) -> impl Iterator<Item = Ipv4Addr> {
    const STATIC_MIN: u32 = 16;
    const STATIC_MAX: u32 = 256;
    const STATIC_PART: u32 = 16;
    let (first, last) = (u32::from(range.network()).saturating_add(1), u32::from(range.broadcast()).saturating_sub(1));
    let hosts = (last + 1).saturating_sub(first);
    let size = hosts + 2;
    let kept = if size <= STATIC_MIN { 0 } else { (size / STATIC_PART).clamp(STATIC_MIN, STATIC_MAX) };
    let band = move |from: u32, count: u32| {
        let start = u32::try_from(random % u64::from(count.max(1))).unwrap_or_default();
        (0..count).map(move |step| Ipv4Addr::from(from + (start + step) % count))
    };
    band(first + kept, hosts - kept).chain(band(first, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_addresses_are_chosen_last() {
        let check = |range: &str, count: usize, kept: usize| {
            let range: Ipv4Net = range.parse().expect("a range");
            let all: Vec<Ipv4Addr> = candidates(range, 77).collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, range.hosts().collect::<Vec<_>>(), "each once");
            assert_eq!(all.len(), count);
            let (dynamic, last) = all.split_at(count - kept);
            assert!(last.iter().all(|address| dynamic.iter().all(|other| address < other)), "{range}");
        };
        check("10.96.0.0/16", 65_534, 256);
        check("10.96.0.0/24", 254, 16);
        check("10.96.0.0/28", 14, 0);
    }

    #[test]
    fn ranges_are_ready_unless_they_say_otherwise() {
        let condition = |status: &str| value!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&value!({})) && is_ready(&condition("True")) && !is_ready(&condition("False")));
        assert!(!is_ready(&value!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    }
}
