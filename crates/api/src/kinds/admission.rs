//! Admission webhooks and policies, and API services.

use corten_apimachinery::kind::{Column, NameRule, Strategy};
use corten_apimachinery::value::Value;

use super::KindRules;
use super::column::{NONE, UNSET, age, at, condition, count, int, integer, name, selector_text, text};
use crate::rules::validation::{admission_policy, api_service, flow_control, webhook};

const GROUP: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy { validate: Some(webhook::mutating), ..guarded(base) },
        columns: webhooks,
        ..KindRules::new(GROUP, "MutatingWebhookConfiguration")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(webhook::validating), ..guarded(base) },
        columns: webhooks,
        ..KindRules::new(GROUP, "ValidatingWebhookConfiguration")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(admission_policy::validating), ..guarded(base) },
        columns: || policy(integer("Validations", |policy, _| count(policy, &["spec", "validations"]).into())),
        ..KindRules::new(GROUP, "ValidatingAdmissionPolicy")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(admission_policy::validating_binding), ..guarded(base) },
        columns: binding,
        ..KindRules::new(GROUP, "ValidatingAdmissionPolicyBinding")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(admission_policy::mutating), ..guarded(base) },
        columns: || policy(integer("Mutations", |policy, _| count(policy, &["spec", "mutations"]).into())),
        ..KindRules::new(GROUP, "MutatingAdmissionPolicy")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(admission_policy::mutating_binding), ..guarded(base) },
        columns: binding,
        ..KindRules::new(GROUP, "MutatingAdmissionPolicyBinding")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(flow_control::flow_schema), ..numbered(base) },
        columns: flow_schema,
        ..KindRules::new(FLOW, "FlowSchema")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(flow_control::priority_level), ..numbered(base) },
        columns: priority_level,
        ..KindRules::new(FLOW, "PriorityLevelConfiguration")
    },
    KindRules {
        strategy: |base| Strategy {
            name: NameRule::PathSegment,
            qualified_finalizers: false,
            unconditional_update: false,
            validate: Some(api_service::api_service),
            ..base
        },
        columns: api_service,
        ..KindRules::new("apiregistration.k8s.io", "APIService")
    },
];

fn numbered(base: Strategy) -> Strategy {
    Strategy { generation: true, status_keeps_metadata: true, ..base }
}

/// Numbered, and never overwritten blindly.
fn guarded(base: Strategy) -> Strategy {
    Strategy {
        qualified_finalizers: false,
        generation: true,
        unconditional_update: false,
        status_keeps_metadata: true,
        ..base
    }
}

fn webhooks() -> Vec<Column> {
    vec![name(), integer("Webhooks", |configuration, _| count(configuration, &["webhooks"]).into()), age()]
}

fn policy(rules: Column) -> Vec<Column> {
    let kind = text("ParamKind", |policy, _| match policy.at(&["spec", "paramKind"]).filter(|kind| !kind.is_null()) {
        Some(kind) => format!("{}/{}", kind.str_at(&["apiVersion"]), kind.str_at(&["kind"])).into(),
        None => UNSET.into(),
    });
    vec![name(), rules, kind, age()]
}

fn binding() -> Vec<Column> {
    vec![
        name(),
        text("PolicyName", |binding, _| at(binding, &["spec", "policyName"])),
        text("ParamRef", |binding, _| param(binding).into()),
        age(),
    ]
}

/// What a binding hands to its policy: one object, of any namespace where it names none, or those of a selector.
fn param(binding: &Value) -> String {
    let Some(param) = binding.at(&["spec", "paramRef"]).filter(|param| !param.is_null()) else {
        return UNSET.to_owned();
    };
    match (param.str_at(&["name"]), param.str_at(&["namespace"])) {
        ("", _) => selector_text(param.get("selector")).unwrap_or_else(|| UNSET.to_owned()),
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    }
}

fn flow_schema() -> Vec<Column> {
    vec![
        name(),
        text("PriorityLevel", |schema, _| at(schema, &["spec", "priorityLevelConfiguration", "name"])),
        text("MatchingPrecedence", |schema, _| int(schema, &["spec", "matchingPrecedence"])),
        text("DistinguisherMethod", |schema, _| {
            super::column::at_or(schema, &["spec", "distinguisherMethod", "type"], NONE)
        }),
        age(),
        text("MissingPL", |schema, _| {
            condition(schema, "Dangling").map_or("?", |dangling| dangling.str_at(&["status"])).into()
        }),
    ]
}

fn priority_level() -> Vec<Column> {
    fn limit(level: &Value, path: &[&str]) -> Value {
        let limited = level.at(&["spec", "limited"]).and_then(|limited| limited.at(path));
        limited.filter(|limit| !limit.is_null()).cloned().unwrap_or_else(|| NONE.into())
    }
    fn queue(level: &Value, field: &str) -> Value {
        limit(level, &["limitResponse", "queuing", field])
    }
    vec![
        name(),
        text("Type", |level, _| at(level, &["spec", "type"])),
        text("NominalConcurrencyShares", |level, _| limit(level, &["nominalConcurrencyShares"])),
        text("Queues", |level, _| queue(level, "queues")),
        text("HandSize", |level, _| queue(level, "handSize")),
        text("QueueLengthLimit", |level, _| queue(level, "queueLengthLimit")),
        age(),
    ]
}

fn api_service() -> Vec<Column> {
    vec![
        name(),
        text("Service", |service, _| match service.at(&["spec", "service"]).filter(|service| !service.is_null()) {
            Some(to) => format!("{}/{}", to.str_at(&["namespace"]), to.str_at(&["name"])).into(),
            None => "Local".into(),
        }),
        text("Available", |service, _| available(service).into()),
        age(),
    ]
}

fn available(service: &Value) -> String {
    let Some(available) = condition(service, "Available") else { return "Unknown".to_owned() };
    match (available.str_at(&["status"]), available.str_at(&["reason"])) {
        (status @ "True", _) | (status, "") => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn webhooks_and_policies() {
        check(GROUP, "ValidatingWebhookConfiguration", &value!({"webhooks": [{}, {}]}), &["2"]);
        let policy = value!({"spec": {"validations": [{}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}});
        check(GROUP, "ValidatingAdmissionPolicy", &policy, &["1", "v1/ConfigMap"]);
        let binding = value!({"spec": {"policyName": "p", "paramRef": {"name": "n"}}});
        check(GROUP, "ValidatingAdmissionPolicyBinding", &binding, &["p", "*/n"]);
        check(GROUP, "MutatingAdmissionPolicyBinding", &value!({"spec": {}}), &["", "<unset>"]);
    }

    #[test]
    fn flow() {
        let level = value!({"spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 30, "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8}}
        }}});
        check(FLOW, "PriorityLevelConfiguration", &level, &["Limited", "30", "64", "8", "<none>"]);
        let schema = value!({
            "spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 5},
            "status": {"conditions": [{"type": "Dangling", "status": "False"}]}
        });
        check(FLOW, "FlowSchema", &schema, &["l", "5", "<none>", "False"]);
    }

    #[test]
    fn services() {
        check("apiregistration.k8s.io", "APIService", &value!({"spec": {}}), &["Local", "Unknown"]);
        let service = value!({
            "spec": {"service": {"namespace": "n", "name": "s"}},
            "status": {"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]}
        });
        check("apiregistration.k8s.io", "APIService", &service, &["n/s", "False (MissingEndpoints)"]);
    }
}
