//! Names of pods and how pods resolve names.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;

use super::{At, reasons, subdomain};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;
const HOSTNAME_BYTES_MAX: usize = 64;

pub(crate) const POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

pub(crate) fn config(spec: &At<'_>, errors: &mut FieldErrors) {
    let none = spec.text("dnsPolicy") == "None";
    let Some(at) = spec.object("dnsConfig") else {
        if none {
            errors.required(&spec.path("dnsConfig"), "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = at.items("nameservers").len();
    if none && servers == 0 {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.required(&at.path("nameservers"), detail);
        return;
    }
    if servers > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&at.path("nameservers"), at.value("nameservers"), detail);
    }
    for (server, path) in at.texts("nameservers") {
        reasons(&path, server, name::legacy_ip(server), errors);
    }
    searches(&at, errors);
    for option in at.each("options").filter(|option| option.text("name").is_empty()) {
        errors.required(&option.path, "must not be empty");
    }
}

fn searches(at: &At<'_>, errors: &mut FieldErrors) {
    let path = at.path("searches");
    let count = at.items("searches").len();
    if count > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&path, at.value("searches"), detail);
    }
    let bytes = at.texts("searches").map(|(search, _)| search.len()).sum::<usize>() + count.saturating_sub(1);
    if bytes > SEARCH_BYTES_MAX {
        let detail =
            format!("must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list");
        errors.invalid(&path, at.value("searches"), detail);
    }
    for (search, path) in at.texts("searches").filter(|(search, _)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        reasons(&path, search, name::dns1123_subdomain_with_underscore(search), errors);
    }
}

pub(crate) fn host_aliases(spec: &At<'_>, errors: &mut FieldErrors) {
    for alias in spec.each("hostAliases") {
        reasons(&alias.path("ip"), alias.text("ip"), name::legacy_ip(alias.text("ip")), errors);
        for (hostname, path) in alias.texts("hostnames") {
            reasons(&path, hostname, subdomain(hostname), errors);
        }
    }
}

pub(crate) fn hostname_override(spec: &At<'_>, errors: &mut FieldErrors) {
    let path = spec.path("hostnameOverride");
    if !spec.given("hostnameOverride") {
        return;
    }
    for field in ["setHostnameAsFQDN", "hostNetwork"] {
        if spec.flag(field) {
            errors.forbidden(&path, format!("may not be specified when {field} is true"));
        }
    }
    if spec.text("hostnameOverride").len() > HOSTNAME_BYTES_MAX {
        errors.too_long(&path, HOSTNAME_BYTES_MAX);
    }
    spec.named("hostnameOverride", subdomain, errors);
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        let found = errors(input, |at, errors| {
            config(at, errors);
            host_aliases(at, errors);
            hostname_override(at, errors);
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn resolvers() {
        check(
            &value!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": [".", "a_b.c."]}}),
            &[],
        );
        check(
            &value!({"dnsPolicy": "None"}),
            &["at.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        );
        check(
            &value!({"dnsConfig": {"nameservers": ["a"], "options": [{"name": ""}]}}),
            &[
                r#"at.dnsConfig.nameservers[0]: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                "at.dnsConfig.options[0]: Required value: must not be empty",
            ],
        );
        check(
            &value!({"hostNetwork": true, "hostnameOverride": "a"}),
            &["at.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"],
        );
    }
}
