//! Pods on every server, and the ways between them.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::Stage;
use super::lan::ADDRESS;
use crate::process::wait;
use crate::spine::node::LIMIT;

/// One web server a node, and a Service, a headless one and an Ingress before them.
const WEB: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: localhost/test/busybox:1
        command: [httpd, -f, -p, "8080", -h, /etc]
        readinessProbe: {httpGet: {port: 8080, path: /hostname}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: web.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"#;

/// A pod with its node and its address.
struct Pod {
    name: String,
    node: String,
    address: String,
}

/// A pod on each server, of an image that was imported on the first alone; logs and exec reach all of them by the API of the
/// first.
pub(super) fn pods(stage: &mut Stage) -> Result<()> {
    let file = stage.first.folder().join("web.yaml");
    std::fs::write(&file, WEB)?;
    stage.first.kubectl(&["apply", "-f", &file.display().to_string()])?;
    stage.first.kubectl(&["rollout", "status", "daemonset/web", &format!("--timeout={}s", LIMIT.as_secs())])?;
    let pods = web(stage)?;
    let nodes: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    ensure!(nodes == ["one", "three", "two"].into(), "pods are on {nodes:?}");
    for pod in &pods {
        let said = stage.first.kubectl(&["exec", &pod.name, "--", "hostname"])?;
        ensure!(said.trim() == pod.name, "exec on {} says {said}", pod.node);
        stage.first.kubectl(&["logs", &pod.name])?;
    }
    for further in [&stage.second, &stage.third] {
        let (_, images) = further.says(&["image", "ls"])?;
        ensure!(images.contains("localhost/test/busybox:1"), "{} has the images {images}", further.name);
    }
    used(stage)
}

/// What servers and pods use is asked of all of them.
fn used(stage: &Stage) -> Result<()> {
    let known = |table: &str| table.lines().filter(|line| !line.contains("<unknown>")).count() == 3;
    stage.first.until(&["top", "nodes", "--no-headers"], known)?;
    stage.first.until(&["top", "pods", "-l", "app=web", "--no-headers"], known)?;
    let page = stage.first.corten(&["status"])?;
    let figures = page.lines().filter(|line| line.contains(" ready ") && line.contains(" days") && !line.contains('?'));
    ensure!(figures.count() == 3, "not every server says how it is: {page}");
    Ok(())
}

fn web(stage: &Stage) -> Result<Vec<Pod>> {
    let path = r#"jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{"\n"}{end}"#;
    let lines = stage.first.kubectl(&["get", "pods", "-l", "app=web", "-o", path])?;
    let pods = lines.lines().filter_map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        Some(Pod { name: words.next()?, node: words.next()?, address: words.next()? })
    });
    Ok(pods.collect())
}

/// Every pod reaches every other by its address, and all of them by the Service's name; so do the servers and their edges.
pub(super) fn services(stage: &mut Stage) -> Result<()> {
    let pods = web(stage)?;
    let names: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    for from in &pods {
        for to in &pods {
            let url = format!("http://{}:8080/hostname", to.address);
            let said = stage.first.kubectl(&["exec", &from.name, "--", "timeout", "10", "wget", "-qO-", &url])?;
            ensure!(said.trim() == to.name, "from {} to {}: {said:?}", from.node, to.node);
        }
        let ask = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do timeout 10 wget -qO- http://web/hostname; done";
        let said = stage.first.kubectl(&["exec", &from.name, "--", "sh", "-c", ask])?;
        let seen: BTreeSet<&str> = said.lines().map(str::trim).collect();
        ensure!(said.lines().count() == 24 && seen == names, "from {}, the Service leads to {seen:?}", from.node);
    }
    let address = stage.first.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    for further in [&stage.second, &stage.third] {
        let direct = format!("http://{address}/hostname");
        for words in [&["timeout", "10", "busybox", "wget", "-qO-", &direct][..], &EDGE] {
            wait(LIMIT, || {
                let seen = (0..24).map(|_| further.on(words).output());
                let seen = seen.collect::<std::io::Result<Vec<_>>>()?;
                let all: BTreeSet<String> =
                    seen.iter().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).collect();
                Ok((all == names.iter().map(ToString::to_string).collect()).then_some(()))
            })
            .map_err(|error| error.context(format!("{words:?} on {} does not lead to all pods", further.name)))?;
        }
    }
    Ok(())
}

/// busybox's own limit of time (-T) ends it with a fault in Debian 12.
const EDGE: [&str; 8] =
    ["timeout", "10", "busybox", "wget", "-qO-", "--header", "Host: web.localhost", "http://127.0.0.1/hostname"];

/// An agent that is killed stops nothing, and finds everything when it starts again, without a token.
pub(super) fn restarted(stage: &mut Stage) -> Result<()> {
    let state = |stage: &Stage| {
        let path = r#"jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID}{"\n"}{end}"#;
        stage.first.kubectl(&["get", "pods", "-l", "app=web", "-o", path])
    };
    let before = state(stage)?;
    stage.second.kill()?;
    let output = stage.second.on(&EDGE).output()?;
    ensure!(output.status.success(), "without its agent, the edge of two does not answer");
    stage.second.start(&format!("corten node --server https://{ADDRESS}:6443"))?;
    stage.first.until(&["get", "node", "two", "--no-headers"], |line| line.contains(" Ready "))?;
    services(stage)?;
    ensure!(state(stage)? == before, "containers are others:\n{before}\n{}", state(stage)?);
    Ok(())
}
