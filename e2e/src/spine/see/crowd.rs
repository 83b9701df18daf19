//! A crowd comes and goes: an autoscaler brings two pods to four and back.

use anyhow::{Context as _, Result, ensure};

use super::super::node::Node;
use super::apply;

const NAMESPACE: &str = "see-crowd";

/// Pods that work as long as a file is there. They ask for little, so that a little work is a lot; windows are short, so that it is
/// over soon.
const CROWD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: see-crowd}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: crowd, namespace: see-crowd}
spec:
  replicas: 2
  selector: {matchLabels: {app: crowd}}
  template:
    metadata: {labels: {app: crowd}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
      - name: app
        image: localhost/test/busybox:1
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "while :; do [ -e /tmp/busy ] || sleep 1; done"]
        resources: {requests: {cpu: 50m}, limits: {cpu: 150m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: crowd, namespace: see-crowd}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: crowd}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 30}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
"#;

pub(super) fn all(node: &Node) -> Result<()> {
    apply(node, "crowd", CROWD)?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/crowd", "--timeout=120s"])?;
    let pods = node.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}"])?;
    let pods: Vec<&str> = pods.split_whitespace().collect();
    ensure!(pods.len() == 2, "there are {pods:?}");
    let replicas = ["-n", NAMESPACE, "get", "deployment/crowd", "-o", "jsonpath={.spec.replicas}"];
    for pod in &pods {
        node.kubectl(&["-n", NAMESPACE, "exec", pod, "--", "touch", "/tmp/busy"])?;
    }
    node.until(&replicas, |replicas| replicas == "4").context("nobody came to help")?;
    for pod in &pods {
        node.kubectl(&["-n", NAMESPACE, "exec", pod, "--", "rm", "/tmp/busy"])?;
    }
    node.until(&replicas, |replicas| replicas == "2").context("nobody left")?;
    let events = node.kubectl(&["-n", NAMESPACE, "get", "events", "-o", "jsonpath={.items[*].message}"])?;
    for text in [
        "New size: 4; reason: cpu resource utilization (percentage of request) above target",
        "New size: 2; reason: All metrics below target",
    ] {
        ensure!(events.contains(text), "{text:?} is not among {events}");
    }
    let conditions = node.field(NAMESPACE, "hpa/crowd", "{range .status.conditions[*]}{.type}={.status} {end}")?;
    ensure!(conditions.contains("AbleToScale=True") && conditions.contains("ScalingActive=True"), "{conditions}");
    node.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    Ok(())
}
