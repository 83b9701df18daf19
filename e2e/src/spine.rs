//! The whole of it on this machine: `corten up` in a network namespace of its own, images made from nothing, the shop of
//! `examples/`, kubectl's everyday verbs, kills of everything that may be killed, a rollout under load, and the purge, after which
//! the machine is as it was.
//!
//! The steps build on each other and run in order; `--focus` names the last one that is wanted, `--only` all that are.

mod browser;
mod database;
mod edge;
pub(crate) mod faults;
mod heal;
mod informer;
mod interrupted;
pub(crate) mod kills;
mod kubectl;
mod moved;
mod names;
mod neighbour;
pub(crate) mod node;
mod notify;
mod ready;
mod rollout;
mod run;
mod see;
mod shop;
mod short;
pub(crate) mod story;
pub(crate) mod traces;
mod verbs;
mod volumes;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use crate::clients::client_go;
use crate::sandbox;
use crate::tested::Tested;
use informer::Informer;
use node::Node;
use traces::Traces;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    tested: Tested,
    /// How often control is killed while pods, routes and DNS have to go on.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// How often anything at all is killed under load.
    #[arg(long, default_value_t = 12, overrides_with = "random_kills")]
    random_kills: u32,
    /// Decides in which order; another one each time if it is not given and there are many kills.
    #[arg(long)]
    seed: Option<u64>,
    /// Ends after the first step whose name contains this.
    #[arg(long)]
    focus: Option<String>,
    /// These steps alone, and what they need.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Arguments {
    fn wants(&self, step: &str) -> bool {
        let named = self.only.iter().any(|name| name == step);
        named || NEEDED.contains(&step) || self.only.is_empty()
    }
}

/// Names of the steps, in their order.
const STEPS: &[&str] = &[
    "neighbour",
    "cut-short",
    "up",
    "shop",
    "browser",
    "verbs",
    "kubectl",
    "run",
    "see",
    "notify",
    "faults",
    "volumes",
    "short",
    "database",
    "heal",
    "control-kills",
    "edge-kill",
    "random-kills",
    "rollout",
    "story",
    "informer",
    MOVED,
];

/// The one that comes after the purge.
const MOVED: &str = "moved";

/// Steps that none of the later ones can do without.
const NEEDED: [&str; 2] = ["up", "shop"];

