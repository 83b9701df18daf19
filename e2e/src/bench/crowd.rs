//! A control plane with many nodes and pods: what it holds in memory, what it costs when nothing changes, how soon it is
//! there again. The nodes are hollow; Deployments, their pods and their placement are real.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use corten_stdx::clock::Stopwatch;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::census::{cpu, peak_kib, pss_kib};
use super::crew::Crew;
use super::hollow::{Hollow, PLACE};
use super::of_node;
use crate::http::Request;
use crate::spine::node::{NAME, Node};

/// The load keeps both cores busy; a lease that comes late is no lost node.
const GRACE_S: u32 = 120;

/// Pods of one Deployment, and Deployments of one namespace.
const REPLICAS: usize = 100;
const DEPLOYMENTS: usize = 10;

/// For the load as a whole.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// In Deployments of a hundred.
    #[arg(long, default_value_t = 30_000)]
    pods: usize,
    /// How long everything rests before it is looked at, and then is looked at, in seconds.
    #[arg(long, default_value_t = 60)]
    rest_s: u64,
    /// Starts with everything there.
    #[arg(long, default_value_t = 3)]
    starts: usize,
}

pub(crate) async fn run(corten: PathBuf, programs: &Path, arguments: Arguments) -> Result<ExitCode> {
    let node = || {
        let mut node = Node::new(corten, programs)?.at(&PLACE);
        node.grace_s(GRACE_S);
        Ok(node)
    };
    of_node(node, async |node| figures(node, &arguments).await).await
}

async fn figures(node: &mut Node, arguments: &Arguments) -> Result<()> {
    node.up()?;
    // What is bound here would be run.
    node.kubectl(&["cordon", NAME])?;
    println!("| control | PSS MiB | most RSS so far, MiB | processor, of one core |\n|---|---|---|---|");
    let rest = Duration::from_secs(arguments.rest_s);
    look(node, "alone", rest / 4).await?;
    let mut hollow = Hollow::start(&node.kubeconfig(), arguments.nodes).await?;
    look(node, &format!("{} nodes", arguments.nodes), rest).await?;
    hollow.run_pods(&node.kubeconfig())?;
    let watch = Stopwatch::start();
    deploy(node, arguments.pods).await?;
    hollow.until_running(arguments.pods, LIMIT).await.context("pods of Deployments")?;
    let took = watch.elapsed();
    look(node, &format!("{} pods too", arguments.pods), rest).await?;
    for start in 0..arguments.starts {
        drop(hollow);
        node.kill()?;
        let watch = Stopwatch::start();
        node.up()?;
        let ready = watch.elapsed().as_secs_f64();
        let used = cpu([control(node)?].into_iter())?.as_secs_f64();
        hollow = Hollow::again(&node.kubeconfig(), arguments.nodes)?;
        hollow.run_pods(&node.kubeconfig())?;
        let what = format!("start {} with all of it: ready in {ready:.2} s, of processor {used:.2} s", start + 1);
        look(node, &what, rest / 4).await?;
    }
    println!("\n{} pods of Deployments, created to all said to run: {:.1} s.", arguments.pods, took.as_secs_f64());
    Ok(())
}

/// A row, after a rest and for as long again.
async fn look(node: &mut Node, what: &str, rest: Duration) -> Result<()> {
    sleep(rest).await;
    let pid = control(node)?;
    let (watch, before) = (Stopwatch::start(), cpu([pid].into_iter())?);
    sleep(rest).await;
    let used = cpu([pid].into_iter())?.saturating_sub(before).as_secs_f64() / watch.elapsed().as_secs_f64();
    let [held, most] = [pss_kib(pid)?, peak_kib(pid)?].map(|kib| kib as f64 / 1024.0);
    println!("| {what} | {held:.0} | {most:.0} | {:.2} % |", used * 100.0);
    Ok(())
}

/// Control's process: what the kernel's guard has become.
fn control(node: &mut Node) -> Result<u32> {
    let (_, pid) = node.control()?.identity();
    let program = fs::read_link(format!("/proc/{pid}/exe"))?;
    anyhow::ensure!(program == node.program(), "{} runs, not control", program.display());
    Ok(pid)
}

async fn deploy(node: &Node, pods: usize) -> Result<()> {
    let number = pods.div_ceil(REPLICAS);
    let mut requests = Vec::new();
    for namespace in 0..number.div_ceil(DEPLOYMENTS) {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("crowd-{namespace}")}});
        requests.push(Request::new("POST", "/api/v1/namespaces").body("application/json", object.to_string()));
    }
    let mut crew = Crew::new(&node.kubeconfig(), 2)?;
    crew.send(requests).await?;
    let deployments = (0..number).map(|number| {
        let path = format!("/apis/apps/v1/namespaces/crowd-{}/deployments", number / DEPLOYMENTS);
        Request::new("POST", path).body("application/json", deployment(number).to_string())
    });
    crew.send(deployments.collect()).await
}

fn deployment(number: usize) -> Value {
    let name = format!("app-{number}");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name, "tier": "web", "version": "1"}},
                "spec": {"containers": [{
                    "name": "app", "image": "registry.example/app-1:1", "ports": [{"containerPort": 8080}],
                    "env": [{"name": "GREETING", "value": "hello"}, {"name": "LEVEL", "value": "info"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                }]},
            },
        },
    })
}
