//! What goes wrong in a user's hands: images that cannot be had, containers that take what they can get. Each says what
//! happened where `kubectl describe` shows it, and nobody else notices.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;
use serde_json::Value;

use super::node::{LIMIT, NAME, Node};
use super::shop::{HOSTS, NAMESPACE};
use crate::load::Load;
use crate::process::wait;
use crate::registry::{self, Content, Registry};

/// Where the pods of this step are.
const FAULTS: &str = "faults";

/// The limit that the node of these tests is started with.
pub(crate) const POD_PIDS_MAX: &str = "300";

/// What a container's log may take: twice what its pod keeps by itself, and what the node sets aside.
const LOG_BYTES_MAX: u64 = (2 * 64 + 5 * 10 + 16) << 20;

/// All of them.
pub(super) async fn all(node: &mut Node) -> Result<()> {
    node.kubectl(&["create", "namespace", FAULTS])?;
    let registry = Registry::start("127.0.0.1:0", unusable()?)?;
    let here = registry::architecture();
    let not_made = format!("is not made for linux/{here}; it has linux/other");
    let unknown = registry.reference("unknown");
    image(node, "unknown", &registry, &format!("{unknown} is not found: "))?;
    image(node, "other-architecture", &registry, &not_made)?;
    image(node, "corrupt-layer", &registry, "its digest is sha256:")?;
    let shell = node.field(NAMESPACE, "deployment/admin", "{.spec.template.spec.containers[0].image}")?;
    forks_without_end(node, &shell).await?;
    stays_within_its_limit(node, &shell)?;
    fills_its_log(node, &shell)?;
    ignores_sigterm(node, &shell)?;
    node.kubectl(&["delete", "namespace", FAULTS])?;
    Ok(())
}

/// One image is made for another architecture, and the layer of one is not what its manifest says: an empty archive, which somebody has
/// changed on the way.
fn unusable() -> Result<Content> {
    let (promised, mut sent) = (vec![0; 1024], vec![0; 1024]);
    sent[1000] = 1;
    let mut content = Content::default();
    content.foreign_image("other-architecture")?;
    content.image("corrupt-layer", &promised, sent)?;
    Ok(content)
}

/// An image that cannot be had: the pod waits, says why, and looks again later.
fn image(node: &Node, name: &str, registry: &Registry, why: &str) -> Result<()> {
    run(node, name, &registry.reference(name), "true")?;
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    let get = ["-n", FAULTS, "get", "pod", name, "-o", reason];
    node.until(&get, |reason| matches!(reason, "ErrImagePull" | "ImagePullBackOff"))?;
    node.until(&get, |reason| reason == "ImagePullBackOff")?;
    let describe = ["-n", FAULTS, "describe", "pod", name];
    let words = ["Failed to pull image", why, "Error: ErrImagePull", "Back-off pulling image"];
    node.until(&describe, |text| words.iter().all(|word| text.contains(word)))
        .with_context(|| format!("describe is to say {words:?}"))?;
    node.kubectl(&["-n", FAULTS, "delete", "pod", name, "--wait=false"])?;
    Ok(())
}

fn run(node: &Node, name: &str, image: &str, script: &str) -> Result<()> {
    let pull = "--image-pull-policy=IfNotPresent";
    let image = format!("--image={image}");
    node.kubectl(&["-n", FAULTS, "run", name, &image, pull, "--restart=Never", "--", "sh", "-c", script])?;
    Ok(())
}

/// A fork bomb stays within its pod's limit, the shop goes on, and the pod can be taken away.
async fn forks_without_end(node: &Node, shell: &str) -> Result<()> {
    run(node, "bomb", shell, "f() { f | f & }; while :; do f; sleep 1; done")?;
    node.until(&["-n", FAULTS, "logs", "bomb", "--tail=100"], |text| text.contains("ork"))?;
    let load = Load {
        name: "beside a fork bomb",
        address: node.edge(),
        host: HOSTS[0].0.to_owned(),
        path: "/".to_owned(),
        echo: false,
        expect: HOSTS[0].1.to_owned(),
        keep_alive: false,
        connections: 2,
        requests_per_s: 20,
    };
    let visitors = load.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    visitors.stop().await?.nothing_lost()?;
    let nodes = node.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.contains(" Ready "), "the node is not ready: {nodes}");
    node.kubectl(&["-n", FAULTS, "delete", "pod", "bomb", "--grace-period=1", "--timeout=60s"])?;
    Ok(())
}

/// Processes that stay are as many as the limit allows: some of them are the pod's own.
fn stays_within_its_limit(node: &Node, shell: &str) -> Result<()> {
    run(node, "many", shell, "(while :; do sleep 1000 & done); exec sleep 1000")?;
    node.until(&["-n", FAULTS, "logs", "many", "--tail=100"], |text| text.contains("ork"))?;
    let limit: u64 = POD_PIDS_MAX.parse().context("the limit is a number")?;
    let taken = processes(node, "many")?;
    ensure!((limit - 10..=limit).contains(&taken), "the pod has {taken} processes, its limit is {limit}");
    node.kubectl(&["-n", FAULTS, "delete", "pod", "many", "--grace-period=1", "--timeout=60s"])?;
    Ok(())
}

/// How many processes a pod has at this moment.
fn processes(node: &Node, name: &str) -> Result<u64> {
    let summary = node.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{NAME}/proxy/stats/summary")])?;
    let summary: Value = serde_json::from_str(&summary).context("a summary")?;
    let mut pods = summary["pods"].as_array().context("a list of pods")?.iter();
    let pod = pods.find(|pod| pod["podRef"]["name"] == name).context("the pod is in it")?;
    pod["process_stats"]["process_count"].as_u64().context("a count of processes")
}

/// What a container prints without end takes a bounded part of the disk, and its newest lines are there.
fn fills_its_log(node: &Node, shell: &str) -> Result<()> {
    run(node, "flood", shell, "head -c 400000000 /dev/zero; echo; echo the last line; sleep 1000")?;
    let logs = node.data().join("logs");
    let mut most = 0;
    wait(LIMIT, || {
        most = most.max(bytes_below(&logs, "flood")?);
        let tail = node.kubectl(&["-n", FAULTS, "logs", "flood", "--tail=1"]);
        Ok(tail.is_ok_and(|tail| tail.contains("the last line")).then_some(()))
    })?;
    ensure!((1 << 20..LOG_BYTES_MAX).contains(&most), "the log has taken {most} bytes");
    node.kubectl(&["-n", FAULTS, "delete", "pod", "flood", "--grace-period=1", "--timeout=60s"])?;
    Ok(())
}

/// Bytes of the files below a folder whose path has this word.
fn bytes_below(folder: &Path, word: &str) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A file may be set aside while we look.
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() {
            bytes += bytes_below(&path, word)?;
        } else if path.to_string_lossy().contains(word) {
            bytes += about.len();
        }
    }
    Ok(bytes)
}

/// A container that does not listen has its grace, and not more.
fn ignores_sigterm(node: &Node, shell: &str) -> Result<()> {
    run(node, "deaf", shell, "trap '' TERM; echo begun; while :; do sleep 1; done")?;
    node.until(&["-n", FAULTS, "logs", "deaf"], |text| text.contains("begun"))?;
    let watch = Stopwatch::start();
    node.kubectl(&["-n", FAULTS, "delete", "pod", "deaf", "--grace-period=2", "--timeout=30s"])?;
    let took = watch.elapsed();
    ensure!(took >= Duration::from_secs(2), "it was killed after {took:?}");
    Ok(())
}
