//! All Ingresses of this edge as one configuration: a pure function of what the caches hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use corten_apimachinery::value::Str;
use corten_client::cache::Held;
use corten_proxy::config::{self, Certificate, Host, NodeConfig, Route};

use super::annotations::Annotations;
use super::view::{Backend, Class, Ingress, Path, TlsSecret};
use super::{CONTROLLER, Wanted};
use crate::view::{Service, Slice, slices_of};

/// Finds an object by namespace and name.
type Find<'a, V> = &'a (dyn Fn(&str, &str) -> Option<Arc<Held<V>>> + Sync);

pub(super) struct Inputs<'a> {
    pub(super) ingresses: &'a [Arc<Held<Ingress>>],
    pub(super) classes: &'a [Arc<Held<Class>>],
    pub(super) secret: Find<'a, TlsSecret>,
    pub(super) service: Find<'a, Service>,
    /// Slices by the key of their service.
    pub(super) slices: &'a (dyn Fn(&str) -> Vec<Arc<Held<Slice>>> + Sync),
}

#[derive(Default)]
struct Plan {
    hosts: BTreeMap<String, Vec<Route>>,
    /// Default backends: after every rule of every Ingress.
    last: Vec<Route>,
    backends: BTreeMap<String, config::Backend>,
    certificates: BTreeMap<(Str, Str), Certificate>,
    without_certificate: BTreeSet<String>,
}

pub(super) fn plan(inputs: &Inputs<'_>) -> Wanted {
    let mut ours: Vec<_> = inputs.ingresses.iter().filter(|ingress| is_ours(ingress, inputs.classes)).collect();
    // The first route for a path keeps it, as ingress-nginx has it: what is older stays as it was.
    ours.sort_by_key(|ingress| (ingress.created.clone(), ingress.head.namespace.clone(), ingress.head.name.clone()));
    let mut plan = Plan::default();
    for ingress in ours {
        plan.add(ingress, inputs);
    }
    if !plan.last.is_empty() {
        plan.hosts.entry(String::new()).or_default().extend(plan.last);
    }
    let hosts = plan.hosts.into_iter().map(|(name, routes)| Host { name, routes });
    let config = NodeConfig {
        hosts: hosts.collect(),
        backends: plan.backends,
        certificates: plan.certificates.into_values().collect(),
        ..NodeConfig::default()
    };
    Wanted { config, without_certificate: plan.without_certificate.into_iter().collect() }
}

/// By the class that it names, or by the default one where it names none.
pub(super) fn is_ours(ingress: &Ingress, classes: &[Arc<Held<Class>>]) -> bool {
    let mut candidates = classes.iter().filter(|class| match &ingress.class {
        Some(name) => class.head.name == *name,
        None => class.is_default,
    });
    candidates.any(|class| class.controller == CONTROLLER)
}

impl Plan {
    fn add(&mut self, ingress: &Held<Ingress>, inputs: &Inputs<'_>) {
        let annotations = Annotations::read(&ingress.annotations);
        self.certificates(ingress, inputs);
        for rule in &ingress.rules {
            let has_tls = ingress.tls.iter().any(|tls| tls.hosts.iter().any(|host| covers(host, &rule.host)));
            for path in &rule.paths {
                let route = self.route(ingress, path, &annotations, has_tls, inputs);
                self.hosts.entry(rule.host.to_lowercase().to_string()).or_default().push(route);
            }
        }
        if let Some(backend) = &ingress.default_backend {
            let path = Path {
                path: Str::const_new("/"),
                exact: false,
                implementation_specific: false,
                backend: backend.clone(),
            };
            let route = self.route(ingress, &path, &annotations, false, inputs);
            self.last.push(route);
        }
    }

    fn route(
        &mut self,
        ingress: &Held<Ingress>,
        path: &Path,
        annotations: &Annotations,
        has_tls: bool,
        inputs: &Inputs<'_>,
    ) -> Route {
        let (pattern, settings) = annotations.route(&path.path, has_tls);
        let backend = self.backend(&ingress.head.namespace, &path.backend, inputs);
        Route { path: pattern, exact: path.exact && !path.implementation_specific, backend, settings }
    }

    /// Makes the backend where it is missing. One whose service or port is not there has no endpoints.
    fn backend(&mut self, namespace: &str, backend: &Backend, inputs: &Inputs<'_>) -> String {
        let Backend { service, port_name, port_number } = backend;
        let name = match port_name.as_str() {
            "" => format!("{namespace}/{service}:{port_number}"),
            port => format!("{namespace}/{service}:{port}"),
        };
        if !self.backends.contains_key(&name) {
            let found = (inputs.service)(namespace, service);
            let endpoints =
                found.map(|found| endpoints(&found, backend, &(inputs.slices)(&slices_of(namespace, service))));
            self.backends.insert(name.clone(), config::Backend { endpoints: endpoints.unwrap_or_default() });
        }
        name
    }

    fn certificates(&mut self, ingress: &Held<Ingress>, inputs: &Inputs<'_>) {
        let namespace = &ingress.head.namespace;
        for tls in &ingress.tls {
            let hosts = || tls.hosts.iter().map(|host| host.to_lowercase().to_string());
            let secret = (inputs.secret)(namespace, &tls.secret).filter(|secret| !secret.key_pem.is_empty());
            let Some(secret) = secret else {
                self.without_certificate.extend(hosts());
                continue;
            };
            let key = (namespace.clone(), tls.secret.clone());
            let certificate = self.certificates.entry(key).or_insert_with(|| Certificate {
                hosts: Vec::new(),
                chain_pem: secret.chain_pem.clone(),
                key_pem: secret.key_pem.clone(),
            });
            for host in hosts() {
                if !certificate.hosts.contains(&host) {
                    certificate.hosts.push(host);
                }
            }
        }
    }
}

/// Whether a host of TLS is for the host of a rule.
fn covers(tls: &str, rule: &str) -> bool {
    let parent = || rule.split_once('.').map(|(_, parent)| parent);
    tls.eq_ignore_ascii_case(rule) || tls.strip_prefix("*.").is_some_and(|tls| parent() == Some(tls))
}

fn endpoints(service: &Service, backend: &Backend, slices: &[Arc<Held<Slice>>]) -> Vec<config::Endpoint> {
    let is_asked = |port: &&crate::view::Port| match backend.port_name.as_str() {
        "" => port.number == backend.port_number,
        name => port.name == name,
    };
    let Some(asked) = service.ports.iter().find(is_asked) else { return Vec::new() };
    let mut found = BTreeMap::new();
    for slice in slices {
        let same = |port: &&crate::view::Port| port.name == asked.name && port.protocol == asked.protocol;
        let Some(port) = slice.ports.iter().find(same) else { continue };
        for endpoint in &slice.endpoints {
            let is_used = endpoint.ready || service.publish_not_ready;
            let draining = endpoint.terminating && !is_used;
            // One that serves although it ends is there for the case that nobody else is (KEP-1669).
            if is_used || (endpoint.serving && draining) {
                let address = SocketAddr::new(endpoint.address, port.number);
                let known = found.entry(address).or_insert(draining);
                *known &= draining;
            }
        }
    }
    found.into_iter().map(|(address, draining)| config::Endpoint { address, draining }).collect()
}

#[cfg(test)]
mod tests;
