//! Servers that are drained, silent for a while, or lost.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use corten_stdx::clock::Stopwatch;
use rustix::process::Signal;

use super::Stage;
use crate::process::wait;
use crate::spine::node::LIMIT;
use crate::told::{News, Webhook, now_ms};

/// How long a node may be silent in these tests: more than the ten seconds between two signs of life.
pub(super) const GRACE_S: u32 = 16;
/// How long pods stay with a node that is lost.
const TOLERATION_S: u32 = 2;
/// What moving them may take on top; three seconds are the aim, a busy machine has more.
const MOVED_MAX_S: u32 = 20;

/// Less than the grace, counted from a sign of life.
const SILENCE: Duration = Duration::from_secs(8);

/// Four pods that leave a lost node soon and may be disrupted one at a time, and one that is never there twice.
const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 4
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        nodeTaintsPolicy: Honor
        matchLabelKeys: [pod-template-hash]
        labelSelector: {matchLabels: {app: app}}
      containers:
      - {name: app, image: "localhost/test/busybox:1", command: [sleep, "100000"]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: app}
spec: {minAvailable: 3, selector: {matchLabels: {app: app}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: only}
spec:
  replicas: 1
  serviceName: only
  selector: {matchLabels: {app: only}}
  template:
    metadata: {labels: {app: only}}
    spec:
      nodeName: three
      terminationGracePeriodSeconds: 1
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}]
      containers:
      - {name: only, image: "localhost/test/busybox:1", command: [sleep, "100000"]}
"#;

fn settle(stage: &Stage) -> Result<()> {
    apply(stage, "app", APP)?;
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    stage.first.kubectl(&["rollout", "status", "deployment/app", &limit])?;
    stage.first.kubectl(&["rollout", "status", "statefulset/only", &limit])?;
    Ok(())
}

fn apply(stage: &Stage, name: &str, objects: &str) -> Result<()> {
    let file = stage.first.folder().join(format!("{name}.yaml"));
    std::fs::write(&file, objects)?;
    stage.first.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
}

/// The pods of an application, `NAME NODE` each, that are not on their way out.
fn pods(stage: &Stage, app: &str) -> Result<Vec<(String, String)>> {
    let path =
        r#"jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.metadata.deletionTimestamp}{"\n"}{end}"#;
    let lines = stage.first.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", path])?;
    let staying = lines.lines().filter_map(|line| {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let [name, node] = words.as_slice() else { return None };
        Some(((*name).to_owned(), (*node).to_owned()))
    });
    Ok(staying.collect())
}

fn on(pods: &[(String, String)], node: &str) -> usize {
    pods.iter().filter(|(_, own)| own == node).count()
}

/// A drained server has no pods but those of DaemonSets, and the budget held all the time.
pub(super) fn drain(stage: &mut Stage) -> Result<()> {
    settle(stage)?;
    ensure!(on(&pods(stage, "app")?, "two") > 0, "no pod of the Deployment is on two");
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    let mut draining = stage.first.command(&["drain", "two", "--ignore-daemonsets", &limit]);
    let mut draining = draining.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
    let mut least = u32::MAX;
    let status = wait(LIMIT, || {
        let path = "jsonpath={.status.availableReplicas}";
        let available = stage.first.kubectl(&["get", "deployment", "app", "-o", path])?;
        least = least.min(available.parse().unwrap_or(0));
        Ok(draining.try_wait()?)
    })?;
    ensure!(status.success(), "kubectl drain ends with {status}");
    ensure!(least >= 3, "{least} pods were available while the budget is 3");
    ensure!(on(&pods(stage, "app")?, "two") == 0, "pods are left on two");
    stage.first.kubectl(&["uncordon", "two"])?;
    Ok(())
}

/// A server whose agent is stopped for less than the grace keeps its pods, and is ready all the time.
pub(super) fn silent(stage: &mut Stage) -> Result<()> {
    let before = pods(stage, "app")?;
    let sign = ["-n", "kube-node-lease", "get", "lease", "three", "-o", "jsonpath={.spec.renewTime}"];
    let last = stage.first.kubectl(&sign)?;
    stage.first.until(&sign, |time| time != last)?;
    stage.third.signal(Signal::STOP)?;
    thread::sleep(SILENCE);
    let ready = stage.first.kubectl(&["get", "node", "three", "--no-headers"]);
    stage.third.signal(Signal::CONT)?;
    let ready = ready?;
    ensure!(ready.contains(" Ready "), "after {SILENCE:?}: {ready}");
    ensure!(pods(stage, "app")? == before, "pods have moved");
    Ok(())
}

/// A server without its cable: what may move moves, what must not be there twice waits; with its cable, it is used again. Somebody is told
/// that it is lost, and that it is back.
pub(super) fn unplugged(stage: &mut Stage) -> Result<()> {
    // Some of the pods are there.
    stage.first.kubectl(&["rollout", "restart", "deployment/app"])?;
    settle(stage)?;
    ensure!(on(&pods(stage, "app")?, "three") > 0, "no pod of the Deployment is on three");
    let only = stage.first.kubectl(&["get", "pod", "only-0", "-o", "jsonpath={.metadata.uid}"])?;
    let mut webhook = Webhook::start(stage.first.folder(), "webhook")?;
    apply(stage, "notifier", &webhook.notifier("kube-system", "servers", "Node")?)?;
    stage.lan.set_plugged("three", false)?;
    let watch = Stopwatch::start();
    stage.first.until(&["get", "node", "three", "--no-headers"], |line| line.contains(" NotReady "))?;
    let (missed_ms, news) = (now_ms(), |state| News { state, fact: "Node", name: "three" });
    let moved = wait(LIMIT, || {
        let now = pods(stage, "app")?;
        let running =
            stage.first.kubectl(&["get", "deployment", "app", "-o", "jsonpath={.status.availableReplicas}"])?;
        Ok((on(&now, "three") == 0 && now.len() == 4 && running == "4").then_some(()))
    });
    let elapsed = watch.elapsed();
    println!("        pods have moved after {:.1} s", elapsed.as_secs_f64());
    moved?;
    webhook.hears_in_time(news("wrong"), missed_ms)?;
    let limit = Duration::from_secs(u64::from(GRACE_S + TOLERATION_S + MOVED_MAX_S));
    ensure!(elapsed < limit, "pods have moved after {elapsed:?}, the limit is {limit:?}");
    let still = stage.first.kubectl(&["get", "pod", "only-0", "-o", "jsonpath={.metadata.uid}"])?;
    ensure!(still == only, "a pod of a StatefulSet was made again while it may still run");
    stage.lan.set_plugged("three", true)?;
    stage.first.until(&["get", "node", "three", "--no-headers"], |line| line.contains(" Ready "))?;
    webhook.hears_in_time(news("well"), now_ms())?;
    webhook.hears_no_more()?;
    stage.first.kubectl(&["-n", "kube-system", "delete", "notifier", "servers"])?;
    // Its old pods end, and the one of the StatefulSet is made anew.
    stage.first.until(&["get", "pods", "-o", r#"jsonpath={.items[*].metadata.deletionTimestamp}"#], str::is_empty)?;
    stage.first.until(&["get", "pod", "only-0", "-o", "jsonpath={.metadata.uid} {.status.phase}"], |said| {
        said.ends_with(" Running") && !said.starts_with(&only)
    })?;
    stage.first.kubectl(&["rollout", "restart", "deployment/app"])?;
    settle(stage)?;
    ensure!(on(&pods(stage, "app")?, "three") > 0, "a server that came back gets no pods");
    Ok(())
}
