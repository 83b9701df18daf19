//! Amounts of resources: what a resource may be called, how much of it may be asked for, requests against limits.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::Value;

use super::{At, NEGATIVE, not_found, quantity, reasons};

const HUGE_PAGES: &str = "hugepages-";

/// Resources that come as whole things.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Amounts that quotas know.
const MEASURED: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

pub(crate) fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with(HUGE_PAGES)
}

/// Whether quotas know a resource by a name without a domain.
pub(crate) fn is_standard_in_quotas(resource: &str) -> bool {
    COUNTED.contains(&resource)
        || MEASURED.contains(&resource)
        || is_huge_pages(resource)
        || resource.starts_with("requests.hugepages-")
}

fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// Whether a resource belongs to someone else's domain.
fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && name::qualified_name(&format!("requests.{resource}")).is_empty()
}

/// Whether a request may stay below its limit.
pub(crate) fn may_overcommit(resource: &str) -> bool {
    is_native(resource) && !is_huge_pages(resource)
}

/// Which names of resources a place allows.
pub(crate) type NameCheck = fn(&str, &FieldPath, &mut FieldErrors);

/// The name of any resource. Says whether it is a qualified one.
pub(crate) fn resource_name(resource: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let unqualified = name::qualified_name(resource);
    if !unqualified.is_empty() {
        reasons(path, resource, unqualified, errors);
    } else if !resource.contains('/') && !is_standard_in_quotas(resource) && resource != "storage" {
        errors.invalid(path, resource, "must be a standard resource type or fully qualified");
    }
}

/// The name of a resource that containers use.
pub(crate) fn container_resource(resource: &str, path: &FieldPath, errors: &mut FieldErrors) {
    resource_name(resource, path, errors);
    if !resource.contains('/') {
        if !["cpu", "memory", "ephemeral-storage"].contains(&resource) && !is_huge_pages(resource) {
            errors.invalid(path, resource, "must be a standard resource for containers");
        }
    } else if !is_native(resource) && !is_extended(resource) {
        errors.invalid(path, resource, "doesn't follow extended resource name standard");
    }
}

/// The name of a resource that a pod as a whole uses.
fn pod_resource(resource: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let before = errors.iter().len();
    resource_name(resource, path, errors);
    if errors.iter().len() == before && !["cpu", "memory"].contains(&resource) && !is_huge_pages(resource) {
        errors.not_supported(path, resource, &["cpu", HUGE_PAGES, "memory"]);
    }
}

/// An amount is not negative, and whole where the resource comes in whole things.
pub(crate) fn amount(resource: &str, value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let quantity = quantity(value);
    if quantity.signum() < 0 {
        errors.invalid(path, quantity.to_string(), NEGATIVE);
    }
    if (COUNTED.contains(&resource) || is_extended(resource)) && quantity.milli_value() % 1000 != 0 {
        errors.invalid(path, quantity.to_string(), "must be an integer");
    }
}

/// An amount that is more than nothing; says whether it is.
pub(crate) fn positive(value: &Value, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let quantity = quantity(value);
    let positive = quantity.signum() > 0;
    if !positive {
        errors.invalid(path, quantity.to_string(), "must be greater than zero");
    }
    positive
}

/// What a container asks for.
pub(crate) fn requirements(at: &At<'_>, claims: &BTreeSet<&str>, errors: &mut FieldErrors) {
    amounts(at, container_resource, errors);
    claim_names(at, claims, errors);
}

/// Nothing but limits, as a pod's overhead is.
pub(crate) fn overhead(at: &At<'_>, errors: &mut FieldErrors) {
    let path = at.path.child("limits");
    for (resource, value) in at.map.iter() {
        let path = path.key(resource);
        container_resource(resource, &path, errors);
        amount(resource, value, &path, errors);
        huge_pages(resource, value, &path, errors);
    }
}

