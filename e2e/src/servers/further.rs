//! A server that joins: its namespace, its data directory, its process.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::lan::{Lan, ip};
use crate::process::{Process, wait};
use crate::spine::node::{EVICTION, LIMIT};

pub(super) struct Further {
    pub(super) name: &'static str,
    space: String,
    program: PathBuf,
    folder: TempDir,
    process: Option<Process>,
}

impl Further {
    pub(super) fn new(program: &std::path::Path, lan: &Lan, name: &'static str, host: u8) -> Result<Self> {
        let space = lan.add(name, host)?;
        Ok(Self { name, space, program: program.to_owned(), folder: tempfile::tempdir()?, process: None })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command on this server.
    pub(super) fn on(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.space)).arg("--").args(words);
        command
    }

    fn corten(&self, words: &[&str]) -> Command {
        let program = self.program.display().to_string();
        let mut command = self.on(&[&[program.as_str()], words].concat());
        command.arg("--data-dir").arg(self.data());
        command
    }

    /// Runs a verb of corten to its end, and gives what it says on both streams.
    pub(super) fn says(&self, words: &[&str]) -> Result<(bool, String)> {
        let Output { status, stdout, stderr } = self.corten(words).output().context("nsenter (util-linux)")?;
        let said = [stdout, stderr].concat();
        Ok((status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Starts it by what `token create` has printed, or without a token when it is a member already; waits until it says that it is ready.
    pub(super) fn start(&mut self, command: &str) -> Result<()> {
        let words: Vec<&str> =
            command.split_whitespace().skip(1).chain(["--name", self.name, "--eviction-hard", EVICTION]).collect();
        let mut process = Process::start("corten", &self.corten(&words), self.folder.path())?;
        let ready = wait(LIMIT, || {
            process.check()?;
            Ok(process.output()?.contains("ready in").then_some(()))
        });
        ready.with_context(|| {
            format!("{} does not say `ready in`:\n{}", self.name, process.tail().unwrap_or_default())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// A signal for its process.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let (_, pid) = self.process.as_ref().context("it runs")?.identity();
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a process has an id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills its process without warning.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.take().map(drop).context("it runs")
    }

    pub(super) fn tail(&self) -> Result<String> {
        self.process.as_ref().map_or_else(|| Ok(String::new()), Process::tail)
    }

    /// Ends it and removes everything, the server too.
    pub(super) fn purge(&mut self) -> Result<()> {
        self.empty()?;
        ip(&["netns", "del", &self.space])
    }

    /// Ends it and removes everything. What is left of links, rules and routes is what the namespace began with.
    pub(super) fn empty(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop()?;
        }
        if self.data().exists() {
            let (done, said) = self.says(&["purge"])?;
            ensure!(done, "purge of {}: {said}", self.name);
            ensure!(!self.data().exists(), "the data directory of {} is still there", self.name);
        }
        for (words, most) in [(&["ip", "-o", "link"][..], 2), (&["ip", "route"], 2), (&["nft", "list", "tables"], 0)] {
            let output = self.on(words).output()?;
            let left = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(left.lines().count() <= most, "{} has left behind ({words:?}):\n{left}", self.name);
        }
        ensure!(!fs::exists(self.folder.path().join("data"))?, "files are left");
        Ok(())
    }
}
