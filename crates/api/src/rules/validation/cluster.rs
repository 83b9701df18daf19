//! Priority classes, runtime classes, leases.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::apps::sides;
use super::{At, reasons};

const USER_PRIORITY_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const STRATEGY: &str = "OldestEmulationVersion";

pub(crate) fn priority_class(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (class, old) = sides(validation);
    if let Some(old) = old {
        if class.int("value").unwrap_or_default() != old.int("value").unwrap_or_default() {
            errors.forbidden(&class.path("value"), "may not be changed in an update.");
        }
        class.immutable(&old, "preemptionPolicy", errors);
        return;
    }
    let name = class.object_or_empty("metadata").text("name");
    let value = class.int("value").unwrap_or_default();
    if name.starts_with(SYSTEM_PREFIX) {
        if let Err(error) = system_class(name, value, class.flag("globalDefault")) {
            let detail = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {error}"
            );
            errors.forbidden(&FieldPath::new("metadata").child("name"), detail);
        }
    } else if value > USER_PRIORITY_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        errors.forbidden(&class.path("value"), detail);
    }
    if class.given("preemptionPolicy") {
        class.require_one_of("preemptionPolicy", &["PreemptLowerPriority", "Never"], errors);
    }
}

fn system_class(name: &str, value: i64, global: bool) -> Result<(), String> {
    match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, wanted)) if *wanted != value => Err(format!("value of {name} PriorityClass must be {wanted}")),
        Some(_) if global => Err(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => Ok(()),
    }
}

pub(crate) fn runtime_class(validation: Validation<'_>, errors: &mut FieldErrors) {
    let (class, old) = sides(validation);
    match old {
        Some(old) => class.immutable(&old, "handler", errors),
        None => class.require_named("handler", name::dns1123_label, errors),
    }
}

pub(crate) fn lease(validation: Validation<'_>, errors: &mut FieldErrors) {
    let spec = At::root(validation.object).object_or_empty("spec");
    if let Some(duration @ ..1) = spec.int("leaseDurationSeconds") {
        errors.invalid(&spec.path("leaseDurationSeconds"), duration, "must be greater than 0");
    }
    spec.nonnegative("leaseTransitions", errors);
    let strategy = spec.get("strategy").and_then(Value::as_str);
    if let Some(strategy) = strategy {
        lease_strategy(strategy, &spec.path("strategy"), errors);
    }
    if !spec.text("preferredHolder").is_empty() && strategy.unwrap_or_default().is_empty() {
        errors.forbidden(&spec.path("preferredHolder"), "may only be specified if `strategy` is defined");
    }
}

fn lease_strategy(strategy: &str, path: &FieldPath, errors: &mut FieldErrors) {
    // The path names the field twice upstream.
    let path = path.child("strategy");
    if strategy.contains('/') {
        reasons(&path, strategy, name::qualified_name(strategy), errors);
    } else if strategy != STRATEGY {
        errors.not_supported(&path, strategy, &[STRATEGY]);
    }
}
