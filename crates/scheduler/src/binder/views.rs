//! What the binder keeps of the objects that it follows.

use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::View;

use crate::decode::{self, DecodeError};
use crate::preempt::Budget;
use crate::view::{Labels, NodeView, Pod};

/// A pod, and what the API says of its placement.
pub(super) struct PodSeen {
    pub(super) pod: Result<Arc<Pod>, DecodeError>,
    /// It has ended and holds nothing.
    pub(super) over: bool,
    pub(super) generation: i64,
    /// Status, reason and message of the condition `PodScheduled`.
    pub(super) scheduled: Option<[Str; 3]>,
}

impl View for PodSeen {
    fn from_object(object: &Value) -> Option<Self> {
        let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        let scheduled = conditions.iter().find(|condition| condition.str_at(&["type"]) == "PodScheduled");
        let text = |condition: &Value, field| Str::from(condition.str_at(&[field]));
        Some(Self {
            pod: decode::pod(object).map(Arc::new),
            over: decode::is_over(object),
            generation: Meta::of(object).generation(),
            scheduled: scheduled.map(|of| ["status", "reason", "message"].map(|field| text(of, field))),
        })
    }
}

pub(super) struct NodeSeen(pub(super) Result<NodeView, DecodeError>);

impl View for NodeSeen {
    fn from_object(object: &Value) -> Option<Self> {
        Some(Self(decode::node(object)))
    }
}

/// The labels that a Service selects by; without any it selects nothing and is not held.
pub(super) struct ServiceSeen(pub(super) Labels);

impl View for ServiceSeen {
    fn from_object(object: &Value) -> Option<Self> {
        let labels = decode::labels(object.at(&["spec", "selector"]));
        (!labels.is_empty()).then_some(Self(labels))
    }
}

/// The selector of what owns pods.
pub(super) struct OwnerSeen(pub(super) LabelSelector);

impl View for OwnerSeen {
    fn from_object(object: &Value) -> Option<Self> {
        let selector = object.at(&["spec", "selector"]);
        // A replication controller's is a plain map.
        let plain = selector.is_some_and(|selector| {
            selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none()
        });
        if plain {
            let labels = decode::labels(selector);
            let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            return Some(Self(LabelSelector::from_labels(labels)));
        }
        // One that cannot be read has no siblings to spread from.
        LabelSelector::from_object(selector)
            .map(Self)
            .map_err(|error| tracing::warn!(%error, "an owner's selector"))
            .ok()
    }
}

pub(super) struct BudgetSeen(pub(super) Budget);

impl View for BudgetSeen {
    fn from_object(object: &Value) -> Option<Self> {
        match decode::budget(object) {
            Ok(budget) => Some(Self(budget)),
            Err(error) => {
                tracing::warn!(name = Meta::of(object).name(), %error, "a disruption budget cannot be read");
                None
            }
        }
    }
}
