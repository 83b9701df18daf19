//! The whole of it on this machine: `corten up` in a network namespace of its own, images made from nothing, the shop of
//! `examples/`, kubectl's everyday verbs, kills of everything that may be killed, a rollout under load, and the purge, after which
//! the machine is as it was.
//!
//! The steps build on each other and run in order; `--focus` names the last one that is wanted.

mod edge;
mod faults;
mod heal;
mod informer;
mod names;
pub(crate) mod node;
mod rollout;
mod shop;
mod traces;
mod verbs;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use crate::clients::client_go;
use crate::sandbox;
use crate::server::corten_program;
use informer::Informer;
use node::Node;
use traces::Traces;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder that e2e/yardstick/build.sh prints.
    #[arg(long)]
    programs: PathBuf,
    /// The program under test; by default `corten` beside this one.
    #[arg(long)]
    corten: Option<PathBuf>,
    /// How often control is killed while pods, routes and DNS have to go on.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Ends after the first step whose name contains this.
    #[arg(long)]
    focus: Option<String>,
}

/// Names of the steps, in their order.
const STEPS: [&str; 10] =
    ["up", "shop", "verbs", "streams", "faults", "heal", "control-kills", "edge-kill", "rollout", "informer"];

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if !sandbox::is_inside() {
        let folder = tempfile::tempdir()?;
        // What comes from package registries is fetched where they can be reached.
        node::make_images(&corten_program(arguments.corten.clone())?, folder.path(), &[])?;
        client_go(&arguments.programs)?;
        return sandbox::enter();
    }
    sandbox::network()?;
    // A server that has passed no packets on until now; the purge is to leave it so.
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").context("the switch of forwarding")?;
    let before = Traces::take()?;
    let mut node = Node::new(corten_program(arguments.corten.clone())?, &arguments.programs)?;
    let mut outcome = Ok(());
    for name in STEPS {
        outcome = step(name, &mut node, &arguments).await;
        if outcome.is_err() || arguments.focus.as_ref().is_some_and(|focus| name.contains(focus.as_str())) {
            break;
        }
    }
    if let Err(error) = &outcome {
        println!("{error:#}\n{}", node.report()?);
    }
    let watch = Stopwatch::start();
    let purged = node.purge().and_then(|()| before.compare(&Traces::take()?));
    report("purge", &watch, &purged);
    if let Err(error) = &purged {
        println!("{error:#}");
    }
    Ok(if outcome.is_ok() && purged.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn step(name: &str, node: &mut Node, arguments: &Arguments) -> Result<()> {
    let watch = Stopwatch::start();
    let outcome = match name {
        "up" => node.up(),
        "shop" => shop::deploy(node).await,
        "verbs" => verbs::everyday(node),
        "streams" => verbs::streams(node),
        "faults" => faults::all(node).await,
        "heal" => heal::containers_and_pods(node),
        "control-kills" => {
            node.informer = Some(Informer::start(&node.kubeconfig(), &client_go(&arguments.programs)?)?);
            heal::control_kills(node, arguments.kills).await
        }
        "edge-kill" => edge::kills(node).await,
        "rollout" => rollout::nothing_lost(node).await,
        "informer" => node.informer.take().context("it was started").and_then(Informer::finish),
        other => anyhow::bail!("no step is called {other}"),
    };
    report(name, &watch, &outcome);
    outcome.with_context(|| format!("step {name}"))
}

fn report(name: &str, watch: &Stopwatch, outcome: &Result<()>) {
    let word = if outcome.is_ok() { "ok     " } else { "FAILED " };
    println!("{word} {name} ({:.1} s)", watch.elapsed().as_secs_f64());
}
