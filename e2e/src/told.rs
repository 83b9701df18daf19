//! Targets of notifiers: programs that keep what they are told, and when.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Clock;
use serde_json::Value;

use crate::process::{Process, wait};
use crate::spine::node::LIMIT;

const WEBHOOK: &str = include_str!("told/webhook.py");

/// What is promised: from a fact's moment until somebody is told, where it is watched and not asked for now and then.
pub(crate) const PROMISED: Duration = Duration::from_secs(5);

/// A target that prints what it takes, behind its port.
pub(crate) struct Target(Process);

impl Target {
    pub(crate) fn start(folder: &Path, name: &'static str, script: &str) -> Result<Self> {
        let file = folder.join(format!("{name}.py"));
        fs::write(&file, script)?;
        // Debian's own Python: another one does not know its packages.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(file);
        Ok(Self(Process::start(name, &command, folder)?))
    }

    pub(crate) fn port(&mut self) -> Result<String> {
        wait(LIMIT, || {
            self.0.check()?;
            Ok(self.0.output()?.split_once('\n').map(|(port, _)| port.to_owned()))
        })
    }

    /// What it has taken, each a whole line.
    pub(crate) fn taken(&self) -> Result<Vec<String>> {
        let output = self.0.output()?;
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        Ok(whole.lines().skip(1).map(str::to_owned).collect())
    }
}

/// What one message is to say, and nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News<'a> {
    /// `wrong` or `well`.
    pub(crate) state: &'a str,
    pub(crate) fact: &'a str,
    pub(crate) name: &'a str,
}

impl fmt::Display for News<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {}", self.state, self.fact, self.name)
    }
}

/// A webhook, and how much of what it has taken was judged already.
pub(crate) struct Webhook {
    target: Target,
    heard: usize,
}

impl Webhook {
    pub(crate) fn start(folder: &Path, name: &'static str) -> Result<Self> {
        Ok(Self { target: Target::start(folder, name, WEBHOOK)?, heard: 0 })
    }

    /// A notifier's object that has it as its target, for what `facts` lists.
    pub(crate) fn notifier(&mut self, namespace: &str, name: &str, facts: &str) -> Result<String> {
        let port = self.target.port()?;
        Ok(format!(
            "---\napiVersion: corten.dev/v1alpha1\nkind: Notifier\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec:\n  facts: [{facts}]\n  webhook: {{url: \"http://127.0.0.1:{port}/\"}}\n"
        ))
    }

    /// Waits for one message more, which is to say this alone. Gives how long after `since_ms` it came.
    pub(crate) fn hears(&mut self, news: News<'_>, since_ms: i64) -> Result<Duration> {
        let (heard, target) = (self.heard, &self.target);
        wait(LIMIT, || Ok((target.taken()?.len() > heard).then_some(())))
            .with_context(|| format!("nobody is told `{news}`"))?;
        let taken = target.taken()?;
        ensure!(taken.len() == heard + 1, "too much is told: {taken:#?}");
        let line: Value = serde_json::from_str(&taken[heard])?;
        let told = &line["message"]["news"];
        let one = told.as_array().is_some_and(|told| told.len() == 1);
        let right =
            told[0]["state"] == news.state && told[0]["fact"] == news.fact && told[0]["object"]["name"] == news.name;
        ensure!(one && right, "`{news}` is to be told, and this is: {line}");
        self.heard += 1;
        let at_ms = line["at_ms"].as_i64().context("a message has its time")?;
        // Who asked for the fact may have had its answer later.
        let took = Duration::from_millis(u64::try_from(at_ms - since_ms).unwrap_or_default());
        println!("        {news}: told after {:.1} s", took.as_secs_f64());
        Ok(took)
    }

    /// The same, within what is promised.
    pub(crate) fn hears_in_time(&mut self, news: News<'_>, since_ms: i64) -> Result<()> {
        let took = self.hears(news, since_ms)?;
        ensure!(took <= PROMISED, "`{news}` was told after {took:?} only");
        Ok(())
    }

    /// Nothing was told beyond what was judged.
    pub(crate) fn hears_no_more(&self) -> Result<()> {
        let taken = self.target.taken()?;
        ensure!(taken.len() == self.heard, "too much is told: {taken:#?}");
        Ok(())
    }
}

/// This moment, as `Webhook::hears` counts.
pub(crate) fn now_ms() -> i64 {
    Clock::system().now_ms()
}
