//! Charging a write to the quotas of its namespace, or refusing it, with upstream's texts.

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::{Str, Value};

use crate::amounts::{Amounts, add, read};
use crate::measure::{Change, Measure};
use crate::pod;
use crate::scope::covers;

/// Why a write is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("failed quota: {quota}: {why}")]
    Unsaid { quota: Str, why: String },
    #[error("status unknown for quota: {quota}, resources: {names}")]
    Uncounted { quota: Str, names: String },
    #[error("quota usage is negative for resource(s): {0}")]
    Negative(String),
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded { quota: Str, requested: String, used: String, limited: String },
}

/// What the quotas of a namespace will have used once the write is done: the place of each that changes, and its new amounts.
pub fn charge(
    quotas: &[Value],
    measure: &Measure,
    subresource: &str,
    change: &Change<'_>,
    now_s: i64,
) -> Result<Vec<(usize, Amounts)>, Refusal> {
    let object = change.object();
    let concerned: Vec<usize> = (0..quotas.len()).filter(|at| covers(&quotas[*at], measure, object)).collect();
    for at in &concerned {
        is_countable(&quotas[*at], measure, object)?;
    }
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    let usage = measure.usage(object, now_s);
    let negative = usage.iter().filter(|(_, amount)| amount.signum() < 0).map(|(name, _)| name.as_str());
    let negative = negative.collect::<Vec<_>>().join(",");
    if !negative.is_empty() {
        return Err(Refusal::Negative(negative));
    }
    let mut charged = Vec::new();
    for at in concerned {
        let quota = &quotas[at];
        let more = match change {
            Change::Update(_, old) if covers(quota, measure, old) => beyond(&usage, &measure.usage(old, now_s)),
            _ => usage.clone(),
        };
        if let Some(used) = add_to(quota, more, subresource)? {
            charged.push((at, used));
        }
    }
    Ok(charged)
}

/// The name of a quota.
fn name(quota: &Value) -> Str {
    quota.str_at(&["metadata", "name"]).into()
}

fn is_countable(quota: &Value, measure: &Measure, object: &Value) -> Result<(), Refusal> {
    let (hard, used) = (read(quota.at(&["status", "hard"])), read(quota.at(&["status", "used"])));
    let limited: Vec<&str> = hard.keys().map(Str::as_str).filter(|name| measure.has(name)).collect();
    if *measure == Measure::Pods
        && let Some(why) = pod::unsaid(object, limited.iter().copied())
    {
        return Err(Refusal::Unsaid { quota: name(quota), why });
    }
    if limited.iter().any(|name| !used.contains_key(*name)) {
        return Err(Refusal::Uncounted { quota: name(quota), names: limited.join(",") });
    }
    Ok(())
}

/// How much more is used than before, never less than nothing.
fn beyond(usage: &Amounts, before: &Amounts) -> Amounts {
    let mut more = Amounts::new();
    for (name, amount) in usage {
        let mut amount = amount.clone();
        if let Some(before) = before.get(name) {
            amount.sub(before);
        }
        more.insert(name.clone(), amount);
    }
    more.retain(|_, amount| amount.signum() > 0);
    more
}

/// What a quota has used with this much more; `None` where that is nothing of it.
fn add_to(quota: &Value, mut more: Amounts, subresource: &str) -> Result<Option<Amounts>, Refusal> {
    let hard = read(quota.at(&["status", "hard"]));
    more.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
    if more.is_empty() {
        return Ok(None);
    }
    let used = read(quota.at(&["status", "used"]));
    let mut then = used.clone();
    add(&mut then, &more);
    let exceeds = |name: &Str| matches!((then.get(name), hard.get(name)), (Some(then), Some(hard)) if then > hard);
    let exceeded: Vec<&Str> = more.keys().filter(|name| exceeds(name)).collect();
    if exceeded.is_empty() || subresource == "status" {
        return Ok(Some(then));
    }
    let shown = |of: &Amounts| print(exceeded.iter().filter_map(|name| Some((*name, of.get(*name)?))));
    let (requested, used, limited) = (shown(&more), shown(&used), shown(&hard));
    Err(Refusal::Exceeded { quota: name(quota), requested, used, limited })
}

