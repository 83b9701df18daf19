//! What is asked of systemd, by its own command.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use corten_stdx::clock::Stopwatch;

use super::place::UNIT;

/// Between two looks at a service that starts.
const LOOK: Duration = Duration::from_millis(50);

/// A service that is ready has to stay so for this long.
const STAYS: Duration = Duration::from_secs(1);

/// How many of its last lines are shown of a service that failed.
const LINES: &str = "15";

/// How a service is. Each start has an invocation of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    active: String,
    sub: String,
    pub(super) invocation: String,
    restarts: String,
    status: String,
}

/// What became of a start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    Ready,
    /// It ended instead.
    Failed,
    /// Not yet, with what it said last.
    Late(String),
}

impl State {
    pub(super) fn is_active(&self) -> bool {
        self.active == "active"
    }

    /// What this says of the start behind the invocation `before`, if it says anything yet.
    fn verdict(&self, before: &str) -> Option<Start> {
        let is_new = self.invocation != before;
        let has_ended = self.sub == "auto-restart" || self.active == "failed";
        match () {
            () if is_new && (has_ended || !matches!(self.restarts.as_str(), "" | "0")) => Some(Start::Failed),
            () if is_new && self.is_active() => Some(Start::Ready),
            () => None,
        }
    }
}

/// Runs `systemctl` with these words.
pub(super) fn systemctl(words: &[&str]) -> anyhow::Result<String> {
    // In a group of its own: what a terminal sends to a group that it leaves behind is not for it.
    let Output { status, stdout, stderr } =
        Command::new("systemctl").args(words).process_group(0).output().context("systemctl cannot be started")?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "systemctl {}: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Whether the server goes down. Other states, too, are told by an exit code.
pub(super) fn is_stopping() -> anyhow::Result<bool> {
    let output = Command::new("systemctl").arg("is-system-running").output().context("systemctl cannot be started")?;
    Ok(output.stdout.starts_with(b"stopping"))
}

pub(super) fn state() -> anyhow::Result<State> {
    let properties = "--property=ActiveState,SubState,InvocationID,NRestarts,StatusText";
    Ok(parse(&systemctl(&["show", properties, UNIT])?))
}

fn parse(text: &str) -> State {
    let value = |name: &str| {
        let of = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        text.lines().find_map(of).unwrap_or_default()
    };
    State {
        active: value("ActiveState"),
        sub: value("SubState"),
        invocation: value("InvocationID"),
        restarts: value("NRestarts"),
        status: value("StatusText"),
    }
}

/// Starts the service, or starts it anew, and waits until it is ready and stays so, but for `limit` at most.
pub(super) fn start(verb: &str, limit: Duration) -> anyhow::Result<Start> {
    let before = state()?.invocation;
    systemctl(&[verb, "--no-block", UNIT])?;
    let watch = Stopwatch::start();
    loop {
        let now = state()?;
        match now.verdict(&before) {
            Some(Start::Ready) => return stays(&now),
            Some(other) => return Ok(other),
            None if watch.elapsed() > limit => return Ok(Start::Late(now.status)),
            None => std::thread::sleep(LOOK),
        }
    }
}

fn stays(ready: &State) -> anyhow::Result<Start> {
    let watch = Stopwatch::start();
    while watch.elapsed() < STAYS {
        std::thread::sleep(LOOK);
        let now = state()?;
        if !now.is_active() || now.invocation != ready.invocation {
            return Ok(Start::Failed);
        }
    }
    Ok(Start::Ready)
}

/// What the service said last, for somebody who has to find out why it failed.
pub(super) fn last_words() -> String {
    let lines =
        Command::new("journalctl").args(["--unit", UNIT, "--lines", LINES, "--output", "cat", "--no-pager"]).output();
    match lines {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        _ => format!("see journalctl --unit {UNIT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: &str, expect: Option<Start>) {
        assert_eq!(parse(&shown.replace(' ', "\n")).verdict("old"), expect);
    }

    #[test]
    fn a_start_is_judged_by_its_own_invocation() {
        check("ActiveState=active SubState=running InvocationID=old NRestarts=3", None);
        check("ActiveState=deactivating SubState=stop-sigterm InvocationID=old NRestarts=0", None);
        check("ActiveState=activating SubState=start InvocationID=new NRestarts=0", None);
        check("ActiveState=active SubState=running InvocationID=new NRestarts=0", Some(Start::Ready));
        check("ActiveState=activating SubState=auto-restart InvocationID=new NRestarts=0", Some(Start::Failed));
        check("ActiveState=activating SubState=start InvocationID=new NRestarts=1", Some(Start::Failed));
        check("ActiveState=failed SubState=failed InvocationID=new NRestarts=0", Some(Start::Failed));
    }

    #[test]
    fn what_a_service_says_of_itself_may_hold_anything() {
        let state = parse("StatusText=waiting for https://a=b\nActiveState=activating\n");
        assert_eq!((state.status.as_str(), state.active.as_str()), ("waiting for https://a=b", "activating"));
    }
}
