//! Services with what they hold, over the real kinds: addresses and ports are taken and given back with the writes, and
//! what a crash between two writes leaves is mended at the next start.

use std::sync::Arc;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::around::Arounds;
use corten_apiserver::registry::{DeleteOptions, ListOptions, Registry, Target, WriteOptions};
use corten_apiserver::testing::{Bench, body, context, target};
use corten_builtin::bootstrap::{Authorities, Network};
use corten_builtin::install::install;
use corten_builtin::service::repair::Mended;
use corten_builtin::service::{SERVICES, Services};
use corten_stdx::random::Random;

struct Cluster(Bench);

/// What the server does around the writes of Services.
pub(crate) fn around_services(registry: &Registry) -> Services {
    let services = Services::new(registry.clone(), context().user, Random::seeded(7));
    let mut arounds = Arounds::default();
    arounds.register(SERVICES.group, SERVICES.plural, Arc::new(services.clone()));
    registry.set_arounds(arounds);
    services
}

/// A started server; again over the same store after a crash.
async fn start(before: Option<Cluster>) -> (Cluster, Mended) {
    let bench = match before {
        None => Bench::new(corten_api::kinds()),
        Some(Cluster(bench)) => Bench::over(bench.store, bench.clock, corten_api::kinds()),
    };
    let user = context().user;
    let services = around_services(&bench.registry);
    let mended = services.begin().await.expect("looked");
    let network = Network { services: "10.96.0.0/16".parse().expect("a range"), endpoint: None };
    install(&bench.registry, &user, &network, vec![Authorities::default().object()]).await.expect("installed");
    (Cluster(bench), mended)
}

impl Cluster {
    fn target(&self, plural: &str, name: &str) -> Target {
        target(&self.0.kind(plural), name)
    }

    async fn create(&self, name: &str, spec: Value) -> Result<Value, String> {
        self.create_with(name, spec, false).await
    }

    async fn create_with(&self, name: &str, spec: Value, dry_run: bool) -> Result<Value, String> {
        let service = value!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec});
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let made = self.0.registry.create(&context(), &self.target("services", ""), body(service), options).await;
        made.map(|written| written.object.to_value().expect("readable")).map_err(|status| status.message)
    }

    async fn update(&self, service: Value) -> Result<Value, String> {
        let target = self.target("services", service.str_at(&["metadata", "name"]));
        let made = self.0.registry.update(&context(), &target, body(service), WriteOptions::default()).await;
        made.map(|written| written.object.to_value().expect("readable")).map_err(|status| status.message)
    }

    async fn delete(&self, plural: &str, name: &str) {
        let target = self.target(plural, name);
        self.0.registry.delete(&context(), &target, &DeleteOptions::default()).await.expect("deleted");
    }

    /// The names of all address objects but those of the cluster's own Services.
    async fn addresses(&self) -> Vec<String> {
        let kind = self.0.kind("ipaddresses");
        let list = self.0.registry.list(&kind, "", &ListOptions::default()).await.expect("listed");
        let names = list.items.iter().map(|object| object.head.name.to_string());
        names.filter(|name| name != "10.96.0.1" && name != "10.96.0.10").collect()
    }
}

fn ports() -> Value {
    value!({"ports": [{"port": 80}]})
}

fn spec(more: Value) -> Value {
    let mut spec = ports();
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    spec
}

fn address(service: &Value) -> String {
    service.str_at(&["spec", "clusterIP"]).to_owned()
}

