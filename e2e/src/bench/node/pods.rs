//! Pods with a readiness probe whose first connection must succeed, from the request that creates them until a watcher sees
//! them Ready: one after the other at a steady rate, and all replicas of a Deployment at once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::census::Role;
use super::super::figures::{quantile, spread};
use super::Arguments;
use super::idle::census;
use crate::http::{Client, Lines, Request};
use crate::kubeconfig::Endpoint;
use crate::spine::node::{LIMIT, Node};

pub(super) const IMAGE: &str = "localhost/test/busybox:1";

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SELECTED: &str = "labelSelector=app%3Dweb";

pub(super) async fn measure(node: &Node, arguments: &Arguments) -> Result<()> {
    let mut client = Client::new(&Endpoint::read(&node.data().join("admin.kubeconfig"))?)?;
    let mut took = Vec::new();
    for round in 0..arguments.rounds {
        let one = steady(&mut client, round, arguments).await.context("pods at a steady rate")?;
        took.extend(one);
        remove(node, &mut client, PODS).await?;
    }
    let mut at_once = Vec::new();
    for round in 0..arguments.rounds {
        at_once.push(replicas(&mut client, round, arguments.replicas).await.context("replicas at once")?);
        remove(node, &mut client, DEPLOYMENTS).await?;
    }
    let at = |percent| quantile(took.iter().copied(), percent);
    println!("\n| pods, created to Ready, ms | p50 | p99 | most | n |\n|---|---|---|---|---|");
    println!("| {} a second | {:.0} | {:.0} | {:.0} | {} |", arguments.rate, at(50), at(99), at(100), took.len());
    println!("\n{} replicas, created to all Ready: {} ms.", arguments.replicas, spread(&at_once, 0));
    Ok(())
}

/// Milliseconds of each pod.
async fn steady(client: &mut Client, round: usize, arguments: &Arguments) -> Result<Vec<f64>> {
    let mut lines = watch(client).await?;
    let since = Stopwatch::start();
    let mut ticks = interval(Duration::from_secs(1) / arguments.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let create = async {
        let mut asked = BTreeMap::new();
        for number in 0..arguments.burst {
            ticks.tick().await;
            let name = format!("web-{round}-{number}");
            let mut pod =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}});
            pod["spec"] = spec();
            asked.insert(name, since.elapsed());
            post(client, PODS, &pod).await?;
        }
        Ok(asked)
    };
    let seen = ready(&mut lines, &since, arguments.burst);
    let (asked, seen) = tokio::try_join!(create, seen)?;
    let took = |(name, at): (String, Duration)| {
        let seen = seen.get(&name).with_context(|| format!("{name} was not seen"))?;
        Ok(seen.saturating_sub(at).as_secs_f64() * 1e3)
    };
    asked.into_iter().map(took).collect()
}

/// Milliseconds until all are Ready.
async fn replicas(client: &mut Client, round: usize, number: usize) -> Result<f64> {
    let mut lines = watch(client).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("web-{round}"), "labels": {"app": "web"}},
        "spec": {
            "replicas": number, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec()},
        },
    });
    let since = Stopwatch::start();
    post(client, DEPLOYMENTS, &deployment).await?;
    let seen = ready(&mut lines, &since, number).await?;
    let last = seen.values().max().context("some were seen")?;
    Ok(last.as_secs_f64() * 1e3)
}

/// A web server, and a probe that finds it closed until it listens.
fn spec() -> Value {
    json!({"terminationGracePeriodSeconds": 0, "containers": [{
        "name": "web", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["httpd", "-f", "-p", "8080"],
        "readinessProbe": {"tcpSocket": {"port": 8080}},
    }]})
}

async fn post(client: &mut Client, path: &str, object: &Value) -> Result<()> {
    let answer = client.send(&Request::new("POST", path).body("application/json", object.to_string())).await?;
    ensure!(answer.code == 201, "{path}: {}: {}", answer.code, String::from_utf8_lossy(&answer.body));
    Ok(())
}

/// From now on.
async fn watch(client: &mut Client) -> Result<Lines> {
    let list = list(client).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("a list has a revision")?;
    client.lines(&Request::get(format!("{PODS}?watch=true&{SELECTED}&resourceVersion={revision}"))).await
}

async fn list(client: &mut Client) -> Result<Value> {
    let answer = client.send(&Request::get(format!("{PODS}?{SELECTED}"))).await?;
    ensure!(answer.code == 200, "{PODS}: {}", answer.code);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// When each of so many pods was first seen Ready.
async fn ready(lines: &mut Lines, since: &Stopwatch, number: usize) -> Result<BTreeMap<String, Duration>> {
    let mut seen = BTreeMap::new();
    while seen.len() < number {
        let Ok(line) = timeout(LIMIT, lines.next()).await else {
            anyhow::bail!("{} of {number} pods are Ready, and then nothing for {LIMIT:?}", seen.len())
        };
        let (line, at) = (line?, since.elapsed());
        let event: Value = serde_json::from_slice(&line)?;
        ensure!(event["type"] != "ERROR", "the watch says {event}");
        let object = &event["object"];
        ensure!(object["status"]["phase"] != "Failed", "a pod has failed: {}", object["status"]);
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
        if ready.any(|condition| condition["status"] == "True") {
            let name = object["metadata"]["name"].as_str().context("a pod has a name")?;
            seen.entry(name.to_owned()).or_insert(at);
        }
    }
    Ok(seen)
}

/// Deletes what was made, and waits until no pod is left, neither as an object nor on the node.
async fn remove(node: &Node, client: &mut Client, path: &str) -> Result<()> {
    let answer = client.send(&Request::new("DELETE", format!("{path}?{SELECTED}"))).await?;
    ensure!(answer.code == 200, "{path}: {}", answer.code);
    let since = Stopwatch::start();
    loop {
        let left = list(client).await?["items"].as_array().map_or(0, Vec::len);
        let running = census(node)?.own.iter().filter(|member| member.role == Role::Pod).count();
        if (left, running) == (0, 0) {
            break;
        }
        ensure!(since.elapsed() < LIMIT, "{left} pods are still there, {running} still run");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What was told of their end is done with before the next begin.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}
