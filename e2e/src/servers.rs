//! Several servers: network namespaces of this machine, joined by a switch that can be unplugged. The first runs `corten up`, the others
//! join it by the command that `corten token create` prints. Images are imported on the first alone. Pods spread, Services and names work across, a server is lost and comes
//! back, one is drained; at the end each is purged and has nothing left.

mod further;
mod join;
mod lan;
mod lost;
mod spread;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use crate::sandbox;
use crate::spine::node::{self, Node};
use crate::tested::Tested;
use further::Further;
use lan::Lan;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    tested: Tested,
    /// Ends after the first step whose name contains this.
    #[arg(long)]
    focus: Option<String>,
}

/// Names of the steps, in their order.
const STEPS: [&str; 10] =
    ["up", "refusals", "join", "spread", "services", "restart", "drain", "silent", "lost", "reinstalled"];

/// Who takes part.
struct Stage {
    lan: Lan,
    first: Node,
    second: Further,
    third: Further,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.tested.program()?;
    if !sandbox::is_inside() {
        node::prepare_images(&program, &["busybox"])?;
        return sandbox::enter();
    }
    let lan = Lan::new()?;
    let mut first = Node::new(program.clone(), &arguments.tested.programs)?.at(&lan::FIRST);
    first.grace_s(lost::GRACE_S);
    let [second, third] = [("two", 3), ("three", 4)].map(|(name, at)| Further::new(&program, &lan, name, at));
    let mut stage = Stage { lan, first, second: second?, third: third? };
    let mut outcome = Ok(());
    for name in STEPS {
        outcome = stage.step(name);
        if outcome.is_err() || arguments.focus.as_ref().is_some_and(|focus| name.contains(focus.as_str())) {
            break;
        }
    }
    if let Err(error) = &outcome {
        println!("{error:#}\n{}\n{}\n{}", stage.first.report()?, stage.second.tail()?, stage.third.tail()?);
    }
    let watch = Stopwatch::start();
    let purged = stage.purge();
    report("purge", &watch, &purged);
    if let Err(error) = &purged {
        println!("{error:#}");
    }
    Ok(if outcome.is_ok() && purged.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Stage {
    fn step(&mut self, name: &str) -> Result<()> {
        let watch = Stopwatch::start();
        let outcome = match name {
            "up" => self.first.images(&["busybox"]).and_then(|_| self.first.up()),
            "refusals" => join::refusals(self),
            "join" => join::both(self),
            "spread" => spread::pods(self),
            "services" => spread::services(self),
            "restart" => spread::restarted(self),
            "drain" => lost::drain(self),
            "silent" => lost::silent(self),
            "lost" => lost::unplugged(self),
            "reinstalled" => join::reinstalled(self),
            other => anyhow::bail!("no step is called {other}"),
        };
        report(name, &watch, &outcome);
        outcome.with_context(|| format!("step {name}"))
    }

    /// Each server goes, and its network is what it was.
    fn purge(&mut self) -> Result<()> {
        for further in [&mut self.second, &mut self.third] {
            further.purge()?;
        }
        self.first.purge()
    }
}

fn report(name: &str, watch: &Stopwatch, outcome: &Result<()>) {
    let word = if outcome.is_ok() { "ok     " } else { "FAILED " };
    println!("{word} {name} ({:.1} s)", watch.elapsed().as_secs_f64());
}
