//! Services.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, endpoints, reasons, service_address, subdomain};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const AFFINITY_S_MAX: i64 = 86400;
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

pub(crate) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let service = At::root(validation.object);
    let old = validation.old.map(At::root);
    if validation.subresource == "status" {
        status(&service, old.as_ref(), errors);
        return;
    }
    if let Some(old) = &old {
        let (spec, was) = (service.object_or_empty("spec"), old.object_or_empty("spec"));
        service_address::update(&spec, &was, errors);
        balancer_class(Some(&was), &spec, errors);
        if needs_health_check(&was) && needs_health_check(&spec) {
            let field = "healthCheckNodePort";
            if spec.int(field) != was.int(field) {
                errors.forbidden(&spec.path(field), "field is immutable");
            }
        }
    }
    of_service(&service, old.as_ref(), errors);
}

pub(crate) fn cluster_addresses(service: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let was = old.map(|old| At::root(old).object_or_empty("spec"));
    service_address::of_cluster(&At::root(service).object_or_empty("spec"), was.as_ref(), &mut errors);
    errors
}

fn of_service(service: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    let spec = service.object_or_empty("spec");
    let was = old.map(|old| old.object_or_empty("spec"));
    let kind = spec.text("type");
    topology_annotations(service, errors);
    let headless = service_address::is_headless(&spec);
    if spec.items("ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&spec.path("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&spec.path("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => external_name(&spec, errors),
        _ => {}
    }
    ports(&spec, errors);
    spec.labels("selector", errors);
    affinity(&spec, errors);
    service_address::of_cluster(&spec, was.as_ref(), errors);
    external_addresses(&spec, was.as_ref(), errors);
    spec.require_one_of("type", &TYPES, errors);
    taken_ports(&spec, errors);
    source_ranges(service, old, errors);
    let field = "allocateLoadBalancerNodePorts";
    if spec.given(field) && kind != "LoadBalancer" {
        errors.forbidden(&spec.path(field), ONLY_BALANCED);
    }
    if !spec.given(field) && kind == "LoadBalancer" {
        errors.required(&FieldPath::new(field), "");
    }
    balancer_class(None, &spec, errors);
    traffic(&spec, errors);
}

fn topology_annotations(service: &At<'_>, errors: &mut FieldErrors) {
    let annotations = service.object_or_empty("metadata").object_or_empty("annotations");
    let (mode, hints) = (annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_HINTS));
    if mode.is_some() && hints.is_some() && mode != hints {
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.invalid(&annotations.path.key(TOPOLOGY_MODE), annotations.text(TOPOLOGY_MODE), detail);
    }
}

fn external_name(spec: &At<'_>, errors: &mut FieldErrors) {
    let detail = "may not be set for ExternalName services";
    for field in ["clusterIPs", "ipFamilies"] {
        if !spec.items(field).is_empty() {
            errors.forbidden(&spec.path(field), detail);
        }
    }
    if spec.given("ipFamilyPolicy") {
        errors.forbidden(&spec.path("ipFamilyPolicy"), detail);
    }
    let name = spec.text("externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&spec.path("externalName"), ""),
        name => reasons(&spec.path("externalName"), name, subdomain(name), errors),
    }
}

fn ports(spec: &At<'_>, errors: &mut FieldErrors) {
    let several = spec.items("ports").len() > 1;
    let mut names = BTreeSet::new();
    for at in spec.each("ports") {
        let name = at.text("name");
        if several || !name.is_empty() {
            at.require_named("name", name::dns1123_label, errors);
        }
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&at.path("name"), name);
        }
        let port = at.int("port").unwrap_or_default();
        reasons(&at.path("port"), port, name::port_number(port), errors);
        at.require_one_of("protocol", &PROTOCOLS, errors);
        at.port("targetPort", errors);
        at.named("appProtocol", name::qualified_name, errors);
    }
}

