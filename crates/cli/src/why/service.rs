//! Why nothing answers at a Service.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

use super::finding::{Finding, is_ready, labels, list, selects, some};

/// What blocks a Service: its pods are those of its namespace, its slices say what was found of them.
pub(crate) fn explain(service: &Value, pods: &[Value], slices: &[Value]) -> Vec<Finding> {
    let (name, namespace) = (Meta::of(service).name(), Meta::of(service).namespace());
    // Each server's edge answers for cluster DNS by itself.
    let is_dns = (namespace, name) == ("kube-system", "kube-dns");
    if service.str_at(&["spec", "type"]) == "ExternalName" || (is_dns && service.at(&["spec", "selector"]).is_none()) {
        return Vec::new();
    }
    let selector = service.at(&["spec", "selector"]);
    let Some(selector) = selector.filter(|selector| selector.as_object().is_some_and(|map| !map.is_empty())) else {
        let none = addresses(slices) == 0;
        return Vec::from_iter(none.then(|| {
            Finding::new("it has no selector, and nobody has written endpoints for it")
                .then(format!("kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name}"))
        }));
    };
    let all: Vec<&Value> = pods.iter().filter(|pod| selects(selector, pod) && !is_over(pod)).collect();
    if all.is_empty() {
        return vec![nothing_selected(service, selector, pods)];
    }
    let ready: Vec<&&Value> = all.iter().filter(|pod| is_ready(pod)).collect();
    if ready.is_empty() {
        let names: Vec<String> = all.iter().map(|pod| Meta::of(pod).name().to_owned()).collect();
        let fact = format!("none of its {} pods is ready: {}", all.len(), some(&names));
        return vec![Finding::new(fact).then(format!("corten why pod/{} -n {namespace}", names[0]))];
    }
    let mut findings: Vec<Finding> =
        list(service, &["spec", "ports"]).iter().filter_map(|port| named_port(port, &ready, namespace)).collect();
    if findings.is_empty() && addresses(slices) == 0 && !list(service, &["spec", "ports"]).is_empty() {
        findings.push(
            Finding::new("its pods are ready, and no endpoint was written for them: the controllers do not run")
                .then("corten status"),
        );
    }
    findings
}

fn addresses(slices: &[Value]) -> usize {
    slices.iter().map(|slice| list(slice, &["endpoints"]).len()).sum()
}

fn is_over(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed")
}

/// Says which pods come nearest: those that have one of the labels.
fn nothing_selected(service: &Value, selector: &Value, pods: &[Value]) -> Finding {
    let namespace = Meta::of(service).namespace();
    let wanted = labels(Some(selector));
    let fact = format!("its selector {wanted} matches none of the {} pods in {namespace}", pods.len());
    let shared = |pod: &Value| {
        let pairs = selector.as_object().map(|map| map.iter()).into_iter().flatten();
        pairs.filter(|(label, value)| Meta::of(pod).label(label) == value.as_str()).count()
    };
    let fields = |pod: &Value| {
        let keys = selector.as_object().map(|map| map.keys()).into_iter().flatten();
        keys.filter(|key| Meta::of(pod).label(key).is_some()).count()
    };
    let nearest = pods.iter().max_by_key(|pod| (shared(pod), fields(pod))).filter(|pod| fields(pod) > 0);
    let near = nearest.map(|pod| {
        format!("\nthe nearest is {} with {}", Meta::of(pod).name(), labels(pod.at(&["metadata", "labels"])))
    });
    Finding::new(fact + &near.unwrap_or_default())
        .then(format!("kubectl get pods -n {namespace} --show-labels"))
        .then(format!("kubectl set selector service {} -n {namespace} LABEL=VALUE", Meta::of(service).name()))
}

/// A port that is led to by a name that no container of the pods has.
fn named_port(port: &Value, pods: &[&&Value], namespace: &str) -> Option<Finding> {
    let wanted = port.at(&["targetPort"])?.as_str()?;
    let containers = pods.iter().flat_map(|pod| list(pod, &["spec", "containers"]));
    let ports: Vec<&Value> = containers.flat_map(|container| list(container, &["ports"])).collect();
    if ports.iter().any(|port| port.str_at(&["name"]) == wanted) {
        return None;
    }
    let mut known: Vec<String> = ports
        .iter()
        .map(|port| {
            let number = port.i64_at(&["containerPort"]).unwrap_or_default();
            match port.str_at(&["name"]) {
                "" => number.to_string(),
                name => format!("{name} ({number})"),
            }
        })
        .collect();
    known.sort();
    known.dedup();
    let number = port.i64_at(&["port"]).unwrap_or_default();
    let has = if known.is_empty() { "they name no ports".to_owned() } else { format!("they have {}", some(&known)) };
    let fact = format!("its port {number} leads to a port called {wanted}, which its pods do not have: {has}");
    let pod = Meta::of(pods[0]).name();
    Some(
        Finding::new(fact)
            .then(format!("kubectl get pod {pod} -n {namespace} -o jsonpath='{{.spec.containers[*].ports}}'")),
    )
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod(app: &str, ready: &str, port: &str) -> Value {
        value!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": app, "tier": "front"}},
            "spec": {"containers": [{"ports": [{"name": port, "containerPort": 8080}]}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}
        })
    }

    #[track_caller]
    fn check(target: Value, pods: &[Value], endpoints: usize, expect: &[&str]) {
        let service = value!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": target}]}
        });
        let slices = [value!({"endpoints": (vec![value!({}); endpoints])})];
        let found: Vec<String> = explain(&service, pods, &slices).into_iter().map(|finding| finding.fact).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn what_blocks_a_service_is_named() {
        check("http".into(), &[pod("web", "True", "http")], 1, &[]);
        check(8080.into(), &[pod("web", "True", "x")], 1, &[]);
        check(
            "http".into(),
            &[pod("wbe", "True", "http")],
            0,
            &["its selector app=web matches none of the 1 pods in shop\nthe nearest is web-1 with app=wbe,tier=front"],
        );
        check("http".into(), &[], 0, &["its selector app=web matches none of the 0 pods in shop"]);
        check("http".into(), &[pod("web", "False", "http")], 0, &["none of its 1 pods is ready: web-1"]);
        check(
            "http".into(),
            &[pod("web", "True", "web")],
            0,
            &["its port 80 leads to a port called http, which its pods do not have: they have web (8080)"],
        );
        check(
            8080.into(),
            &[pod("web", "True", "x")],
            0,
            &["its pods are ready, and no endpoint was written for them: the controllers do not run"],
        );
    }

    #[test]
    fn without_a_selector_somebody_writes_endpoints() {
        let service = value!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"ports": [{"port": 5432}]}});
        assert_eq!(explain(&service, &[], &[]).len(), 1);
        assert!(explain(&service, &[], &[value!({"endpoints": [{}]})]).is_empty());
        let named = value!({"spec": {"type": "ExternalName"}});
        assert!(explain(&named, &[], &[]).is_empty());
    }
}
