//! One policy rule: what it allows, what it covers, and how messages print it. Pure; semantics of upstream's
//! `pkg/apis/rbac/v1` evaluation and `component-helpers/auth/rbac/validation`.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::value::{Map, Str, Value};
use corten_apiserver::auth::AuthzTarget;

/// `rbac.authorization.k8s.io/v1` `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<Str>,
    pub api_groups: Vec<Str>,
    pub resources: Vec<Str>,
    /// Empty: all names.
    pub resource_names: Vec<Str>,
    pub non_resource_urls: Vec<Str>,
}

impl Rule {
    /// Every verb on every resource.
    pub fn all_resources() -> Self {
        let all = || vec![Str::const_new("*")];
        Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() }
    }

    /// Every verb on every path that is no resource.
    pub fn all_paths() -> Self {
        let all = || vec![Str::const_new("*")];
        Self { verbs: all(), non_resource_urls: all(), ..Self::default() }
    }

    pub fn from_value(value: &Value) -> Self {
        Self {
            verbs: strings(value.get("verbs")),
            api_groups: strings(value.get("apiGroups")),
            resources: strings(value.get("resources")),
            resource_names: strings(value.get("resourceNames")),
            non_resource_urls: strings(value.get("nonResourceURLs")),
        }
    }

    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("verbs", self.verbs.clone());
        let rest = [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ];
        for (key, texts) in rest {
            if !texts.is_empty() {
                map.insert(key, texts.clone());
            }
        }
        Value::Object(map)
    }

    pub fn allows(&self, verb: &str, target: &AuthzTarget<'_>) -> bool {
        if !has_or_all(&self.verbs, verb) {
            return false;
        }
        match target {
            AuthzTarget::Resource { group, resource, subresource, name, .. } => {
                has_or_all(&self.api_groups, group)
                    && self.matches_resource(resource, subresource)
                    && (self.resource_names.is_empty() || has(&self.resource_names, name))
            }
            AuthzTarget::Path(path) => self.non_resource_urls.iter().any(|own| url_covers(own, path)),
        }
    }

    fn matches_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| {
            if own == "*" {
                return true;
            }
            if subresource.is_empty() {
                return own == resource;
            }
            own.split_once('/').is_some_and(|(of, sub)| (of == "*" || of == resource) && sub == subresource)
        })
    }

    /// Upstream's compact form in refusals: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown = parts.iter().filter(|(_, texts)| !texts.is_empty());
        let shown: Vec<String> = shown.map(|(label, texts)| format!("{label}:{}", quoted(texts))).collect();
        format!("{{{}}}", shown.join(", "))
    }

    /// The same permissions as rules with one verb, one resource and one name each.
    fn atoms(&self) -> Vec<Rule> {
        let mut atoms = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Rule {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                    } else {
                        let named = |name: &Str| Rule { resource_names: vec![name.clone()], ..atom.clone() };
                        atoms.extend(self.resource_names.iter().map(named));
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            let on = |verb: &Str| Rule {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![url.clone()],
                ..Rule::default()
            };
            atoms.extend(self.verbs.iter().map(on));
        }
        atoms
    }

    /// Whether this rule alone grants an atom.
    fn covers_atom(&self, atom: &Rule) -> bool {
        let names = self.resource_names.is_empty()
            || !atom.resource_names.is_empty() && has_all(&self.resource_names, &atom.resource_names);
        (has(&self.verbs, "*") || has_all(&self.verbs, &atom.verbs))
            && (has(&self.api_groups, "*") || has_all(&self.api_groups, &atom.api_groups))
            && atom.resources.iter().all(|resource| self.covers_resource(resource))
            && names
            && atom.non_resource_urls.iter().all(|url| self.non_resource_urls.iter().any(|own| url_covers(own, url)))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        let any_with_sub = |sub: &str| self.resources.iter().any(|own| own.strip_prefix("*/") == Some(sub));
        has(&self.resources, "*")
            || has(&self.resources, resource)
            || resource.split_once('/').is_some_and(|(_, sub)| any_with_sub(sub))
    }
}

/// The rules of a role object.
pub fn rules_of(role: &Value) -> Vec<Rule> {
    let rules = role.get("rules").and_then(Value::as_array).unwrap_or_default();
    rules.iter().map(Rule::from_value).collect()
}

/// What of `wanted` is not covered by `held`, as atoms; empty: all is covered.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms.filter(|atom| !held.iter().any(|rule| rule.covers_atom(atom))).collect()
}

