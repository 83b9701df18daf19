//! A server with control groups of v2 alone and Debian's own kernel, whatever this machine has: an emulated one. In it run the
//! tests of the runtime and of what it asks of the kernel, and a node from `up` to `purge`.
//!
//! Here is what happens outside: a kernel is fetched, files are packed, the machine is started and its console read.

mod files;
mod inside;
mod kernel;
mod kills;
mod machine;
mod platform;
mod suites;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use corten_stdx::clock::Stopwatch;

use crate::tested::Tested;
use files::Files;
use kernel::Kernel;

pub(crate) use inside::run as inside;

/// Where the guest has what is tested.
const HOME: &str = "/corten";

/// Said last by a guest in which everything went well.
const VERDICT: &str = "guest: everything holds";

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    tested: Tested,
    /// A test program that runs in the guest, and its name there; may be repeated.
    #[arg(long = "suite", value_name = "NAME=PROGRAM")]
    suites: Vec<String>,
    /// A program that test programs start from its place; may be repeated.
    #[arg(long = "with", value_name = "PROGRAM")]
    with: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(cfg!(target_arch = "x86_64"), "the guest's kernel is one for x86-64");
    let watch = Stopwatch::start();
    let kernel = Kernel::get()?;
    let files = packed(arguments, &kernel)?;
    println!("guest: Linux {}, ready to boot after {:.1} s", kernel.version, watch.elapsed().as_secs_f64());
    let said = machine::boot(&kernel, &files.path().join("initramfs"))?;
    println!("guest: off after {:.1} s", watch.elapsed().as_secs_f64());
    if said.iter().any(|line| line == VERDICT) {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED  the guest's console:\n{}", said.join("\n"));
    Ok(ExitCode::FAILURE)
}

/// A folder with the archive of the guest's files.
fn packed(arguments: &Arguments, kernel: &Kernel) -> Result<tempfile::TempDir> {
    let home = Path::new(HOME);
    let files = Files::new(kernel)?;
    files.stripped(&arguments.tested.program()?, &home.join("corten"))?;
    files.stripped(&std::env::current_exe()?, &home.join("corten-e2e"))?;
    files.copy_to(&arguments.tested.programs.join("kubectl"), &home.join("kubectl"))?;
    for suite in &arguments.suites {
        let (name, program) = suite.split_once('=').with_context(|| format!("--suite {suite}: NAME=PROGRAM"))?;
        files.stripped(Path::new(program), &home.join(suites::FOLDER).join(name))?;
    }
    for program in &arguments.with {
        files.stripped(program, program)?;
    }
    let folder = tempfile::tempdir()?;
    files.pack(&folder.path().join("initramfs"))?;
    Ok(folder)
}
