//! The machine around the guest: emulated, without disks and network; it speaks over one serial line and ends by itself.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;

/// What begins a line for whoever started the guest.
pub(super) const WORD: &str = "guest: ";

/// After this it hangs. Nothing is decided by how long it takes otherwise.
const LIMIT_S: u32 = 900;

/// Boots, and returns what the guest has printed until it went off. What is meant for us is shown as it comes.
pub(super) fn boot(kernel: &Kernel, archive: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "timeout", "--kill-after=5", &LIMIT_S.to_string()]);
    command.args(["setpriv", "--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(archive);
    command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("setpriv (util-linux)")?;
    let console = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
    let mut said = Vec::new();
    for line in console.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        if let Some(word) = line.strip_prefix(WORD) {
            println!("  {word}");
        }
        said.push(line);
    }
    let status = child.wait()?;
    if !status.success() {
        said.push(format!("the machine ended with {status}; 124 means: not within {LIMIT_S} s"));
    }
    Ok(said)
}
