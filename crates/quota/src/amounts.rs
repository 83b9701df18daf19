//! Amounts of resources by name: of containers, and of pods as their containers run after and beside each other.

use std::collections::BTreeMap;

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::{Map, Str, Value};

pub type Amounts = BTreeMap<Str, Quantity>;

/// What a pod may say for all of its containers together.
const OF_PODS: [&str; 2] = ["cpu", "memory"];

/// A list of amounts. What is no quantity is left out: validation refuses it.
pub fn read(list: Option<&Value>) -> Amounts {
    let list = list.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    list.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?))).collect()
}

/// A container's `requests` or `limits`.
pub fn amounts(container: &Value, field: &str) -> Amounts {
    read(container.at(&["resources", field]))
}

pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(own) => own.add(amount),
            None => drop(sum.insert(name.clone(), amount.clone())),
        }
    }
}

fn at_least(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if most.get(name).is_none_or(|own| amount > own) {
            most.insert(name.clone(), amount.clone());
        }
    }
}

/// What a pod needs at once: all containers and those beside them, or more while one before them runs.
pub fn of_pod(pod: &Value, field: &str) -> Amounts {
    let containers = |of: &str| pod.at(&["spec", of]).and_then(Value::as_array).unwrap_or_default();
    let (mut sum, mut beside, mut before) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in containers("containers") {
        add(&mut sum, &amounts(container, field));
    }
    for container in containers("initContainers") {
        let own = amounts(container, field);
        if container.str_at(&["restartPolicy"]) == "Always" {
            add(&mut sum, &own);
            add(&mut beside, &own);
            at_least(&mut before, &beside);
        } else {
            let mut then = own;
            add(&mut then, &beside);
            at_least(&mut before, &then);
        }
    }
    at_least(&mut sum, &before);
    let whole = read(pod.at(&["spec", "resources", field]));
    sum.extend(whole.into_iter().filter(|(name, _)| OF_PODS.contains(&name.as_str())));
    sum
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn cpu(init: Value, containers: Value, whole: Value) -> String {
        let pod = value!({"spec": {"initContainers": init, "containers": containers, "resources": whole}});
        of_pod(&pod, "requests").get("cpu").map_or_else(|| "none".to_owned(), ToString::to_string)
    }

    fn one(cpu: &str, policy: &str) -> Value {
        value!({"restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_needs_the_most_that_runs_at_once() {
        assert_eq!(cpu(Value::Null, value!([(one("1", "")), (one("500m", ""))]), Value::Null), "1500m");
        assert_eq!(cpu(value!([(one("2", ""))]), value!([(one("1", ""))]), Value::Null), "2");
        let beside = value!([(one("1", "Always")), (one("2", ""))]);
        assert_eq!(cpu(beside, value!([(one("1", ""))]), Value::Null), "3");
        let whole = value!({"requests": {"cpu": "4"}});
        assert_eq!(cpu(Value::Null, value!([(one("1", ""))]), whole), "4");
        assert_eq!(cpu(Value::Null, value!([{}]), Value::Null), "none");
    }
}
