//! Priority levels, and which requests belong to which (KEP-1040).

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;

use super::{At, reasons};

const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of a request's hash from which its queues are dealt.
const HASH_BITS: f64 = 60.0;
/// The schema, and the level, of requests that never wait.
const EXEMPT: &str = "exempt";

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(crate) fn flow_schema(validation: Validation<'_>, errors: &mut FieldErrors) {
    let schema = At::root(validation.object);
    if validation.subresource.is_empty() {
        schema_spec(&schema.object_or_empty("spec"), schema.object_or_empty("metadata").text("name"), errors);
    }
    conditions(&schema, errors);
}

pub(crate) fn priority_level(validation: Validation<'_>, errors: &mut FieldErrors) {
    let level = At::root(validation.object);
    if validation.subresource.is_empty() {
        level_spec(&level.object_or_empty("spec"), level.object_or_empty("metadata").text("name"), errors);
    }
    conditions(&level, errors);
}

fn conditions(object: &At<'_>, errors: &mut FieldErrors) {
    let mut known = Vec::new();
    for condition in object.object_or_empty("status").each("conditions") {
        let kind = condition.text("type");
        if known.contains(&kind) {
            errors.duplicate(&condition.path("type"), kind);
        }
        known.push(kind);
        condition.require("type", errors);
    }
}

fn schema_spec(spec: &At<'_>, name: &str, errors: &mut FieldErrors) {
    let precedence = spec.int("matchingPrecedence").unwrap_or_default();
    let mut refuse = |why: &str| errors.invalid(&spec.path("matchingPrecedence"), precedence, why);
    match precedence {
        ..=0 => refuse("must be a positive value"),
        1 if name != EXEMPT => refuse("only the schema named 'exempt' may have matchingPrecedence 1"),
        _ if precedence > PRECEDENCE_MAX => refuse(&format!("must not be greater than {PRECEDENCE_MAX}")),
        _ => {}
    }
    if let Some(method) = spec.object("distinguisherMethod") {
        let known = ["ByNamespace", "ByUser"];
        if !known.contains(&method.text("type")) {
            // Printed with the names of its own form.
            let shown = corten_apimachinery::value!({"Type": (method.text("type"))});
            errors.not_supported(&method.path("type"), shown, &known);
        }
    }
    let level = spec.object_or_empty("priorityLevelConfiguration");
    if level.text("name").is_empty() {
        errors.required(&level.path("name"), "must reference a priority level");
    }
    let level_name = level.text("name");
    if !level_name.is_empty() {
        reasons(&level.path("name"), level_name, name::dns1123_subdomain(level_name), errors);
    }
    for rule in spec.each("rules") {
        schema_rule(&rule, errors);
    }
}

