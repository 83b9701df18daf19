//! Disruption budgets.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::kind::Validation;
use corten_apimachinery::value;

use super::{At, apps, condition, percent};

pub(crate) fn disruption_budget(validation: Validation<'_>, errors: &mut FieldErrors) {
    let budget = At::root(validation.object);
    if validation.subresource == "status" {
        let status = budget.object_or_empty("status");
        condition::all(&status, errors);
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        apps::nonnegative(&status, &counts, errors);
        return;
    }
    let spec = budget.object_or_empty("spec");
    let [least, most] = ["minAvailable", "maxUnavailable"].map(|field| (spec.path(field), spec.get(field)));
    if least.1.is_some() && most.1.is_some() {
        // Upstream prints its internal form.
        let shown = value!({
            "MinAvailable": (spec.value("minAvailable")),
            "Selector": (spec.value("selector")),
            "MaxUnavailable": (spec.value("maxUnavailable")),
            "UnhealthyPodEvictionPolicy": (spec.value("unhealthyPodEvictionPolicy"))
        });
        errors.invalid(&spec.path, shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for (path, amount) in [least, most] {
        if let Some(amount) = amount {
            percent::positive(amount, &path, errors);
            percent::at_most_whole(amount, &path, errors);
        }
    }
    spec.selector("selector", errors);
    spec.one_of("unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"], errors);
}
