//! What runs in the guest: test programs, then a node. Each step is told; the first that fails ends it.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;

use super::platform::Platform;
use super::{VERDICT, suites};
use crate::sandbox;

/// The guest's whole life.
pub(crate) fn run() -> Result<ExitCode> {
    step("only v2", only_v2)?;
    step("network", sandbox::network)?;
    step("tests", suites::run)?;
    let mut platform = Platform::new()?;
    let outcome = platform.steps().into_iter().try_for_each(|(name, work)| step(name, || work(&mut platform)));
    if let Err(error) = outcome {
        println!("{}", platform.report()?);
        return Err(error);
    }
    println!("{VERDICT}");
    Ok(ExitCode::SUCCESS)
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let watch = Stopwatch::start();
    let outcome = work();
    let word = if outcome.is_ok() { "ok     " } else { "FAILED " };
    println!("guest: {word} {name} ({:.1} s)", watch.elapsed().as_secs_f64());
    outcome.with_context(|| format!("step {name}"))
}

/// The guest is what it is there for.
fn only_v2() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let kinds: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    ensure!(kinds.contains(&"cgroup2") && !kinds.contains(&"cgroup"), "mounted is\n{mounts}");
    Ok(())
}
