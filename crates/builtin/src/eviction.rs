//! `pods/eviction`: deletes a pod if its disruption budget allows it (`pkg/registry/core/pod/storage/eviction.go`).

use std::sync::Arc;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_apiserver::connect::{Answer, Call, CallBody, Connector, Connectors};
use corten_apiserver::http::query;
use corten_apiserver::registry::{Context, DeleteOptions, ListOptions, Preconditions, Registry, Shown, Target};
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;

use crate::lookup::tree;
use crate::pods;

const BUDGETS: &str = "poddisruptionbudgets";
/// Evictions that the budget's controller has not confirmed.
const UNCONFIRMED_MAX: usize = 2000;
const CAUSE: &str = "DisruptionBudget";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

struct Endpoint {
    registry: Registry,
    clock: Clock,
}

pub fn register(connectors: &mut Connectors, registry: &Registry, clock: &Clock) {
    let endpoint = Endpoint { registry: registry.clone(), clock: clock.clone() };
    connectors.register("", "pods", "eviction", Arc::new(endpoint));
}

impl Connector for Endpoint {
    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(self.evict(call))
    }
}

/// Whether a pod may go, as far as its budgets are concerned.
#[derive(Debug, PartialEq)]
enum Permission {
    /// No budget is asked.
    Free,
    /// It is not healthy, and may go as long as that stays so.
    Unhealthy,
    /// This budget counts it.
    Counted(Str),
}

impl Endpoint {
    async fn evict(&self, mut call: Call) -> Result<Answer, Status> {
        let CallBody::Object(eviction) = std::mem::replace(&mut call.body, CallBody::None) else {
            return Err(Status::bad_request("not a Eviction object"));
        };
        pods::check_name(&call, &eviction, "Eviction")?;
        let options = delete_options(&eviction, call.options.dry_run)?;
        let context = pods::context(&call);
        let target = pods::pod(&self.registry, &call.target.namespace, &call.target.name)?;
        drop(call);
        let pod = value_of(&self.registry.get(&target, &ListOptions::default()).await?)?;
        let budgets = self.budgets_of(&pod).await?;
        let permission = permission(&pod, &budgets)?;
        if let Permission::Counted(name) = &permission {
            self.take_from(&context, &target, name, options.dry_run).await?;
        }
        let guarded = permission == Permission::Unhealthy || is_guarded(&pod);
        let own_revision = options.precondition_revision.is_some();
        let revision = options.precondition_revision.clone();
        let revision = revision.or_else(|| guarded.then(|| Meta::of(&pod).resource_version().into()));
        let options = DeleteOptions { precondition_revision: revision, ..options };
        match self.mark_and_delete(&context, &target, options).await {
            Err(status) if status.reason == "Conflict" && guarded && !own_revision => {
                let name = budgets.first().map_or("", |budget| Meta::of(budget).name());
                Err(still_processed(name))
            }
            Err(status) => Err(status),
            Ok(()) => Ok(pods::done()),
        }
    }

    /// The budgets that select a pod.
    async fn budgets_of(&self, pod: &Value) -> Result<Vec<Value>, Status> {
        let meta = Meta::of(pod);
        let Some(target) = pods::target(&self.registry, "policy", BUDGETS, meta.namespace(), "") else {
            return Ok(Vec::new());
        };
        let list = self.registry.list(&target.kind, meta.namespace(), &ListOptions::default()).await?;
        let mut own = Vec::new();
        for budget in &list.items {
            let budget = tree(budget)?;
            // A selector that cannot be read selects nothing.
            let selector = LabelSelector::from_object(budget.at(&["spec", "selector"]));
            if selector.is_ok_and(|selector| selector.matches(&meta.sorted_labels())) {
                own.push(budget);
            }
        }
        Ok(own)
    }

    /// Counts one disruption in a budget's status, if it allows one.
    async fn take_from(&self, context: &Context, pod: &Target, budget: &str, dry_run: bool) -> Result<(), Status> {
        let target = pods::target(&self.registry, "policy", BUDGETS, &pod.namespace, budget);
        let target = target.ok_or_else(Status::unknown_path)?;
        let now_s = self.clock.now_s();
        let change = |budget: &mut Value| disrupt(budget, &pod.name, now_s);
        self.registry.amend(context, &target, &Preconditions::default(), dry_run, change).await?;
        Ok(())
    }

