//! What a node costs that has nothing to do, and what a pod adds that does nothing.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use corten_stdx::clock::Stopwatch;
use tokio::time::sleep;

use super::super::census::{Census, Group, Role, cpu, total_kib};
use crate::spine::node::{LIMIT, Node};

/// Pods that sleep, as a Deployment.
const SLEEPERS: &str = "sleepers";

/// For a moment after pods have come, so that what is told of them is told.
const SETTLE: Duration = Duration::from_secs(10);

/// What is held at one moment, in KiB.
struct Held {
    own: u64,
    contained: u64,
    /// By the kernel for the instance's groups and for control's.
    kernel: u64,
    roles: Vec<(&'static str, u64, usize)>,
}

/// A started node is used once, rests, is looked at; then again with pods. Gives Markdown.
pub(super) async fn measure(node: &mut Node, group: &Group, rest_s: u64, pods: usize) -> Result<String> {
    use_once(node).await?;
    let rest = Duration::from_secs(rest_s);
    sleep(rest).await;
    let idle = Held::now(node, group)?;
    let idle_cpu = processor(node, rest).await?;
    let watch = Stopwatch::start();
    add_pods(node, pods)?;
    let available = watch.elapsed();
    sleep(SETTLE).await;
    let full = Held::now(node, group)?;
    let full_cpu = processor(node, rest).await?;
    let mut text = String::from("| held, KiB | idle |");
    writeln!(text, " with {pods} idle pods | a pod |\n|---|---|---|---|")?;
    let per_pod = |before: u64, after: u64| (after as f64 - before as f64) / pods as f64;
    let mut row = |what: &str, before: u64, after: u64| {
        writeln!(text, "| {what} | {before} | {after} | {:.0} |", per_pod(before, after))
    };
    for ((name, before, _), (_, after, number)) in idle.roles.iter().zip(&full.roles) {
        row(&format!("{name} ({number})"), *before, *after)?;
    }
    row("all processes of the platform", idle.own, full.own)?;
    row("the kernel, for its groups and control's", idle.kernel, full.kernel)?;
    row("both", idle.own + idle.kernel, full.own + full.kernel)?;
    row("processes of containers", idle.contained, full.contained)?;
    writeln!(text, "\nProcessor, of one core: idle {idle_cpu:.2} %, with {pods} idle pods {full_cpu:.2} %.")?;
    write!(text, "{pods} replicas without a probe, `kubectl apply` to all available: {} ms.", available.as_millis())?;
    Ok(text)
}

/// The OpenAPI documents, one apply, one list, one request through the edge.
async fn use_once(node: &Node) -> Result<()> {
    node.kubectl(&["get", "--raw", "/openapi/v2"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("settings.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {key: value}\n")?;
    node.kubectl(&["apply", "-f", &file.display().to_string()])?;
    node.kubectl(&["get", "pods", "--all-namespaces"])?;
    super::ready::ask_edge(node.edge()).await
}

/// The share of a core that the platform's processes use over a period, in per cent.
async fn processor(node: &Node, period: Duration) -> Result<f64> {
    let census = census(node)?;
    let watch = Stopwatch::start();
    let before = cpu(census.own_pids())?;
    sleep(period).await;
    let used = cpu(census.own_pids())?.saturating_sub(before);
    Ok(used.as_secs_f64() * 100.0 / watch.elapsed().as_secs_f64())
}

impl Held {
    fn now(node: &Node, group: &Group) -> Result<Self> {
        let census = census(node)?;
        let mut roles = Vec::new();
        for (role, name) in Role::ALL {
            let (kib, number) = census.role_kib(role)?;
            roles.push((name, kib, number));
        }
        ensure!(roles.iter().take(3).all(|(_, kib, number)| *kib > 0 && *number == 1), "not one of each: {roles:?}");
        Ok(Self {
            own: roles.iter().map(|(_, kib, _)| kib).sum(),
            contained: total_kib(census.contained.iter().copied())?,
            kernel: group.kernel_kib()? + Group::kernel_kib_of(&format!("corten-{}", node.instance()?))?,
            roles,
        })
    }
}

pub(super) fn census(node: &Node) -> Result<Census> {
    Census::take(node.program(), &node.instance()?)
}

fn add_pods(node: &Node, pods: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sleepers.json");
    let template = serde_json::json!({
        "metadata": {"labels": {"app": SLEEPERS}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": super::pods::IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "100000"],
        }]},
    });
    let deployment = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": SLEEPERS},
        "spec": {"replicas": pods, "selector": {"matchLabels": {"app": SLEEPERS}}, "template": template},
    });
    std::fs::write(&file, deployment.to_string())?;
    node.kubectl(&["apply", "-f", &file.display().to_string()])?;
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    node.kubectl(&["rollout", "status", &format!("deployment/{SLEEPERS}"), &limit])?;
    Ok(())
}

pub(super) fn remove_pods(node: &Node) -> Result<()> {
    node.kubectl(&["delete", &format!("deployment/{SLEEPERS}")])?;
    node.until(&["get", "pods", "-o", "name"], str::is_empty)?;
    Ok(())
}
