use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::View;

use super::*;

fn held<V: View>(object: &Value) -> Arc<Held<V>> {
    Arc::new(Held::from_object(object).expect("of interest"))
}

struct Cluster {
    ingresses: Vec<Arc<Held<Ingress>>>,
    classes: Vec<Arc<Held<Class>>>,
    slice: Arc<Held<Slice>>,
}

impl Cluster {
    fn new(ingresses: &[Value]) -> Self {
        let class = |name: &str, controller: &str, default: &str| {
            held(&value!({"metadata": {"name": (name),
                "annotations": {"ingressclass.kubernetes.io/is-default-class": (default)}},
                "spec": {"controller": (controller)}}))
        };
        let slice = held(&value!({
            "metadata": {"namespace": "shop", "name": "www-x", "labels": {"kubernetes.io/service-name": "www"}},
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "admin", "protocol": "TCP", "port": 9090}],
            "endpoints": [
                {"addresses": ["10.244.0.5"]},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": false}},
                {"addresses": ["10.244.0.7"], "conditions": {"ready": false, "serving": true, "terminating": true}}]}));
        Self {
            ingresses: ingresses.iter().map(held).collect(),
            classes: vec![class("corten", CONTROLLER, "true"), class("other", "example.com/other", "false")],
            slice,
        }
    }

    fn plan(&self) -> Wanted {
        let service: Arc<Held<Service>> = held(&value!({"metadata": {"namespace": "shop", "name": "www"},
            "spec": {"clusterIPs": ["10.96.0.7"], "ports": [
                {"name": "http", "port": 80}, {"name": "admin", "port": 81}]}}));
        let secret: Arc<Held<TlsSecret>> = held(&value!({"metadata": {"namespace": "shop", "name": "cert"},
            "type": "kubernetes.io/tls", "data": {"tls.crt": "Q0VSVA==", "tls.key": "S0VZ"}}));
        plan(&Inputs {
            ingresses: &self.ingresses,
            classes: &self.classes,
            secret: &|_, name| (name == "cert").then(|| secret.clone()),
            service: &|_, name| (name == "www").then(|| service.clone()),
            slices: &|key| if key == "shop/www" { vec![self.slice.clone()] } else { Vec::new() },
        })
    }
}

fn ingress(name: &str, spec: Value) -> Value {
    value!({"metadata": {"namespace": "shop", "name": (name), "creationTimestamp": (format!("2026-01-0{}", name.len()))},
        "spec": (spec)})
}

fn to(service: &str, port: i64) -> Value {
    value!({"service": {"name": (service), "port": {"number": (port)}}})
}

fn rule(host: &str, path: &str, kind: &str, backend: Value) -> Value {
    value!({"host": (host), "http": {"paths": [{"path": (path), "pathType": (kind), "backend": (backend)}]}})
}

/// Host, path and backend of every route.
fn routes(wanted: &Wanted) -> Vec<String> {
    let hosts = wanted.config.hosts.iter();
    let line = |host: &Host, route: &Route| {
        let kind = if route.exact { "=" } else { "" };
        format!("{} {kind}{} {}", host.name, route.path, route.backend)
    };
    hosts.flat_map(|host| host.routes.iter().map(|route| line(host, route)).collect::<Vec<_>>()).collect()
}

#[test]
fn rules_are_routes_to_ready_endpoints() {
    let rules = value!([
        (rule("WWW.localhost", "/", "Prefix", to("www", 80))),
        (rule("www.localhost", "/one", "Exact", to("www", 81))),
        (rule("", "/any", "ImplementationSpecific", value!({"service": {"name": "www", "port": {"name": "admin"}}})))
    ]);
    let spec = value!({"rules": (rules), "defaultBackend": (to("gone", 80))});
    let wanted = Cluster::new(&[ingress("a", spec)]).plan();
    let expected =
        [" /any shop/www:admin", " / shop/gone:80", "www.localhost / shop/www:80", "www.localhost =/one shop/www:81"];
    assert_eq!(routes(&wanted), expected);
    let endpoints = |name: &str| {
        let all = wanted.config.backends[name].endpoints.iter();
        all.map(|endpoint| format!("{} {}", endpoint.address, endpoint.draining)).collect::<Vec<_>>()
    };
    assert_eq!(endpoints("shop/www:80"), ["10.244.0.5:8080 false", "10.244.0.7:8080 true"]);
    assert_eq!(endpoints("shop/www:admin"), ["10.244.0.5:9090 false", "10.244.0.7:9090 true"]);
    assert!(endpoints("shop/gone:80").is_empty());
}

#[test]
fn a_class_chooses_the_edge() {
    let with = |name: &str, class: Value| {
        let spec = value!({"ingressClassName": (class), "rules": [(rule("h", "/", "Prefix", to("www", 80)))]});
        ingress(name, spec)
    };
    let count = |class: &str| routes(&Cluster::new(&[with("a", class.into())]).plan()).len();
    assert_eq!((count("corten"), count("other"), count("unknown")), (1, 0, 0));
    let mut cluster = Cluster::new(&[ingress("a", value!({"rules": [(rule("h", "/", "Prefix", to("www", 80)))]}))]);
    assert_eq!(routes(&cluster.plan()).len(), 1);
    cluster.classes.remove(0);
    assert_eq!(routes(&cluster.plan()).len(), 0);
}

#[test]
fn the_older_ingress_keeps_its_path() {
    let with = |name: &str, port: i64| ingress(name, value!({"rules": [(rule("h", "/", "Prefix", to("www", port)))]}));
    let wanted = Cluster::new(&[with("bb", 81), with("a", 80)]).plan();
    assert_eq!(routes(&wanted), ["h / shop/www:80", "h / shop/www:81"], "the first one counts");
}

#[test]
fn certificates_come_from_secrets_or_are_wanted() {
    let tls =
        value!([{"hosts": ["a.test", "B.test"], "secretName": "cert"}, {"hosts": ["c.test"], "secretName": "gone"}]);
    let rules =
        value!([(rule("a.test", "/", "Prefix", to("www", 80))), (rule("plain.test", "/", "Prefix", to("www", 80)))]);
    let wanted = Cluster::new(&[ingress("a", value!({"tls": (tls), "rules": (rules)}))]).plan();
    let [certificate] = &wanted.config.certificates[..] else { panic!("one certificate: {wanted:?}") };
    assert_eq!(certificate.hosts, ["a.test", "b.test"]);
    assert_eq!((certificate.chain_pem.as_str(), certificate.key_pem.as_str()), ("CERT", "KEY"));
    assert_eq!(wanted.without_certificate, ["c.test"]);
    let redirects: Vec<_> = wanted.config.hosts.iter().map(|host| host.routes[0].settings.redirect_to_https).collect();
    assert_eq!(redirects, [true, false]);
}
