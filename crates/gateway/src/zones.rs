//! Services and endpoints as the zones of cluster DNS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::informer::{Informer, Scope};
use corten_client::{Error, Informers, Resource};
use corten_dns::Zones;
use tokio::sync::watch;

use crate::view::{Endpoint, Kind, Port, SERVICES, SLICES, Service, Slice, slices_of};

const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");

/// What does not come from the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `cluster.local`.
    pub domain: String,
    /// Servers that know all other names.
    pub upstreams: Vec<SocketAddr>,
}

struct Context {
    settings: Settings,
    services: Informer<Service>,
    slices: Informer<Slice>,
    namespaces: Informer<()>,
    out: watch::Sender<Arc<Zones>>,
}

/// Keeps the zones as the API says, and tells them when they have changed.
pub fn controller(informers: &Informers, settings: Settings, out: watch::Sender<Arc<Zones>>) -> Controller {
    let context = Context {
        settings,
        services: informers.of::<Service>(Scope::all(SERVICES)),
        slices: informers.of::<Slice>(Scope::all(SLICES)),
        namespaces: informers.of::<()>(Scope::metadata(NAMESPACES)),
        out,
    };
    let context = Arc::new(context);
    let whole = || vec![Key::new("", "zones")];
    Controller::new("dns-zones", context.clone(), reconcile)
        .watches_for(&context.services, move |_| whole())
        .watches_for(&context.slices, move |_| whole())
        .watches_for(&context.namespaces, move |_| whole())
}

async fn reconcile(ctx: Arc<Context>, _: Key) -> Result<Next, Error> {
    let slices = |service: &Held<Service>| {
        let key = slices_of(&service.head.namespace, &service.head.name);
        ctx.slices.cache().by_key(&key)
    };
    let namespaces = ctx.namespaces.cache().all();
    let services = ctx.services.cache().all();
    let mut zones = Zones {
        domain: ctx.settings.domain.clone(),
        namespaces: namespaces.iter().map(|namespace| namespace.head.name.to_string()).collect(),
        services: services.iter().map(|held| service(held, &slices(held))).collect(),
        upstreams: ctx.settings.upstreams.clone(),
    };
    zones.namespaces.sort();
    zones.services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    ctx.out.send_if_modified(|known| {
        let changed = **known != zones;
        if changed {
            *known = Arc::new(zones);
        }
        changed
    });
    Ok(Next::Change)
}

/// A service as DNS shows it.
fn service(held: &Held<Service>, slices: &[Arc<Held<Slice>>]) -> corten_dns::Service {
    let mut service = corten_dns::Service {
        namespace: held.head.namespace.to_string(),
        name: held.head.name.to_string(),
        addresses: held.cluster_ips.clone(),
        ports: held.ports.iter().map(port).collect(),
        ..corten_dns::Service::default()
    };
    if held.kind == Kind::ExternalName {
        service.external_name = held.external_name.to_string();
    } else if held.is_headless() {
        service.endpoints = endpoints(held, slices);
    }
    service
}

/// Those that are ready, or all where the service asks for it; each once.
fn endpoints(service: &Service, slices: &[Arc<Held<Slice>>]) -> Vec<corten_dns::Endpoint> {
    let shown = |endpoint: &&Endpoint| endpoint.ready || service.publish_not_ready;
    let mut seen = BTreeSet::new();
    let mut endpoints = Vec::new();
    for slice in slices {
        for endpoint in slice.endpoints.iter().filter(shown) {
            if seen.insert((endpoint.address, endpoint.hostname.clone())) {
                endpoints.push(corten_dns::Endpoint {
                    address: endpoint.address,
                    hostname: endpoint.hostname.to_string(),
                    ports: slice.ports.iter().map(port).collect(),
                });
            }
        }
    }
    endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.hostname.clone()));
    endpoints
}

fn port(port: &Port) -> corten_dns::Port {
    corten_dns::Port {
        name: port.name.to_string(),
        protocol: port.protocol.as_str().to_lowercase(),
        number: port.number,
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    fn held<V: corten_client::cache::View>(object: &Value) -> Held<V> {
        Held::from_object(object).expect("of interest")
    }

    fn slice(endpoints: Value) -> Arc<Held<Slice>> {
        Arc::new(held(&value!({
            "metadata": {"namespace": "shop", "name": "db-x", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "peer", "protocol": "TCP", "port": 7000}], "endpoints": (endpoints)})))
    }

    #[test]
    fn headless_services_show_ready_endpoints_once() {
        let slices = [
            slice(value!([{"addresses": ["10.244.0.6"], "hostname": "db-1"},
                {"addresses": ["10.244.0.7"], "conditions": {"ready": false}}])),
            slice(value!([{"addresses": ["10.244.0.6"], "hostname": "db-1"}, {"addresses": ["10.244.0.5"]}])),
        ];
        let object = |all: bool| {
            held::<Service>(&value!({"metadata": {"namespace": "shop", "name": "db"},
                "spec": {"clusterIP": "None", "publishNotReadyAddresses": (all)}}))
        };
        let shown = |all| {
            let service = service(&object(all), &slices);
            assert!(service.addresses.is_empty());
            service.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(shown(false), ["10.244.0.5", "10.244.0.6"]);
        assert_eq!(shown(true), ["10.244.0.5", "10.244.0.6", "10.244.0.7"]);
    }

    #[test]
    fn a_service_with_an_address_shows_no_endpoints() {
        let object = value!({"metadata": {"namespace": "shop", "name": "www"},
            "spec": {"clusterIPs": ["10.96.0.7"], "ports": [{"name": "http", "port": 80}]}});
        let service = service(&held(&object), &[slice(value!([{"addresses": ["10.244.0.5"]}]))]);
        assert!(service.endpoints.is_empty());
        assert_eq!(service.ports, [corten_dns::Port { name: "http".into(), protocol: "tcp".into(), number: 80 }]);
    }

    #[test]
    fn an_alias_is_nothing_else() {
        let object = value!({"metadata": {"namespace": "shop", "name": "out"},
            "spec": {"type": "ExternalName", "externalName": "example.com"}});
        let service = service(&held(&object), &[]);
        assert_eq!((service.external_name.as_str(), service.addresses.len()), ("example.com", 0));
    }
}
