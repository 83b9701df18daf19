//! A Service's IP families and their policy: what it says, what follows from its addresses, what the cluster has.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};

use super::{is_name, texts};

/// What this cluster has; the first is the default.
const CONFIGURED: [&str; 1] = ["IPv4"];

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills in policy and families, or refuses what cannot be had.
pub(super) fn settle(service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if is_name(service) || old.is_some_and(|old| prefers_as_before(service, old)) {
        return Ok(());
    }
    if policy(service).is_empty() {
        let policy = default_policy(service, old).to_owned();
        service.object_entry("spec").insert("ipFamilyPolicy", policy);
    }
    refuse_any(service, &corten_api::rules::cluster_addresses(service, old))?;
    let mut errors = FieldErrors::default();
    if let Some(old) = old {
        second_goes(service, old, &mut errors);
    }
    single_means_one(service, &mut errors);
    from_addresses(service, &mut errors);
    refuse_any(service, &errors)?;
    if is_free_headless(service) {
        headless(service);
        return Ok(());
    }
    let errors = not_configured(service);
    refuse_any(service, &errors)?;
    let mut families = texts(service, "ipFamilies");
    if families.is_empty() {
        families.push(CONFIGURED[0].to_owned());
    }
    if policy(service) != SINGLE && families.len() == 1 && CONFIGURED.len() == 2 {
        families.push(other(&families[0]).to_owned());
    }
    service.object_entry("spec").insert("ipFamilies", families);
    Ok(())
}

fn path(field: &str) -> FieldPath {
    FieldPath::new("spec").child(field)
}

fn policy(service: &Value) -> &str {
    service.str_at(&["spec", "ipFamilyPolicy"])
}

fn refuse_any(service: &Value, errors: &FieldErrors) -> Result<(), Status> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid("", "Service", service.str_at(&["metadata", "name"]), errors)),
    }
}

/// A service that prefers two families, and says the same of them as before, is not moved when the cluster changes.
fn prefers_as_before(service: &Value, old: &Value) -> bool {
    let kind = |service: &Value| service.str_at(&["spec", "type"]).to_owned();
    policy(service) == PREFER
        && matches!(policy(old), PREFER | "")
        && kind(service) == kind(old)
        && ["clusterIPs", "ipFamilies"].iter().all(|field| texts(service, field) == texts(old, field))
}

fn default_policy<'a>(service: &Value, old: Option<&'a Value>) -> &'a str {
    match old.map_or("", policy) {
        "" if is_free_headless(service) => REQUIRE,
        "" => SINGLE,
        before => before,
    }
}

/// Headless and without a selector: whatever endpoints its owner gives it.
fn is_free_headless(service: &Value) -> bool {
    let selector = service.at(&["spec", "selector"]).and_then(Value::as_object);
    service.str_at(&["spec", "clusterIP"]) == "None" && selector.is_none_or(Map::is_empty)
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

/// An update to one family gives up the second; one that shortens a list has to say so.
fn second_goes(service: &mut Value, old: &Value, errors: &mut FieldErrors) {
    let single = policy(service) == SINGLE;
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (new, before) = (texts(service, field), texts(old, field));
        if single && new == before && new.len() > 1 {
            service.object_entry("spec").insert(field, vec![new[0].as_str()]);
        } else if !single && !new.is_empty() && new.len() < before.len() {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            errors.invalid(&path("ipFamilyPolicy"), policy(service), why);
        }
    }
}

fn single_means_one(service: &Value, errors: &mut FieldErrors) {
    for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if policy(service) == SINGLE && texts(service, field).len() == 2 {
            let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.invalid(&path("ipFamilyPolicy"), policy(service), why);
        }
    }
}

/// Families that are not named follow from the addresses that are.
fn from_addresses(service: &mut Value, errors: &mut FieldErrors) {
    let (addresses, mut families) = (texts(service, "clusterIPs"), texts(service, "ipFamilies"));
    let named = families.len();
    for (index, address) in addresses.iter().enumerate().take_while(|(_, address)| *address != "None").skip(named) {
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        if CONFIGURED.contains(&family) {
            families.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.invalid(&path("clusterIPs").index(index), addresses.clone(), why);
        }
    }
    if families.len() > named {
        service.object_entry("spec").insert("ipFamilies", families);
    }
}

fn headless(service: &mut Value) {
    let mut families = texts(service, "ipFamilies");
    if families.is_empty() {
        families.push(CONFIGURED[0].to_owned());
    }
    if families.len() < 2 && policy(service) != SINGLE {
        families.push(other(&families[0]).to_owned());
    }
    service.object_entry("spec").insert("ipFamilies", families);
}

fn not_configured(service: &Value) -> FieldErrors {
    let mut errors = FieldErrors::default();
    if policy(service) == REQUIRE && CONFIGURED.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.invalid(&path("ipFamilyPolicy"), policy(service), why);
    }
    for (index, family) in texts(service, "ipFamilies").iter().enumerate() {
        if !CONFIGURED.contains(&family.as_str()) {
            errors.invalid(&path("ipFamilies").index(index), family.as_str(), "not configured on this cluster");
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::json;
    use corten_apimachinery::value;

    use super::*;

    fn check(spec: Value, old: Option<Value>, expect: &str) {
        let mut service = value!({"metadata": {"name": "a"}, "spec": spec});
        let old = old.map(|spec| value!({"spec": spec}));
        let text = match settle(&mut service, old.as_ref()) {
            Ok(()) => {
                let shown = ["ipFamilyPolicy", "ipFamilies"].map(|field| service.at(&["spec", field]).cloned());
                json::to_string(&Value::Array(shown.into_iter().flatten().collect()))
            }
            Err(status) => status.message,
        };
        assert_eq!(text, expect);
    }

    #[test]
    fn one_family_is_the_default() {
        check(value!({"type": "ClusterIP"}), None, r#"["SingleStack",["IPv4"]]"#);
        check(
            value!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack"}),
            None,
            r#"["PreferDualStack",["IPv4"]]"#,
        );
        check(value!({"type": "ExternalName"}), None, "[]");
        let headless = |selector| value!({"clusterIP": "None", "clusterIPs": ["None"], "selector": selector});
        check(headless(value!({"a": "b"})), None, r#"["SingleStack",["IPv4"]]"#);
        check(headless(Value::Null), None, r#"["RequireDualStack",["IPv4","IPv6"]]"#);
        let before = value!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"]});
        check(value!({"ipFamilies": ["IPv4"]}), Some(before), r#"["PreferDualStack",["IPv4"]]"#);
    }

    #[test]
    fn what_the_cluster_does_not_have_is_refused() {
        let invalid = |what: &str| format!(r#"Service "a" is invalid: {what}"#);
        let both = "this cluster is not configured for dual-stack services";
        let refused = invalid(&format!(r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": {both}"#));
        check(value!({"ipFamilyPolicy": "RequireDualStack"}), None, &refused);
        let refused = invalid(r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#);
        check(value!({"ipFamilies": ["IPv6"]}), None, &refused);
        let refused =
            invalid(r#"spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster"#);
        check(value!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}), None, &refused);
        let refused = invalid(
            r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"#,
        );
        check(value!({"ipFamilies": ["IPv4", "IPv6"]}), None, &refused);
        let refused = invalid(r#"spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6""#);
        check(value!({"ipFamilies": ["IPv5"]}), None, &refused);
    }
}
