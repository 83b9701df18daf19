//! Objects that something blocks, and what `corten why` and `corten status` say of them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::super::node::{LIMIT, Node};
use super::{NAMESPACE, apply};
use crate::process::wait;

/// Each is broken in one way.
const BROKEN: &str = include_str!("broken.yaml");

/// What is to be said of each, once it has come to it.
const SAID: [(&str, &[&str]); 9] = [
    ("pod/unpullable", &["the image localhost/none:1 of container app cannot be had", "next: corten image ls"]),
    (
        "pod/dies",
        &["container app ends with exit code 3", "its log ends with: no database", "kubectl logs -n see dies"],
    ),
    ("pod/toobig", &["no server takes it", "Insufficient cpu", "next: corten status"]),
    ("pod/unready", &["container app runs and is not ready: Readiness probe failed"]),
    ("service/typo", &["its selector app=bsuy matches none", "the nearest is "]),
    ("service/portless", &["its port 80 leads to a port called http, which its pods do not have"]),
    (
        "ingress/nowhere",
        &["leads to the Service gone, which is not there", "the Secret gone-tls with its certificate is not there"],
    ),
    ("pvc/data", &["its class nothere is not there"]),
    ("deployment/short", &["0 of 1 pods are well", "cannot be had"]),
];

pub(super) fn all(node: &Node) -> Result<()> {
    apply(node, "broken", BROKEN)?;
    for (object, texts) in SAID {
        says(node, object, texts)?;
    }
    says(node, "pod/busy", &["nothing blocks it"])?;
    namespace(node)?;
    status(node)
}

/// Asks until the answer has every text.
fn says(node: &Node, object: &str, texts: &[&str]) -> Result<()> {
    let mut last = String::new();
    let found = wait(LIMIT, || {
        last = node.corten(&["why", object, "-n", NAMESPACE])?;
        Ok(texts.iter().all(|text| last.contains(text)).then_some(()))
    });
    found.with_context(|| format!("corten why {object} says {last:?}, not {texts:?}"))
}

/// A namespace that goes is held by one object of it, and goes when that lets go.
fn namespace(node: &Node) -> Result<()> {
    node.kubectl(&["delete", "namespace", "see-held", "--wait=false"])?;
    let texts = ["configmaps/keeper is held by its finalizers: example.com/keep", "kubectl patch configmaps keeper"];
    says(node, "namespace/see-held", &texts)?;
    let free = r#"{"metadata":{"finalizers":null}}"#;
    node.kubectl(&["-n", "see-held", "patch", "configmap", "keeper", "--type=merge", "-p", free])?;
    node.kubectl(&["wait", "--for=delete", "namespace/see-held", "--timeout=60s"])?;
    let gone = node.corten(&["why", "namespace/see-held"]);
    ensure!(gone.is_err_and(|error| error.to_string().contains("there is no namespace see-held")), "it is still there");
    Ok(())
}

/// The page has the server with figures, and what keeps dying with the command that says more.
fn status(node: &Node) -> Result<()> {
    let page = node.corten(&["status"])?;
    let own = page.lines().nth(1).unwrap_or_default();
    ensure!(own.contains(" ready ") && own.contains(" days") && !own.contains('?'), "the server's figures: {page}");
    ensure!(page.contains("What is wrong:"), "what is wrong is not told: {page}");
    let json: Value = serde_json::from_str(&node.corten(&["status", "-o", "json"])?)?;
    let wrong = json["wrong"].as_array().context("there is a list of what is wrong")?;
    let dies = wrong.iter().find(|wrong| wrong["object"] == "pod/dies in see").context("what dies is not told")?;
    let fact = dies["fact"].as_str().is_some_and(|fact| fact.contains("ends with exit code 3"));
    ensure!(fact && dies["next"][0] == "corten why pod/dies -n see", "{dies}");
    let server = &json["servers"][0];
    ensure!(server["cpu"]["used"].as_f64().is_some_and(|used| used > 0.0), "{server}");
    ensure!(server["diskBytes"]["free"].as_i64().is_some_and(|free| free > 0), "{server}");
    ensure!(server["certificateSeconds"].as_i64().is_some_and(|left| left > 86_400), "{server}");
    Ok(())
}
