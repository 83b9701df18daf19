//! `rollout`: history and its revisions, pause and resume, undo to any revision, restart; of Deployments, StatefulSets and
//! DaemonSets.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{IDLE, NAMESPACE, container, make};
use crate::spine::node::Node;

const NAME: &str = "steps";

/// What a restart writes into the template.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Numbers of the revisions that are kept, and what was written down as their cause.
type History = Vec<(u32, String)>;

pub(super) fn all(node: &Node) -> Result<()> {
    deployment(node).context("of a Deployment")?;
    for (kind, done) in
        [("StatefulSet", "partitioned roll out complete: 2 new pods"), ("DaemonSet", "successfully rolled out")]
    {
        set(node, kind, done).with_context(|| format!("of a {kind}"))?;
    }
    Ok(())
}

/// A workload whose pods do nothing.
fn workload(node: &Node, kind: &str) -> Result<String> {
    let labels = json!({"app": format!("steps-{kind}").to_lowercase()});
    let pod = json!({"containers": [container("main", IDLE)], "terminationGracePeriodSeconds": 1});
    let mut spec =
        json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}});
    if kind != "DaemonSet" {
        spec["replicas"] = json!(2);
    }
    make(node, &json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": NAME}, "spec": spec}))?;
    Ok(format!("{}/{NAME}", kind.to_lowercase()))
}

fn rollout(node: &Node, verb: &str, object: &str, rest: &[&str]) -> Result<String> {
    node.kubectl(&[&["-n", NAMESPACE, "rollout", verb, object], rest].concat())
}

fn done(node: &Node, object: &str, word: &str) -> Result<()> {
    let said = rollout(node, "status", object, &["--timeout=120s"])?;
    ensure!(said.lines().last().is_some_and(|line| line.contains(word)), "rollout status says {said}");
    Ok(())
}

fn history(node: &Node, object: &str) -> Result<History> {
    let said = rollout(node, "history", object, &[])?;
    let mut lines = said.lines().skip(1).filter(|line| !line.is_empty());
    ensure!(lines.next() == Some("REVISION  CHANGE-CAUSE"), "rollout history says {said}");
    let row = |line: &str| {
        let (number, cause) = line.split_once(' ').with_context(|| said.clone())?;
        Ok((number.parse()?, cause.trim().to_owned()))
    };
    lines.map(row).collect()
}

fn numbers(node: &Node, object: &str) -> Result<Vec<u32>> {
    Ok(history(node, object)?.into_iter().map(|(number, _)| number).collect())
}

/// What kubectl refuses, with what it says.
fn refused(node: &Node, verb: &str, object: &str, rest: &[&str], why: &str) -> Result<()> {
    let output = node.command(&[&["-n", NAMESPACE, "rollout", verb, object], rest].concat()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains(why), "rollout {verb} {rest:?} says {said}");
    Ok(())
}

fn deployment(node: &Node) -> Result<()> {
    let object = &*workload(node, "Deployment")?;
    let rolled_out = "deployment \"steps\" successfully rolled out";
    let change = |value: &str| node.kubectl(&["-n", NAMESPACE, "set", "env", object, value]);
    done(node, object, rolled_out)?;
    change("STEP=two")?;
    done(node, object, rolled_out)?;
    node.kubectl(&["-n", NAMESPACE, "annotate", object, "kubernetes.io/change-cause=the second step"])?;
    let kept = vec![(1, "<none>".to_owned()), (2, "the second step".to_owned())];
    // The controller writes it down.
    node.until(&["-n", NAMESPACE, "rollout", "history", object], |said| said.contains("2         the second step"))?;
    ensure!(history(node, object)? == kept, "the history is {:?}", history(node, object)?);
    let (first, second) = (revision(node, object, 1)?, revision(node, object, 2)?);
    ensure!(second.contains("STEP:\ttwo") && !first.contains("STEP"), "the revisions are\n{first}\n{second}");

    rollout(node, "pause", object, &[])?;
    refused(node, "pause", object, &[], "is already paused")?;
    change("STEP=three")?;
    refused(node, "undo", object, &[], "you cannot rollback a paused deployment")?;
    let seen = "jsonpath={.metadata.generation} {.status.observedGeneration} {.status.updatedReplicas}";
    let still = ["-n", NAMESPACE, "get", object, "-o", seen];
    let said = node.until(&still, |said| {
        let words: Vec<&str> = said.split(' ').collect();
        words[0] == words[1]
    })?;
    ensure!(said.ends_with(' ') || said.ends_with(" 0"), "while it is paused it goes on: {said}");
    ensure!(numbers(node, object)? == [1, 2], "while it is paused it has a new revision");
    rollout(node, "resume", object, &[])?;
    done(node, object, rolled_out)?;
    ensure!(numbers(node, object)? == [1, 2, 3], "the history is {:?}", history(node, object)?);

    rollout(node, "undo", object, &["--to-revision=1"])?;
    done(node, object, rolled_out)?;
    let env = node.field(NAMESPACE, object, "{.spec.template.spec.containers[0].env}")?;
    ensure!(env.is_empty(), "the first revision has {env}");
    ensure!(numbers(node, object)? == [2, 3, 4], "the history is {:?}", history(node, object)?);
    refused(node, "undo", object, &["--to-revision=77"], "unable to find specified revision 77 in history")?;
    restart(node, object, rolled_out)
}

fn revision(node: &Node, object: &str, number: u32) -> Result<String> {
    let said = rollout(node, "history", object, &[&format!("--revision={number}")])?;
    ensure!(said.lines().next().is_some_and(|line| line.ends_with(&format!("with revision #{number}"))), "{said}");
    ensure!(said.contains("Image:\tlocalhost/test/busybox:1"), "revision {number} is {said}");
    Ok(said)
}

/// Every pod is replaced.
fn restart(node: &Node, object: &str, word: &str) -> Result<()> {
    let label = format!("-l=app=steps-{}", object.split('/').next().context("a kind")?);
    let pods = ["-n", NAMESPACE, "get", "pods", &label, "-o", "jsonpath={.items[*].metadata.uid}"];
    let before = node.kubectl(&pods)?;
    rollout(node, "restart", object, &[])?;
    done(node, object, word)?;
    // Those before may still be ending.
    node.until(&pods, |after| !after.is_empty() && before.split(' ').all(|pod| !after.contains(pod)))?;
    Ok(())
}

/// Revisions that are objects of their own.
fn set(node: &Node, kind: &str, word: &str) -> Result<()> {
    let object = &*workload(node, kind)?;
    done(node, object, if kind == "StatefulSet" { "roll" } else { word })?;
    let first = history(node, object)?;
    ensure!(first == [(1, "<none>".to_owned())], "the history begins with {first:?}");
    restart(node, object, word)?;
    ensure!(numbers(node, object)? == [1, 2], "the history is {:?}", history(node, object)?);
    let second = revision(node, object, 2)?;
    ensure!(second.contains(RESTARTED), "the second revision is without its change: {second}");
    rollout(node, "undo", object, &["--to-revision=1"])?;
    done(node, object, word)?;
    let annotations = node.field(NAMESPACE, object, "{.spec.template.metadata.annotations}")?;
    ensure!(!annotations.contains(RESTARTED), "the first revision has {annotations}");
    ensure!(numbers(node, object)? == [2, 3], "the history is {:?}", history(node, object)?);
    Ok(())
}