#[tokio::test]
async fn an_address_comes_and_goes_with_its_service() {
    let (cluster, _) = start(None).await;
    let web = cluster.create("web", ports()).await.expect("created");
    assert_eq!(cluster.addresses().await, [address(&web)]);
    assert_eq!(web.at(&["spec", "clusterIPs"]), Some(&value!([(address(&web))])));
    assert_eq!(web.at(&["spec", "ipFamilies"]), Some(&value!(["IPv4"])));
    assert_eq!(web.str_at(&["spec", "ipFamilyPolicy"]), "SingleStack");
    let again = cluster.create("other", spec(value!({"clusterIP": (address(&web))}))).await;
    let expected = format!(
        r#"Service "other" is invalid: spec.clusterIPs: Invalid value: ["{0}"]: failed to allocate IP {0}: provided IP is already allocated"#,
        address(&web)
    );
    assert_eq!(again, Err(expected));
    let outside = cluster.create("other", spec(value!({"clusterIP": "10.1.0.1"}))).await.expect_err("refused");
    assert!(outside.ends_with("failed to allocate IP 10.1.0.1: the provided network does not match the current range"));
    let same = cluster.create("web", ports()).await.expect_err("there is one");
    assert!(same.contains("already exists"), "{same}");
    assert_eq!(cluster.addresses().await, [address(&web)], "what was taken for a refused write is free");
    cluster.create("none", spec(value!({"clusterIP": "None"}))).await.expect("created");
    cluster.delete("services", "web").await;
    assert_eq!(cluster.addresses().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_name_holds_nothing() {
    let (cluster, _) = start(None).await;
    let mut web = cluster.create("web", spec(value!({"type": "NodePort"}))).await.expect("created");
    let port = web.at(&["spec", "ports"]).and_then(|ports| ports.as_array()?.first()?.i64_at(&["nodePort"]));
    let port = port.expect("a node port");
    web.object_entry("spec").insert("type", "ExternalName");
    web.object_entry("spec").insert("externalName", "example.com");
    let mut named = cluster.update(web).await.expect("updated");
    assert_eq!((address(&named).as_str(), named.at(&["spec", "ipFamilies"])), ("", None));
    assert_eq!(cluster.addresses().await, Vec::<String>::new());
    let other = value!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    cluster.create("other", other).await.expect("the port is free");
    named.object_entry("spec").insert("type", "ClusterIP");
    named.object_entry("spec").remove("externalName");
    let back = cluster.update(named).await.expect("updated");
    assert!(cluster.addresses().await.contains(&address(&back)), "it has an address again");
}

#[tokio::test]
async fn an_update_that_leaves_out_what_was_filled_in_changes_nothing() {
    let (cluster, _) = start(None).await;
    let first = cluster.create("web", spec(value!({"type": "NodePort"}))).await.expect("created");
    let text = value!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]}
    });
    assert_eq!(cluster.update(text).await.expect("updated").get("spec"), first.get("spec"));
    let mut moved = first;
    moved.object_entry("spec").insert("clusterIP", "10.96.7.7");
    let refused = cluster.update(moved).await.expect_err("refused");
    assert!(refused.contains("may not change once set"), "{refused}");
}

#[tokio::test]
async fn a_dry_run_takes_nothing() {
    let (cluster, _) = start(None).await;
    let dry = cluster.create_with("web", spec(value!({"type": "NodePort"})), true).await.expect("it would work");
    assert_eq!(address(&dry), "10.96.0.0");
    assert_eq!(cluster.addresses().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_crash_between_two_writes_is_mended_at_the_next_start() {
    let (cluster, mended) = start(None).await;
    assert_eq!(mended, Mended::default());
    let web = cluster.create("web", spec(value!({"type": "NodePort"}))).await.expect("created");
    let lost = cluster.create("lost", ports()).await.expect("created");
    // An address whose service was never written, and one whose service lost it.
    let labels = value!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io", "ipaddress.kubernetes.io/ip-family": "IPv4"});
    let parent = value!({"group": "", "resource": "services", "namespace": "default", "name": "never"});
    let orphan = value!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "10.96.9.9", "labels": labels}, "spec": {"parentRef": parent}
    });
    let target = cluster.target("ipaddresses", "10.96.9.9");
    cluster.0.registry.create(&context(), &target, body(orphan), WriteOptions::default()).await.expect("created");
    cluster.delete("ipaddresses", &address(&lost)).await;

    let (cluster, mended) = start(Some(cluster)).await;
    assert_eq!(mended, Mended { freed: 1, taken: 1 });
    let mut expected = [address(&web), address(&lost)];
    expected.sort();
    let mut found = cluster.addresses().await;
    found.sort();
    assert_eq!(found, expected);
    let port = web.at(&["spec", "ports"]).and_then(|ports| ports.as_array()?.first()?.i64_at(&["nodePort"]));
    let same_port = value!({"type": "NodePort", "ports": [{"port": 80, "nodePort": (port.expect("a node port"))}]});
    let refused = cluster.create("other", same_port).await.expect_err("the port is still taken");
    assert!(refused.ends_with("provided port is already allocated"), "{refused}");
    let (_, mended) = start(Some(cluster)).await;
    assert_eq!(mended, Mended::default());
}
