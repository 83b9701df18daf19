//! Admission webhooks and policies.

use corten_apimachinery::value::{Map, Value};

use super::{absent, fills};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("admissionregistration/v1.ValidatingWebhook", fills(webhook)),
    (
        "admissionregistration/v1.MutatingWebhook",
        fills(|hook| {
            webhook(hook);
            absent(hook, "reinvocationPolicy", "Never");
        }),
    ),
    ("admissionregistration/v1.RuleWithOperations", fills(scope)),
    ("admissionregistration/v1.NamedRuleWithOperations", fills(scope)),
    ("admissionregistration/v1.ServiceReference", fills(|service| absent(service, "port", 443))),
    ("admissionregistration/v1.MatchResources", fills(matching)),
    ("admissionregistration/v1.ValidatingAdmissionPolicySpec", fills(failure)),
    ("admissionregistration/v1.MutatingAdmissionPolicySpec", fills(failure)),
];

fn webhook(hook: &mut Map) {
    failure(hook);
    matching(hook);
    absent(hook, "timeoutSeconds", 10);
}

fn matching(rules: &mut Map) {
    absent(rules, "matchPolicy", "Equivalent");
    absent(rules, "namespaceSelector", Value::object());
    absent(rules, "objectSelector", Value::object());
}

fn failure(policy: &mut Map) {
    absent(policy, "failurePolicy", "Fail");
}

fn scope(rule: &mut Map) {
    absent(rule, "scope", "*");
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn webhooks() {
        check(
            "admissionregistration/v1.MutatingWebhook",
            value!({"failurePolicy": "Ignore"}),
            &value!({
                "failurePolicy": "Ignore", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "timeoutSeconds": 10, "reinvocationPolicy": "Never"
            }),
        );
        check("admissionregistration/v1.RuleWithOperations", value!({}), &value!({"scope": "*"}));
    }
}
