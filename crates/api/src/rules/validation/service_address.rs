//! A service's addresses inside the cluster and their families.

use std::collections::BTreeSet;

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, reasons};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

pub(super) fn is_headless(spec: &At<'_>) -> bool {
    matches!(spec.items("clusterIPs"), [only] if only.as_str() == Some("None"))
}

pub(super) fn of_cluster(spec: &At<'_>, was: Option<&At<'_>>, errors: &mut FieldErrors) {
    if spec.text("type") == "ExternalName" {
        return;
    }
    let (path, all) = (spec.path("clusterIPs"), spec.items("clusterIPs"));
    let shown = || Value::Array(all.to_vec());
    match (spec.text("clusterIP"), all.first()) {
        ("", Some(_)) => errors.invalid(&path, shown(), "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => errors.required(&path, ""),
        (one, Some(first)) if first.as_str() != Some(one) => {
            errors.invalid(&path, shown(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(spec, errors);
    spec.one_of("ipFamilyPolicy", &POLICIES, errors);
    let valid = each_valid(spec, was, errors);
    if all.len() > 2 {
        errors.invalid(&path, shown(), "may only hold up to 2 values");
    }
    if !valid {
        return;
    }
    let parsed: Vec<_> = spec.texts("clusterIPs").filter_map(|(address, _)| name::lenient_ip(address)).collect();
    let of = |v4: bool| parsed.iter().any(|address| address.is_ipv4() == v4);
    if all.len() > 1 && !(of(true) && of(false)) {
        errors.invalid(&path, shown(), "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    let families = spec.texts("ipFamilies").map(|(family, _)| family);
    for (index, ((address, path), family)) in spec.texts("clusterIPs").zip(families).enumerate() {
        let other = match family {
            "IPv4" => address.contains(':'),
            "IPv6" => !address.contains(':'),
            _ => false,
        };
        if other {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&path, address, detail);
        }
    }
}

fn families(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (family, path) in spec.texts("ipFamilies") {
        if !FAMILIES.contains(&family) {
            errors.not_supported(&path, family, &FAMILIES);
        }
        if !seen.insert(family) {
            errors.duplicate(&path, family);
        }
    }
}

/// Whether every address is one, or the only one is `None`.
fn each_valid(spec: &At<'_>, was: Option<&At<'_>>, errors: &mut FieldErrors) -> bool {
    let count = spec.items("clusterIPs").len();
    let known: Vec<&str> = was.into_iter().flat_map(|was| was.texts("clusterIPs")).map(|(ip, _)| ip).collect();
    let mut valid = true;
    for (index, (address, path)) in spec.texts("clusterIPs").enumerate() {
        if index == 0 && address == "None" {
            if count > 1 {
                valid = false;
                let detail = "'None' must be the first and only value";
                errors.invalid(&spec.path("clusterIPs"), spec.value("clusterIPs"), detail);
            }
            continue;
        }
        let bad = if known.contains(&address) { Vec::new() } else { name::legacy_ip(address) };
        valid &= bad.is_empty();
        reasons(&path, address, bad, errors);
    }
    valid
}

/// Addresses and families stay; a second one may come and go.
pub(super) fn update(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let named = |spec: &At<'_>| spec.text("type") == "ExternalName";
    if named(spec) || named(was) {
        return;
    }
    let headless = (is_headless(was), is_headless(spec));
    if headless != (true, true) {
        addresses(spec, was, errors);
    }
    if headless == (false, false) {
        families_stay(spec, was, errors);
    }
}

fn addresses(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let (path, new, old) = (spec.path("clusterIPs"), spec.items("clusterIPs"), was.items("clusterIPs"));
    let shown = || Value::Array(new.to_vec());
    let once = "may not change once set";
    if new.len() == old.len() {
        for index in (0..old.len()).filter(|index| new[*index] != old[*index]) {
            errors.invalid(&path.index(index), shown(), once);
        }
        return;
    }
    if new.is_empty() {
        errors.invalid(&path.index(0), shown(), "primary clusterIP can not be unset");
    }
    if !old.is_empty() && !new.is_empty() && new[0] != old[0] {
        errors.invalid(&path.index(0), shown(), once);
    }
    if old.len() > new.len() && new.len() == 1 {
        released(spec, "clusterIP", errors);
    }
}

fn released(spec: &At<'_>, what: &str, errors: &mut FieldErrors) {
    if spec.text("ipFamilyPolicy") != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(&spec.path("ipFamilyPolicy"), spec.value("ipFamilyPolicy"), detail);
    }
}

fn families_stay(spec: &At<'_>, was: &At<'_>, errors: &mut FieldErrors) {
    let (new, old) = (spec.items("ipFamilies"), was.items("ipFamilies"));
    let path = spec.path("ipFamilies").index(0);
    let shown = || Value::Array(new.to_vec());
    let once = "may not change once set";
    if new.len() == old.len() {
        for _ in (0..old.len()).filter(|index| new[*index] != old[*index]) {
            errors.invalid(&path, shown(), once);
        }
        return;
    }
    if old.len() > new.len() && spec.items("clusterIPs").is_empty() {
        errors.invalid(&path, shown(), "primary ipFamily can not be unset");
    }
    if !old.is_empty() && !new.is_empty() && new[0] != old[0] {
        // Upstream shows the addresses.
        errors.invalid(&path, spec.value("clusterIPs"), once);
    }
    if old.len() > new.len() && new.len() == 1 {
        released(spec, "ipFamily", errors);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        assert_eq!(errors(input, |at, errors| of_cluster(at, None, errors)), expect);
    }

    #[test]
    fn addresses_and_families() {
        check(
            &value!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}),
            &[],
        );
        check(
            &value!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2", "10.0.0.3"], "ipFamilies": ["IPv6", "IPv6"]}),
            &[
                r#"at.clusterIPs: Invalid value: ["10.0.0.2","10.0.0.3"]: first value must match `clusterIP`"#,
                r#"at.ipFamilies[1]: Duplicate value: "IPv6""#,
                r#"at.clusterIPs: Invalid value: ["10.0.0.2","10.0.0.3"]: may specify no more than one IP for each IP family"#,
                r#"at.clusterIPs[0]: Invalid value: "10.0.0.2": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
                r#"at.clusterIPs[1]: Invalid value: "10.0.0.3": expected an IPv6 value as indicated by `ipFamilies[1]`"#,
            ],
        );
        check(
            &value!({"clusterIP": "a", "clusterIPs": ["a"]}),
            &[r#"at.clusterIPs[0]: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#],
        );
    }
}
