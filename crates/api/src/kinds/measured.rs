//! What nodes and pods use, as upstream's metrics server prints it: nothing of it is stored.

use corten_apimachinery::kind::Column;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::Value;

use super::KindRules;
use super::column::{CellFn, at, list, name, text};

pub(crate) const KINDS: &[KindRules] = &[
    KindRules { columns: node_columns, ..KindRules::new("metrics.k8s.io", "NodeMetrics") },
    KindRules { columns: pod_columns, ..KindRules::new("metrics.k8s.io", "PodMetrics") },
];

fn node_columns() -> Vec<Column> {
    columns(|node, _| at(node, &["usage", "cpu"]), |node, _| at(node, &["usage", "memory"]))
}

fn pod_columns() -> Vec<Column> {
    columns(|pod, _| sum(pod, "cpu"), |pod, _| sum(pod, "memory"))
}

fn columns(cpu: CellFn, memory: CellFn) -> Vec<Column> {
    let quantity = |name, cell| Column { format: "quantity".into(), ..text(name, cell) };
    let window = Column { format: "duration".into(), ..text("Window", |object, _| at(object, &["window"])) };
    vec![name(), quantity("cpu", cpu), quantity("memory", memory), window]
}

/// Of all containers.
fn sum(pod: &Value, resource: &str) -> Value {
    let amounts = list(pod, &["containers"]).iter().filter_map(|container| container.at(&["usage", resource]));
    // What is no quantity was not made by this server.
    let amounts = amounts.filter_map(|amount| Quantity::from_value(amount).ok());
    let sum = amounts.reduce(|mut sum, amount| {
        sum.add(&amount);
        sum
    });
    sum.map_or_else(|| "0".into(), |sum| sum.to_string().into())
}

#[cfg(test)]
mod tests {
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn usage() {
        let node = value!({"window": "15s", "usage": {"cpu": "250m", "memory": "1Gi"}});
        check("metrics.k8s.io", "NodeMetrics", &node, &["250m", "1Gi", "15s"]);
        let pod = value!({"window": "1m0s", "containers": [
            {"name": "a", "usage": {"cpu": "1500n", "memory": "1024Ki"}},
            {"name": "b", "usage": {"cpu": "500n", "memory": "1024Ki"}}
        ]});
        check("metrics.k8s.io", "PodMetrics", &pod, &["2u", "2Mi", "1m0s"]);
        check("metrics.k8s.io", "PodMetrics", &value!({"containers": []}), &["0", "0", ""]);
    }
}
