//! What these tests are run with: the programs of the real Kubernetes, and the program under test.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

#[derive(Args)]
pub(crate) struct Tested {
    /// The folder that e2e/yardstick/build.sh prints.
    #[arg(long)]
    pub(crate) programs: PathBuf,
    /// The program under test; by default `corten` beside this one.
    #[arg(long)]
    corten: Option<PathBuf>,
}

impl Tested {
    /// The program under test.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let beside = env::current_exe()?.with_file_name("corten");
        let program = self.corten.clone().unwrap_or(beside);
        ensure!(program.is_file(), "{} is not there: cargo build -p corten", program.display());
        Ok(program)
    }
}
