//! Real clients, as they come and without options, each as a named test against one server: kubectl of two versions,
//! a client-go program, the Python client, a kube-rs program. They live in `e2e/clients`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use crate::server::{Flush, Server};
use crate::tested::Tested;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    tested: Tested,
    /// Against a real Kubernetes instead: shows that the clients ask for nothing that it does not do.
    #[arg(long)]
    real: bool,
    /// Only tests whose name contains this.
    #[arg(long, default_value = "")]
    focus: String,
}

/// What a client says when the server is to be killed and started again.
pub(crate) const RESTART: &str = "WAIT restart";

const NAMES: [&str; 5] = ["kubectl-1.36", "kubectl-1.32", "client-go", "python", "kube-rs"];

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let names: Vec<&str> = NAMES.into_iter().filter(|name| name.contains(&arguments.focus)).collect();
    ensure!(!names.is_empty(), "no test contains {:?}; there are {}", arguments.focus, NAMES.join(", "));
    let mut failed = Vec::new();
    for name in &names {
        let command = prepare(name, &arguments.tested.programs).with_context(|| format!("cannot prepare {name}"))?;
        let mut server = if arguments.real {
            Server::real(&arguments.tested.programs, Flush::Never, &[]).await?
        } else {
            Server::corten(&arguments.tested.program()?, &[])?
        };
        let watch = Stopwatch::start();
        let outcome = play(command, &mut server).await;
        let seconds = watch.elapsed().as_secs_f64();
        match outcome {
            Ok(steps) => println!("ok      {name} ({steps} steps, {seconds:.1} s)"),
            Err(error) => {
                println!("FAILED  {name} ({seconds:.1} s): {error:#}");
                println!("the server said last:\n{}", server.tail()?);
                failed.push(*name);
            }
        }
        server.stop()?;
    }
    println!("{} of {} clients are content with {}", names.len() - failed.len(), names.len(), target(&arguments));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn target(arguments: &Arguments) -> &'static str {
    if arguments.real { "the real Kubernetes" } else { "Corten" }
}

/// Builds or installs what a client needs, and says how to run it.
fn prepare(name: &str, programs: &Path) -> Result<Command> {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let cache = programs.parent().context("the programs lie in a cache folder")?;
    match name {
        "client-go" => client_go(programs).map(Command::new),
        "python" => python(&clients, cache),
        "kube-rs" => kube_rs(&clients),
        kubectl => {
            let program = if kubectl.ends_with("1.32") { "kubectl-1.32" } else { "kubectl" };
            let mut command = Command::new(clients.join("kubectl.sh"));
            command.arg(kubectl.replace('.', "-")).env("KUBECTL", programs.join(program));
            Ok(command)
        }
    }
}

/// Builds the program beside the folder of the others.
pub(crate) fn client_go(programs: &Path) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/client-go");
    let program = programs.with_file_name("client-go");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-mod=readonly", "-o"]).arg(&program).arg(".");
    finish(build.current_dir(folder).env("CGO_ENABLED", "0"))?;
    Ok(program)
}

fn python(clients: &Path, cache: &Path) -> Result<Command> {
    let requirements = clients.join("python/requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    let place = cache.join(format!("python-{}", wanted.trim().replace(['=', '\n'], "-")));
    if !place.join("complete").is_file() {
        finish(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))?;
        finish(Command::new(place.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(&requirements))?;
        fs::write(place.join("complete"), &wanted)?;
    }
    let mut command = Command::new(place.join("bin/python"));
    command.arg(clients.join("python/client.py")).arg(clients.join("web.yaml"));
    Ok(command)
}

/// A workspace of its own, so that its crates are not the product's.
fn kube_rs(clients: &Path) -> Result<Command> {
    let manifest = clients.join("kube-rs/Cargo.toml");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(&cargo);
    finish(build.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(&manifest))?;
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    Ok(command)
}

fn finish(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Runs a client to its end. Returns how many steps held.
async fn play(mut command: Command, server: &mut Server) -> Result<usize> {
    command.env("KUBECONFIG", &server.kubeconfig).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
    let mut input = child.stdin.take().context("standard input is a pipe")?;
    let mut said = Vec::new();
    for line in output.lines() {
        let line = line?;
        if line == RESTART {
            server.restart().await?;
            writeln!(input)?;
        }
        said.push(line);
    }
    let status = child.wait()?;
    if !status.success() {
        let failures: Vec<&str> = said.iter().map(String::as_str).filter(|line| !line.starts_with("ok ")).collect();
        bail!("{status}, {} steps held; what else it said:\n{}", said.len() - failures.len(), failures.join("\n"));
    }
    let steps = said.iter().filter(|line| line.starts_with("ok ")).count();
    ensure!(steps > 0, "it ended well without a single step");
    Ok(steps)
}
