//! Kubernetes' own conformance tests, by its own programs, against Corten. Which test needs what stands in
//! `e2e/conformance/tests.tsv`, how each ended when it was last recorded in `status.tsv` beside it: a test that passed
//! and does not pass any more is a failure. Nothing is tried twice, and nothing is left out of what is asked for.

mod suite;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use regex_lite::Regex;

use crate::sandbox;
use crate::server::Server;
use crate::tested::Tested;
use suite::{Outcome, Suite};
use table::{Standing, Status, Test};

/// What a test may have taken when it was recorded, to be one of the fast ones.
const FAST_SECONDS: f64 = 30.0;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    tested: Tested,
    /// Only tests whose name matches this regular expression.
    #[arg(long, default_value = "")]
    focus: String,
    /// Only tests of these classes: A needs the API server alone, B controllers, C a node, D pods that reach each other, E two nodes.
    #[arg(long, default_value = "AB")]
    class: String,
    /// Only tests that passed when they were recorded, and are not slow.
    #[arg(long)]
    fast: bool,
    /// Write how they ended into the table.
    #[arg(long)]
    record: bool,
    /// How many tests run at a time.
    #[arg(long, default_value_t = 4)]
    procs: u8,
    /// After so many minutes what still runs has failed.
    #[arg(long, default_value_t = 60)]
    limit_minutes: u16,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let tests = table::tests(&folder.join("tests.tsv"))?;
    let place = folder.join("status.tsv");
    let mut status = Status::read(&place, &tests)?;
    let chosen = choose(arguments, &tests, &status)?;
    ensure!(!chosen.is_empty(), "no test is of class {:?} and matches {:?}", arguments.class, arguments.focus);
    let program = arguments.tested.program()?;
    if !sandbox::is_inside() {
        return sandbox::enter();
    }
    sandbox::network()?;
    let outcomes = play(arguments, &program, &chosen)?;
    for outcome in &outcomes {
        println!("{outcome}");
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    println!("{passed} of {} conformance tests pass, {} did not run", chosen.len(), chosen.len() - outcomes.len());
    if arguments.record {
        outcomes.iter().for_each(|outcome| status.record(&outcome.name, outcome.passed, outcome.seconds));
        status.write(&place, &tests)?;
        return Ok(ExitCode::SUCCESS);
    }
    let lost = lost(&chosen, &outcomes, &status);
    for name in &lost {
        println!("passed before: {name}");
    }
    Ok(if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tests that passed before and have not passed now, whether they failed or did not run.
fn lost<'a>(chosen: &[&'a str], outcomes: &[Outcome], status: &Status) -> Vec<&'a str> {
    let passes = |name: &str| outcomes.iter().any(|outcome| outcome.passed && outcome.name == name);
    let passed = chosen.iter().filter(|name| status.of(name).standing == Standing::Passed);
    passed.filter(|name| !passes(name)).copied().collect()
}

/// The names of the tests that are asked for.
fn choose<'a>(arguments: &Arguments, tests: &'a [Test], status: &Status) -> Result<Vec<&'a str>> {
    let focus = Regex::new(&arguments.focus).context("--focus")?;
    let is_fast = |name: &str| {
        let last = status.of(name);
        last.standing == Standing::Passed && last.seconds <= FAST_SECONDS
    };
    let wanted = |test: &&Test| {
        arguments.class.contains(test.class) && focus.is_match(&test.name) && (!arguments.fast || is_fast(&test.name))
    };
    Ok(tests.iter().filter(wanted).map(|test| test.name.as_str()).collect())
}

/// Runs them against a server of their own.
fn play(arguments: &Arguments, program: &Path, names: &[&str]) -> Result<Vec<Outcome>> {
    let server = Server::corten(program, &[])?;
    let Arguments { tested: Tested { programs, .. }, procs, limit_minutes, .. } = arguments;
    let suite = Suite { programs, kubeconfig: &server.kubeconfig, procs: *procs, limit_minutes: *limit_minutes };
    let outcomes = suite.run(names).with_context(|| format!("the server said last:\n{}", tail(&server)));
    server.stop()?;
    outcomes
}

fn tail(server: &Server) -> String {
    server.tail().unwrap_or_else(|error| format!("{error:#}"))
}
