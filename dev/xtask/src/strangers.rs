//! Starts the tests that need the real Kubernetes: its programs are built once a machine, then `corten-e2e` runs.

use std::process::Command;

use anyhow::{Context, Result};

use crate::requirements;
use crate::step::{self, cargo};

/// What `e2e/yardstick/build.sh` builds for these tests.
const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kubectl", "kubectl-1.32"];

/// The conformance tests, and what they use.
const SUITE: [&str; 3] = ["e2e.test", "ginkgo", "kubectl"];

/// The differential test. It takes its own arguments.
pub(crate) fn differential(arguments: &[String]) -> Result<()> {
    run("differential", arguments)
}

/// Real clients against Corten, or with `--faults` the long run of kills. Each takes its own arguments.
pub(crate) fn clients(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((first, rest)) if first == "--faults" => {
            run("spine", &[FAULTS.map(str::to_owned).as_slice(), rest].concat())
        }
        _ => run("clients", arguments),
    }
}

/// Everything is killed, at random and under load, beside an instance that must not notice; what comes after it overrides it.
const FAULTS: [&str; 4] = ["--only", "neighbour,random-kills", "--random-kills", "300"];

/// Kubernetes' own tests against Corten. It takes its own arguments.
pub(crate) fn conformance(arguments: &[String]) -> Result<()> {
    run_with("conformance", &SUITE, arguments)
}

/// The examples on this machine, with real tools. It takes its own arguments.
pub(crate) fn spine(arguments: &[String]) -> Result<()> {
    run("spine", arguments)
}

/// Several servers on this machine. It takes its own arguments.
pub(crate) fn servers(arguments: &[String]) -> Result<()> {
    run("servers", arguments)
}

/// A server that systemd runs. It takes its own arguments.
pub(crate) fn host(arguments: &[String]) -> Result<()> {
    run("host", arguments)
}

/// What the crates measure of themselves.
const OWN: [(&str, &[&str]); 3] = [
    ("runtime", &["-p", "corten-runtime", "--bin", "start-bench"]),
    ("scheduler", &["-p", "corten-scheduler", "--example", "scheduler-load"]),
    ("table", &["-p", "corten-network", "--example", "services-load"]),
];

/// Figures of one part, built for release: `api`, `node`, `edge`, or what a crate measures of itself. The part takes its own
/// arguments.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let (part, rest) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    if let Some((_, program)) = OWN.iter().find(|(name, _)| *name == part) {
        let mut command = cargo(&["run", "--quiet", "--release"]);
        command.args(*program).arg("--").args(rest);
        return step::run(command);
    }
    requirements::check(&requirements::TEST)?;
    let programs = match part {
        "api" => programs(&["etcd", "kube-apiserver", "apiload"])?,
        "edge" => {
            requirements::check(&requirements::EDGE_BENCH)?;
            programs(&["kubectl"])?
        }
        "placement" => programs(&["kubectl", "kube-scheduler"])?,
        _ => programs(&["kubectl"])?,
    };
    step::run(cargo(&["build", "--quiet", "--release", "-p", "corten"]))?;
    let mut command = cargo(&["run", "--quiet", "-p", "corten-e2e", "--", "bench", "--programs", &programs]);
    command.args(arguments);
    step::run(command)
}

/// One of the tests that `corten-e2e` is.
pub(crate) fn run(test: &str, arguments: &[String]) -> Result<()> {
    run_with(test, &PROGRAMS, arguments)
}

fn run_with(test: &str, needed: &[&str], arguments: &[String]) -> Result<()> {
    requirements::check(&requirements::TEST)?;
    let programs = programs(needed)?;
    let mut command = Command::new(built()?);
    command.args([test, "--programs", &programs]).args(arguments);
    step::run(command)
}

/// Builds the platform and these tests. Returns the program that the tests are.
///
/// What the tests of the workspace were built from is taken as it is: a choice of packages has other features of what they share,
/// and so have programs without the features that tests want. Cargo gives them those beside an example.
fn built() -> Result<String> {
    let built = step::built(&[
        "build",
        "--workspace",
        "--bin",
        "corten",
        "--bin",
        "corten-e2e",
        "--example",
        "scheduler-load",
    ])?;
    let tests = built.iter().find(|message| message["target"]["name"] == "corten-e2e").context("cargo has built it")?;
    Ok(tests["executable"].as_str().context("it is a program")?.to_owned())
}

/// Builds the programs and returns their folder.
fn programs(names: &[&str]) -> Result<String> {
    println!("$ e2e/yardstick/build.sh {}", names.join(" "));
    let mut build = Command::new("e2e/yardstick/build.sh");
    let output = build.args(names).stderr(std::process::Stdio::inherit()).output().context("cannot start build.sh")?;
    anyhow::ensure!(output.status.success(), "e2e/yardstick/build.sh: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
