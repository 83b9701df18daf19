//! Where an Ingress is reached, in its status: at this node's address, and at which ports, that for plain requests first.
//! Somebody else's word is left alone.

use std::net::Ipv4Addr;
use std::sync::Arc;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Informers, Patch};

use super::plan::is_ours;
use super::view::{Class, Door, Ingress};
use super::{CLASSES, INGRESSES};

/// The program's name in the status that it has written, by which it knows it again.
pub const AGENT: &str = "corten-edge";

struct Context {
    door: Door,
    ingresses: Informer<Ingress>,
    classes: Informer<Class>,
    client: Client,
}

/// Writes where the edge is reached into the status of its Ingresses.
pub fn controller(informers: &Informers, address: Ipv4Addr, ports: &[u16], client: Client) -> Controller {
    let context = Arc::new(Context {
        door: Door { host: address.to_string().into(), ports: ports.to_vec() },
        ingresses: informers.of::<Ingress>(Scope::all(INGRESSES)),
        classes: informers.of::<Class>(Scope::all(CLASSES)),
        client,
    });
    let all = context.clone();
    Controller::new("ingress-status", context.clone(), reconcile)
        .watches(&context.ingresses)
        // A class may make any Ingress this edge's, or no longer.
        .watches_for(&context.classes, move |_| all.ingresses.cache().all().iter().map(|held| Key::of(held)).collect())
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(ingress) = ctx.ingresses.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let Some(told) = plan(&ingress, &ctx.classes.cache().all(), &ctx.door) else { return Ok(Next::Change) };
    let head = &ingress.head;
    let patch = value!({
        "metadata": {"uid": (head.uid.clone()), "resourceVersion": (head.revision.clone())},
        "status": {"loadBalancer": {"ingress": told}}
    });
    let patched = ctx.client.patch(&INGRESSES, &head.namespace, &head.name, "status", &Patch::Merge(patch)).await;
    unless_gone(patched).map(|_| Next::Change)
}

/// What the status is to say, unless it says so already.
fn plan(ingress: &Held<Ingress>, classes: &[Arc<Held<Class>>], door: &Door) -> Option<Value> {
    let is_ours = is_ours(ingress, classes) && !ingress.head.deleting;
    if is_ours && ingress.shown != [door.clone()] && (ingress.shown.is_empty() || ingress.shown_by_us) {
        let port = |port: &u16| value!({"port": (i64::from(*port)), "protocol": "TCP"});
        let ports: Vec<Value> = door.ports.iter().map(port).collect();
        return Some(value!([{"ip": (door.host.clone()), "ports": ports}]));
    }
    (!is_ours && ingress.shown_by_us && !ingress.shown.is_empty()).then_some(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(class: &str, shown: &[&str], manager: &str, expect: Option<&str>) {
        let shown: Vec<Value> = shown
            .iter()
            .map(|shown| {
                let (ip, port) = shown.split_once(' ').unwrap_or((shown, "80"));
                let port: i64 = port.parse().expect("a number");
                value!({"ip": ip, "ports": [{"port": port, "protocol": "TCP"}]})
            })
            .collect();
        let ingress = value!({"metadata": {"namespace": "shop", "name": "www",
                "managedFields": [{"manager": manager, "subresource": "status"}]},
            "spec": {"ingressClassName": class}, "status": {"loadBalancer": {"ingress": shown}}});
        let class = value!({"metadata": {"name": "corten"}, "spec": {"controller": (super::super::CONTROLLER)}});
        let classes = [Arc::new(Held::<Class>::from_object(&class).expect("a class"))];
        let ingress = Held::<Ingress>::from_object(&ingress).expect("an Ingress");
        let told = plan(&ingress, &classes, &Door { host: "192.0.2.1".into(), ports: vec![80] });
        let told = told.map(|told| told.as_array().map_or("nothing", |list| list[0].str_at(&["ip"])).to_owned());
        assert_eq!(told.as_deref(), expect);
    }

    #[test]
    fn the_status_says_where_and_only_of_our_own() {
        check("corten", &[], "", Some("192.0.2.1"));
        check("corten", &["192.0.2.1"], AGENT, None);
        check("corten", &["192.0.2.9"], AGENT, Some("192.0.2.1"));
        check("corten", &["192.0.2.1 8080"], AGENT, Some("192.0.2.1"));
        check("corten", &["192.0.2.9"], "nginx", None);
        check("nginx", &["192.0.2.9"], "nginx", None);
        check("nginx", &["192.0.2.1"], AGENT, Some("nothing"));
        check("nginx", &[], "", None);
    }
}
