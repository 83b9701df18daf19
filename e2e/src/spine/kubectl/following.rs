//! A command that goes on until it is ended, and its lines as they come.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};

use crate::process::{Ended, wait};
use crate::spine::node::LIMIT;

pub(super) struct Following {
    process: Ended,
    lines: Receiver<String>,
    /// All lines of standard output so far.
    pub(super) seen: Vec<String>,
    input: Option<ChildStdin>,
    errors: Option<JoinHandle<std::io::Result<String>>>,
}

impl Following {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("piped")?);
        let mut errors = child.stderr.take().context("piped")?;
        let (sender, lines) = sync_channel(4096);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut said = String::new();
            errors.read_to_string(&mut said).map(|_| said)
        });
        Ok(Self { process: Ended::new(child), lines, seen: Vec::new(), input, errors: Some(errors) })
    }

    /// Waits until all lines so far are right.
    pub(super) fn until(&mut self, right: impl Fn(&[String]) -> bool) -> Result<()> {
        let found = wait(LIMIT, || {
            self.seen.extend(self.lines.try_iter());
            Ok(right(&self.seen).then_some(()))
        });
        found.with_context(|| format!("it has printed so far:\n{}", self.seen.join("\n")))
    }

    /// Waits for a line that has these words.
    pub(super) fn shows(&mut self, words: &str) -> Result<()> {
        let found = self.until(|lines| lines.iter().any(|line| line.contains(words)));
        found.with_context(|| format!("{words:?} is not printed"))
    }

    pub(super) fn types(&mut self, text: &str) -> Result<()> {
        self.input.as_mut().context("its input is open")?.write_all(text.as_bytes()).context("its input")
    }

    /// Closes its input and waits for its end by itself: how it ended, and what it said on standard error.
    pub(super) fn ends(&mut self) -> Result<(ExitStatus, String)> {
        drop(self.input.take());
        let status = wait(LIMIT, || self.process.status()).context("it goes on")?;
        self.seen.extend(&self.lines);
        Ok((status, self.errors()?))
    }

    /// Ends it. What it said on standard error.
    pub(super) fn stop(&mut self) -> Result<String> {
        self.process.end()?;
        self.errors()
    }

    fn errors(&mut self) -> Result<String> {
        let thread = self.errors.take().context("asked once")?;
        thread.join().ok().context("the reader has panicked")?.context("standard error")
    }
}
