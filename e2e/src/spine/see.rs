//! What a user sees of a cluster: what servers, pods and containers use, by `kubectl top` of both versions; what blocks objects, by
//! `corten why` and `corten status`; and that autoscalers see it too. The parts run at once.

mod crowd;
mod requests;
mod why;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;

use super::node::Node;

const NAMESPACE: &str = "see";

/// A container that takes all the processor time that it may, which is a fifth, and one that holds 32 MiB.
const BUSY: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: see}
---
apiVersion: v1
kind: Pod
metadata: {name: busy, namespace: see, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - name: burn
    image: localhost/test/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "while :; do :; done"]
    resources: {limits: {cpu: 200m}}
  - name: hold
    image: localhost/test/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "head -c 33554432 /dev/zero | tail | sleep 100000"]
"#;

pub(super) fn all(node: &Node) -> Result<()> {
    apply(node, "busy", BUSY)?;
    let parts: [(&str, fn(&Node) -> Result<()>); 4] =
        [("top", used), ("why", why::all), ("crowd", crowd::all), ("requests", requests::all)];
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running = parts.map(|(name, part)| {
            scope.spawn(move || {
                let watch = Stopwatch::start();
                let outcome = part(node);
                println!("        {name}: {:.1} s", watch.elapsed().as_secs_f64());
                outcome.err().map(|error| format!("{name}: {error:#}"))
            })
        });
        let ended = running.into_iter().map(|part| part.join());
        ended.filter_map(|part| part.unwrap_or_else(|_| Some("a part has panicked".to_owned()))).collect()
    });
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    node.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    Ok(())
}

fn used(node: &Node) -> Result<()> {
    node.kubectl(&["-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/busy", "--timeout=60s"])?;
    for program in ["kubectl", "kubectl-1.32"] {
        top(node, program).with_context(|| program.to_owned())?;
    }
    // Nobody without rights sees it.
    let asked = node.kubectl(&["auth", "can-i", "list", "pods.metrics.k8s.io", "--as=ann"]);
    ensure!(asked.is_err(), "anybody may see what pods use");
    Ok(())
}

fn apply(node: &Node, name: &str, text: &str) -> Result<()> {
    let file = node.folder().join(format!("see-{name}.yaml"));
    fs::write(&file, text)?;
    node.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
}

/// A row of a table as words.
fn row<'a>(table: &'a str, first: &[&str]) -> Option<Vec<&'a str>> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
    rows.find(|words| words.starts_with(first))
}

/// A figure with its unit: `210m`, `33Mi`.
fn figure(words: &[&str], at: usize, unit: &str) -> Option<u64> {
    words.get(at)?.strip_suffix(unit)?.parse().ok()
}

fn top(node: &Node, program: &str) -> Result<()> {
    let run = |arguments: &[&str]| {
        let output = node.command_of(program, arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let nodes = run(&["top", "nodes"])?;
    let name = node.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let own = row(&nodes, &[name.trim()]).with_context(|| format!("{name} is not in {nodes}"))?;
    ensure!(figure(&own, 1, "m").is_some_and(|cpu| cpu > 0), "{nodes}");
    ensure!(figure(&own, 3, "Mi").is_some_and(|memory| memory > 32), "{nodes}");

    // The first look may be younger than what the second container has taken.
    let containers = ["top", "pods", "-n", NAMESPACE, "--containers"];
    let right = |table: &str| {
        let burn = row(table, &["busy", "burn"]).and_then(|words| figure(&words, 2, "m"));
        let hold = row(table, &["busy", "hold"]).and_then(|words| figure(&words, 3, "Mi"));
        // A window ends within a period of 100 ms, so that a little more than the limit can be in it.
        burn.is_some_and(|cpu| (20..=260).contains(&cpu)) && hold.is_some_and(|memory| (32..64).contains(&memory))
    };
    node.until_of(program, &containers, right)?;
    let everywhere = run(&["top", "pods", "-A"])?;
    ensure!(row(&everywhere, &[NAMESPACE, "busy"]).is_some(), "{everywhere}");
    let shop = everywhere.lines().filter(|line| line.starts_with("shop ")).count();
    ensure!(shop >= 3, "the shop's pods are missing: {everywhere}");
    let labelled = run(&["top", "pods", "-n", NAMESPACE, "-l", "app=busy", "--no-headers"])?;
    ensure!(labelled.lines().count() == 1, "{labelled}");
    Ok(())
}
