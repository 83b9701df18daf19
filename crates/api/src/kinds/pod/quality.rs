//! The quality-of-service class of a pod: which pods give way first when a node runs short.

use std::collections::BTreeMap;

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::Value;

use crate::kinds::column::list;

type Amounts = BTreeMap<&'static str, Quantity>;

/// `Guaranteed` where every container's CPU and memory have limits that equal their requests, `BestEffort` where none
/// has either, else `Burstable`. Amounts of the pod as a whole, where given, take the place of its containers'.
pub(super) fn class(spec: &Value) -> &'static str {
    let holders: Vec<&Value> = match spec.at(&["resources"]) {
        Some(of_pod) if !of_pod.is_null() => vec![of_pod],
        _ => {
            let containers = list(spec, &["containers"]).iter().chain(list(spec, &["initContainers"]));
            containers.map(|container| container.get("resources").unwrap_or(&Value::Null)).collect()
        }
    };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut limited = true;
    for resources in holders {
        add(&mut requests, resources.get("requests"));
        limited &= add(&mut limits, resources.get("limits")) == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds the amounts that are above nothing; how many there were.
fn add(sum: &mut Amounts, amounts: Option<&Value>) -> usize {
    let mut found = 0;
    for resource in ["cpu", "memory"] {
        // What is no quantity is refused by validation, whatever the class.
        let Some(Ok(amount)) = amounts.and_then(|amounts| amounts.get(resource)).map(Quantity::from_value) else {
            continue;
        };
        if amount.signum() > 0 {
            found += 1;
            sum.entry(resource).and_modify(|sum| sum.add(&amount)).or_insert(amount);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    fn check(containers: Value, expect: &str) {
        assert_eq!(class(&value!({"containers": containers})), expect);
    }

    #[test]
    fn classes() {
        check(value!([{"name": "a", "resources": {}}]), "BestEffort");
        check(value!([{"resources": {"requests": {"cpu": "0", "example.com/gpu": "1"}}}]), "BestEffort");
        check(value!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable");
        let full = || value!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}}});
        check(value!([(full())]), "Guaranteed");
        check(value!([(full()), {"resources": {}}]), "Burstable");
    }

    #[test]
    fn amounts_of_the_pod() {
        let spec = value!({
            "containers": [{"resources": {}}],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
        });
        assert_eq!(class(&spec), "Guaranteed");
    }
}
