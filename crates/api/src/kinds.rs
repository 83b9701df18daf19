//! Rules that belong to a kind as a whole: strategy, columns, selectable fields, subresources, conversions.
//!
//! One file an API group (or kind, where it is long), each with `pub(crate) const KINDS: &[KindRules]`, listed in
//! [`ALL`]. A kind without an entry is served all the same, with what the facts say and default rules.

mod access;
mod admission;
mod autoscaling;
mod batch;
mod change;
mod cluster;
mod column;
mod config;
mod convert;
mod event;
mod extension;
mod measured;
mod networking;
mod pod;
mod resource;
mod service;
mod storage;
mod warning;
mod workloads;

use corten_apimachinery::kind::{Column, Conversion, FieldValue, SelectableField, Serve, Strategy};
use corten_apimachinery::value::{Str, Value};

/// What is not in the facts of one kind. Every hook starts from the default and is left out where that holds.
///
/// ```
/// use corten_api::kinds::KindRules;
/// use corten_apimachinery::kind::Strategy;
/// const RULES: KindRules = KindRules {
///     strategy: |base| Strategy { generation: true, ..base },
///     ..KindRules::new("apps", "Deployment")
/// };
/// ```
#[derive(Clone, Copy)]
pub struct KindRules {
    pub group: &'static str,
    pub kind: &'static str,
    /// Versions for which this entry holds; empty for all.
    pub versions: &'static [&'static str],
    /// Gets the default strategy: [`Strategy::default`], with `status` set where there is a status subresource.
    pub strategy: fn(Strategy) -> Strategy,
    /// All columns, `Name` and `Age` included. Empty stands for `Name` and `Created At`, as upstream prints a kind without
    /// columns of its own.
    pub columns: fn() -> Vec<Column>,
    /// Besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: fn() -> Vec<SelectableField>,
    /// Who answers a subresource. Where this gives `None`: `status` and `scale` (by `spec.replicas`, `status.replicas`
    /// and `spec.selector`) are generic, all others are handlers that the binary registers.
    pub serve: fn(subresource: &str) -> Option<Serve>,
    /// For a version that is not the stored one and differs from it in more than `apiVersion`.
    pub convert: fn(version: &str) -> Option<Conversion>,
}

impl KindRules {
    pub const fn new(group: &'static str, kind: &'static str) -> Self {
        Self {
            group,
            kind,
            versions: &[],
            strategy: |base| base,
            columns: Vec::new,
            selectable_fields: Vec::new,
            serve: |_| None,
            convert: |_| None,
        }
    }
}

/// Every table of kinds.
pub const ALL: &[&[KindRules]] = &[
    access::KINDS,
    admission::KINDS,
    autoscaling::KINDS,
    batch::KINDS,
    cluster::KINDS,
    config::KINDS,
    event::KINDS,
    extension::KINDS,
    measured::KINDS,
    networking::KINDS,
    pod::KINDS,
    resource::KINDS,
    service::KINDS,
    storage::KINDS,
    workloads::KINDS,
];

/// A delete answers with the object it had.
fn shown_deleted(base: Strategy) -> Strategy {
    Strategy { delete_returns_object: true, ..base }
}

/// A selectable field that is called by its path.
fn field(path: &str) -> SelectableField {
    field_as(path, path)
}

fn field_as(name: &str, path: &str) -> SelectableField {
    SelectableField { name: name.into(), value: FieldValue::Path(path.split('.').map(Str::from).collect()) }
}

fn computed(name: &str, value: fn(&Value) -> Str) -> SelectableField {
    SelectableField { name: name.into(), value: FieldValue::Computed(value) }
}

/// `true` or `false`, which is also what absence means.
fn boolean_text(object: &Value, path: &[&str]) -> Str {
    if column::flag(object, path) { "true".into() } else { "false".into() }
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn a_kind_has_one_entry() {
        let mut names: Vec<_> = ALL.iter().copied().flatten().map(|rules| (rules.group, rules.kind)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
