//! A file that is to become the program of the service: looked at before anything is changed, and copied first, so that what was
//! looked at is what is started.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use corten_stdx::clock::Stopwatch;

use super::place::Place;
use super::program;
use crate::version::Version;

/// Its name until it is known.
const UNKNOWN: &str = "corten-candidate";

/// How long a program may take to say what it is.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// As the header of a program has it (elf(5)): 64 bits, least significant byte first, and the machine it is for.
const IDENT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const MACHINES: [(&str, u16); 2] = [("x86_64", 62), ("aarch64", 183)];
const MACHINE_AT: usize = 18;

pub(super) struct Candidate {
    /// Of its file.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) version: Version,
}

impl Candidate {
    /// Copies `file` to the other programs.
    ///
    /// # Errors
    /// When it is no corten for this server. The copy is gone then.
    pub(super) fn take(place: &Place, file: &Path) -> anyhow::Result<Self> {
        let mut header = [0; 20];
        let read = File::open(file).and_then(|mut file| file.read_exact(&mut header));
        read.with_context(|| format!("{} cannot be read as a program", file.display()))?;
        let machine =
            machine(&header).with_context(|| format!("{} is no program of this kind of server", file.display()))?;
        let here = std::env::consts::ARCH;
        ensure!(machine == here, "{} is made for {machine}, and this server is {here}", file.display());
        program::remove(&place.programs().join(UNKNOWN))?;
        let copy = program::put(place, file, UNKNOWN)?;
        let known = Self::known(place, &copy).with_context(|| format!("{} cannot be used", file.display()));
        if known.is_err() {
            program::remove(&copy)?;
        }
        known
    }

    fn known(place: &Place, copy: &Path) -> anyhow::Result<Self> {
        let version: Version = serde_json::from_str(&said(copy)?).context("it does not say which corten it is")?;
        let name = program::name(copy, &version.version)?;
        let path = place.programs().join(&name);
        if path.exists() {
            // What runs of it is told from other programs by its very file.
            program::remove(copy)?;
        } else {
            fs::rename(copy, &path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self { name, path, version })
    }
}

/// What a program is made for.
fn machine(header: &[u8]) -> anyhow::Result<String> {
    ensure!(header.starts_with(&IDENT), "it is no ELF file of 64 bits");
    let number = header.get(MACHINE_AT..MACHINE_AT + 2).context("it is cut short")?;
    let number = u16::from_le_bytes([number[0], number[1]]);
    let known = MACHINES.iter().find(|(_, machine)| *machine == number);
    Ok(known.map_or_else(|| format!("machine {number}"), |(name, _)| (*name).to_owned()))
}

/// What it answers when it is asked for its version.
fn said(program: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(["version", "--output", "json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("it cannot be started")?;
    let watch = Stopwatch::start();
    while child.try_wait()?.is_none() {
        if watch.elapsed() > ANSWER_MAX {
            child.kill()?;
            child.wait()?;
            bail!("it does not say its version within {ANSWER_MAX:?}");
        }
        std::thread::sleep(LOOK);
    }
    let output = child.wait_with_output()?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`version --output json` ends with {}: {}", output.status, why.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_what_it_is_made_for() {
        let mut header = [0; 20];
        header[..6].copy_from_slice(&IDENT);
        for (name, number) in MACHINES {
            header[MACHINE_AT..].copy_from_slice(&number.to_le_bytes());
            assert_eq!(machine(&header).expect("a program"), name);
        }
        header[MACHINE_AT..].copy_from_slice(&[22, 0]);
        assert_eq!(machine(&header).expect("a program"), "machine 22");
        header[4] = 1;
        assert!(machine(&header).is_err() && machine(b"#!/bin/sh\necho hello").is_err());
    }
}
