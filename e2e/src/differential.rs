//! The differential test: the same generated requests go to the real kube-apiserver and to Corten; status code, body
//! and warnings are compared after what must differ (identifiers, times, revisions) is made equal.
//!
//! A difference that is not in `e2e/differential/known.tsv` is a failure, and so is a row there that no difference
//! needs any more. What the real server answers differently from one time to the next is in `unsettled.tsv`. The same
//! seed gives the same requests.

mod compare;
mod golden;
mod kinds;
mod known;
mod mutate;
mod normalize;
mod report;
mod scenario;
mod scenarios;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use corten_stdx::clock::Stopwatch;
use corten_stdx::random::Random;
use serde_json::json;

use crate::applied;
use crate::http::{Client, Request};
use crate::server::{Flush, Server};
use crate::tested::Tested;
use known::Known;
use report::Report;
use scenario::Scenario;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    tested: Tested,
    /// Compare with a second real Kubernetes instead: shows that the test itself is quiet.
    #[arg(long)]
    real_twice: bool,
    /// With --real-twice: a flag for the second one, to show that the test sees what it changes.
    #[arg(long, allow_hyphen_values = true)]
    altered: Vec<String>,
    /// Only scenarios whose `category/group/version/kind` contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// What the generated mutations derive from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mutated objects for each kind.
    #[arg(long, default_value_t = 12)]
    count: usize,
    /// Print every difference instead of one example a group.
    #[arg(long)]
    all: bool,
    /// Take rows and numbers that are not needed any more out of known.tsv.
    #[arg(long)]
    shrink: bool,
    /// Also write every difference to this file, separated by tabs.
    #[arg(long)]
    write: Option<PathBuf>,
}

impl Arguments {
    fn known() -> PathBuf {
        folder().join("known.tsv")
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("differential")
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let folder = folder();
    let left = Server::real(&arguments.tested.programs, Flush::Never, &[]).await?;
    let right = if arguments.real_twice {
        let altered: Vec<&str> = arguments.altered.iter().map(String::as_str).collect();
        Server::real(&arguments.tested.programs, Flush::Never, &altered).await?
    } else {
        // Beside the real server none run either.
        Server::corten(&arguments.tested.program()?, &["--controllers", "none"])?
    };
    let mut known = if arguments.real_twice { Known::default() } else { Known::read(&Arguments::known())? };
    known.unsettled(&folder.join("unsettled.tsv"))?;
    let report = compare_servers(&arguments, &folder, [&left, &right]).await?;
    if arguments.filter.is_empty() {
        applied_by_kubectl(&arguments.tested.programs.join("kubectl"), [&left, &right])?;
    }
    let code = report.print(&known, &arguments)?;
    right.stop()?;
    left.stop()?;
    Ok(code)
}

async fn compare_servers(arguments: &Arguments, folder: &Path, servers: [&Server; 2]) -> Result<Report> {
    let mut clients = [servers[0].client()?, servers[1].client()?];
    for (client, server) in clients.iter_mut().zip(servers) {
        prepare(client).await.with_context(|| format!("cannot prepare {}:\n{}", server.name, tail(server)))?;
    }
    let kinds = kinds::read(&mut clients[0], &folder.join("samples.yaml")).await?;
    let scenarios = scenarios(arguments, &kinds)?;
    let watch = Stopwatch::start();
    let mut report = Report::default();
    for scenario in &scenarios {
        scenario.play(&mut clients, &mut report).await?;
    }
    let elapsed = watch.elapsed().as_secs_f64();
    println!(
        "seed {}: {} scenarios, {} requests in {elapsed:.1} s",
        arguments.seed,
        scenarios.len(),
        report.requests()
    );
    Ok(report)
}

/// What kubectl says of the shop that is applied again is the same from both.
fn applied_by_kubectl(kubectl: &Path, servers: [&Server; 2]) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    for server in servers {
        let command = || {
            let mut command = Command::new(kubectl);
            command.env("KUBECONFIG", &server.kubeconfig).env("HOME", scratch.path());
            command
        };
        let first = command().args(["apply", "-f"]).arg(applied::folder()).output()?;
        ensure!(first.status.success(), "{}: {}", server.name, String::from_utf8_lossy(&first.stderr));
        applied::again(command, scratch.path()).with_context(|| server.name)?;
    }
    println!("kubectl apply and diff of the shop say the same of both");
    Ok(())
}

fn scenarios(arguments: &Arguments, kinds: &[kinds::Kind]) -> Result<Vec<Scenario>> {
    let random = Random::seeded(arguments.seed);
    let mut scenarios = scenarios::all(kinds)?;
    scenarios.extend(golden::all(kinds)?);
    scenarios.extend(mutate::all(kinds, &random, arguments.count)?);
    scenarios.retain(|scenario| scenario.name().contains(&arguments.filter));
    if scenarios.is_empty() {
        bail!("no scenario contains {:?}", arguments.filter);
    }
    Ok(scenarios)
}

/// The namespace of the test, with the account that a controller would make.
async fn prepare(client: &mut Client) -> Result<()> {
    let objects = [
        (
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scenario::NAMESPACE}}),
        ),
        (
            "/api/v1/namespaces/diff/serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        ),
    ];
    for (path, object) in objects {
        let answer = client.send(&Request::new("POST", path).body("application/json", object.to_string())).await?;
        if ![201, 409].contains(&answer.code) {
            bail!("{path}: {} {}", answer.code, String::from_utf8_lossy(&answer.body));
        }
    }
    Ok(())
}

fn tail(server: &Server) -> String {
    server.tail().unwrap_or_else(|error| format!("no output: {error:#}"))
}
