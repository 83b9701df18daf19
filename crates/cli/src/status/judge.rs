//! What the figures of a cluster mean: pure.

use std::collections::BTreeMap;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Value;
use corten_stats::{Claim, Enough, Stats};

use super::read::Cluster;
use crate::why::finding::{Finding, condition, list};
use crate::why::{namespace, node, notifier, pod, service};

/// Less than this of the memory is too little.
const MEMORY_FREE_PERCENT_MIN: i64 = 5;

/// How long something may be on its way.
const PATIENCE_S: i64 = 60;

/// A server's figures; what is not known is not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) cpu_total: f64,
    pub(super) cpu_used: Option<f64>,
    /// What its pods have asked for.
    pub(super) cpu_asked: f64,
    pub(super) memory_total: i64,
    pub(super) memory_used: Option<i64>,
    pub(super) memory_asked: i64,
    pub(super) pods: usize,
    pub(super) pods_max: i64,
    /// What it says of itself.
    pub(super) stats: Stats,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// `pod/web in shop`.
    pub(super) object: String,
    pub(super) finding: Finding,
}

pub(super) fn servers(cluster: &Cluster) -> Vec<Server> {
    cluster.nodes.iter().map(|node| server(cluster, node)).collect()
}

fn server(cluster: &Cluster, node: &Value) -> Server {
    let name = Meta::of(node).name();
    let own = |pod: &&Value| pod.str_at(&["spec", "nodeName"]) == name && !is_over(pod);
    let pods: Vec<&Value> = cluster.pods.iter().filter(own).collect();
    let total = |resource| amount(node, &["status", "capacity", resource]).unwrap_or_default();
    let used = |resource| cluster.used.get(name).and_then(|used| amount(used, &["usage", resource]));
    let asked = |resource| pods.iter().fold(0.0, |sum, pod| sum + requests(pod, resource));
    let stats = cluster.said.get(name).and_then(|said| said.as_ref().ok()).cloned().unwrap_or_default();
    Server {
        name: name.to_owned(),
        state: state(node).to_owned(),
        cpu_total: total("cpu"),
        cpu_used: used("cpu"),
        cpu_asked: asked("cpu"),
        memory_total: bytes(total("memory")),
        memory_used: used("memory").map(bytes),
        memory_asked: bytes(asked("memory")),
        pods: pods.len(),
        pods_max: bytes(total("pods")),
        stats,
    }
}

