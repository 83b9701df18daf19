//! Ingresses and their classes, network policies, service addresses.

use corten_apimachinery::kind::{Column, NameRule, Strategy};
use corten_apimachinery::value::Value;

use super::column::{NONE, age, at, at_or, decorated_name, list, name, plain, selector, text};
use super::service::load_balancer;
use super::{KindRules, warning};
use crate::rules::validation::{ingress, network_policy, networking};

const GROUP: &str = "networking.k8s.io";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            warn: Some(warning::ingress),
            validate: Some(ingress::ingress),
            ..base
        },
        columns: ingress_columns,
        ..KindRules::new(GROUP, "Ingress")
    },
    KindRules {
        strategy: |base| Strategy { generation: true, validate: Some(networking::ingress_class), ..base },
        columns: || {
            vec![
                decorated_name(|class, _| {
                    let default = class.str_at(&["metadata", "annotations", DEFAULT_CLASS]) == "true";
                    let mark = if default { " (default)" } else { "" };
                    format!("{}{mark}", class.str_at(&["metadata", "name"])).into()
                }),
                text("Controller", |class, _| at(class, &["spec", "controller"])),
                text("Parameters", |class, _| parameters(class).into()),
                age(),
            ]
        },
        ..KindRules::new(GROUP, "IngressClass")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            warn: Some(warning::network_policy),
            validate: Some(network_policy::network_policy),
            ..base
        },
        columns: || {
            vec![name(), text("Pod-Selector", |policy, _| selector(policy.at(&["spec", "podSelector"])).into()), age()]
        },
        ..KindRules::new(GROUP, "NetworkPolicy")
    },
    KindRules {
        // An address's name is the address; validation checks it.
        strategy: |base| Strategy { name: NameRule::PathSegment, validate: Some(networking::ip_address), ..base },
        columns: || vec![name(), text("ParentRef", |address, _| parent(address).into())],
        ..KindRules::new(GROUP, "IPAddress")
    },
    KindRules {
        strategy: |base| Strategy { status_keeps_metadata: true, validate: Some(networking::service_cidr), ..base },
        columns: || {
            vec![
                name(),
                text("CIDRs", |range, _| {
                    list(range, &["spec", "cidrs"]).iter().map(plain).collect::<Vec<_>>().join(",").into()
                }),
                age(),
            ]
        },
        ..KindRules::new(GROUP, "ServiceCIDR")
    },
];

fn ingress_columns() -> Vec<Column> {
    vec![
        name(),
        text("Class", |ingress, _| at_or(ingress, &["spec", "ingressClassName"], NONE)),
        text("Hosts", |ingress, _| hosts(ingress).into()),
        text("Address", |ingress, _| load_balancer(ingress).into_iter().collect::<Vec<_>>().join(",").into()),
        text("Ports", |ingress, _| if list(ingress, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" }.into()),
        age(),
    ]
}

/// The first three hosts; how many more there are counts rules, with or without a host.
fn hosts(ingress: &Value) -> String {
    let rules = list(ingress, &["spec", "rules"]);
    let all = rules.iter().enumerate().filter(|(_, rule)| !rule.str_at(&["host"]).is_empty());
    let first: Vec<(usize, &str)> = all.take(3).map(|(index, rule)| (index, rule.str_at(&["host"]))).collect();
    let joined = first.iter().map(|(_, host)| *host).collect::<Vec<_>>().join(",");
    match first.as_slice() {
        [] => "*".to_owned(),
        [_, _, (last, _)] if last + 1 < rules.len() => format!("{joined} + {} more...", rules.len() - 3),
        _ => joined,
    }
}

fn parameters(class: &Value) -> String {
    let Some(parameters) = class.at(&["spec", "parameters"]).filter(|parameters| !parameters.is_null()) else {
        return NONE.to_owned();
    };
    let group = parameters.get("apiGroup").and_then(Value::as_str).map(|group| format!(".{group}")).unwrap_or_default();
    format!("{}{group}/{}", parameters.str_at(&["kind"]), parameters.str_at(&["name"]))
}

/// `services/default/kubernetes`
fn parent(address: &Value) -> String {
    let Some(parent) = address.at(&["spec", "parentRef"]).filter(|parent| !parent.is_null()) else {
        return NONE.to_owned();
    };
    let resource = match parent.str_at(&["group"]) {
        "" => parent.str_at(&["resource"]).to_lowercase(),
        group => format!("{}.{group}", parent.str_at(&["resource"])).to_lowercase(),
    };
    let parts = [&resource, parent.str_at(&["namespace"]), parent.str_at(&["name"])];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::GROUP;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn ingresses() {
        let ingress = value!({
            "spec": {
                "ingressClassName": "c", "tls": [{}],
                "rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}, {}]
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}
        });
        check(GROUP, "Ingress", &ingress, &["c", "a,b,c + 2 more...", "1.1.1.1", "80, 443"]);
        check(GROUP, "Ingress", &value!({"spec": {"rules": [{}]}}), &["<none>", "*", "", "80"]);
    }

    #[test]
    fn classes() {
        let class = value!({
            "metadata": {"name": "c", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": "x", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}
        });
        check(GROUP, "IngressClass", &class, &["c (default)", "x", "K.g/n"]);
        check(GROUP, "IngressClass", &value!({"metadata": {"name": "c"}}), &["c", "", "<none>"]);
    }

    #[test]
    fn others() {
        check(GROUP, "NetworkPolicy", &value!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}), &["a=b"]);
        let parent = value!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "a"}}});
        check(GROUP, "IPAddress", &parent, &["services/default/a"]);
        check(
            GROUP,
            "ServiceCIDR",
            &value!({"spec": {"cidrs": ["10.0.0.0/8", "fd00::/64"]}}),
            &["10.0.0.0/8,fd00::/64"],
        );
    }
}