/// The lines of upstream's escalation refusal: atoms that differ by verb alone are joined, the texts sorted.
pub fn describe(missing: &[Rule]) -> String {
    let mut joined: BTreeMap<(Str, Str, Option<Str>), Rule> = BTreeMap::new();
    let mut lines = BTreeSet::new();
    for rule in missing {
        let ([group], [resource]) = (rule.api_groups.as_slice(), rule.resources.as_slice()) else {
            lines.insert(rule.compact());
            continue;
        };
        let key = (group.clone(), resource.clone(), rule.resource_names.first().cloned());
        match joined.get_mut(&key) {
            Some(known) => known.verbs.extend(rule.verbs.iter().cloned()),
            None => {
                joined.insert(key, rule.clone());
            }
        }
    }
    lines.extend(joined.values().map(Rule::compact));
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// A list as Go prints it with `%q`: `["a" "b"]`.
pub fn quoted(texts: &[Str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

/// An array of strings; anything else in it is not there.
pub fn strings(value: Option<&Value>) -> Vec<Str> {
    let items = value.and_then(Value::as_array).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(Str::from).collect()
}

fn has(texts: &[Str], text: &str) -> bool {
    texts.iter().any(|own| own == text)
}

fn has_or_all(texts: &[Str], text: &str) -> bool {
    texts.iter().any(|own| own == "*" || own == text)
}

fn has_all(texts: &[Str], wanted: &[Str]) -> bool {
    wanted.iter().all(|text| has(texts, text))
}

/// A rule's path covers another path, or a pattern, by being equal, or by its prefix if it ends with `*`.
fn url_covers(own: &str, path: &str) -> bool {
    own == path || own.ends_with('*') && path.starts_with(own.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &str) -> Vec<Str> {
        texts
            .split(' ')
            .filter(|text| !text.is_empty())
            .map(|text| if text == "core" { "" } else { text }.into())
            .collect()
    }

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    fn urls(verbs: &str, urls: &str) -> Rule {
        Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() }
    }

    fn on<'a>(group: &'a str, resource: &'a str, subresource: &'a str, name: &'a str) -> AuthzTarget<'a> {
        AuthzTarget::Resource { group, version: "v1", resource, subresource, namespace: "ns", name }
    }

    #[test]
    fn a_rule_allows_what_upstream_allows() {
        let check = |rule: &Rule, verb: &str, target: AuthzTarget<'_>, expect: bool| {
            assert_eq!(rule.allows(verb, &target), expect, "{} {verb} {target:?}", rule.compact());
        };
        let pods = rule("get list", "core", "pods pods/log */scale", "");
        check(&pods, "get", on("", "pods", "", "a"), true);
        check(&pods, "get", on("", "pods", "log", "a"), true);
        check(&pods, "get", on("", "pods", "exec", "a"), false);
        check(&pods, "get", on("", "anything", "scale", "a"), true);
        check(&pods, "get", on("", "scale", "", "a"), false);
        check(&pods, "get", on("apps", "pods", "", "a"), false);
        check(&pods, "watch", on("", "pods", "", "a"), false);
        check(&pods, "get", AuthzTarget::Path("/healthz"), false);
        let named = rule("*", "*", "*", "one two");
        check(&named, "delete", on("apps", "deployments", "", "two"), true);
        check(&named, "delete", on("apps", "deployments", "", "three"), false);
        check(&named, "list", on("apps", "deployments", "", ""), false);
        let paths = urls("get", "/healthz /logs/* /api*");
        check(&paths, "get", AuthzTarget::Path("/healthz"), true);
        check(&paths, "get", AuthzTarget::Path("/healthz/"), false);
        check(&paths, "get", AuthzTarget::Path("/logs/a/b"), true);
        check(&paths, "get", AuthzTarget::Path("/logs"), false);
        check(&paths, "get", AuthzTarget::Path("/apis"), true);
        check(&paths, "post", AuthzTarget::Path("/healthz"), false);
        check(&Rule::all_resources(), "get", AuthzTarget::Path("/healthz"), false);
        check(&Rule::all_paths(), "get", AuthzTarget::Path("/healthz"), true);
    }

    #[test]
    fn coverage_is_by_atoms() {
        let check = |held: &[Rule], wanted: &[Rule], expect: &str| {
            assert_eq!(describe(&uncovered(held, wanted)), expect, "{held:?} {wanted:?}");
        };
        let wanted = [rule("get delete", "core apps", "pods", "")];
        check(
            &[rule("get", "*", "pods", ""), rule("delete", "core", "*", "")],
            &wanted,
            r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["delete"]}"#,
        );
        check(&[rule("*", "*", "*", "")], &wanted, "");
        check(
            &[rule("*", "*", "*", "a")],
            &wanted,
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"delete\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"delete\"]}",
        );
        check(&[rule("get", "core", "pods", "")], &[rule("get", "core", "pods", "a")], "");
        check(
            &[rule("get", "core", "pods", "a")],
            &[rule("get", "core", "pods", "a b")],
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#,
        );
        check(
            &[rule("update", "*", "*/scale", "")],
            &[rule("update", "apps", "deployments/scale deployments", "")],
            r#"{APIGroups:["apps"], Resources:["deployments"], Verbs:["update"]}"#,
        );
        check(
            &[urls("get", "/logs/*")],
            &[urls("get", "/logs/a /logs/b* /logs")],
            r#"{NonResourceURLs:["/logs"], Verbs:["get"]}"#,
        );
        check(&[Rule::all_resources()], &[Rule::all_paths()], r#"{NonResourceURLs:["*"], Verbs:["*"]}"#);
    }

    #[test]
    fn a_rule_survives_its_object() {
        let rule = rule("get", "core", "pods", "a");
        assert_eq!(Rule::from_value(&rule.to_value()), rule);
    }
}
