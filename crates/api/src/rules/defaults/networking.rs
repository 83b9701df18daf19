//! Network policies and ingress classes.

use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, is_zero};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("networking/v1.NetworkPolicySpec", fills(policy_types)),
    ("networking/v1.NetworkPolicyPort", fills(|port| absent(port, "protocol", "TCP"))),
    ("networking/v1.IngressClassParametersReference", fills(|parameters| absent(parameters, "scope", "Cluster"))),
];

/// A policy that does not say what it governs governs what comes in, and what goes out where it has rules for that.
fn policy_types(spec: &mut Map) {
    if spec.get("policyTypes").is_some_and(|types| !is_zero(types)) {
        return;
    }
    let egress = spec.get("egress").is_some_and(|rules| !is_zero(rules));
    let types: Vec<Value> = ["Ingress"].into_iter().chain(egress.then_some("Egress")).map(Value::from).collect();
    spec.insert("policyTypes", Value::Array(types));
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn policies() {
        check("networking/v1.NetworkPolicySpec", value!({}), &value!({"policyTypes": ["Ingress"]}));
        check(
            "networking/v1.NetworkPolicySpec",
            value!({"egress": [{}]}),
            &value!({"egress": [{}], "policyTypes": ["Ingress", "Egress"]}),
        );
        check("networking/v1.NetworkPolicyPort", value!({"port": 1}), &value!({"port": 1, "protocol": "TCP"}));
    }
}
