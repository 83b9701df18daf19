//! `cargo xtask check`: what a change must pass before anything runs.

use anyhow::{Result, ensure};

use crate::step::{self, cargo};
use crate::{root, tidy};

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

/// Licences, bans and sources. cargo-deny takes minutes to build, so it is used where it is installed.
fn deny() -> Result<()> {
    if step::output("cargo-deny", &["--version"]).is_none() {
        println!("NOT CHECKED: licences, bans, sources. To check them: cargo install --locked cargo-deny");
        return Ok(());
    }
    step::run(cargo(&["deny", "check", "bans", "licenses", "sources"]))
}
