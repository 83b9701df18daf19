//! A server process of a test: started with its output in a file, ended by its own id, never by name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use corten_stdx::clock::Stopwatch;
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end after SIGTERM before it is killed: more than the ten seconds that a server of ours gives its tasks.
const STOP_LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Process {
    name: &'static str,
    /// What is started, and again by [`Process::restart`].
    command: Command,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to `NAME.log` in `folder`. The kernel kills it if this program dies.
    pub(crate) fn start(name: &'static str, command: &Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        guarded.stdin(Stdio::null());
        let child = spawn(name, &mut guarded, &log)?;
        Ok(Self { name, command: guarded, child, log })
    }

    pub(crate) fn identity(&self) -> (&'static str, u32) {
        (self.name, self.child.id())
    }

    /// Kills it without warning and starts it again as it was.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(self.name, &mut self.command, &self.log)?;
        Ok(())
    }

    pub(crate) fn output(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines it printed.
    pub(crate) fn tail(&self) -> Result<String> {
        let output = self.output()?;
        let lines: Vec<&str> = output.lines().collect();
        Ok(lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// How it has ended by itself, if it has.
    pub(crate) fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; its last lines:\n{}", self.name, self.tail()?);
        }
        Ok(())
    }

    /// SIGTERM, then SIGKILL after a while. An error if it had to be killed.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process has an id")?;
        if self.child.try_wait()?.is_none() {
            kill_process(pid, Signal::TERM)?;
        }
        match wait(STOP_LIMIT, || Ok(self.child.try_wait()?)) {
            Ok(status) => Ok(status),
            Err(_) => {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not end within {STOP_LIMIT:?} of SIGTERM; its last lines:\n{}", self.name, self.tail()?)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("cannot end {}: {error}", self.name);
        }
    }
}

/// A process that ends with its owner.
pub(crate) struct Ended(Child);

impl Ended {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// How it ended, if it has.
    pub(crate) fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("a process of ours is waited for")
    }

    /// Kills it, if it has not ended, and waits.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.0.kill().and_then(|()| self.0.wait()).context("cannot end a process of ours")?;
        Ok(())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Child> {
    let out = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let child = command.stderr(out.try_clone()?).stdout(out).spawn();
    child.with_context(|| format!("cannot start {name} (setpriv is in util-linux)"))
}

/// Asks until there is an answer, at most for `limit`.
pub(crate) fn wait<T>(limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if watch.elapsed() > limit {
            bail!("nothing within {limit:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
