//! Runs commands one after the other, visibly: what runs, how long it took, which one failed.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Runs a command to its end; anything but success is an error that names it.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let text = show(&command);
    println!("$ {text}");
    let started = now();
    let status = command.status().with_context(|| format!("cannot start {text}"))?;
    println!("  {:.1} s: {text}", started.elapsed().as_secs_f64());
    if !status.success() {
        bail!("{text}: {status}");
    }
    Ok(())
}

/// Builds with cargo. Returns what it says of each program that there is now.
pub(crate) fn built(arguments: &[&str]) -> Result<Vec<Value>> {
    let mut command = cargo(arguments);
    command.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    let text = show(&command);
    println!("$ {text}");
    let started = now();
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {text}"))?;
    println!("  {:.1} s: {text}", started.elapsed().as_secs_f64());
    ensure!(output.status.success(), "{text}: {}", output.status);
    let mut programs = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Value = serde_json::from_str(line)?;
        if message["executable"].is_string() {
            programs.push(message);
        }
    }
    Ok(programs)
}

/// A command's standard output; `None` if it cannot be started or fails.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// The cargo that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

fn show(command: &Command) -> String {
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[expect(clippy::disallowed_methods, reason = "prints how long a step took; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}
