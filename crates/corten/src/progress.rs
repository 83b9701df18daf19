//! What `up` tells on standard output, and whoever runs it as a service: a line a part, and last how long it took.

use std::io::{self, Write as _};
use std::path::Path;

use corten_stdx::clock::Stopwatch;

use crate::service::readiness;

pub struct Progress(Stopwatch);

impl Progress {
    pub fn start() -> Self {
        Self(Stopwatch::start())
    }

    /// A part is ready.
    pub fn part(&self, name: &str, what: &str) -> io::Result<()> {
        readiness::status(&format!("{name}: {what}"));
        line(&format!("{name:<13} {what}"))
    }

    /// Everything is.
    pub fn done(&self, kubeconfig: &Path) -> io::Result<()> {
        self.ready(&format!("kubeconfig {}", kubeconfig.display()))
    }

    /// This server is a node.
    pub fn joined(&self, name: &str) -> io::Result<()> {
        self.ready(&format!("node {name}"))
    }

    fn ready(&self, what: &str) -> io::Result<()> {
        let text = format!("ready in {} ms, {what}", self.0.elapsed().as_millis());
        readiness::ready(&text);
        line(&text)
    }

    /// The demo runs.
    pub fn demo(&self, urls: &[String]) -> io::Result<()> {
        line(&format!("demo ready after {} s: {}", self.0.elapsed().as_secs(), urls.join(" ")))
    }
}

fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
