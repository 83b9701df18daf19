//! A server that systemd runs: this machine's own systemd, as the first process of namespaces of their own. Corten is installed as
//! its service; control is ended and killed, the program replaced under load by a good one and by bad ones, the server rebooted in
//! order and by cutting its power, in the middle of a rollout, of an image's pull and of an upgrade; it is uninstalled; last it
//! joins another server's cluster.
//!
//! What is on its disk (`/etc`, `/var`, `/usr/local`) is in a folder and outlives a reboot. Processes, mounts, `/run`, links, rules and
//! control groups are the namespaces': they go with them, and each boot has new ones.

mod database;
mod install;
mod join;
mod machine;
mod pretend;
mod pull;
mod reboot;
mod upgrade;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use crate::load::{Load, Running};
use crate::sandbox;
use crate::spine::node;
use crate::tested::Tested;
use machine::Machine;

pub(crate) use pretend::Pretend;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    tested: Tested,
    /// Ends after the first step whose name contains this.
    #[arg(long)]
    focus: Option<String>,
    /// Leaves these steps out.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
}

/// Names of the steps, in their order.
const STEPS: [&str; 10] =
    ["boot", "refusals", "install", "restart", "upgrade", "database", "reboot", "power", "uninstall", "join"];

/// The host at whose name the application is, and a word of its page.
const HOST: &str = "app.localhost";
const WORD: &str = "nobody";

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.tested.program()?;
    if !sandbox::is_inside() {
        node::prepare_images(&program, &machine::IMAGES)?;
        return sandbox::enter();
    }
    let mut machine = Machine::new(&program, &arguments.tested.programs)?;
    let mut outcome = Ok(());
    for name in STEPS.into_iter().filter(|name| !arguments.without.iter().any(|without| without == name)) {
        outcome = step(&mut machine, name).await;
        if outcome.is_err() || arguments.focus.as_ref().is_some_and(|focus| name.contains(focus.as_str())) {
            break;
        }
    }
    if let Err(error) = &outcome {
        println!("{error:#}\n{}", machine.report());
    }
    let off = machine.cut_power();
    if let Err(error) = &off {
        println!("{error:#}");
    }
    Ok(if outcome.is_ok() && off.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn step(machine: &mut Machine, name: &str) -> Result<()> {
    let watch = Stopwatch::start();
    let outcome = match name {
        "boot" => machine.boot(),
        "refusals" => install::refusals(machine),
        "install" => install::whole(machine),
        "restart" => install::restarted(machine).await,
        "upgrade" => upgrade::all(machine).await,
        "database" => database::fill(machine),
        "reboot" => reboot::in_order(machine),
        "power" => reboot::power_cuts(machine),
        "uninstall" => install::undone(machine),
        "join" => join::joins(machine),
        other => anyhow::bail!("no step is called {other}"),
    };
    let word = if outcome.is_ok() { "ok     " } else { "FAILED " };
    println!("{word} {name} ({:.1} s)", watch.elapsed().as_secs_f64());
    outcome.with_context(|| format!("step {name}"))
}

/// Requests for the application from outside, through the server's edge, a connection for each.
fn visitors() -> Running {
    let load = Load {
        name: "through the edge of a server that is changed",
        address: machine::EDGE,
        host: HOST.to_owned(),
        path: "/passwd".to_owned(),
        echo: false,
        expect: WORD.to_owned(),
        keep_alive: false,
        connections: 8,
        requests_per_s: 200,
    };
    load.start()
}