/// Who takes part.
struct Stage {
    node: Node,
    /// A second instance on the same network, which must not notice anything.
    neighbour: Node,
    /// All that were there so far.
    instances: Vec<String>,
    /// The machine without any.
    alone: Traces,
    /// The machine with the neighbour.
    beside: Option<Traces>,
    arguments: Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.tested.program()?;
    let known = arguments.only.iter().all(|name| STEPS.contains(&name.as_str()));
    ensure!(known, "the steps are {}", STEPS.join(", "));
    if !sandbox::is_inside() {
        node::prepare_images(&program, &[])?;
        if arguments.wants("database") {
            node::prepare_images(&program, &["database"])?;
        }
        client_go(&arguments.tested.programs)?;
        return sandbox::enter();
    }
    sandbox::network()?;
    // A server that has passed no packets on until now; the purge is to leave it so.
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").context("the switch of forwarding")?;
    let node = Node::new(program.clone(), &arguments.tested.programs)?;
    let neighbour = Node::new(program, &arguments.tested.programs)?.at(&neighbour::PLACE);
    let alone = Traces::settled(&[])?;
    let mut stage = Stage { node, neighbour, instances: Vec::new(), alone, beside: None, arguments };
    let mut outcome = Ok(());
    for &name in STEPS {
        if !stage.arguments.wants(name) || name == MOVED {
            continue;
        }
        outcome = stage.step(name).await;
        if outcome.is_err() || stage.arguments.focus.as_ref().is_some_and(|focus| name.contains(focus.as_str())) {
            break;
        }
    }
    if let Err(error) = &outcome {
        println!("{error:#}\n{}", stage.node.report()?);
    }
    let purged = stage.purge();
    let moved = outcome.is_err() || !purged || stage.moved();
    let left = stage.leave();
    Ok(if outcome.is_ok() && purged && moved && left { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Stage {
    async fn step(&mut self, name: &str) -> Result<()> {
        let watch = Stopwatch::start();
        let node = &mut self.node;
        let outcome = match name {
            "neighbour" => self.settle(),
            "cut-short" => match &self.beside {
                Some(beside) => interrupted::starts(node, beside, &mut self.instances).await,
                None => Ok(()),
            },
            "up" => ready::up(node),
            "shop" => shop::deploy(node).await,
            "browser" => browser::shows(node),
            "verbs" => verbs::everyday(node),
            "kubectl" => kubectl::daily(node),
            "run" => run::one_command(node),
            "see" => see::all(node),
            "notify" => notify::tells(node),
            "faults" => faults::all(node).await,
            "volumes" => volumes::kept(node),
            "short" => short::of_everything(node),
            "database" => database::keeps_rows(node),
            "heal" => heal::containers_and_pods(node),
            "control-kills" => self.control_kills().await,
            "edge-kill" => edge::kills(node).await,
            "random-kills" => self.random_kills().await,
            "rollout" => rollout::nothing_lost(node).await,
            "story" => story::told(node),
            "informer" => node.informer.take().context("it was started").and_then(Informer::finish),
            other => anyhow::bail!("no step is called {other}"),
        };
        report(name, &watch, &outcome);
        outcome.with_context(|| format!("step {name}"))
    }

    fn settle(&mut self) -> Result<()> {
        neighbour::settle(&mut self.neighbour)?;
        neighbour::refuses(&self.neighbour)?;
        self.instances.push(self.neighbour.instance()?);
        self.beside = Some(Traces::settled(&self.instances)?);
        Ok(())
    }

    async fn control_kills(&mut self) -> Result<()> {
        let (node, arguments) = (&mut self.node, &self.arguments);
        node.informer = Some(Informer::start(&node.kubeconfig(), &client_go(&arguments.tested.programs)?)?);
        heal::control_kills(node, arguments.kills).await
    }

    async fn random_kills(&mut self) -> Result<()> {
        let instances: Vec<String> = self.instances.iter().cloned().chain([self.node.instance()?]).collect();
        let plan = kills::Plan::new(self.arguments.random_kills, self.arguments.seed);
        kills::everything(&mut self.node, &instances, plan).await
    }

    /// The node goes; the neighbour stays as it was, and its pods answer.
    fn purge(&mut self) -> bool {
        let watch = Stopwatch::start();
        // There is none when it never came up.
        self.instances.extend(self.node.instance().ok());
        let purged = self.node.purge().and_then(|()| match &self.beside {
            Some(beside) => {
                beside.compare(&Traces::take(&self.instances)?)?;
                neighbour::answers(&self.neighbour)
            }
            None => Ok(()),
        });
        tell("purge", &watch, &purged)
    }

    /// The neighbour, if it is there and nobody wanted to end before, goes on elsewhere.
    fn moved(&mut self) -> bool {
        let is_wanted = self.arguments.wants(MOVED)
            && self.arguments.focus.as_ref().is_none_or(|focus| MOVED.contains(focus.as_str()));
        if !is_wanted || self.beside.is_none() {
            return true;
        }
        let watch = Stopwatch::start();
        let moved = moved::elsewhere(&mut self.neighbour);
        tell(MOVED, &watch, &moved)
    }

    /// The neighbour goes too; the machine is as it was.
    fn leave(&mut self) -> bool {
        let watch = Stopwatch::start();
        let left = self.neighbour.purge().and_then(|()| self.alone.compare(&Traces::take(&self.instances)?));
        tell("purge-neighbour", &watch, &left)
    }
}

/// Whether it went well.
fn tell(name: &str, watch: &Stopwatch, outcome: &Result<()>) -> bool {
    report(name, watch, outcome);
    if let Err(error) = outcome {
        println!("{error:#}");
    }
    outcome.is_ok()
}

fn report(name: &str, watch: &Stopwatch, outcome: &Result<()>) {
    let word = if outcome.is_ok() { "ok     " } else { "FAILED " };
    println!("{word} {name} ({:.1} s)", watch.elapsed().as_secs_f64());
}
