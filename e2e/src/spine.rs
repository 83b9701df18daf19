//! The whole of it on this machine: `corten up` in a network namespace of its own, images made from nothing, the shop of
//! `examples/`, kubectl's everyday verbs, kills of everything that may be killed, a rollout under load, and the purge, after which
//! the machine is as it was.
//!
//! The steps build on each other and run in order; `--focus` names the last one that is wanted.

mod heal;
mod node;
mod rollout;
mod shop;
mod traces;
mod verbs;

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use crate::server::corten_program;
use node::Node;
use traces::Traces;

/// Set in the process that is in its own namespaces.
const INSIDE: &str = "CORTEN_E2E_INSIDE";

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

/// A server's usual network: loopback, and a link with an address, whose other end is nobody's.
const NETWORK: [&str; 8] = [
    "link set lo up",
    "link add up0 type veth peer name up1",
    "link set up0 addrgenmode none",
    "link set up1 addrgenmode none",
    "address add 192.0.2.2/24 dev up0",
    "link set up0 up",
    "link set up1 up",
    "route add default via 192.0.2.1",
];

/// Names of the steps, in their order.
const STEPS: [&str; 8] = ["up", "shop", "verbs", "streams", "heal", "control-kills", "edge-kill", "rollout"];

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if env::var_os(INSIDE).is_none() {
        let folder = tempfile::tempdir()?;
        node::make_images(&corten_program(arguments.corten.clone())?, folder.path())?;
        return enter();
    }
    for line in NETWORK {
        let done = Command::new("ip").args(line.split(' ')).status().context("ip (iproute2)")?;
        ensure!(done.success(), "ip {line}: {done}");
    }
    let before = Traces::take()?;
    let mut node = Node::new(corten_program(arguments.corten.clone())?, &arguments)?;
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

/// Runs this program again where nobody else's network is.
fn enter() -> Result<ExitCode> {
    let own = env::current_exe()?;
    let mut inside = Command::new("unshare");
    inside.args(["--net", "--mount", "--propagation", "private", "--"]).arg(own).args(env::args_os().skip(1));
    let error = inside.env(INSIDE, "1").exec();
    Err(error).context("unshare (util-linux)")
}

async fn step(name: &str, node: &mut Node, arguments: &Arguments) -> Result<()> {
    let watch = Stopwatch::start();
    let outcome = match name {
        "up" => node.up(),
        "shop" => shop::deploy(node).await,
        "verbs" => verbs::everyday(node),
        "streams" => verbs::streams(node),
        "heal" => heal::containers_and_pods(node),
        "control-kills" => heal::control_kills(node, arguments.kills).await,
        "edge-kill" => heal::edge_kill(node).await,
        "rollout" => rollout::nothing_lost(node).await,
        other => anyhow::bail!("no step is called {other}"),
    };
    report(name, &watch, &outcome);
    outcome.with_context(|| format!("step {name}"))
}

fn report(name: &str, watch: &Stopwatch, outcome: &Result<()>) {
    let word = if outcome.is_ok() { "ok     " } else { "FAILED " };
    println!("{word} {name} ({:.1} s)", watch.elapsed().as_secs_f64());
}
