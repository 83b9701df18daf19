//! `cargo xtask test`: every test there is. Nothing is skipped: what cannot run is a failure that says why.

use std::process::Command;

use anyhow::Result;

use crate::requirements;
use crate::step::{self, cargo};

/// The module whose test data are the golden objects of every kind.
const GOLDEN: &str = "k8s.io/api@v0.36.3";

pub(crate) fn run() -> Result<()> {
    requirements::check(&requirements::TEST)?;
    let mut download = Command::new("go");
    download.args(["mod", "download", GOLDEN]);
    step::run(download)?;
    step::run(cargo(&["test", "--workspace", "--quiet"]))
}
