//! `cargo xtask test`: every test there is, those by strangers last. Nothing is skipped: what cannot run is a failure that says why.

use std::process::Command;

use anyhow::Result;

use crate::check::POD;
use crate::step::{self, cargo};
use crate::{guest, requirements, strangers};

/// The modules whose data are read by tests: golden objects of every kind; roles, discovery and OpenAPI documents.
const MODULES: [&str; 2] = ["k8s.io/api@v0.36.3", "k8s.io/kubernetes@v1.36.3"];

/// A program of the examples, in a workspace of its own like the pod process.
pub(crate) const EXAMPLE: &str = "examples/www/Cargo.toml";

pub(crate) fn run() -> Result<()> {
    requirements::check(&requirements::TEST)?;
    let mut download = Command::new("go");
    download.args(["mod", "download"]).args(MODULES);
    step::run(download)?;
    step::run(cargo(&["test", "--workspace", "--quiet"]))?;
    for own in [POD, EXAMPLE] {
        step::run(cargo(&["test", "--manifest-path", own, "--quiet"]))?;
    }
    strangers::clients(&[])?;
    strangers::spine(&[])?;
    strangers::servers(&[])?;
    strangers::host(&[])?;
    guest::run_after_tests()?;
    strangers::differential(&[])?;
    strangers::conformance(&["--fast".to_owned()])
}
