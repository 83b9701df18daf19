//! A node by itself: how soon it is ready, what it costs when idle, what an idle pod adds, and how soon pods are Ready. All of
//! it seen from outside, in namespaces of its own; there is no peer in this run.

mod idle;
mod pods;
mod ready;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use super::census::{Group, cpu};
use super::figures::spread;
use crate::process::wait;
use crate::sandbox;
use crate::spine::node::{LIMIT, Node, prepare_images};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Starts of each kind.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// Idle pods: what each costs, and with how many control is started again.
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// How long everything rests before it is looked at, and then is looked at, in seconds.
    #[arg(long, default_value_t = 30)]
    rest_s: u64,
    /// Rounds of pods and of replicas.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Pods of a round, one after the other.
    #[arg(long, default_value_t = 100)]
    burst: usize,
    /// Pods a second within a round.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Replicas of a Deployment that are created at once.
    #[arg(long, default_value_t = 50)]
    replicas: usize,
}

const IMAGES: [&str; 1] = ["busybox"];

pub(crate) async fn run(corten: PathBuf, programs: &Path, arguments: Arguments) -> Result<ExitCode> {
    if !sandbox::is_inside() {
        prepare_images(&corten, &IMAGES)?;
        return sandbox::enter();
    }
    sandbox::network()?;
    let group = Group::make(&format!("e2e-bench-{}", std::process::id()))?;
    let mut node = Node::new(corten, programs)?;
    let join = format!("echo $$ > {} && exec \"$@\"", group.processes().display());
    // The burst of the next figure comes while the last one's pods end.
    node.max_pods((arguments.pods + 20).max(110));
    node.started_by(&["sh", "-c", &join, "sh"]);
    let outcome = figures(&mut node, &group, &arguments).await;
    if let Err(error) = &outcome {
        println!("{error:#}\n{}", node.report()?);
    }
    node.purge()?;
    // Processes that were killed have left their group when the kernel says so.
    wait(LIMIT, || Ok(std::fs::read_to_string(group.processes())?.is_empty().then_some(())))?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn figures(node: &mut Node, group: &Group, arguments: &Arguments) -> Result<()> {
    println!(
        "| start | ready ms | node Ready | DNS answers | edge answers | as printed | control's processor until then, ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    let (mut empty, mut lease) = (Starts::default(), None);
    for _ in 0..arguments.starts {
        node.purge()?;
        empty.measure(node, &mut lease).await.context("a start with an empty data directory")?;
    }
    println!("{}", empty.row("empty data directory"));
    node.images(&IMAGES)?;
    let idle = idle::measure(node, group, arguments.rest_s, arguments.pods).await?;
    let mut again = Starts::default();
    for _ in 0..arguments.starts {
        node.kill()?;
        again.measure(node, &mut lease).await.context("a start with pods")?;
    }
    println!("{}\n\n{idle}", again.row(&format!("with {} pods running", arguments.pods)));
    idle::remove_pods(node)?;
    pods::measure(node, arguments).await
}

/// Milliseconds of several starts.
#[derive(Default)]
struct Starts {
    all: Vec<f64>,
    node: Vec<f64>,
    names: Vec<f64>,
    edge: Vec<f64>,
    printed: Vec<f64>,
    processor: Vec<f64>,
}

impl Starts {
    async fn measure(&mut self, node: &mut Node, lease: &mut Option<String>) -> Result<()> {
        let watch = Stopwatch::start();
        node.start()?;
        let seen = ready::watch(node, &watch, lease).await?;
        let used = cpu([node.control()?.identity().1].into_iter())?;
        self.processor.push(used.as_secs_f64() * 1e3);
        let [of_node, names, edge] = [seen.node, seen.names, seen.edge].map(|took| took.as_secs_f64() * 1e3);
        self.all.push(of_node.max(names).max(edge));
        self.node.push(of_node);
        self.names.push(names);
        self.edge.push(edge);
        self.printed.push(ready::printed_ms(node)?);
        Ok(())
    }

    fn row(&self, what: &str) -> String {
        let columns = [&self.all, &self.node, &self.names, &self.edge, &self.printed, &self.processor];
        format!("| {what} | {} |", columns.map(|column| spread(column, 0)).join(" | "))
    }
}