fn state(node: &Value) -> &'static str {
    match condition(node, "Ready").map(|ready| ready.str_at(&["status"])) {
        Some("True") if node.at(&["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true) => "cordoned",
        Some("True") => "ready",
        Some("Unknown") => "silent",
        _ => "not ready",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
fn bytes(amount: f64) -> i64 {
    amount as i64
}

/// The quantity at a path.
fn amount(object: &Value, path: &[&str]) -> Option<f64> {
    object.at(path).and_then(|value| Quantity::from_value(value).ok()).map(|quantity| quantity.as_f64())
}

/// What a pod has asked for: its containers together, or the greediest one of those that run before them.
fn requests(pod: &Value, resource: &str) -> f64 {
    let of = |container: &Value| amount(container, &["resources", "requests", resource]).unwrap_or_default();
    let together = list(pod, &["spec", "containers"]).iter().map(of).fold(0.0, |sum, one| sum + one);
    list(pod, &["spec", "initContainers"]).iter().map(of).fold(together, f64::max)
}

fn is_over(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed")
}

/// Everything that is wrong: servers first, then what runs on them.
pub(super) fn wrong(cluster: &Cluster) -> Vec<Wrong> {
    let mut all = Vec::new();
    for node in &cluster.nodes {
        let name = Meta::of(node).name();
        let found = node::explain(node).into_iter().chain(scarce(&server(cluster, node))).chain(silent(cluster, node));
        all.extend(found.map(|finding| Wrong { object: format!("node/{name}"), finding }));
    }
    all.extend(cluster.pods.iter().filter_map(|pod| ill(cluster, pod)));
    all.extend(cluster.services.iter().filter_map(|service| leads_nowhere(cluster, service)));
    all.extend(cluster.claims.iter().filter_map(|claim| unbound(cluster, claim)));
    all.extend(cluster.claims.iter().filter_map(|claim| fills(cluster, claim)));
    all.extend(cluster.namespaces.iter().filter_map(|namespace| stays(cluster, namespace)));
    all.extend(cluster.notifiers.iter().filter_map(|notifier| undelivered(cluster, notifier)));
    all
}

/// Why a server that is there does not say how it is.
fn silent(cluster: &Cluster, node: &Value) -> Option<Finding> {
    let name = Meta::of(node).name();
    let why = cluster.said.get(name)?.as_ref().err().filter(|_| matches!(state(node), "ready" | "cordoned"))?;
    let ask = format!("kubectl get --raw /api/v1/nodes/{name}/proxy/metrics");
    Some(Finding::new(format!("it does not say what it uses: {why}")).then(ask))
}

/// A notifier whose target does not take its messages. One that is to be silent is not wrong.
fn undelivered(cluster: &Cluster, notifier: &Value) -> Option<Wrong> {
    condition(notifier, "Delivering").filter(|one| one.str_at(&["status"]) == "False")?;
    notifier::explain(notifier, cluster.now_s).into_iter().next().map(|first| told("notifier", notifier, first))
}

/// What a server has too little of.
fn scarce(server: &Server) -> Vec<Finding> {
    let mut found = Vec::new();
    let Server { memory_used, memory_total, .. } = *server;
    if let Some(disk) = server.stats.disk.filter(|disk| disk.enough() == Enough::No) {
        let fact = format!("its disk is {} % full", disk.full_percent());
        found.push(Finding::new(fact).then(format!("corten image ls   # on {}", server.name)));
    }
    if let Some(used) =
        memory_used.filter(|used| memory_total - used < percent_of(memory_total, MEMORY_FREE_PERCENT_MIN))
    {
        let full = used * 100 / memory_total.max(1);
        found
            .push(Finding::new(format!("{full} % of its memory is used")).then("kubectl top pods -A --sort-by=memory"));
    }
    if let Some(fact) = server.stats.certificate_warning() {
        found.push(Finding::new(fact).then("kubectl get certificatesigningrequests"));
    }
    found
}

fn percent_of(total: i64, percent: i64) -> i64 {
    total / 100 * percent
}

/// The first thing that ails a pod, once it has had its time.
fn ill(cluster: &Cluster, pod: &Value) -> Option<Wrong> {
    // A job tries again, and tells itself when it gives up.
    let tried = Meta::of(pod).owner_references().any(|owner| owner.kind() == "Job");
    if tried && pod.str_at(&["status", "phase"]) == "Failed" {
        return None;
    }
    let node = pod.str_at(&["spec", "nodeName"]);
    let node = cluster.nodes.iter().find(|own| Meta::of(own).name() == node);
    let facts = pod::Facts { pod, events: &[], last_lines: &BTreeMap::new(), refusals: &[], node };
    let first = pod::explain(&facts).into_iter().next()?;
    let changed = [
        Meta::of(pod).deletion_timestamp().unwrap_or_default(),
        condition(pod, "Ready").map(|ready| ready.str_at(&["lastTransitionTime"])).unwrap_or_default(),
        Meta::of(pod).creation_timestamp(),
    ];
    let waits = pod::is_stuck(pod) || cluster.now_s - changed.iter().map(|time| seconds(time)).max()? >= PATIENCE_S;
    waits.then(|| told("pod", pod, Finding { next: Vec::new(), ..first }))
}

fn seconds(time: &str) -> i64 {
    Time::parse(time).map_or(0, |time| time.seconds)
}

/// `pod/web in shop`, with the command that says more.
fn told(kind: &str, object: &Value, finding: Finding) -> Wrong {
    let (name, namespace) = (Meta::of(object).name(), Meta::of(object).namespace());
    let (place, flag) = match namespace {
        "" => (String::new(), String::new()),
        namespace => (format!(" in {namespace}"), format!(" -n {namespace}")),
    };
    let fact = finding.fact.lines().next().unwrap_or_default();
    let finding = Finding::new(fact).then(format!("corten why {kind}/{name}{flag}"));
    Wrong { object: format!("{kind}/{name}{place}"), finding }
}

/// A Service whose pods are not merely ill, which is told of them.
fn leads_nowhere(cluster: &Cluster, service: &Value) -> Option<Wrong> {
    let namespace = Meta::of(service).namespace();
    let of = |object: &&Value| Meta::of(object).namespace() == namespace;
    let pods: Vec<Value> = cluster.pods.iter().filter(of).cloned().collect();
    let name = Meta::of(service).name();
    let own = |slice: &&Value| of(slice) && Meta::of(slice).label("kubernetes.io/service-name") == Some(name);
    let slices: Vec<Value> = cluster.slices.iter().filter(own).cloned().collect();
    let first = service::explain(service, &pods, &slices).into_iter().next()?;
    let old = cluster.now_s - seconds(Meta::of(service).creation_timestamp()) >= PATIENCE_S;
    (!first.fact.starts_with("none of its") && old).then(|| told("service", service, first))
}

fn unbound(cluster: &Cluster, claim: &Value) -> Option<Wrong> {
    let old = cluster.now_s - seconds(Meta::of(claim).creation_timestamp()) >= PATIENCE_S;
    let phase = claim.str_at(&["status", "phase"]);
    let waits = phase == "Lost" || (phase == "Pending" && old);
    waits.then(|| told("pvc", claim, Finding::new(format!("it has no volume ({phase})"))))
}

/// A volume that fills, with the command that makes it twice as large.
fn fills(cluster: &Cluster, claim: &Value) -> Option<Wrong> {
    let (name, namespace) = (Meta::of(claim).name(), Meta::of(claim).namespace());
    let key = Claim { namespace: namespace.to_owned(), name: name.to_owned() };
    let mut said = cluster.said.values().filter_map(|said| said.as_ref().ok()?.volumes.get(&key));
    let room = said.find(|room| room.enough() == Enough::No)?;
    let fact = format!("its volume is {} % full", room.full_percent());
    let asked = claim.at(&["spec", "resources", "requests", "storage"]);
    let asked = asked.and_then(|asked| Quantity::from_value(asked).ok()).map_or(0, |asked| asked.value());
    let more = Quantity::new(asked.saturating_mul(2), Format::BinarySi);
    let patch = format!(r#"{{"spec":{{"resources":{{"requests":{{"storage":"{more}"}}}}}}}}"#);
    let grow = format!("kubectl -n {namespace} patch pvc {name} -p '{patch}'");
    Some(Wrong { object: format!("pvc/{name} in {namespace}"), finding: Finding::new(fact).then(grow) })
}

fn stays(cluster: &Cluster, namespace: &Value) -> Option<Wrong> {
    let since = Meta::of(namespace).deletion_timestamp()?;
    let old = cluster.now_s - seconds(since) >= PATIENCE_S;
    let first = namespace::explain(namespace, &[]).into_iter().next()?;
    let first = Finding::new(if first.fact.contains("is empty") { "it does not go".to_owned() } else { first.fact });
    old.then(|| told("namespace", namespace, first))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_stats::Room;

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";
    const OLD: &str = "2026-01-01T00:00:00Z";

    fn node() -> Value {
        value!({"metadata": {"name": "one"},
            "status": {"capacity": {"cpu": "2", "memory": "1000Mi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn stats(used_bytes: i64, available_bytes: i64, certificate_s: i64) -> Stats {
        let disk = Some(Room { used_bytes, available_bytes });
        Stats { disk, certificate_s: Some(certificate_s), ..Stats::default() }
    }

    fn cluster() -> Cluster {
        let said = stats(60, 40, 20 * 86_400);
        let used = value!({"usage": {"cpu": "250m", "memory": "100Mi"}});
        Cluster {
            nodes: vec![node()],
            said: BTreeMap::from([("one".to_owned(), Ok(said))]),
            used: BTreeMap::from([("one".to_owned(), used)]),
            now_s: seconds(NOW),
            ..Cluster::default()
        }
    }

    fn pod(name: &str, created: &str, reason: &str) -> Value {
        value!({
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created},
            "spec": {"nodeName": "one", "containers": [
                {"name": "a", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "10Mi"}}}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": reason}}}]}
        })
    }

    fn facts(cluster: &Cluster) -> Vec<String> {
        wrong(cluster).into_iter().map(|wrong| format!("{}: {}", wrong.object, wrong.finding.fact)).collect()
    }

    #[test]
    fn a_servers_figures() {
        let mut cluster = cluster();
        cluster.pods = vec![pod("web", NOW, "ContainerCreating")];
        let expected = Server {
            name: "one".to_owned(),
            state: "ready".to_owned(),
            cpu_total: 2.0,
            cpu_used: Some(0.25),
            cpu_asked: 0.1,
            memory_total: 1000 << 20,
            memory_used: Some(100 << 20),
            memory_asked: 10 << 20,
            pods: 1,
            pods_max: 110,
            stats: stats(60, 40, 20 * 86_400),
        };
        assert_eq!(servers(&cluster), [expected]);
        assert!(facts(&cluster).is_empty(), "{:?}", facts(&cluster));
    }

    #[test]
    fn a_pod_is_wrong_when_it_is_stuck_or_had_its_time() {
        let mut cluster = cluster();
        cluster.pods = vec![
            pod("new", NOW, "ContainerCreating"),
            pod("dies", NOW, "CrashLoopBackOff"),
            pod("old", OLD, "CreateContainerError"),
        ];
        assert_eq!(
            facts(&cluster),
            [
                "pod/dies in shop: container a ends, after 0 restarts",
                "pod/old in shop: container a cannot be started (CreateContainerError): ",
            ]
        );
        assert_eq!(wrong(&cluster)[0].finding.next, ["corten why pod/dies -n shop"]);
    }

    #[test]
    fn what_is_scarce_is_told() {
        let mut cluster = cluster();
        let said = stats(9_500, 500, 86_400);
        cluster.said.insert("one".to_owned(), Ok(said));
        cluster.used.insert("one".to_owned(), value!({"usage": {"cpu": "1", "memory": "990Mi"}}));
        assert_eq!(
            facts(&cluster),
            [
                "node/one: its disk is 95 % full",
                "node/one: 99 % of its memory is used",
                "node/one: its certificate is good for 1 days only, and should have been renewed",
            ]
        );
    }

    #[test]
    fn a_volume_that_fills_is_told_with_the_way_to_grow_it() {
        let mut cluster = cluster();
        let claim = |name: &str| {
            value!({"metadata": {"name": name, "namespace": "shop"}, "status": {"phase": "Bound"},
                "spec": {"resources": {"requests": {"storage": "64Mi"}}}})
        };
        cluster.claims = vec![claim("full"), claim("roomy"), claim("unused")];
        let volume = |name: &str, used_bytes| {
            let claim = Claim { namespace: "shop".to_owned(), name: name.to_owned() };
            (claim, Room { used_bytes, available_bytes: 1000 - used_bytes })
        };
        let volumes = BTreeMap::from([volume("full", 950), volume("roomy", 500)]);
        cluster.said.insert("one".to_owned(), Ok(Stats { volumes, ..Stats::default() }));
        assert_eq!(facts(&cluster), ["pvc/full in shop: its volume is 95 % full"]);
        let grow = r#"kubectl -n shop patch pvc full -p '{"spec":{"resources":{"requests":{"storage":"128Mi"}}}}'"#;
        assert_eq!(wrong(&cluster)[0].finding.next, [grow]);
    }

    #[test]
    fn a_server_that_does_not_answer_is_told_with_the_reason() {
        let mut cluster = cluster();
        cluster.said.insert("one".to_owned(), Err("timed out".to_owned()));
        assert_eq!(facts(&cluster), ["node/one: it does not say what it uses: timed out"]);
        let away = value!({"metadata": {"name": "one"},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "gone"}]}});
        cluster.nodes = vec![away];
        assert!(!facts(&cluster).concat().contains("does not say"), "that it is silent is said once");
    }

    #[test]
    fn what_waits_for_long_is_told() {
        let mut cluster = cluster();
        let meta = |name: &str| value!({"name": name, "namespace": "shop", "creationTimestamp": OLD});
        cluster.claims = vec![value!({"metadata": (meta("data")), "status": {"phase": "Pending"}})];
        cluster.services = vec![value!({"metadata": (meta("web")), "spec": {"selector": {"app": "web"}}})];
        let goes = value!({"name": "gone", "deletionTimestamp": OLD});
        cluster.namespaces = vec![value!({"metadata": goes})];
        let failing = value!({"type": "Delivering", "status": "False", "message": "the webhook answers 500"});
        let metadata = value!({"name": "ops", "namespace": "kube-system"});
        cluster.notifiers = vec![value!({"metadata": metadata, "status": {"waiting": 1, "conditions": [failing]}})];
        assert_eq!(
            facts(&cluster),
            [
                "service/web in shop: its selector app=web matches none of the 0 pods in shop",
                "pvc/data in shop: it has no volume (Pending)",
                "namespace/gone: it does not go",
                "notifier/ops in kube-system: its messages are not delivered (1 news wait): the webhook answers 500",
            ]
        );
    }
}
