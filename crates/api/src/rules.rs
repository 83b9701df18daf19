//! Rules that belong to one schema type, wherever it appears: defaults and validation of `core/v1.Container` hold in
//! pods, pod templates and jobs alike.
//!
//! One file an API group, each with `pub(crate) const RULES: RuleTable`, listed in [`ALL`]. Several files may name the
//! same type as long as each hook is attached once.
//!
//! Order: a struct's hook runs before those of the structs in it, as in upstream's generated defaulters. A struct that
//! is inlined in another one (`core/v1.ProbeHandler` in `core/v1.Probe`) shares its parent's map and runs after it.
//!
//! What a hook sees is conformed: fields in canonical order, no unknown ones, empty ones left out where Go's `omitempty`
//! would. A field without `omitempty` is there with its zero value: `""`, `0`, `false`, `{}`, and `null` for a list, map
//! or pointer. New fields are inserted anywhere; the walk restores the canonical order.

mod defaults;
pub(crate) mod validation;

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::schema::table::ValidateFn;
use corten_apimachinery::value::{Map, Value};

/// What is wrong with a Service's cluster addresses and their families: what has to hold before any is allocated.
pub fn cluster_addresses(service: &Value, old: Option<&Value>) -> FieldErrors {
    validation::service::cluster_addresses(service, old)
}

/// The hooks of one type.
#[derive(Clone, Copy, Default)]
pub struct TypeRules {
    /// Fills in the struct's own fields.
    pub default: Option<fn(&mut Map)>,
    /// Checks the struct's own fields.
    pub validate: Option<ValidateFn>,
}

/// Type names as in the facts (`core/v1.Container`) and their hooks.
pub type RuleTable = &'static [(&'static str, TypeRules)];

impl TypeRules {
    pub const fn new() -> Self {
        Self { default: None, validate: None }
    }

    #[must_use]
    pub const fn default(mut self, hook: fn(&mut Map)) -> Self {
        self.default = Some(hook);
        self
    }

    #[must_use]
    pub const fn validate(mut self, hook: ValidateFn) -> Self {
        self.validate = Some(hook);
        self
    }
}

/// Every table of rules.
pub const ALL: &[RuleTable] = &[
    defaults::admission::RULES,
    defaults::amount::RULES,
    defaults::apps::RULES,
    defaults::autoscaling::RULES,
    defaults::batch::RULES,
    defaults::cluster::RULES,
    defaults::container::RULES,
    defaults::extension::RULES,
    defaults::networking::RULES,
    defaults::pod::RULES,
    defaults::resource::RULES,
    defaults::service::RULES,
    defaults::storage::RULES,
    defaults::volume::RULES,
];
