//! What nodes really use, asked of the API from time to time: a server may be busy with what no pod has asked for.
//!
//! Upstream's scheduler knows requests alone; its plugins outside of the tree (Trimaran) read the same figures.

use std::collections::HashMap;
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::Key;
use corten_client::controller::Next;
use corten_client::{Resource, Select};
use corten_stdx::error::Chain;

use super::Binder;
use super::state::State;
use crate::snapshot::NodeChange;

const NODE_METRICS: Resource = Resource::new("metrics.k8s.io", "v1beta1", "nodes");

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(10);

/// The key under which nodes are measured.
pub(super) fn key() -> Key {
    Key { kind: "usage".into(), ..Key::default() }
}

impl Binder {
    /// Looks at what nodes use. Who is not measured is taken to use what its pods have asked for.
    pub(super) async fn measure(&self) -> Next {
        let measured = match self.client.list(&NODE_METRICS, "", &Select::default()).await {
            Ok(listed) => listed.items.iter().map(|node| (Meta::of(node).name().into(), used(node))).collect(),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "what nodes use is not known; pods go where least is asked for");
                HashMap::new()
            }
        };
        self.state().measured(&measured);
        Next::After(PAUSE)
    }
}

impl State {
    pub(super) fn measured(&mut self, measured: &HashMap<Str, (i64, i64)>) {
        let names: Vec<Str> = self.snapshot.node_names().map(Str::from).collect();
        for name in names {
            let used = measured.get(&name).copied().unwrap_or_default();
            self.snapshot.apply(NodeChange::Used(name, used));
        }
    }
}

/// Thousandths of a CPU, and bytes.
fn used(metrics: &Value) -> (i64, i64) {
    let amount = |resource| {
        let value = metrics.at(&["usage", resource])?;
        Quantity::from_value(value).ok().map(|quantity| quantity.as_f64())
    };
    #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
    let whole = |amount: f64| amount as i64;
    (whole(amount("cpu").unwrap_or_default() * 1000.0), whole(amount("memory").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn figures_are_read_in_any_unit() {
        let node = |cpu: &str, memory: &str| used(&value!({"usage": {"cpu": cpu, "memory": memory}}));
        assert_eq!(node("250000000n", "3072Ki"), (250, 3 << 20));
        assert_eq!(node("2", "1Gi"), (2000, 1 << 30));
        assert_eq!(node("much", ""), (0, 0));
        assert_eq!(used(&value!({})), (0, 0));
    }
}