fn schema_rule(rule: &At<'_>, errors: &mut FieldErrors) {
    if rule.items("subjects").is_empty() {
        errors.required(&rule.path("subjects"), "subjects must contain at least one value");
    }
    for subject in rule.each("subjects") {
        self::subject(&subject, errors);
    }
    if rule.items("resourceRules").is_empty() && rule.items("nonResourceRules").is_empty() {
        errors.required(&rule.path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for resources in rule.each("resourceRules") {
        resource_rule(&resources, errors);
    }
    for paths in rule.each("nonResourceRules") {
        path_rule(&paths, errors);
    }
}

/// Each kind of subject has a field of its own, and no other.
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn subject(subject: &At<'_>, errors: &mut FieldErrors) {
    let kind = subject.text("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        errors.not_supported(&subject.path("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    match subject.object(own) {
        None => errors.required(&subject.path(own), format!("{own} is required when subject kind is '{kind}'")),
        Some(account) if kind == "ServiceAccount" => service_account(&account, errors),
        Some(named) => {
            named.require("name", errors);
        }
    }
    for (other, field) in SUBJECTS {
        if field != *own && subject.given(field) {
            let why = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&subject.path(field), why);
        }
    }
}

fn service_account(account: &At<'_>, errors: &mut FieldErrors) {
    if account.require("name", errors) && account.text("name") != "*" {
        account.named("name", name::dns1123_subdomain, errors);
    }
    if account.text("namespace").is_empty() {
        errors.required(&account.path("namespace"), "must specify namespace for service account");
    } else {
        account.named("namespace", name::dns1123_label, errors);
    }
}

/// `*` stands alone; says whether it is there.
fn wildcard(rule: &At<'_>, field: &str, what: &str, errors: &mut FieldErrors) -> bool {
    let has = rule.texts(field).any(|(text, _)| text == "*");
    if has && rule.items(field).len() > 1 {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&rule.path(field), rule.value(field), why);
    }
    has
}

fn verbs(rule: &At<'_>, errors: &mut FieldErrors) {
    if rule.items("verbs").is_empty() {
        errors.required(&rule.path("verbs"), "verbs must contain at least one value");
    } else if !wildcard(rule, "verbs", "verbs", errors) && rule.texts("verbs").any(|(verb, _)| !VERBS.contains(&verb)) {
        errors.not_supported(&rule.path("verbs"), rule.value("verbs"), &VERBS);
    }
}

fn resource_rule(rule: &At<'_>, errors: &mut FieldErrors) {
    verbs(rule, errors);
    for (field, one, others) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
        if rule.items(field).is_empty() {
            errors.required(&rule.path(field), format!("resource rules must supply at least one {one}"));
        }
        wildcard(rule, field, others, errors);
    }
    if rule.items("namespaces").is_empty() && !rule.flag("clusterScope") {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&rule.path("namespaces"), why);
    } else if !wildcard(rule, "namespaces", "namespaces", errors) {
        for (namespace, path) in rule.texts("namespaces") {
            for why in name::dns1123_label(namespace) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.invalid(&path, namespace, why);
            }
        }
    }
}

fn path_rule(rule: &At<'_>, errors: &mut FieldErrors) {
    verbs(rule, errors);
    if rule.items("nonResourceURLs").is_empty() {
        errors.required(&rule.path("nonResourceURLs"), "nonResourceURLs must contain at least one value");
    } else if !wildcard(rule, "nonResourceURLs", "non-resource URLs", errors) {
        for (url, path) in rule.texts("nonResourceURLs") {
            url_path(url, &path, errors);
        }
    }
}

fn url_path(url: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let why = match url {
        "" => "must not be empty",
        "/" => return,
        _ if !url.starts_with('/') => "must start with slash",
        _ if url.contains(' ') => "must not contain white-space",
        _ if url.contains("//") => "must not contain double slash",
        _ if url.contains('*') && (url.matches('*').count() > 1 || !url.ends_with("/*")) => {
            "wildcard can only do suffix matching"
        }
        _ => return,
    };
    errors.invalid(path, url, why);
}

