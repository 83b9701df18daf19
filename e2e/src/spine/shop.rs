//! Images from nothing, the shop of `examples/`, and its three hosts at the edge.

use anyhow::{Context as _, Result, ensure};

use super::node::{LIMIT, Node};
use crate::load::Load;

/// The hosts of the shop and a word of each one's page.
pub(super) const HOSTS: [(&str, &str); 3] =
    [("www.localhost", "The little shop"), ("blog.localhost", "Journal"), ("admin.localhost", "Back office")];

pub(super) const NAMESPACE: &str = "shop";

/// Imports the images, applies the manifests, waits for Ready, and asks every host through the edge.
pub(super) async fn deploy(node: &mut Node) -> Result<()> {
    node.images(&[])?;
    node.kubectl(&["apply", "-f", &Node::example("shop")])?;
    let deployments = node.kubectl(&["-n", NAMESPACE, "get", "deployments", "-o", "name"])?;
    ensure!(deployments.lines().count() >= 3, "the shop has too few parts: {deployments}");
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    for deployment in deployments.lines() {
        node.kubectl(&["-n", NAMESPACE, "rollout", "status", deployment, &limit])?;
    }
    names(node)?;
    for (host, word) in HOSTS {
        answers(node, host, word).await.with_context(|| format!("http://{host}/"))?;
    }
    Ok(())
}

/// A pod finds Services by name, within its namespace and beyond.
fn names(node: &Node) -> Result<()> {
    let pod = super::verbs::pod(node, "blog")?;
    let full = "kubernetes.default.svc.cluster.local";
    for (name, object, namespace) in [("www", "www", NAMESPACE), (full, "kubernetes", "default")] {
        let address = node.field(namespace, &format!("service/{object}"), "{.spec.clusterIP}")?;
        let ask = format!("import socket; print(socket.gethostbyname({name:?}))");
        let found = node.kubectl(&["-n", NAMESPACE, "exec", &pod, "--", "/usr/bin/python3", "-c", &ask])?;
        ensure!(found.trim() == address, "{name} is {address}, and the resolver says {found}");
    }
    Ok(())
}

/// One host answers, again and again, with its own page.
async fn answers(node: &Node, host: &'static str, word: &str) -> Result<()> {
    let load = Load {
        name: host,
        address: node.edge(),
        host: host.to_owned(),
        path: "/".to_owned(),
        echo: false,
        expect: word.to_owned(),
        keep_alive: true,
        connections: 4,
        requests_per_s: 200,
    };
    let running = load.start();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    running.stop().await?.nothing_lost()
}
