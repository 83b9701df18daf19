//! Judgement by strangers. `differential` sends the same requests to the real Kubernetes and to Corten and compares the
//! answers; `clients` runs kubectl, client-go, the Python client and kube-rs against Corten; `conformance` runs Kubernetes' own tests; `guest` boots a server of another kind, `host` one that systemd runs; `real` keeps a real control plane running to look at by hand.

mod applied;
mod bench;
mod clients;
mod conformance;
mod differential;
mod guest;
mod host;
mod http;
mod kubeconfig;
mod load;
mod process;
mod registry;
mod sandbox;
mod server;
mod servers;
mod spine;
mod tested;
mod told;

use std::io::{Read as _, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use server::{Flush, Server};

#[derive(Parser)]
#[command(name = "corten-e2e", about = "Judgement by strangers")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The same requests to the real Kubernetes and to Corten; fails on a difference that is not known.
    Differential(differential::Arguments),
    /// Real clients, as they come, against Corten.
    Clients(clients::Arguments),
    /// Kubernetes' own conformance tests against Corten; fails when one does not pass that did.
    Conformance(conformance::Arguments),
    /// Figures, with the peer in the same run where there is one; prints tables.
    Bench(bench::Arguments),
    /// Everything on this machine: the shop of `examples/`, kubectl, kills, a rollout under load, the purge.
    Spine(spine::Arguments),
    /// Several servers in namespaces of this machine: joining, pods and ways between them, a server lost.
    Servers(servers::Arguments),
    /// A server with control groups of v2 alone and Debian's own kernel, emulated: tests of the runtime, a node.
    Guest(guest::Arguments),
    /// What runs in it.
    #[command(hide = true)]
    GuestInside,
    /// A server that systemd runs: installation, upgrades under load, reboots.
    Host(host::Arguments),
    #[command(flatten)]
    Pretend(host::Pretend),
    /// Starts etcd and kube-apiserver, prints the kubeconfig, and ends them when standard input ends.
    Real {
        /// The folder that e2e/yardstick/build.sh prints.
        #[arg(long)]
        programs: PathBuf,
    },
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Verb::Differential(arguments) => differential::run(arguments).await,
        Verb::Clients(arguments) => clients::run(arguments).await,
        Verb::Conformance(arguments) => conformance::run(&arguments),
        Verb::Bench(arguments) => bench::run(arguments).await,
        Verb::Spine(arguments) => spine::run(arguments).await,
        Verb::Servers(arguments) => servers::run(arguments).await,
        Verb::Guest(arguments) => guest::run(&arguments),
        Verb::GuestInside => guest::inside(),
        Verb::Host(arguments) => host::run(arguments).await,
        Verb::Pretend(pretend) => pretend.run(),
        Verb::Real { programs } => {
            let server = Server::real(&programs, Flush::Never, &[]).await?;
            println!("export KUBECONFIG={}", server.kubeconfig.display());
            stdin().read_to_end(&mut Vec::new())?;
            server.stop()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