    async fn mark_and_delete(
        &self,
        context: &Context,
        target: &Target,
        mut options: DeleteOptions,
    ) -> Result<(), Status> {
        let which =
            Preconditions { uid: options.precondition_uid.clone(), revision: options.precondition_revision.clone() };
        let now_s = self.clock.now_s();
        if !options.dry_run {
            let change = |pod: &mut Value| {
                let (reason, message) = ("EvictionByEvictionAPI", "Eviction API: evicting");
                pods::set_condition(pod, "DisruptionTarget", reason, message, now_s);
                Ok(())
            };
            let marked = self.registry.amend(context, target, &which, false, change).await?;
            if options.precondition_revision.is_some() {
                options.precondition_revision = Some(marked.object.revision.to_string().into());
            }
        }
        self.registry.delete(context, target, &options).await.map(drop)
    }
}

fn value_of(shown: &Shown) -> Result<Value, Status> {
    shown.to_value().map_err(Status::internal)
}

fn delete_options(eviction: &Value, dry_run: bool) -> Result<DeleteOptions, Status> {
    let none = Value::object();
    let asked = eviction.get("deleteOptions").unwrap_or(&none);
    if asked.at(&["ignoreStoreReadErrorWithClusterBreakingPotential"]).and_then(Value::as_bool) == Some(true) {
        let mut errors = FieldErrors::default();
        let path = FieldPath::new("deleteOptions").child("ignoreStoreReadErrorWithClusterBreakingPotential");
        errors.invalid(&path, true, "can not be set for pod eviction, try after removing the option");
        return Err(Status::invalid("policy", "Eviction", Meta::of(eviction).name(), &errors));
    }
    let options = query::delete_options_of(asked)?;
    Ok(DeleteOptions { dry_run: options.dry_run || dry_run, ..options })
}

/// A pod that may turn healthy while it is looked at.
fn is_guarded(pod: &Value) -> bool {
    pod.str_at(&["status", "phase"]) == "Pending" && Meta::of(pod).deletion_timestamp().is_none()
}

fn permission(pod: &Value, budgets: &[Value]) -> Result<Permission, Status> {
    let disturbed = matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed" | "Pending");
    if disturbed || Meta::of(pod).deletion_timestamp().is_some() {
        return Ok(Permission::Free);
    }
    let budget = match budgets {
        [] => return Ok(Permission::Free),
        [budget] => budget,
        _ => {
            let mut status = Status::internal("");
            status.details = None;
            status.reason = "";
            status.message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                    .to_owned();
            return Err(status);
        }
    };
    if !is_ready(pod) {
        let count = |field| budget.i64_at(&["status", field]).unwrap_or_default();
        let always = budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        let enough = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
        if always || enough {
            return Ok(Permission::Unhealthy);
        }
    }
    Ok(Permission::Counted(Meta::of(budget).name().into()))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.iter().any(|of| of.str_at(&["type"]) == "Ready" && of.str_at(&["status"]) == "True")
}

fn still_processed(budget: &str) -> Status {
    let message = format!("The disruption budget {budget} is still being processed by the server.");
    Status::too_many_requests(REFUSED, 10).with_cause(CAUSE, message, "")
}

/// Takes one from what a budget allows, and notes for whom.
fn disrupt(budget: &mut Value, pod: &str, now_s: i64) -> Result<(), Status> {
    let name = Meta::of(budget).name().to_owned();
    let forbidden = |why| Err(Status::forbidden("policy", "poddisruptionbudget", &name, why));
    if budget.i64_at(&["status", "observedGeneration"]).unwrap_or_default() < Meta::of(budget).generation() {
        return Err(still_processed(&name));
    }
    let allowed = budget.i64_at(&["status", "disruptionsAllowed"]).unwrap_or_default();
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let unconfirmed = budget.at(&["status", "disruptedPods"]).and_then(Value::as_object).map_or(0, Map::len);
    if unconfirmed > UNCONFIRMED_MAX {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(Status::too_many_requests(REFUSED, 0).with_cause(CAUSE, why_not(budget), ""));
    }
    let now = Time::from_seconds(now_s).to_rfc3339();
    let generation = Meta::of(budget).generation();
    let status = budget.object_entry("status");
    status.insert("disruptionsAllowed", allowed - 1);
    status.object_entry("disruptedPods").insert(pod, now.clone());
    if allowed == 1 {
        forbid_more(status, generation, &now);
    }
    Ok(())
}