fn affinity(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.require_one_of("sessionAffinity", &["ClientIP", "None"], errors);
    let path = spec.path("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            let detail = "when session affinity type is ClientIP";
            let Some(config) = spec.object("sessionAffinityConfig") else { return errors.required(&path, detail) };
            let Some(client) = config.object("clientIP") else {
                return errors.required(&config.path("clientIP"), detail);
            };
            match client.int("timeoutSeconds") {
                None => errors.required(&client.path("timeoutSeconds"), detail),
                Some(seconds) if !(1..=AFFINITY_S_MAX).contains(&seconds) => {
                    let detail = format!("must be greater than 0 and less than {AFFINITY_S_MAX}");
                    errors.invalid(&client.path("timeoutSeconds"), seconds, detail);
                }
                Some(_) => {}
            }
        }
        "None" if spec.given("sessionAffinityConfig") => {
            errors.forbidden(&path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn external_addresses(spec: &At<'_>, was: Option<&At<'_>>, errors: &mut FieldErrors) {
    let known: Vec<&str> =
        was.into_iter().flat_map(|was| was.texts("externalIPs")).map(|(address, _)| address).collect();
    for (address, path) in spec.texts("externalIPs") {
        let bad = if known.contains(&address) { Vec::new() } else { name::legacy_ip(address) };
        if bad.is_empty() {
            endpoints::address(address, &path, errors);
        }
        reasons(&path, address, bad, errors);
    }
}

/// Ports that are taken twice, inside the cluster or on the nodes.
fn taken_ports(spec: &At<'_>, errors: &mut FieldErrors) {
    let node_port = |at: &At<'_>| at.int("nodePort").unwrap_or_default();
    if spec.text("type") == "ClusterIP" {
        for at in spec.each("ports").filter(|at| node_port(at) != 0) {
            errors.forbidden(&at.path("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = BTreeSet::new();
    for at in spec.each("ports").filter(|at| node_port(at) != 0) {
        if !seen.insert((at.text("protocol"), node_port(&at))) {
            errors.duplicate(&at.path("nodePort"), node_port(&at));
        }
    }
    let mut seen = BTreeSet::new();
    for at in spec.each("ports") {
        if !seen.insert((at.text("protocol"), at.int("port"))) {
            // Upstream shows its own struct with what makes the key.
            let fields = [
                ("Name", Value::from("")),
                ("Protocol", Value::from(at.text("protocol"))),
                ("AppProtocol", Value::Null),
                ("Port", at.value("port")),
                ("TargetPort", Value::from(0)),
                ("NodePort", Value::from(0)),
            ];
            let shown = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
            errors.duplicate(&at.path, Value::Object(shown));
        }
    }
}

fn source_ranges(service: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    let spec = service.object_or_empty("spec");
    let balanced = spec.text("type") == "LoadBalancer";
    let annotation = |service: &At<'_>| -> Option<String> {
        let annotations = service.object("metadata")?.object("annotations")?;
        annotations.get(RANGES).map(|_| annotations.text(RANGES).to_owned())
    };
    if !spec.items("loadBalancerSourceRanges").is_empty() {
        let path = spec.path("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, ONLY_BALANCED);
        }
        let was = old.map(|old| old.object_or_empty("spec"));
        let known: Vec<&str> =
            was.iter().flat_map(|was| was.texts("loadBalancerSourceRanges")).map(|(range, _)| range.trim()).collect();
        for (index, (range, _)) in spec.texts("loadBalancerSourceRanges").enumerate() {
            let range = range.trim();
            if !known.contains(&range) {
                reasons(&path.index(index), range, name::legacy_cidr(range), errors);
            }
        }
    } else if let Some(text) = annotation(service) {
        let path = FieldPath::new("metadata").child("annotations").key(RANGES);
        if !balanced {
            errors.forbidden(&path, ONLY_BALANCED);
        }
        let changed = old.is_none_or(|old| annotation(old).as_ref() != Some(&text));
        for range in text.trim().split(',').map(str::trim).filter(|_| changed && !text.trim().is_empty()) {
            reasons(&path, range, name::legacy_cidr(range), errors);
        }
    }
}

/// `was`: only what an update changes is looked at.
fn balancer_class(was: Option<&At<'_>>, spec: &At<'_>, errors: &mut FieldErrors) {
    let field = "loadBalancerClass";
    let balanced = |spec: &At<'_>| spec.text("type") == "LoadBalancer";
    if let Some(was) = was
        && balanced(was)
        && balanced(spec)
        && was.get(field) != spec.get(field)
    {
        errors.invalid(&spec.path(field), spec.value(field), "may not change once set");
    }
    if balanced(spec) {
        spec.named(field, name::qualified_name, errors);
    } else if spec.given(field) {
        errors.forbidden(&spec.path(field), ONLY_BALANCED);
    }
}

fn needs_health_check(spec: &At<'_>) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn traffic(spec: &At<'_>, errors: &mut FieldErrors) {
    let kind = spec.text("type");
    let outside =
        ["LoadBalancer", "NodePort"].contains(&kind) || kind == "ClusterIP" && !spec.items("externalIPs").is_empty();
    let policy = spec.text("externalTrafficPolicy");
    if outside {
        spec.require_one_of("externalTrafficPolicy", &["Cluster", "Local"], errors);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.invalid(&spec.path("externalTrafficPolicy"), policy, detail);
    }
    let (path, port) = (spec.path("healthCheckNodePort"), spec.int("healthCheckNodePort").unwrap_or_default());
    match (needs_health_check(spec), port) {
        (true, 0) => errors.required(&path, ""),
        (true, port) => reasons(&path, port, name::port_number(port), errors),
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&path, port, detail);
        }
    }
    let field = "internalTrafficPolicy";
    if !spec.given(field) && ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind) {
        errors.required(&spec.path(field), "");
    }
    spec.one_of(field, &["Cluster", "Local"], errors);
    spec.one_of("trafficDistribution", &["PreferClose", "PreferSameZone", "PreferSameNode"], errors);
}

fn status(service: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    let of = |service: &At<'_>| service.path("status").child("loadBalancer");
    let balancer = |service: &At<'_>| service.get("status").and_then(|status| status.get("loadBalancer")).cloned();
    let Some(Value::Object(now)) = balancer(service) else { return };
    let at = At::new(&now, of(service));
    let before = old.and_then(balancer);
    let known: Vec<String> = before
        .as_ref()
        .and_then(|before| before.get("ingress"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|ingress| ingress.str_at(&["ip"]).to_owned())
        .collect();
    if service.object_or_empty("spec").text("type") != "LoadBalancer" && !at.items("ingress").is_empty() {
        errors.forbidden(&at.path("ingress"), "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    at.each("ingress").for_each(|ingress| self::ingress(&ingress, &known, errors));
}

fn ingress(at: &At<'_>, known: &[String], errors: &mut FieldErrors) {
    let (ip, mode) = (at.text("ip"), at.path("ipMode"));
    if !ip.is_empty() && !known.iter().any(|known| known == ip) {
        reasons(&at.path("ip"), ip, name::legacy_ip(ip), errors);
    }
    match (at.given("ipMode"), ip.is_empty()) {
        (false, false) => errors.required(&mode, "must be specified when `ip` is set"),
        (true, true) => errors.forbidden(&mode, "may not be specified when `ip` is not set"),
        _ => at.one_of("ipMode", &["Proxy", "VIP"], errors),
    }
    let hostname = at.text("hostname");
    if !hostname.is_empty() {
        at.named("hostname", subdomain, errors);
        if name::lenient_ip(hostname).is_some() {
            errors.invalid(&at.path("hostname"), hostname, "must be a DNS name, not an IP address");
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn service(more: &Value) -> Value {
        let mut spec = value!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value!({"spec": spec})
    }

    fn check(old: Option<&Value>, new: &Value, expect: &[&str]) {
        let (old, new) = (old.map(service), service(new));
        let mut errors = FieldErrors::default();
        validate(Validation { object: &new, old: old.as_ref(), subresource: "" }, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn types() {
        check(None, &value!({}), &[]);
        check(None, &value!({"ports": null}), &["spec.ports: Required value"]);
        check(None, &value!({"ports": null, "clusterIP": "None", "clusterIPs": ["None"]}), &[]);
        check(
            None,
            &value!({"type": "No"}),
            &[
                r#"spec.type: Unsupported value: "No": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
            ],
        );
        check(
            None,
            &value!({"type": "ExternalName", "internalTrafficPolicy": null, "clusterIPs": ["10.0.0.1"]}),
            &[
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Required value",
            ],
        );
        check(
            None,
            &value!({"externalTrafficPolicy": "Local", "loadBalancerClass": "a.b/c"}),
            &[
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
            ],
        );
    }

    #[test]
    fn ports_of_services() {
        let port = |port: i64| value!({"port": port, "targetPort": 80, "protocol": "TCP", "nodePort": 30000});
        check(
            None,
            &value!({"ports": [(port(0)), {"port": 80, "targetPort": "b_d", "protocol": "X", "name": "a"}]}),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                r#"spec.ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#,
                r#"spec.ports[1].targetPort: Invalid value: "b_d": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ],
        );
        let named = |name: &str| value!({"name": name, "port": 80, "targetPort": 80, "protocol": "TCP"});
        check(
            None,
            &value!({"ports": [(named("a")), (named("b"))]}),
            &[
                r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
            ],
        );
    }

    #[test]
    fn affinity_and_ranges() {
        check(
            None,
            &value!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
            ],
        );
        check(
            None,
            &value!({"loadBalancerSourceRanges": ["a"], "externalIPs": ["127.0.0.1"], "externalTrafficPolicy": "Cluster"}),
            &[
                r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "a": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
            ],
        );
    }

    #[test]
    fn addresses_stay() {
        let of = |address: &str| value!({"clusterIP": address, "clusterIPs": [address]});
        check(Some(&of("10.0.0.1")), &of("10.0.0.1"), &[]);
        check(
            Some(&of("10.0.0.1")),
            &of("10.0.0.2"),
            &[r#"spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set"#],
        );
    }
}
