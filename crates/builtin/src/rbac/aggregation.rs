//! Aggregated cluster roles: the rules of a role with an `aggregationRule` are those of all roles that its selectors
//! find. Upstream does it in a controller (`pkg/controller/clusterroleaggregation`); the plan here is pure.

use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value::{Map, Str, Value};

use super::rule::{Rule, rules_of};

/// Decides from all cluster roles which of them need other rules: each such role with the rules it should have.
pub fn plan<'a>(roles: impl IntoIterator<Item = &'a Value>) -> Vec<(&'a Value, Vec<Rule>)> {
    let mut by_name: Vec<(&Value, Vec<(Str, Str)>)> = roles.into_iter().map(|role| (role, labels(role))).collect();
    by_name.sort_by_key(|(role, _)| name(role));
    let stale = by_name.iter().filter_map(|(role, _)| {
        let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array)?;
        let mut wanted: Vec<Rule> = Vec::new();
        for selector in selectors {
            // Validation refuses selectors that cannot be read; one that slipped through finds nothing.
            let selector = LabelSelector::from_object(Some(selector)).unwrap_or_else(|_| LabelSelector::nothing());
            let found = by_name.iter().filter(|(other, labels)| name(other) != name(role) && selector.matches(labels));
            for rule in found.flat_map(|(other, _)| rules_of(other)) {
                if !wanted.contains(&rule) {
                    wanted.push(rule);
                }
            }
        }
        (wanted != rules_of(role)).then_some((*role, wanted))
    });
    stale.collect()
}

fn name(role: &Value) -> &str {
    role.str_at(&["metadata", "name"])
}

/// Sorted by key, as selectors want them.
fn labels(role: &Value) -> Vec<(Str, Str)> {
    let labels = role.at(&["metadata", "labels"]).and_then(Value::as_object);
    let labels = labels.into_iter().flat_map(Map::iter);
    let mut labels: Vec<_> = labels.filter_map(|(key, text)| Some((key.clone(), text.as_str()?.into()))).collect();
    labels.sort();
    labels
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn role(name: &str, label: &str, resources: &[&str], aggregates: Option<&str>) -> Value {
        let rules: Vec<Value> = resources
            .iter()
            .map(|resource| value!({"verbs": ["get"], "apiGroups": [""], "resources": [(*resource)]}))
            .collect();
        let mut role = value!({"metadata": {"name": name, "labels": {"part-of": label}}, "rules": rules});
        if let Some(of) = aggregates {
            let selectors = value!([{"matchLabels": {"part-of": of}}]);
            role.as_object_mut()
                .expect("an object")
                .object_entry("aggregationRule")
                .insert("clusterRoleSelectors", selectors);
        }
        role
    }

    fn check(roles: &[Value], expect: &[(&str, &[&str])]) {
        let planned = plan(roles);
        let planned: Vec<(&str, Vec<&str>)> = planned
            .iter()
            .map(|(role, rules)| (name(role), rules.iter().map(|rule| rule.resources[0].as_str()).collect()))
            .collect();
        let expect: Vec<(&str, Vec<&str>)> = expect.iter().map(|(name, rules)| (*name, rules.to_vec())).collect();
        assert_eq!(planned, expect);
    }

    #[test]
    fn rules_follow_the_selected_roles_in_order_of_name() {
        let b = role("b", "view", &["pods", "nodes"], None);
        let a = role("a", "view", &["secrets", "pods"], None);
        let other = role("c", "edit", &["jobs"], None);
        let target = |rules: &[&str]| role("view", "view", rules, Some("view"));
        check(&[target(&[]), b.clone(), a.clone(), other.clone()], &[("view", &["secrets", "pods", "nodes"])]);
        check(&[target(&["secrets", "pods", "nodes"]), b.clone(), a, other.clone()], &[]);
        check(&[target(&["secrets", "pods", "nodes"]), b], &[("view", &["pods", "nodes"])]);
        check(&[target(&[]), other], &[]);
    }
}