fn amounts(at: &At<'_>, check: NameCheck, errors: &mut FieldErrors) {
    let (limits, requests) = (at.path("limits"), at.path("requests"));
    for (resource, value) in at.entries("limits") {
        let path = limits.key(resource);
        check(resource, &path, errors);
        amount(resource, value, &path, errors);
        huge_pages(resource, value, &path, errors);
    }
    let limit = |resource: &str| at.get("limits").and_then(|limits| limits.get(resource)).map(quantity);
    for (resource, value) in at.entries("requests") {
        let path = requests.key(resource);
        check(resource, &path, errors);
        amount(resource, value, &path, errors);
        within_limit(resource, &quantity(value), limit(resource), &at.path, errors);
        huge_pages(resource, value, &path, errors);
    }
    let names = || at.entries("limits").chain(at.entries("requests")).map(|(resource, _)| resource.as_str());
    if names().any(is_huge_pages) && !names().any(|resource| ["cpu", "memory"].contains(&resource)) {
        errors.forbidden(&at.path, "HugePages require cpu or memory");
    }
}

fn within_limit(
    resource: &str,
    request: &Quantity,
    limit: Option<Quantity>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    match limit {
        Some(limit) if *request != limit && !may_overcommit(resource) => {
            let detail = format!("must be equal to {resource} limit of {limit}");
            errors.invalid(&path.child("requests"), request.to_string(), detail);
        }
        Some(limit) if *request > limit => {
            let detail = format!("must be less than or equal to {resource} limit of {limit}");
            errors.invalid(&path.child("requests"), request.to_string(), detail);
        }
        None if !may_overcommit(resource) => {
            errors.required(&path.child("limits"), "Limit must be set for non overcommitable resources");
        }
        _ => {}
    }
}

fn huge_pages(resource: &str, value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(page) = resource.strip_prefix(HUGE_PAGES) else { return };
    let quantity = quantity(value);
    let divisible = Quantity::parse(page)
        .is_ok_and(|page| page.signum() > 0 && page.milli_value() % 1000 == 0 && quantity.value() % page.value() == 0);
    if !divisible {
        let detail = format!("{quantity} is not positive integer multiple of {resource}");
        errors.invalid(path, quantity.to_string(), detail);
    }
}

fn claim_names(at: &At<'_>, known: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for claim in at.each("claims") {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&claim.path, "");
            continue;
        }
        claim_once(&claim, name, request, &mut seen, errors);
        if !known.contains(name) {
            let names: Vec<&str> = known.iter().copied().collect();
            let end = if names.is_empty() { " which is empty".to_owned() } else { format!(": {}", names.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{end}");
            not_found(&claim.path, name, &detail, errors);
        }
    }
}

fn claim_once(claim: &At<'_>, name: &str, request: &str, seen: &mut BTreeSet<String>, errors: &mut FieldErrors) {
    if seen.contains(name) {
        errors.duplicate(&claim.path, name);
        return;
    }
    let mut key = name.to_owned();
    if !request.is_empty() {
        claim.named("request", name::dns1123_label, errors);
        key = format!("{name}/{request}");
    }
    if seen.contains(&key) {
        errors.duplicate(&claim.path, key.as_str());
    } else if request.is_empty() {
        for _ in seen.iter().filter(|other| other.split_once('/').is_some_and(|(of, _)| of == name)) {
            errors.duplicate(&claim.path, name);
        }
    }
    seen.insert(key);
}

/// What a pod as a whole asks for, against what its containers do.
pub(crate) fn of_pod(spec: &At<'_>, claims: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let Some(at) = spec.object("resources") else { return };
    if spec.object("os").is_some_and(|os| os.text("name") == "windows") {
        errors.forbidden(&at.path, "may not be set for a windows pod");
        return;
    }
    if at.given("claims") {
        errors.forbidden(&at.path("claims"), "claims may not be set for Resources at pod-level");
    }
    amounts(&at, pod_resource, errors);
    claim_names(&at, claims, errors);
    consistency(spec, &at, errors);
}