fn level_spec(spec: &At<'_>, name: &str, errors: &mut FieldErrors) {
    let kind = spec.text("type");
    if (name == EXEMPT) != (kind == "Exempt") {
        errors.invalid(&spec.path("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (exempt, limited) = (spec.object("exempt"), spec.object("limited"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                errors.forbidden(&spec.path("limited"), "must be nil if the type is not Limited");
            }
            if let Some(exempt) = exempt {
                shares(&exempt, errors);
                lendable(&exempt, errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                errors.forbidden(&spec.path("exempt"), "must be nil if the type is Limited");
            }
            match limited {
                None => errors.required(&spec.path("limited"), "must not be empty when type is Limited"),
                Some(limited) => self::limited(&limited, errors),
            }
        }
        "" => errors.required(&spec.path("type"), ""),
        _ => errors.not_supported(&spec.path("type"), kind, &["Exempt", "Limited"]),
    }
}

fn shares(level: &At<'_>, errors: &mut FieldErrors) {
    if let Some(shares @ ..0) = level.int("nominalConcurrencyShares") {
        errors.invalid(&level.path("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
}

fn lendable(level: &At<'_>, errors: &mut FieldErrors) {
    if let Some(percent) = level.int("lendablePercent").filter(|percent| !(0..=100).contains(percent)) {
        errors.invalid(&level.path("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &At<'_>, errors: &mut FieldErrors) {
    shares(limited, errors);
    response(&limited.object_or_empty("limitResponse"), errors);
    lendable(limited, errors);
    if let Some(percent @ ..0) = limited.int("borrowingLimitPercent") {
        let why = "if specified, must be a non-negative integer";
        errors.invalid(&limited.path("borrowingLimitPercent"), percent, why);
    }
}

fn response(response: &At<'_>, errors: &mut FieldErrors) {
    let queuing = response.object("queuing");
    match (response.text("type"), queuing) {
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.forbidden(&response.path("queuing"), why);
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.required(&response.path("queuing"), why);
        }
        ("Queue", Some(queuing)) => queues(&queuing, errors),
        ("", _) => errors.required(&response.path("type"), ""),
        (other, _) => errors.not_supported(&response.path("type"), other, &["Queue", "Reject"]),
    }
}

fn queues(queuing: &At<'_>, errors: &mut FieldErrors) {
    let number = |field| queuing.int(field).unwrap_or_default();
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    let mut refuse = |field, number: i64, why: &str| errors.invalid(&queuing.path(field), number, why);
    if length <= 0 {
        refuse("queueLengthLimit", length, "must be positive");
    }
    match queues {
        ..=0 => refuse("queues", queues, "must be positive"),
        _ if queues > QUEUES_MAX => refuse("queues", queues, &format!("must not be greater than {QUEUES_MAX}")),
        _ => {}
    }
    match hand {
        ..=0 => refuse("handSize", hand, "must be positive"),
        _ if hand > queues => refuse("handSize", hand, &format!("should not be greater than queues ({queues})")),
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "both are 32-bit numbers")]
            let bits = ((queues as f64).log2() * hand as f64).ceil();
            if bits > HASH_BITS {
                let why = format!(
                    "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
                );
                refuse("handSize", hand, &why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    fn refused(rules: fn(Validation<'_>, &mut FieldErrors), object: &Value) -> Vec<String> {
        let mut errors = FieldErrors::default();
        rules(Validation { object, old: None, subresource: "" }, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn level(limited: Value) -> Vec<String> {
        refused(priority_level, &value!({"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": limited}}))
    }

    #[test]
    fn levels_are_limited_or_the_exempt_one() {
        let queuing = |queues: i64, hand: i64| {
            let queuing = value!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
            level(value!({"nominalConcurrencyShares": 1, "limitResponse": {"type": "Queue", "queuing": queuing}}))
        };
        assert_eq!(queuing(64, 8), Vec::<String>::new());
        assert_eq!(
            queuing(4, 8),
            ["spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"]
        );
        assert!(
            queuing(4096, 6)[0]
                .ends_with("required entropy bits of deckSize 4096 and handSize 6 should not be greater than 60")
        );
        assert_eq!(level(value!({})), ["spec.limited.limitResponse.type: Required value"]);
        let exempt =
            value!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "exempt": {"lendablePercent": 101}}});
        assert_eq!(
            refused(priority_level, &exempt),
            ["spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"]
        );
        assert_eq!(refused(priority_level, &value!({})), ["spec.type: Required value"]);
    }

    #[test]
    fn schemas_name_subjects_and_requests() {
        let schema = |rule: Value| {
            let spec = value!({
                "matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "l"}, "rules": [rule]
            });
            refused(flow_schema, &value!({"metadata": {"name": "s"}, "spec": spec}))
        };
        let good = value!({
            "subjects": [{"kind": "User", "user": {"name": "*"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/", "/healthz/*"]}]
        });
        assert_eq!(schema(good), Vec::<String>::new());
        let empty = schema(value!({}));
        assert_eq!(empty[0], "spec.rules[0].subjects: Required value: subjects must contain at least one value");
        assert!(empty[1].starts_with("spec.rules[0]: Required value: at least one of resourceRules"), "{empty:?}");
        let bad = schema(value!({
            "subjects": [{"kind": "Group", "user": {"name": "a"}}, {"kind": "Other"}],
            "nonResourceRules": [{"verbs": ["fly"], "nonResourceURLs": ["/a*", "b"]}]
        }));
        assert_eq!(bad.len(), 6, "{bad:?}");
        let first = refused(flow_schema, &value!({"metadata": {"name": "s"}, "spec": {"matchingPrecedence": 1}}));
        assert!(
            first[0].contains("only the schema named 'exempt'") && first[1].contains("must reference"),
            "{first:?}"
        );
    }
}
