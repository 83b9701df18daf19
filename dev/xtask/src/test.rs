//! `cargo xtask test`: every test there is, those by strangers last. Nothing is skipped: what cannot run is a failure that says why.

use std::process::Command;

use anyhow::Result;

use crate::check::POD;
use crate::step::{self, cargo};
use crate::{requirements, strangers};

/// The module whose test data are the golden objects of every kind.
const GOLDEN: &str = "k8s.io/api@v0.36.3";

pub(crate) fn run() -> Result<()> {
    requirements::check(&requirements::TEST)?;
    let mut download = Command::new("go");
    download.args(["mod", "download", GOLDEN]);
    step::run(download)?;
    step::run(cargo(&["test", "--workspace", "--quiet"]))?;
    step::run(cargo(&["test", "--manifest-path", POD, "--quiet"]))?;
    strangers::clients(&[])?;
    strangers::differential(&[])
}