/// `pods=1,services=2`.
fn print<'a>(amounts: impl Iterator<Item = (&'a Str, &'a Quantity)>) -> String {
    amounts.map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn quota(hard: Value, used: Value) -> Value {
        value!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}})
    }

    fn service(kind: &str, ports: usize) -> Value {
        let ports: Vec<Value> = (0..ports).map(|_| value!({})).collect();
        value!({"spec": {"type": kind, "ports": ports}})
    }

    /// What the one quota has used then, or the refusal.
    fn check(quota: &Value, kind: (&str, &str), change: Change<'_>) -> String {
        let measure = Measure::of(kind.0, kind.1).expect("counted");
        match charge(std::slice::from_ref(quota), &measure, "", &change, 0) {
            Ok(charged) => charged.iter().map(|(_, used)| print(used.iter())).collect(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn what_fits_is_added_and_what_does_not_is_refused() {
        let limits = quota(
            value!({"services": "2", "services.nodeports": "1"}),
            value!({"services": "1", "services.nodeports": "0"}),
        );
        let services = ("", "services");
        let plain = service("ClusterIP", 2);
        assert_eq!(check(&limits, services, Change::Create(&plain)), "services=2,services.nodeports=0");
        let refused = check(&limits, services, Change::Create(&service("NodePort", 2)));
        assert_eq!(
            refused,
            "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
        );
        let (one, two) = (service("NodePort", 1), service("NodePort", 2));
        assert_eq!(check(&limits, services, Change::Update(&one, &plain)), "services=1,services.nodeports=1");
        assert_eq!(check(&limits, services, Change::Update(&one, &two)), "", "less is counted later");
        assert_eq!(check(&limits, ("", "secrets"), Change::Create(&value!({}))), "");
    }

    #[test]
    fn kinds_are_counted_by_their_names() {
        let limits = quota(
            value!({"count/things.shop": "1", "secrets": "3", "count/secrets": "9"}),
            value!({"count/things.shop": "1", "secrets": "0", "count/secrets": "0"}),
        );
        let refused = check(&limits, ("shop", "things"), Change::Create(&value!({})));
        assert_eq!(
            refused,
            "exceeded quota: q, requested: count/things.shop=1, used: count/things.shop=1, limited: count/things.shop=1"
        );
        let used = check(&limits, ("", "secrets"), Change::Create(&value!({})));
        assert_eq!(used, "count/secrets=1,count/things.shop=1,secrets=1");
        assert_eq!(Measure::of("", "events"), None);
    }

    #[test]
    fn a_quota_without_usage_refuses_and_says_so() {
        let limits = quota(value!({"pods": "1", "requests.cpu": "1", "services": "1"}), value!({"pods": "0"}));
        let pod = value!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "-1"}}}]}});
        let refused = check(&limits, ("", "pods"), Change::Create(&pod));
        assert_eq!(refused, "status unknown for quota: q, resources: pods,requests.cpu");
        let silent = value!({"spec": {"containers": [{"name": "c"}]}});
        let refused = check(&limits, ("", "pods"), Change::Create(&silent));
        assert_eq!(refused, "failed quota: q: must specify requests.cpu for: c");
        let counted = quota(value!({"requests.cpu": "1"}), value!({"requests.cpu": "0"}));
        let refused = check(&counted, ("", "pods"), Change::Create(&pod));
        assert_eq!(refused, "quota usage is negative for resource(s): cpu,requests.cpu");
    }

    #[test]
    fn claims_are_counted_by_class_and_in_whole_bytes() {
        const STORAGE: &str = "gold.storageclass.storage.k8s.io/requests.storage";
        let both = |amount: &str| {
            Value::Object([STORAGE, "requests.storage"].map(|name| (name.into(), amount.into())).into_iter().collect())
        };
        let limits = quota(both("10"), both("0"));
        let claim = value!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}});
        let used = check(&limits, ("", "persistentvolumeclaims"), Change::Create(&claim));
        assert_eq!(used, format!("{STORAGE}=2,requests.storage=2"));
        let name = "gold.storageclass.storage.k8s.io/persistentvolumeclaims";
        assert_eq!(Measure::by_name(name), Some(Measure::Claims));
    }

    #[test]
    fn names_of_amounts_lead_to_kinds() {
        let check = |name: &str, expect: Option<(&str, &str)>| {
            let measure = Measure::by_name(name);
            assert_eq!(measure.as_ref().map(Measure::kind), expect, "{name}");
        };
        check("requests.cpu", Some(("", "pods")));
        check("count/services", Some(("", "services")));
        check("gold.deviceclass.resource.k8s.io/devices", Some(("resource.k8s.io", "resourceclaims")));
        check("configmaps", Some(("", "configmaps")));
        check("count/things.shop.example.com", Some(("shop.example.com", "things")));
        check("count/events", None);
        check("nonsense", None);
    }
}
