//! Aggregated cluster roles: the rules of a role with an `aggregationRule` are those of all roles that its selectors
//! find. Upstream does it in a controller (`pkg/controller/clusterroleaggregation`); the plan here is pure.

use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value::{Map, Str, Value};

use super::rule::{Rule, rules_of};

/// Decides from all cluster roles which one needs other rules next, by its place among them, and which. One at a time,
/// as roles may select each other: changed at once, two of them could swap their rules for ever.
pub fn plan(roles: &[Value]) -> Option<(usize, Vec<Rule>)> {
    let mut by_name: Vec<(usize, &Value, Vec<(Str, Str)>)> =
        roles.iter().enumerate().map(|(at, role)| (at, role, labels(role))).collect();
    by_name.sort_by_key(|(_, role, _)| name(role));
    by_name.iter().find_map(|(at, role, _)| {
        let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array)?;
        let mut wanted: Vec<Rule> = Vec::new();
        for selector in selectors {
            // Validation refuses selectors that cannot be read; one that slipped through finds nothing.
            let selector = LabelSelector::from_object(Some(selector)).unwrap_or_else(|_| LabelSelector::nothing());
            let found = by_name.iter().filter(|(other, _, labels)| other != at && selector.matches(labels));
            for rule in found.flat_map(|(_, other, _)| rules_of(other)) {
                if !wanted.contains(&rule) {
                    wanted.push(rule);
                }
            }
        }
        (wanted != rules_of(role)).then_some((*at, wanted))
    })
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

    fn check(roles: &[Value], expect: Option<(&str, &[&str])>) {
        let planned = plan(roles).map(|(at, rules)| (name(&roles[at]), resources(&rules)));
        assert_eq!(
            planned,
            expect.map(|(name, resources)| (name, resources.iter().map(ToString::to_string).collect()))
        );
    }

    fn resources(rules: &[Rule]) -> Vec<String> {
        rules.iter().map(|rule| rule.resources[0].to_string()).collect()
    }

    #[test]
    fn rules_follow_the_selected_roles_in_order_of_name() {
        let b = role("b", "view", &["pods", "nodes"], None);
        let a = role("a", "view", &["secrets", "pods"], None);
        let other = role("c", "edit", &["jobs"], None);
        let target = |rules: &[&str]| role("view", "view", rules, Some("view"));
        check(&[target(&[]), b.clone(), a.clone(), other.clone()], Some(("view", &["secrets", "pods", "nodes"])));
        check(&[target(&["secrets", "pods", "nodes"]), b.clone(), a, other.clone()], None);
        check(&[target(&["secrets", "pods", "nodes"]), b], Some(("view", &["pods", "nodes"])));
        check(&[target(&[]), other], None);
    }

    #[test]
    fn roles_that_select_each_other_come_to_rest() {
        let mut roles = [role("a", "one", &["pods"], Some("two")), role("b", "two", &["jobs"], Some("one"))];
        let mut steps = 0;
        while let Some((at, rules)) = plan(&roles) {
            let rules: Vec<Value> = rules.iter().map(Rule::to_value).collect();
            roles[at].as_object_mut().expect("an object").insert("rules", rules);
            steps += 1;
            assert!(steps < 10, "it goes on and on");
        }
        assert_eq!(rules_of(&roles[0]), rules_of(&roles[1]));
    }
}
