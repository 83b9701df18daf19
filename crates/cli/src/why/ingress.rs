//! Why an Ingress leads nowhere.

use std::collections::BTreeMap;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

use super::finding::{Finding, list, some};

/// The class's mark as the one for Ingresses that name none.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// The older way to name a class.
const CLASS: &str = "kubernetes.io/ingress.class";

/// What an Ingress names, as it is.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) ingress: &'a Value,
    pub(crate) classes: &'a [Value],
    /// The Services of its namespace.
    pub(crate) services: &'a [Value],
    /// What blocks each of them that it leads to.
    pub(crate) blocked: &'a BTreeMap<String, Vec<Finding>>,
    /// The Secrets that it names: their type, where they are there.
    pub(crate) secrets: &'a BTreeMap<String, Option<String>>,
}

/// The names of the Services that it leads to.
pub(crate) fn services(ingress: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        backends(ingress).iter().map(|(_, backend)| backend.str_at(&["service", "name"]).to_owned()).collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    names
}

/// The names of the Secrets whose certificates it shows.
pub(crate) fn secrets(ingress: &Value) -> Vec<String> {
    let names = list(ingress, &["spec", "tls"]).iter().map(|tls| tls.str_at(&["secretName"]).to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

pub(crate) fn explain(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = class(facts).into_iter().collect();
    let backends = backends(facts.ingress);
    if backends.is_empty() {
        let (name, namespace) = (Meta::of(facts.ingress).name(), Meta::of(facts.ingress).namespace());
        findings.push(
            Finding::new("it has no rule with a backend").then(format!("kubectl edit ingress {name} -n {namespace}")),
        );
    }
    findings.extend(backends.iter().filter_map(|(place, backend)| missing(facts, place, backend)));
    for (service, found) in facts.blocked {
        let namespace = Meta::of(facts.ingress).namespace();
        findings.extend(found.first().map(|first| {
            Finding::new(format!("its Service {service} leads to nothing: {}", first.fact))
                .then(format!("corten why service/{service} -n {namespace}"))
        }));
    }
    findings.extend(facts.secrets.iter().filter_map(|(name, kind)| certificate(facts, name, kind.as_deref())));
    findings
}

/// Every backend with the place that leads to it: `shop.example/cart`.
fn backends(ingress: &Value) -> Vec<(String, &Value)> {
    let rules = list(ingress, &["spec", "rules"]).iter().flat_map(|rule| {
        let host = rule.str_at(&["host"]);
        let paths = list(rule, &["http", "paths"]).iter();
        paths.filter_map(move |path| Some((format!("{host}{}", path.str_at(&["path"])), path.at(&["backend"])?)))
    });
    let fallback = ingress.at(&["spec", "defaultBackend"]).map(|backend| ("its default".to_owned(), backend));
    rules.chain(fallback).collect()
}

/// A class that nobody serves, or none at all.
fn class(facts: &Facts<'_>) -> Option<Finding> {
    let ingress = facts.ingress;
    let asked = match ingress.str_at(&["spec", "ingressClassName"]) {
        "" => Meta::of(ingress).annotation(CLASS).unwrap_or_default(),
        name => name,
    };
    let known: Vec<String> = facts.classes.iter().map(|class| Meta::of(class).name().to_owned()).collect();
    let next = "kubectl get ingressclasses";
    if asked.is_empty() {
        let default = facts.classes.iter().any(|class| Meta::of(class).annotation(DEFAULT) == Some("true"));
        return (!default).then(|| Finding::new("it names no class, and no class is the default").then(next));
    }
    let found = facts.classes.iter().find(|class| Meta::of(class).name() == asked);
    let Some(found) = found else {
        let fact = format!("there is no class {asked}, which it names; there are: {}", some(&known));
        return Some(Finding::new(fact).then(next));
    };
    let controller = found.str_at(&["spec", "controller"]);
    let served = !list(ingress, &["status", "loadBalancer", "ingress"]).is_empty();
    (controller != "corten.dev/edge" && !served)
        .then(|| {
            Finding::new(format!("its class {asked} is another controller's ({controller}), which has not taken it up"))
        })
        .map(|finding| finding.then(next))
}

fn missing(facts: &Facts<'_>, place: &str, backend: &Value) -> Option<Finding> {
    let namespace = Meta::of(facts.ingress).namespace();
    let name = backend.str_at(&["service", "name"]);
    if name.is_empty() {
        return None;
    }
    let Some(service) = facts.services.iter().find(|service| Meta::of(service).name() == name) else {
        let fact = format!("{place} leads to the Service {name}, which is not there");
        return Some(Finding::new(fact).then(format!("kubectl get services -n {namespace}")));
    };
    let (number, wanted) =
        (backend.i64_at(&["service", "port", "number"]), backend.str_at(&["service", "port", "name"]));
    let ports = list(service, &["spec", "ports"]);
    let fits = |port: &Value| match number {
        Some(number) => port.i64_at(&["port"]) == Some(number),
        None => port.str_at(&["name"]) == wanted,
    };
    if ports.iter().any(fits) {
        return None;
    }
    let port = number.map_or_else(|| wanted.to_owned(), |number| number.to_string());
    let has: Vec<String> = ports
        .iter()
        .map(|port| match (port.i64_at(&["port"]).unwrap_or_default(), port.str_at(&["name"])) {
            (number, "") => number.to_string(),
            (number, name) => format!("{number} ({name})"),
        })
        .collect();
    let fact = format!("{place} leads to port {port} of the Service {name}, which has {}", some(&has));
    Some(Finding::new(fact).then(format!("kubectl get service {name} -n {namespace}")))
}

fn certificate(facts: &Facts<'_>, name: &str, kind: Option<&str>) -> Option<Finding> {
    let namespace = Meta::of(facts.ingress).namespace();
    let make = format!("kubectl create secret tls {name} -n {namespace} --cert=FILE --key=FILE");
    match kind {
        Some("kubernetes.io/tls") => None,
        Some(other) => {
            Some(Finding::new(format!("its Secret {name} is of type {other}, not kubernetes.io/tls")).then(make))
        }
        None => Some(
            Finding::new(format!("the Secret {name} with its certificate is not there; the edge shows one of its own"))
                .then(make),
        ),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), classes: &[Value], expect: &[&str]) {
        let mut ingress = value!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "tls": [{"secretName": "cert"}],
                "rules": [{"host": "shop.example", "http": {"paths": [
                    {"path": "/", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]
            }
        });
        change(&mut ingress);
        let services = [value!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80, "name": "http"}]}})];
        let secrets = BTreeMap::from([("cert".to_owned(), Some("kubernetes.io/tls".to_owned()))]);
        let facts =
            Facts { ingress: &ingress, classes, services: &services, blocked: &BTreeMap::new(), secrets: &secrets };
        let found: Vec<String> = explain(&facts).into_iter().map(|finding| finding.fact).collect();
        assert_eq!(found, expect);
    }

    fn own() -> Value {
        let annotations = value!({"ingressclass.kubernetes.io/is-default-class": "true"});
        value!({"metadata": {"name": "corten", "annotations": annotations}, "spec": {"controller": "corten.dev/edge"}})
    }

    fn backend(ingress: &mut Value, name: &str, port: Value) {
        let backend = value!({"service": {"name": name, "port": port}});
        ingress
            .object_entry("spec")
            .insert("rules", value!([{"host": "a", "http": {"paths": [{"path": "/b", "backend": backend}]}}]));
    }

    #[test]
    fn what_blocks_an_ingress_is_named() {
        check(|_| {}, &[own()], &[]);
        check(|_| {}, &[], &["it names no class, and no class is the default"]);
        let class = |name: &'static str| {
            move |ingress: &mut Value| {
                ingress.object_entry("spec").insert("ingressClassName", name);
            }
        };
        check(class("nginx"), &[own()], &["there is no class nginx, which it names; there are: corten"]);
        let nginx = value!({"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}});
        let fact = "its class nginx is another controller's (k8s.io/ingress-nginx), which has not taken it up";
        check(class("nginx"), &[own(), nginx], &[fact]);
        check(
            |ingress| backend(ingress, "wbe", value!({"number": 80})),
            &[own()],
            &["a/b leads to the Service wbe, which is not there"],
        );
        check(
            |ingress| backend(ingress, "web", value!({"name": "web"})),
            &[own()],
            &["a/b leads to port web of the Service web, which has 80 (http)"],
        );
        check(
            |ingress| drop(ingress.object_entry("spec").remove("rules")),
            &[own()],
            &["it has no rule with a backend"],
        );
    }

    #[test]
    fn what_it_names_is_looked_at() {
        let ingress = value!({"metadata": {"namespace": "shop"}, "spec": {
            "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}, "tls": [{"secretName": "a"}, {}]}});
        assert_eq!((services(&ingress), secrets(&ingress)), (vec!["web".to_owned()], vec!["a".to_owned()]));
        let found = [value!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})];
        let blocked = BTreeMap::from([("web".to_owned(), vec![Finding::new("no pods")])]);
        let secrets = BTreeMap::from([("a".to_owned(), None), ("b".to_owned(), Some("Opaque".to_owned()))]);
        let classes = [own()];
        let facts =
            Facts { ingress: &ingress, classes: &classes, services: &found, blocked: &blocked, secrets: &secrets };
        let found: Vec<String> = explain(&facts).into_iter().map(|finding| finding.fact).collect();
        assert_eq!(
            found,
            [
                "its Service web leads to nothing: no pods",
                "the Secret a with its certificate is not there; the edge shows one of its own",
                "its Secret b is of type Opaque, not kubernetes.io/tls",
            ]
        );
    }
}
