//! Test programs of other crates, run in the guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::HOME;

/// Below [`HOME`]: one file a test program.
pub(super) const FOLDER: &str = "suites";

/// What is not run here, by the whole name of the test, and why.
const NOT_RUN: [(&str, &str); 1] = [(
    "kills::nothing_is_left_whoever_is_killed",
    "it strikes within milliseconds, at moments when here nothing has begun; on the machine itself it runs",
)];

/// Runs them all, one after the other. What is not run is told.
pub(super) fn run() -> Result<()> {
    let folder = Path::new(HOME).join(FOLDER);
    if !folder.exists() {
        println!("guest: NOT RUN  no test program was given");
        return Ok(());
    }
    let mut suites = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    suites.sort_by_key(fs::DirEntry::file_name);
    let mut left_out = Vec::new();
    for suite in suites.iter().map(fs::DirEntry::path) {
        left_out.extend(one(&suite).with_context(|| suite.display().to_string())?);
    }
    for (name, _) in NOT_RUN {
        ensure!(left_out.contains(&name), "no test is called {name}: it needs no exception");
    }
    Ok(())
}

/// Runs one program. Returns which of its tests were left out.
fn one(suite: &PathBuf) -> Result<Vec<&'static str>> {
    let listed = Command::new(suite).args(["--list", "--format", "terse"]).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let left_out: Vec<_> = NOT_RUN.into_iter().filter(|(name, _)| names.contains(name)).collect();
    let mut command = Command::new(suite);
    command.args(["--test-threads", "2", "--exact"]);
    for (name, reason) in &left_out {
        println!("guest: NOT RUN  {name}: {reason}");
        command.args(["--skip", name]);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    let passed = said.matches(" ... ok").count();
    ensure!(passed == names.len() - left_out.len(), "{} tests, and {passed} passed:\n{said}", names.len());
    let name = suite.file_name().unwrap_or_default().to_string_lossy();
    println!("guest:         {passed} tests of {name}");
    Ok(left_out.into_iter().map(|(name, _)| name).collect())
}
