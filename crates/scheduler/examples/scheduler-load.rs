//! Places 5,000 pods on 1,000 nodes, one after the other, and prints how many a second, by what the pods ask for.

use std::error::Error;
use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::selector::LabelSelector;
use corten_scheduler::{NodeChange, Pod, Snapshot, decode, schedule};
use corten_stdx::clock::Stopwatch;
use serde_json::{Value, json};

const NODES: usize = 1_000;
const PODS: usize = 5_000;
const APPS: usize = 50;
const ZONES: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let own_app = |app: usize| json!({"matchLabels": {"app": format!("app-{app}")}});
    measure("resources alone", false, |_| json!({}))?;
    measure("pods of services", true, |_| json!({}))?;
    measure("hard spread over zones", true, |app| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": own_app(app)}]})
    })?;
    measure("away from their own kind by node", true, |app| {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": own_app(app)}]}}})
    })?;
    measure("near their own kind by zone, if possible", true, |app| {
        json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100,
            "podAffinityTerm": {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": own_app(app)}}]}}})
    })
}

/// `spec` is what the pods of an application have besides a container.
fn measure(what: &str, siblings: bool, spec: impl Fn(usize) -> Value) -> Result<(), Box<dyn Error>> {
    let mut snapshot = Snapshot::new();
    for number in 0..NODES {
        snapshot.apply(NodeChange::Set(decode::node(&json::parse(node(number).to_string().as_bytes())?.value)?));
    }
    let pods: Vec<Arc<Pod>> = (0..PODS).map(|number| pod(number, siblings, &spec)).collect::<Result<_, _>>()?;
    let watch = Stopwatch::start();
    for (seed, pod) in (0..).zip(&pods) {
        let placement = schedule(&snapshot, pod, seed).map_err(|failure| failure.text())?;
        snapshot.assume(pod, &placement.node);
    }
    let seconds = watch.elapsed().as_secs_f64();
    println!("{what}: {:.0} pods/s, {:.1} µs a pod", PODS as f64 / seconds, seconds * 1e6 / PODS as f64);
    Ok(())
}

fn node(number: usize) -> Value {
    let zone = format!("zone-{}", number % ZONES);
    let name = format!("node-{number}");
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": zone}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"},
            "images": [{"names": [format!("registry/app-{}:1", number % APPS)], "sizeBytes": 300 << 20}]},
    })
}

fn pod(number: usize, siblings: bool, spec: &impl Fn(usize) -> Value) -> Result<Arc<Pod>, Box<dyn Error>> {
    let app = number % APPS;
    let mut object = json!({
        "metadata": {"name": format!("pod-{number}"), "namespace": "default", "uid": format!("uid-{number}"),
            "labels": {"app": format!("app-{app}"), "pod-template-hash": "1"}},
        "spec": spec(app),
    });
    object["spec"]["containers"] = json!([{"name": "app", "image": format!("registry/app-{app}:1"),
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]);
    let mut pod = decode::pod(&json::parse(object.to_string().as_bytes())?.value)?;
    if siblings {
        pod.siblings = Some(LabelSelector::parse(&format!("app=app-{app}"))?);
    }
    Ok(Arc::new(pod))
}
