//! Persistent volumes: a claim has the size that it asked for and no more, grows, outlives pods and control, and goes with what
//! it was made for. A container that puts a link into its volume gets nobody anywhere.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::statvfs;

use super::node::Node;
use crate::process::wait;
use crate::told::{News, Webhook, now_ms};

const NAMESPACE: &str = "volumes";
const POD: &str = "rows-0";
const CLAIM: &str = "pvc/data-rows-0";
const MIB: u64 = 1 << 20;

/// One pod stays, with its volume, so that kills of control and the purge meet it.
pub(super) fn kept(node: &mut Node) -> Result<()> {
    apply(node, include_str!("volumes.yaml"))?;
    ready(node)?;
    holds_its_size(node)?;
    fills(node)?;
    hostile_link(node)?;
    goes_with_its_replica(node)?;
    grows(node)?;
    outlives_control(node)
}

fn apply(node: &Node, objects: &str) -> Result<()> {
    let file = node.folder().join("volumes.yaml");
    fs::write(&file, objects)?;
    node.kubectl(&["apply", "-f", file.to_str().context("a path of text")?]).map(drop)
}

fn ready(node: &Node) -> Result<()> {
    let ready = "jsonpath={.status.containerStatuses[0].ready}{.metadata.deletionTimestamp}";
    node.until(&["-n", NAMESPACE, "get", "pod", POD, "-o", ready], |ready| ready == "true").map(drop)
}

fn shell(node: &Node, script: &str) -> Result<String> {
    node.kubectl(&["-n", NAMESPACE, "exec", POD, "--", "sh", "-c", script])
}

/// 64 MiB do not fit into 32, and nobody else is short of room.
fn holds_its_size(node: &Node) -> Result<()> {
    let written = shell(node, "dd if=/dev/zero of=/data/much bs=1M count=64 2>&1; rm /data/much")?;
    ensure!(written.contains("No space left on device"), "{written}");
    let free = statvfs(node.data())?;
    ensure!(free.f_bavail * free.f_frsize > 64 * MIB, "the node's own disk is full");
    shell(node, "echo one >/data/row; dd if=/dev/zero of=/data/some bs=1M count=16 2>/dev/null").map(drop)
}

/// Who is told of the volume's namespace hears that it is full, and that it is well again; `corten status` says how it grows.
fn fills(node: &Node) -> Result<()> {
    let mut webhook = Webhook::start(node.folder(), "volumes-webhook")?;
    apply(node, &webhook.notifier(NAMESPACE, "volumes", "Disk")?)?;
    let news = |state| News { state, fact: "Disk", name: "data-rows-0" };
    shell(node, "dd if=/dev/zero of=/data/much bs=1M count=64 2>/dev/null || true")?;
    webhook.hears_in_time(news("wrong"), now_ms())?;
    let page = node.corten(&["status"])?;
    let words = ["pvc/data-rows-0 in volumes", "its volume is ", "kubectl -n volumes patch pvc data-rows-0"];
    ensure!(words.iter().all(|words| page.contains(words)), "{page}");
    shell(node, "rm /data/much")?;
    // It is asked for, and has to be well for a while.
    webhook.hears(news("well"), now_ms())?;
    node.kubectl(&["-n", NAMESPACE, "delete", "notifier", "volumes"]).map(drop)
}

/// A part of a volume that is a link to the node's own files is refused.
fn hostile_link(node: &Node) -> Result<()> {
    shell(node, "ln -s /etc /data/way")?;
    apply(node, include_str!("hostile.yaml"))?;
    let waiting = "jsonpath={.status.containerStatuses[0].state.waiting}";
    let refused = node.until(&["-n", NAMESPACE, "get", "pod", "hostile", "-o", waiting], |waiting| {
        waiting.contains("CreateContainerConfigError")
    })?;
    ensure!(refused.contains("failed to prepare subPath for volumeMount \\\"data\\\""), "{refused}");
    node.kubectl(&["-n", NAMESPACE, "delete", "pod", "hostile", "--timeout=60s"])?;
    shell(node, "rm /data/way").map(drop)
}

fn disks(node: &Node) -> Result<usize> {
    Ok(fs::read_dir(node.data().join("volumes"))?.count())
}

/// A second replica has a disk of its own, which goes when the set is made smaller.
fn goes_with_its_replica(node: &Node) -> Result<()> {
    let scale = |replicas: &str| {
        node.kubectl(&["-n", NAMESPACE, "scale", "statefulset/rows", &format!("--replicas={replicas}")])
    };
    let set = ["-n", NAMESPACE, "get", "statefulset", "rows", "-o", "jsonpath={.status.readyReplicas}"];
    scale("2")?;
    node.until(&set, |ready| ready == "2")?;
    ensure!(disks(node)? == 2, "two replicas have {} disks", disks(node)?);
    scale("1")?;
    node.until(&["get", "pv", "--no-headers"], |volumes| volumes.lines().count() == 1)?;
    wait(super::node::LIMIT, || Ok((disks(node)? == 1).then_some(())))
}

/// More is asked for; the claim has it when its pod has begun anew at the latest. What was written is there.
fn grows(node: &Node) -> Result<()> {
    let more = r#"{"spec":{"resources":{"requests":{"storage":"64Mi"}}}}"#;
    node.kubectl(&["-n", NAMESPACE, "patch", CLAIM, "-p", more])?;
    node.until(&["get", "pv", "-o", "jsonpath={.items[0].spec.capacity.storage}"], |size| size == "64Mi")?;
    let uid = node.field(NAMESPACE, &format!("pod/{POD}"), "{.metadata.uid}")?;
    node.kubectl(&["-n", NAMESPACE, "delete", "pod", POD, "--timeout=60s"])?;
    let told = ["-n", NAMESPACE, "get", CLAIM, "-o", "jsonpath={.status.capacity.storage}{.status.conditions}"];
    node.until(&told, |told| matches!(told, "64Mi" | "64Mi[]"))?;
    ready(node)?;
    ensure!(node.field(NAMESPACE, &format!("pod/{POD}"), "{.metadata.uid}")? != uid, "it is the same pod");
    let there = shell(node, "cat /data/row && dd if=/dev/zero of=/data/more bs=1M count=32 2>&1 && rm /data/more")?;
    ensure!(there.starts_with("one\n") && !there.contains("No space"), "{there}");
    Ok(())
}

/// Control dies and comes back: the container goes on, and so does its volume.
fn outlives_control(node: &mut Node) -> Result<()> {
    let pod = format!("pod/{POD}");
    let started = "{.status.containerStatuses[0].containerID}{.status.containerStatuses[0].state.running.startedAt}";
    let before = node.field(NAMESPACE, &pod, started)?;
    node.kill()?;
    node.up()?;
    ensure!(node.field(NAMESPACE, &pod, started)? == before, "the container was started again");
    let there = shell(node, "cat /data/row && echo two >>/data/row && cat /data/row")?;
    ensure!(there == "one\none\ntwo\n", "{there}");
    Ok(())
}

/// No device shows a file below a folder.
pub(super) fn no_device_of(folder: &Path) -> Result<()> {
    for device in fs::read_dir("/sys/block")? {
        // Most have no file behind them.
        let Ok(file) = fs::read_to_string(device?.path().join("loop/backing_file")) else { continue };
        ensure!(!Path::new(file.trim()).starts_with(folder), "a loop device still shows {}", file.trim());
    }
    Ok(())
}
