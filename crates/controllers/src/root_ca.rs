//! Every namespace has the authority that vouches for the API server in a ConfigMap, so that pods can check it
//! (`pkg/controller/certificates/rootcacertpublisher`).

use std::sync::Arc;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Head, Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};

use crate::Base;
use crate::namespace::NAMESPACES;

const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");
const NAME: &str = "kube-root-ca.crt";
const DESCRIBED: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.";

struct Context {
    client: Client,
    namespaces: Informer<()>,
    maps: Informer<Value>,
    authority_pem: String,
}

pub fn controller(base: &Base, authority_pem: &str) -> Controller {
    let namespaces = base.informers.of::<()>(Scope::metadata(NAMESPACES));
    let maps = Scope { fields: format!("metadata.name={NAME}"), ..Scope::all(CONFIG_MAPS) };
    let maps = base.informers.of::<Value>(maps);
    let context = Context {
        client: (base.client_of)("root-ca-cert-publisher"),
        namespaces: namespaces.clone(),
        maps: maps.clone(),
        authority_pem: authority_pem.to_owned(),
    };
    Controller::new("root-ca-cert-publisher", Arc::new(context), reconcile)
        .watches(&namespaces)
        .watches_for(&maps, |held| vec![Key::new("", held.head.namespace.clone())])
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let namespace = ctx.namespaces.cache().get("", &key.name);
    let map = ctx.maps.cache().get(&key.name, NAME);
    let wanted = plan(namespace.as_deref().map(|held| &*held.head), map.as_deref(), &key.name, &ctx.authority_pem);
    let done = match wanted {
        Plan::Nothing => return Ok(Next::Change),
        Plan::Create(map) => ctx.client.create(&CONFIG_MAPS, &key.name, &map).await,
        Plan::Update(map) => ctx.client.update(&CONFIG_MAPS, "", &map).await,
    };
    match done {
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {}
        done => drop(done?),
    }
    Ok(Next::Change)
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Create(Value),
    Update(Value),
}

fn plan(namespace: Option<&Head>, map: Option<&Held<Value>>, name: &str, authority_pem: &str) -> Plan {
    if namespace.is_none_or(|namespace| namespace.deleting) {
        return Plan::Nothing;
    }
    let mut wanted = value!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": NAME, "namespace": name, "annotations": {"kubernetes.io/description": DESCRIPTION}},
        "data": {"ca.crt": authority_pem}
    });
    let Some(map) = map else { return Plan::Create(wanted) };
    let described = !map.view.str_at(&["metadata", "annotations", DESCRIBED]).is_empty();
    if described && map.view.get("data") == wanted.get("data") {
        return Plan::Nothing;
    }
    // What others have put beside it goes: the map is this controller's alone.
    let metadata = wanted.object_entry("metadata");
    metadata.insert("uid", map.head.uid.clone());
    metadata.insert("resourceVersion", map.head.revision.clone());
    Plan::Update(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_made_and_repaired() {
        let living = Head::default();
        let Plan::Create(map) = plan(Some(&living), None, "shop", "PEM") else { panic!("to be made") };
        let held = Held::<Value>::from_object(&map).expect("held");
        assert_eq!(plan(Some(&living), Some(&held), "shop", "PEM"), Plan::Nothing);
        let Plan::Update(repaired) = plan(Some(&living), Some(&held), "shop", "NEW") else { panic!("to be repaired") };
        assert_eq!(repaired.str_at(&["data", "ca.crt"]), "NEW");
        let going = Head { deleting: true, ..Head::default() };
        assert_eq!(plan(Some(&going), None, "shop", "PEM"), Plan::Nothing);
        assert_eq!(plan(None, None, "shop", "PEM"), Plan::Nothing);
    }
}
