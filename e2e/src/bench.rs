//! Figures: the API server, a node, the edge. Where there is a peer it gets the same load in the same run, alternately, so that
//! what else the machine does falls on both. Each prints Markdown tables and judges nothing.

mod api;
mod census;
mod crew;
mod crowd;
mod edge;
mod figures;
mod hollow;
mod node;
mod placement;
mod services;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};

use crate::sandbox;
use crate::spine::node::Node;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder that e2e/yardstick/build.sh prints.
    #[arg(long)]
    programs: PathBuf,
    /// The program under test; by default the one built for release.
    #[arg(long, global = true)]
    corten: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Objects over TLS, against kube-apiserver with etcd.
    Api(api::Arguments),
    /// Starts, what an idle node costs, pods from their creation to Ready.
    Node(node::Arguments),
    /// Requests through the edge, against nginx.
    Edge(edge::Arguments),
    /// Control with many nodes and pods: memory, processor, starts.
    Crowd(crowd::Arguments),
    /// Pods bound, against upstream's scheduler on the same server.
    Placement(placement::Arguments),
    /// Services in the kernel, from the request to the effect.
    Services(services::Arguments),
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let corten = program(arguments.corten)?;
    match arguments.what {
        What::Api(own) => api::run(&corten, &arguments.programs, own).await,
        What::Node(own) => node::run(corten, &arguments.programs, own).await,
        What::Edge(own) => edge::run(&corten, &arguments.programs, own).await,
        What::Crowd(own) => crowd::run(corten, &arguments.programs, own).await,
        What::Services(own) => services::run(corten, &arguments.programs, own).await,
        What::Placement(own) => placement::run(corten, &arguments.programs, own).await,
    }
}

/// `release/corten` beside the folder of this program, if no other is named.
fn program(given: Option<PathBuf>) -> Result<PathBuf> {
    let program = match given {
        Some(program) => program,
        None => {
            let own = env::current_exe()?;
            let target = own.ancestors().nth(2).context("this program lies in a folder of the target directory")?;
            target.join("release/corten")
        }
    };
    ensure!(program.is_file(), "{} is not there: cargo build --release -p corten", program.display());
    Ok(program.canonicalize()?)
}

/// Figures of one node in namespaces of its own, which is purged behind them; where they fail, with what it said last.
async fn of_node(
    node: impl FnOnce() -> Result<Node>,
    figures: impl AsyncFnOnce(&mut Node) -> Result<()>,
) -> Result<ExitCode> {
    if !sandbox::is_inside() {
        return sandbox::enter();
    }
    sandbox::network()?;
    let mut node = node()?;
    let outcome = figures(&mut node).await;
    if let Err(error) = &outcome {
        println!("{error:#}\n{}", node.control()?.tail()?);
    }
    node.purge()?;
    outcome.map(|()| ExitCode::SUCCESS)
}
