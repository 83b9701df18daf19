//! Ten times the requests come through the edge: an autoscaler brings two pods to ten in time, and back when they stop, and no
//! request is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::node::Node;
use super::super::run::page;
use super::apply;
use crate::load::{Load, Running};
use crate::process::wait;

const NAMESPACE: &str = "see-requests";
const HOST: &str = "page.localhost";

/// From ten times the load until ten pods are ready.
const IN_TIME: Duration = Duration::from_secs(15);

/// For everything that has no bar of its own.
const LIMIT: Duration = Duration::from_secs(60);

/// One pod is to have twenty requests a second, so that a crowd of ten times the usual ones wants all that there may be.
const PAGE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: see-requests}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: page, namespace: see-requests}
spec:
  replicas: 2
  selector: {matchLabels: {app: page}}
  template:
    metadata: {labels: {app: page}}
    spec:
      terminationGracePeriodSeconds: 2
      automountServiceAccountToken: false
      containers:
      - name: app
        image: localhost/test/busybox:1
        imagePullPolicy: IfNotPresent
        command: [httpd, -f, -p, "8080", -h, /etc]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: page, namespace: see-requests}
spec:
  selector: {app: page}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: page, namespace: see-requests}
spec:
  rules:
  - host: page.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: page, port: {number: 80}}}}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: page, namespace: see-requests}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: page}
  minReplicas: 2
  maxReplicas: 10
  metrics:
  - type: Pods
    pods: {metric: {name: requests_per_second}, target: {type: AverageValue, averageValue: "20"}}
  behavior:
    scaleUp: {policies: [{type: Percent, value: 400, periodSeconds: 15}]}
    scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 100, periodSeconds: 15}]}
"#;

pub(super) fn all(node: &Node) -> Result<()> {
    apply(node, "requests", PAGE)?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/page", "--timeout=120s"])?;
    let knows = || Ok(page(node, HOST, "/passwd")?.contains(" 200 ").then_some(()));
    wait(LIMIT, knows).context("the edge leads to the page")?;
    // The loads go on while this thread waits for kubectl.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let inside = runtime.enter();
    let usual = load(node, "the usual requests", 30);
    let known = "jsonpath={.status.conditions[?(@.type==\"ScalingActive\")].status}";
    node.until(&["-n", NAMESPACE, "get", "hpa/page", "-o", known], |known| known == "True")?;
    let crowd = load(node, "ten times as many", 300);
    let ready = ["-n", NAMESPACE, "get", "deployment/page", "-o", "jsonpath={.status.readyReplicas}"];
    let came = node.until(&ready, |ready| ready == "10").context("nobody came to help");
    let took = crowd.elapsed();
    let crowd = runtime.block_on(crowd.stop())?;
    let left = node.until(&ready, |ready| ready == "2").context("nobody left");
    let usual = runtime.block_on(usual.stop())?;
    drop(inside);
    came?;
    left?;
    println!("        ten times the requests: ten pods after {:.1} s", took.as_secs_f64());
    ensure!(took < IN_TIME, "ten pods were ready after {took:?} only");
    crowd.nothing_lost()?;
    usual.nothing_lost()?;
    let events = node.kubectl(&["-n", NAMESPACE, "get", "events", "-o", "jsonpath={.items[*].message}"])?;
    let reason = "New size: 10; reason: pods metric requests_per_second above target";
    ensure!(events.contains(reason), "{reason:?} is not among {events}");
    node.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    Ok(())
}

fn load(node: &Node, name: &'static str, requests_per_s: u32) -> Running {
    let load = Load {
        name,
        address: node.edge(),
        host: HOST.to_owned(),
        path: "/passwd".to_owned(),
        echo: false,
        expect: "root".to_owned(),
        keep_alive: true,
        connections: 8,
        requests_per_s,
    };
    load.start()
}
