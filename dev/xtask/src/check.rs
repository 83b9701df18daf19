//! `cargo xtask check`: what a change must pass before anything runs.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::step::{self, cargo};
use crate::test::EXAMPLE;
use crate::{root, supply, tidy};

/// The pod process: a workspace of its own.
pub(crate) const POD: &str = "crates/pod/Cargo.toml";

pub(crate) fn run() -> Result<()> {
    step::run(cargo(&["fmt", "--all", "--check"]))?;
    tidiness()?;
    step::run(cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    step::run(cargo(&["fmt", "--manifest-path", POD, "--check"]))?;
    step::run(cargo(&["clippy", "--manifest-path", POD, "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    deny()
}

fn tidiness() -> Result<()> {
    let problems = tidy::check(&root())?;
    for problem in &problems {
        println!("{problem}");
    }
    ensure!(problems.is_empty(), "{} tidy problems", problems.len());
    Ok(())
}

/// Licences, bans and sources, by the lists of `deny.toml`. cargo-deny takes many minutes to build, so it is used besides where it
/// is installed: it knows texts of licences, too.
fn deny() -> Result<()> {
    let lists = fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let installed = step::output("cargo-deny", &["--version"]).is_some();
    for manifest in ["Cargo.toml", POD, EXAMPLE] {
        supply::check(manifest, &lists)?;
        if installed {
            let mut deny = cargo(&["deny", "--manifest-path", manifest, "--config", "deny.toml", "check"]);
            deny.args(["--hide-inclusion-graph", "bans", "licenses", "sources"]);
            step::run(deny)?;
        }
    }
    Ok(())
}