/// The condition of a budget that allows nothing any more.
fn forbid_more(status: &mut Map, generation: i64, now: &str) {
    let conditions = status.get("conditions").and_then(Value::as_array).unwrap_or_default();
    let (mut own, mut all): (Vec<Value>, Vec<Value>) =
        conditions.iter().cloned().partition(|condition| condition.str_at(&["type"]) == "DisruptionAllowed");
    let same = own.pop().filter(|condition| condition.str_at(&["status"]) == "False");
    let since = same.map_or_else(|| Str::from(now), |same| same.str_at(&["lastTransitionTime"]).into());
    all.push(value!({
        "type": "DisruptionAllowed", "status": "False", "observedGeneration": generation,
        "lastTransitionTime": since, "reason": "InsufficientPods", "message": ""
    }));
    status.insert("conditions", all);
}

fn why_not(budget: &Value) -> String {
    let name = Meta::of(budget).name();
    let conditions = budget.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let condition = conditions.iter().find(|condition| {
        let text = |field| condition.str_at(&[field]);
        text("type") == "DisruptionAllowed" && text("status") == "False" && !text("message").is_empty()
    });
    let text = |field| condition.map_or("", |condition| condition.str_at(&[field]));
    let count = |field| budget.i64_at(&["status", field]).unwrap_or_default();
    let (healthy, desired) = (count("currentHealthy"), count("desiredHealthy"));
    let refuses = format!("The disruption budget {name} does not allow evicting pods currently");
    match text("reason") {
        "SyncFailed" => format!("{refuses} because it failed sync: {}", text("message")),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        "" if condition.is_none() => refuses,
        reason => format!("{refuses} ({reason}): {}", text("message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64, healthy: i64, desired: i64) -> Value {
        value!({"metadata": {"name": "b", "generation": 1}, "spec": {}, "status": {"observedGeneration": 1,
            "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired}})
    }

    fn pod(phase: &str, ready: bool) -> Value {
        let ready = value!({"type": "Ready", "status": (if ready { "True" } else { "False" })});
        value!({"metadata": {"name": "a"}, "status": {"phase": phase, "conditions": [ready]}})
    }

    #[test]
    fn budgets_are_asked_for_pods_that_run() {
        let check = |phase, ready, budgets: &[Value], expect: Permission| {
            assert_eq!(permission(&pod(phase, ready), budgets), Ok(expect));
        };
        let counted = || Permission::Counted("b".into());
        check("Running", true, &[], Permission::Free);
        check("Pending", false, &[budget(0, 0, 1)], Permission::Free);
        check("Failed", false, &[budget(0, 0, 1)], Permission::Free);
        check("Running", true, &[budget(1, 2, 1)], counted());
        check("Running", false, &[budget(0, 1, 2)], counted());
        check("Running", false, &[budget(0, 2, 2)], Permission::Unhealthy);
        let two = permission(&pod("Running", true), &[budget(1, 2, 1), budget(1, 2, 1)]);
        assert_eq!(two.map_err(|status| status.code), Err(500));
    }

    #[test]
    fn a_disruption_is_counted_until_none_is_left() {
        let mut left = budget(1, 2, 1);
        assert_eq!(disrupt(&mut left, "a", 0), Ok(()));
        assert_eq!(left.i64_at(&["status", "disruptionsAllowed"]), Some(0));
        assert_eq!(left.str_at(&["status", "disruptedPods", "a"]), "1970-01-01T00:00:00Z");
        let causes = |status: Status| status.details.map(|details| details.causes[0].message.clone());
        let refused = disrupt(&mut left, "c", 0).map_err(causes);
        assert_eq!(refused, Err(Some("The disruption budget b does not allow evicting pods currently".to_owned())));
        let refused = disrupt(&mut budget(0, 1, 1), "c", 0).map_err(causes);
        assert_eq!(refused, Err(Some("The disruption budget b needs 1 healthy pods and has 1 currently".to_owned())));
        let mut new = budget(1, 2, 1);
        new.object_entry("metadata").insert("generation", 2);
        let refused = disrupt(&mut new, "c", 0).map_err(|status| (status.code, causes(status)));
        let text = "The disruption budget b is still being processed by the server.".to_owned();
        assert_eq!(refused, Err((429, Some(text))));
    }
}