fn consistency(spec: &At<'_>, at: &At<'_>, errors: &mut FieldErrors) {
    let of = |container: &At<'_>, kind: &str, resource: &str| {
        container.get("resources").and_then(|own| own.at(&[kind, resource])).map(quantity)
    };
    for (resource, value) in at.entries("requests") {
        let total = aggregate(spec, |container| of(container, "requests", resource));
        let total = total.filter(|total| *total > quantity(value));
        if let Some(total) = total {
            let detail = format!("must be greater than or equal to aggregate container requests of {total}");
            errors.invalid(&at.path("requests").key(resource), quantity(value).to_string(), detail);
        }
    }
    for (resource, value) in at.entries("limits").filter(|(resource, _)| is_huge_pages(resource)) {
        let total = aggregate(spec, |container| of(container, "limits", resource));
        if let Some(total) = total.filter(|total| *total > quantity(value)) {
            let detail = format!("must be greater than or equal to aggregate container limits of {total}");
            errors.invalid(&at.path("limits").key(resource), quantity(value).to_string(), detail);
        }
    }
    for (index, container) in spec.each("containers").enumerate() {
        for (resource, value) in at.entries("limits") {
            if let Some(own) = of(&container, "limits", resource).filter(|own| *own > quantity(value)) {
                let path = at.path("containers").index(index).key(resource).child("limits");
                errors.invalid(
                    &path,
                    own.to_string(),
                    format!("must be less than or equal to pod limits of {}", quantity(value)),
                );
            }
        }
    }
}

/// What all containers need together: init containers run one after the other, beside the sidecars before them.
fn aggregate(spec: &At<'_>, of: impl Fn(&At<'_>) -> Option<Quantity>) -> Option<Quantity> {
    let add = |left: Option<Quantity>, right: Option<Quantity>| match (left, right) {
        (Some(mut left), Some(right)) => {
            left.add(&right);
            Some(left)
        }
        (left, right) => left.or(right),
    };
    let running = spec.each("containers").fold(None, |sum, container| add(sum, of(&container)));
    let (mut sidecars, mut starting) = (None, None);
    for container in spec.each("initContainers") {
        let own = of(&container);
        if container.text("restartPolicy") == "Always" {
            sidecars = add(sidecars, own);
            starting = starting.max(sidecars.clone());
        } else {
            starting = starting.max(add(own, sidecars.clone()));
        }
    }
    add(running, sidecars).max(starting)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        assert_eq!(errors(input, |at, errors| requirements(at, &BTreeSet::from(["gpu"]), errors)), expect);
    }

    #[test]
    fn names_and_amounts() {
        check(&value!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m", "memory": "1Gi"}}), &[]);
        check(
            &value!({"limits": {"cpu": "-1"}}),
            &[r#"at.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0"#],
        );
        check(
            &value!({"limits": {"pods": "1"}}),
            &[r#"at.limits[pods]: Invalid value: "pods": must be a standard resource for containers"#],
        );
        check(
            &value!({"limits": {"speed": "1"}}),
            &[
                r#"at.limits[speed]: Invalid value: "speed": must be a standard resource type or fully qualified"#,
                r#"at.limits[speed]: Invalid value: "speed": must be a standard resource for containers"#,
            ],
        );
        check(
            &value!({"limits": {"example.com/gpu": "1500m"}}),
            &[r#"at.limits[example.com/gpu]: Invalid value: "1500m": must be an integer"#],
        );
    }

    #[test]
    fn requests_against_limits() {
        check(
            &value!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            &[r#"at.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#],
        );
        check(
            &value!({"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}),
            &[r#"at.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2"#],
        );
        check(
            &value!({"requests": {"example.com/gpu": "1"}}),
            &["at.limits: Required value: Limit must be set for non overcommitable resources"],
        );
        check(&value!({"limits": {"hugepages-2Mi": "4Mi"}}), &["at: Forbidden: HugePages require cpu or memory"]);
        check(
            &value!({"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}),
            &[
                r#"at.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
            ],
        );
    }

    #[test]
    fn claims() {
        check(&value!({"claims": [{"name": "gpu"}]}), &[]);
        check(
            &value!({"claims": [{"name": "gpu"}, {"name": "gpu"}, {"name": "tpu"}]}),
            &[
                r#"at.claims[1]: Duplicate value: "gpu""#,
                r#"at.claims[2]: Not found: "tpu": must be one of the names in pod.spec.resourceClaims: gpu"#,
            ],
        );
    }
}
