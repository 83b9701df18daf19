//! kubectl's everyday verbs against the running shop.

use anyhow::{Context as _, Result, ensure};

use super::node::Node;
use super::shop::NAMESPACE;
use crate::applied;

/// Names of pods that are not being deleted.
const STAYING: &str =
    "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{\"\\n\"}}{{end}}{{end}}";

/// A pod of the shop to look at: one that is to stay.
pub(super) fn pod(node: &Node, app: &str) -> Result<String> {
    let label = format!("app.kubernetes.io/name={app}");
    let names = node.kubectl(&["-n", NAMESPACE, "get", "pods", "-l", &label, "-o", STAYING])?;
    let first = names.lines().next().with_context(|| format!("{app} has no pod"))?;
    Ok(first.to_owned())
}

/// apply and diff of what is there, scale, rollout status and undo, wait, delete.
pub(super) fn everyday(node: &mut Node) -> Result<()> {
    applied::again(|| node.command(&[]), node.folder())?;

    node.kubectl(&["-n", NAMESPACE, "scale", "deployment/www", "--replicas=5"])?;
    let five = ["-n", NAMESPACE, "get", "deployment/www", "-o", "jsonpath={.status.readyReplicas}"];
    node.until(&five, |ready| ready == "5")?;
    node.kubectl(&["-n", NAMESPACE, "scale", "deployment/www", "--replicas=3"])?;
    node.until(&five, |ready| ready == "3")?;

    node.kubectl(&["-n", NAMESPACE, "set", "env", "deployment/www", "ONCE=yes"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "undo", "deployment/www"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    let env = node.field(NAMESPACE, "deployment/www", "{.spec.template.spec.containers[0].env[*].name}")?;
    ensure!(!env.contains("ONCE"), "the undo left {env}");

    let name = pod(node, "www")?;
    node.kubectl(&["-n", NAMESPACE, "delete", "pod", &name])?;
    node.until(&five, |ready| ready == "3")?;
    Ok(())
}
