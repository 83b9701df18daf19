//! ResourceQuota: a write that takes more than a quota of its namespace leaves is refused; what it takes is charged before it is
//! written, so that two writes never get what is there once. What is charged and not written is found by the controller,
//! which counts again.

use std::sync::Arc;

use ahash::RandomState;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_apiserver::auth::User;
use corten_apiserver::registry::{Context, ListOptions, Preconditions, Target};
use corten_quota::{Amounts, Change, Measure, Refusal, charge};
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;
use tokio::sync::Mutex;

use super::forbidden;
use crate::lookup::{FromRegistry, Resource, tree};

const QUOTAS: Resource = Resource { group: "", plural: "resourcequotas" };

/// Writes of one namespace are charged one after the other; so many namespaces at the same time.
const GATES: usize = 64;

/// Reads and charges the quotas of a namespace.
pub trait Quotas: Send + Sync {
    fn list<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>>;

    /// Changes one quota by a function that may run several times; one that is gone meanwhile limits nothing any more.
    fn amend<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        change: &'a (dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync),
    ) -> BoxFuture<'a, Result<(), Status>>;
}

pub struct ResourceQuota {
    quotas: Arc<dyn Quotas>,
    clock: Clock,
    gates: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl ResourceQuota {
    pub fn new(quotas: Arc<dyn Quotas>, clock: Clock) -> Self {
        let gates = (0..GATES).map(|_| Mutex::new(())).collect();
        Self { quotas, clock, gates, hasher: RandomState::new() }
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let gvk = &request.kind.gvk;
        let is_namespace = gvk.group.is_empty() && request.kind.plural == "namespaces";
        let Some(measure) = Measure::of(&gvk.group, &request.kind.plural).filter(|_| !is_namespace) else {
            return Ok(());
        };
        let change = match (&request.operation, &request.old) {
            (Operation::Create, _) => Change::Create(&request.object),
            (Operation::Update, Some(old)) => Change::Update(&request.object, old),
            _ => return Ok(()),
        };
        if request.namespace.is_empty() || !measure.concerns(&request.subresource, &change) {
            return Ok(());
        }
        let gate = self.hasher.hash_one(&request.namespace) % (GATES as u64);
        let _turn = self.gates[usize::try_from(gate).expect("below the number of gates")].lock().await;
        let quotas = self.quotas.list(&request.namespace).await?;
        let now_s = self.clock.now_s();
        let charged = charge(&quotas, &measure, &request.subresource, &change, now_s);
        let charged = charged.map_err(|refusal| refused(request, &refusal))?;
        for (at, _) in charged.iter().filter(|_| !request.dry_run) {
            let add = |quota: &mut Value| -> Result<(), Status> {
                let charged = charge(std::slice::from_ref(quota), &measure, &request.subresource, &change, now_s);
                for (_, used) in charged.map_err(|refusal| refused(request, &refusal))? {
                    set_used(quota, &used);
                }
                Ok(())
            };
            self.quotas.amend(&request.namespace, Meta::of(&quotas[*at]).name(), &add).await?;
        }
        Ok(())
    }
}

impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

fn refused(request: &AdmissionRequest, refusal: &Refusal) -> Status {
    forbidden(request, &refusal.to_string())
}

fn set_used(quota: &mut Value, used: &Amounts) {
    let shown: Map = used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    quota.object_entry("status").insert("used", shown);
}

/// The quotas of this server, under its own identity.
pub struct Ledger {
    registry: Arc<FromRegistry>,
    context: Context,
}

impl Ledger {
    pub fn new(registry: Arc<FromRegistry>, server: Arc<User>) -> Self {
        Self { registry, context: Context::new(server, "resourcequota") }
    }
}

impl Quotas for Ledger {
    fn list<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>> {
        Box::pin(async move {
            let (registry, kind) = self.registry.kind(QUOTAS)?;
            let listed = registry.list(&kind, namespace, &ListOptions::default()).await?;
            listed.items.iter().map(|quota| tree(quota)).collect()
        })
    }

    fn amend<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        change: &'a (dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync),
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let (registry, kind) = self.registry.kind(QUOTAS)?;
            let target = Target { kind, namespace: namespace.into(), name: name.into(), subresource: "status".into() };
            match registry.amend(&self.context, &target, &Preconditions::default(), false, change).await {
                Err(status) if status.code != 404 => Err(status),
                _ => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::request;
    use crate::lookup::PODS;

    const SERVICES: Resource = Resource { group: "", plural: "services" };

    /// The one quota of a namespace.
    struct One(Mutex<Value>);

    impl Quotas for One {
        fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>> {
            let quota = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(std::future::ready(Ok(vec![quota])))
        }

        fn amend<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
            change: &'a (dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync),
        ) -> BoxFuture<'a, Result<(), Status>> {
            let changed = change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
            Box::pin(std::future::ready(changed))
        }
    }

    fn quota(hard: Value, used: Value) -> (Arc<One>, ResourceQuota) {
        let quota = value!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}});
        let one = Arc::new(One(Mutex::new(quota)));
        (one.clone(), ResourceQuota::new(one, Clock::manual(0)))
    }

    fn used(one: &One, name: &str) -> String {
        let quota = one.0.lock().unwrap_or_else(PoisonError::into_inner);
        quota.str_at(&["status", "used", name]).to_owned()
    }

    #[tokio::test]
    async fn a_write_is_charged_until_nothing_is_left() {
        let (one, plugin) = quota(value!({"services": "1"}), value!({"services": "0"}));
        let service = || request(SERVICES, Operation::Create, "ns", value!({"metadata": {"name": "s"}}));
        let mut tried = AdmissionRequest { dry_run: true, ..service() };
        plugin.validate(&mut tried).await.expect("there is room");
        assert_eq!(used(&one, "services"), "0", "a try is not charged");
        plugin.validate(&mut service()).await.expect("there is room");
        assert_eq!(used(&one, "services"), "1");
        let refused = plugin.validate(&mut service()).await.expect_err("nothing is left");
        let text = "services \"s\" is forbidden: exceeded quota: q, requested: services=1, used: services=1, limited: services=1";
        assert_eq!((refused.code, refused.message.as_str()), (403, text));
    }

    #[tokio::test]
    async fn what_is_nobodys_to_count_is_let_through() {
        let (one, plugin) =
            quota(value!({"pods": "0", "count/events": "0"}), value!({"pods": "0", "count/events": "0"}));
        let event = Resource { group: "", plural: "events" };
        plugin.validate(&mut request(event, Operation::Create, "ns", value!({}))).await.expect("events are free");
        let pod = || value!({"metadata": {"name": "p"}, "spec": {"containers": []}});
        let mut update =
            AdmissionRequest { old: Some(Arc::new(pod())), ..request(PODS, Operation::Update, "ns", pod()) };
        plugin.validate(&mut update).await.expect("an update takes nothing");
        let status =
            AdmissionRequest { subresource: "binding".into(), ..request(PODS, Operation::Create, "ns", pod()) };
        plugin.validate(&mut { status }).await.expect("a binding takes nothing");
        let refused = plugin.validate(&mut request(PODS, Operation::Create, "ns", pod())).await;
        assert_eq!(refused.expect_err("no room").code, 403);
        assert_eq!(used(&one, "pods"), "0");
    }
}
