//! Aggregated cluster roles: the rules of a role with an `aggregationRule` are those of all roles that its selectors
//! find. Upstream does it in a controller (`pkg/controller/clusterroleaggregation`); the plan here is pure.

use corten_apimachinery::value::Value;

use super::rule::{Rule, rules_of};

/// Decides from all cluster roles which of them need other rules: their names and the rules.
pub fn plan(roles: &[&Value], selects: impl Fn(&Value, &Value) -> bool) -> Vec<(String, Vec<Rule>)> {
    let mut by_name = roles.to_vec();
    by_name.sort_by_key(|role| name(role));
    let stale = by_name.iter().filter_map(|role| {
        let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array)?;
        let mut wanted: Vec<Rule> = Vec::new();
        for selector in selectors {
            let found = by_name.iter().filter(|other| name(other) != name(role) && selects(selector, other));
            for rule in found.flat_map(|other| rules_of(other)) {
                if !wanted.contains(&rule) {
                    wanted.push(rule);
                }
            }
        }
        (wanted != rules_of(role)).then(|| (name(role).to_owned(), wanted))
    });
    stale.collect()
}

fn name(role: &Value) -> &str {
    role.str_at(&["metadata", "name"])
}
