//! An outside client-go informer that watches while control is killed, and goes on afterwards without a single LIST.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::clients::RESTART;

pub(super) struct Informer {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Informer {
    /// Starts it, and waits until it is in step and has seen an event.
    pub(super) fn start(kubeconfig: &Path, program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("informer").env("KUBECONFIG", kubeconfig);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("client-go")?;
        let input = process.stdin.take().context("piped")?;
        let output = BufReader::new(process.stdout.take().context("piped")?).lines();
        let mut informer = Self { process, input, output };
        let said = informer.hear()?;
        ensure!(said.last().is_some_and(|line| line == RESTART), "the informer says {said:?}");
        Ok(informer)
    }

    /// What it says until it waits, or until its end.
    fn hear(&mut self) -> Result<Vec<String>> {
        let mut said = Vec::new();
        for line in self.output.by_ref() {
            said.push(line?);
            if said.last().is_some_and(|line| line == RESTART) {
                break;
            }
        }
        Ok(said)
    }

    /// Tells it that control is back for good, and waits until it has seen another event.
    pub(super) fn finish(mut self) -> Result<()> {
        writeln!(self.input)?;
        let said = self.hear()?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the informer ends with {status}: {said:?}");
        println!("        {}", said.join("\n        "));
        Ok(())
    }
}

impl Drop for Informer {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("cannot end the informer: {error}");
        }
    }
}
