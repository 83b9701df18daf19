//! A snapshot that was changed step by step says the same as one that was built at once: whatever happened before.

use std::collections::BTreeMap;

use corten_scheduler::{NodeChange, Snapshot, decode, explain, schedule};
use corten_stdx::random::Random;
use serde_json::{Value, json};

use crate::cluster::{asks, merged, node, pod, read, value};

/// What a cluster has, by name.
#[derive(Default)]
struct Cluster {
    nodes: BTreeMap<String, Value>,
    /// With their node, which may not be there.
    pods: BTreeMap<String, (Value, String)>,
    nominated: BTreeMap<String, (Value, String)>,
    namespaces: BTreeMap<String, Vec<(String, String)>>,
}

fn labels(labels: &[(String, String)]) -> corten_scheduler::Labels {
    labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

impl Cluster {
    fn build(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        // Pods first and the other way round, to be far from the order in which things happened.
        for (pod, node) in self.pods.values().rev() {
            snapshot.assume(&read(pod), node);
        }
        for (name, own) in &self.namespaces {
            snapshot.apply(NodeChange::Namespace(name.as_str().into(), labels(own)));
        }
        for node in self.nodes.values().rev() {
            snapshot.apply(NodeChange::Set(decode::node(&value(node)).unwrap()));
        }
        for (pod, node) in self.nominated.values() {
            snapshot.nominate(&read(pod), node);
        }
        snapshot
    }

    /// Does something to both.
    fn step(&mut self, snapshot: &mut Snapshot, random: &Random) {
        let pick = |count: u64| random.next_u64() % count;
        let name = format!("n{}", pick(5));
        let uid = format!("p{}", pick(12));
        match pick(12) {
            0..=2 => {
                let new = some_node(&name, &pick);
                snapshot.apply(NodeChange::Set(decode::node(&value(&new)).unwrap()));
                self.nodes.insert(name, new);
            }
            3 => {
                snapshot.apply(NodeChange::Removed(name.as_str().into()));
                self.nodes.remove(&name);
            }
            4..=7 => {
                let new = some_pod(&uid, &pick);
                snapshot.assume(&read(&new), &name);
                self.nominated.remove(&uid);
                self.pods.insert(uid, (new, name));
            }
            8 | 9 => {
                let known = self.pods.remove(&uid).is_some();
                assert_eq!(snapshot.forget(&uid).is_ok(), known);
            }
            10 => {
                let uid = format!("w{}", pick(3));
                if pick(3) == 0 {
                    snapshot.forget_nomination(&uid);
                    self.nominated.remove(&uid);
                } else {
                    let new = some_pod(&uid, &pick);
                    snapshot.nominate(&read(&new), &name);
                    self.nominated.insert(uid, (new, name));
                }
            }
            _ => {
                let own = vec![("team".to_owned(), format!("t{}", pick(2)))];
                snapshot.apply(NodeChange::Namespace("default".into(), labels(&own)));
                self.namespaces.insert("default".to_owned(), own);
            }
        }
    }
}

fn some_node(name: &str, pick: &dyn Fn(u64) -> u64) -> Value {
    let taint = json!({"key": "dedicated", "value": format!("v{}", pick(2)), "effect": "NoSchedule"});
    let over = json!({
        "metadata": {"labels": {"zone": format!("z{}", pick(3))}},
        "spec": {"unschedulable": pick(6) == 0, "taints": if pick(3) == 0 { vec![taint] } else { Vec::new() }},
        "status": {
            "allocatable": {"cpu": format!("{}", 1 + pick(6)), "pods": format!("{}", 1 + pick(6))},
            "images": [{"names": [format!("i{}:latest", pick(2))], "sizeBytes": 100_000_000 * (1 + pick(9))}]
        },
    });
    node(name, over)
}

fn some_pod(name: &str, pick: &dyn Fn(u64) -> u64) -> Value {
    let app = format!("a{}", pick(3));
    let own = json!({"matchLabels": {"app": app}});
    let near = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": own, "namespaceSelector": {"matchLabels": {"team": "t0"}}}]}});
    let away = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": own}]}});
    let spread = json!([{"maxSkew": 1, "topologyKey": "zone", "labelSelector": own,
        "whenUnsatisfiable": if pick(2) == 0 { "DoNotSchedule" } else { "ScheduleAnyway" }}]);
    let mut over = json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"priority": pick(3), "containers": [{"image": format!("i{}", pick(2))}]},
    });
    match pick(6) {
        0 => over["spec"]["affinity"] = near,
        1 => over["spec"]["affinity"] = away,
        2 => over["spec"]["topologySpreadConstraints"] = spread,
        3 => over["spec"]["containers"][0]["ports"] = json!([{"hostPort": 80 + pick(2), "containerPort": 80}]),
        4 => over["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        _ => {}
    }
    let cpu = format!("{}m", 200 * (1 + pick(6)));
    let mut asked = asks(&cpu, "100Mi");
    asked["spec"]["containers"][0] =
        merged(asked["spec"]["containers"][0].take(), over["spec"]["containers"][0].take());
    over["spec"]["containers"] = asked["spec"]["containers"].take();
    pod(name, over)
}

#[test]
fn a_snapshot_knows_no_history() {
    for seed in 0..25 {
        let random = Random::seeded(seed);
        let (mut cluster, mut snapshot) = (Cluster::default(), Snapshot::new());
        for step in 0..120 {
            cluster.step(&mut snapshot, &random);
            if step % 10 != 9 {
                continue;
            }
            let rebuilt = cluster.build();
            for probe in 0..6 {
                let probe = read(&some_pod(&format!("probe{probe}"), &|count| random.next_u64() % count));
                // Rows have numbers of their own in each; what is said is the same.
                let says = |of: &Snapshot| {
                    let verdicts = explain(of, &probe).map_err(|failure| failure.text());
                    (verdicts, schedule(of, &probe, seed).map_err(|failure| failure.text()))
                };
                assert_eq!(says(&snapshot), says(&rebuilt), "seed {seed}, step {step}: {probe:?}");
            }
        }
    }
}
