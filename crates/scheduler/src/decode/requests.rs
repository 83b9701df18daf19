//! What a pod asks for: containers together, or the largest moment of its start, whichever is more (KEP-753); pod-level
//! requests (KEP-2837); the overhead of its runtime; and for running pods what they really hold (KEP-1287).

use std::collections::BTreeMap;

use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::value::{Map, Str, Value};

use super::{DecodeError, amount, items, parse};

type Amounts = BTreeMap<Str, Quantity>;

/// What upstream's scores suppose of a container that asks for no CPU, in thousandths.
const USUAL_CPU: i64 = 100;
/// … and of one that asks for no memory, in bytes.
const USUAL_MEMORY: i64 = 200 * 1024 * 1024;

/// The requests by resource, sorted by name. What the scheduler does not know as a resource is left out.
pub(super) fn of(pod: &Value) -> Result<Vec<(Str, i64)>, DecodeError> {
    let sum = total(pod, &Amounts::new())?;
    let known = sum.into_iter().filter(|(name, _)| is_resource(name));
    Ok(known.map(|(name, quantity)| (name.clone(), amount(&name, &quantity))).collect())
}

/// CPU and memory as upstream's score supposes them of a pod that is to be placed: it does not look at requests of the
/// pod as a whole.
pub(super) fn usual(pod: &Value) -> Result<(i64, i64), DecodeError> {
    let mut sum = of_containers(pod, &least())?;
    add(&mut sum, &amounts(pod.at(&["spec", "overhead"]))?);
    Ok(cpu_and_memory(&sum))
}

/// CPU and memory as scores suppose them of a pod at a node: nothing is supposed of a container if the pod as a whole
/// asks for something.
pub(super) fn usual_held(pod: &Value) -> Result<(i64, i64), DecodeError> {
    let mut least = least();
    if amounts(pod.at(&["spec", "resources", "requests"]))?.keys().any(|name| is_pod_level(name)) {
        let sum = total(pod, &Amounts::new())?;
        least.retain(|name, _| !sum.contains_key(name));
    }
    Ok(cpu_and_memory(&total(pod, &least)?))
}

fn least() -> Amounts {
    Amounts::from([
        ("cpu".into(), Quantity::from_milli(USUAL_CPU, Format::DecimalSi)),
        ("memory".into(), Quantity::new(USUAL_MEMORY, Format::DecimalSi)),
    ])
}

fn cpu_and_memory(sum: &Amounts) -> (i64, i64) {
    let of = |name: &str| sum.get(name).map_or(0, |quantity| amount(name, quantity));
    (of("cpu"), of("memory"))
}

pub(super) fn is_sidecar(container: &Value) -> bool {
    container.str_at(&["restartPolicy"]) == "Always"
}

fn is_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.contains('/') || name.starts_with("hugepages-")
}

fn total(pod: &Value, least: &Amounts) -> Result<Amounts, DecodeError> {
    let mut sum = of_containers(pod, least)?;
    let of_pod = amounts(pod.at(&["spec", "resources", "requests"]))?;
    if of_pod.keys().any(|name| is_pod_level(name)) {
        let held = Held::of(pod.get("status"));
        let effective = if held.is_some() { held_amounts(pod, of_pod.clone(), held)? } else { of_pod.clone() };
        for name in of_pod.keys().filter(|name| is_pod_level(name)) {
            sum.insert(name.clone(), effective.get(name).unwrap_or(&of_pod[name]).clone());
        }
    }
    add(&mut sum, &amounts(pod.at(&["spec", "overhead"]))?);
    Ok(sum)
}

fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn of_containers(pod: &Value, least: &Amounts) -> Result<Amounts, DecodeError> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut sum = Amounts::new();
    for container in items(spec, "containers") {
        add(&mut sum, &of_container(pod, container, "containerStatuses", least)?);
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in items(spec, "initContainers") {
        let mut here = of_container(pod, container, "initContainerStatuses", least)?;
        if is_sidecar(container) {
            add(&mut sum, &here);
            add(&mut sidecars, &here);
            raise(&mut peak, &sidecars);
        } else {
            add(&mut here, &sidecars);
            raise(&mut peak, &here);
        }
    }
    raise(&mut sum, &peak);
    Ok(sum)
}

fn of_container(pod: &Value, container: &Value, statuses: &str, least: &Amounts) -> Result<Amounts, DecodeError> {
    let mut requests = amounts(container.at(&["resources", "requests"]))?;
    if statuses == "containerStatuses" || is_sidecar(container) {
        let name = container.str_at(&["name"]);
        let statuses = items(pod.get("status").unwrap_or(&Value::Null), statuses);
        let status = statuses.iter().find(|status| status.str_at(&["name"]) == name);
        requests = held_amounts(pod, requests, Held::of(status))?;
    }
    for (name, quantity) in least {
        requests.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
    Ok(requests)
}

/// What the node gave a container or a pod.
struct Held<'a> {
    actual: Option<&'a Value>,
    allocated: Option<&'a Value>,
}

impl<'a> Held<'a> {
    fn of(status: Option<&'a Value>) -> Option<Self> {
        let resources = status?.get("resources").filter(|resources| !resources.is_null())?;
        Some(Self { actual: resources.get("requests"), allocated: status?.get("allocatedResources") })
    }
}

/// During a resize the larger of what is asked for and what is held counts; what the node cannot give does not.
fn held_amounts(pod: &Value, asked: Amounts, held: Option<Held<'_>>) -> Result<Amounts, DecodeError> {
    let Some(held) = held else { return Ok(asked) };
    let conditions = items(pod.get("status").unwrap_or(&Value::Null), "conditions");
    let pending = conditions.iter().find(|condition| condition.str_at(&["type"]) == "PodResizePending");
    let infeasible = pending.is_some_and(|condition| condition.str_at(&["reason"]) == "Infeasible");
    let mut most = if infeasible { Amounts::new() } else { asked };
    raise(&mut most, &amounts(held.actual)?);
    raise(&mut most, &amounts(held.allocated)?);
    Ok(most)
}

fn amounts(map: Option<&Value>) -> Result<Amounts, DecodeError> {
    let entries = map.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    entries.map(|(name, quantity)| Ok((name.clone(), parse(name, quantity)?))).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        match sum.get_mut(name) {
            Some(known) => known.add(quantity),
            None => {
                sum.insert(name.clone(), quantity.clone());
            }
        }
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        if most.get(name).is_none_or(|known| known < quantity) {
            most.insert(name.clone(), quantity.clone());
        }
    }
}
