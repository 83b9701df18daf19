//! `corten up` as a child process on a free port, in a directory of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use crate::client::Client;

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    /// What it said up to and with `ready in`.
    pub(crate) lines: Vec<String>,
    pub(crate) client: Client,
}

/// Without an edge: its ports belong to the whole server.
fn no_edge() -> [String; 4] {
    ["--http-port", "0", "--https-port", "0"].map(str::to_owned)
}

pub(crate) fn command(dir: &Path, listen: &str) -> Command {
    command_with(dir, listen, &no_edge())
}

fn command_with(dir: &Path, listen: &str, ports: &[String]) -> Command {
    let mut command = command_in_any_range(dir, listen);
    command.args(["--pod-cidr", &own_range(dir)]).args(ports);
    command
}

/// Without a range for pods.
pub(crate) fn command_in_any_range(dir: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.args(["up", "--name", "node-1", "--network", "none", "--listen", listen, "--data-dir"]).arg(dir);
    // Whatever else fills this machine, pods stay.
    command.args(["--eviction-hard", ""]);
    command
}

/// The API alone: nothing changes an object by itself.
pub(crate) fn command_of_api(dir: &Path, listen: &str) -> Command {
    let mut command = command(dir, listen);
    command.args(["--controllers", "none"]);
    command
}

/// A range of pods that no other directory's server has: they share the network of this machine.
fn own_range(dir: &Path) -> String {
    static KNOWN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().expect("nobody panics with it");
    let place = known.iter().position(|other| other == dir).unwrap_or_else(|| {
        known.push(dir.to_owned());
        known.len() - 1
    });
    format!("10.244.{}.0/24", place + 1)
}

/// Takes away what a server with pods has left on this machine.
pub(crate) fn purge(dir: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    let output = command.args(["purge", "--data-dir"]).arg(dir).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// With the kernel's part too, for a network namespace of its own.
fn command_with_network(dir: &Path, ports: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.args(["up", "--name", "node-1", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir).args(ports);
    command.args(["--eviction-hard", ""]);
    command
}

impl Server {
    /// Starts and waits for the last line of the start.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &no_edge())
    }

    /// The same under a clock that is so many seconds ahead of this machine's.
    pub(crate) fn start_at(dir: &Path, offset_s: i64) -> Self {
        let mut command = command(dir, "127.0.0.1:0");
        command.env("CORTEN_CLOCK_OFFSET", offset_s.to_string());
        Self::run(command, dir)
    }

    /// The same with the edge's ports.
    pub(crate) fn start_with(dir: &Path, ports: &[String]) -> Self {
        Self::run(command_with(dir, "127.0.0.1:0", ports), dir)
    }

    /// The same with Services in the kernel of the caller's network namespace.
    pub(crate) fn start_with_network(dir: &Path) -> Self {
        Self::run(command_with_network(dir, &no_edge()), dir)
    }

    /// The same with an edge at its usual ports.
    pub(crate) fn start_with_everything(dir: &Path) -> Self {
        Self::run(command_with_network(dir, &[]), dir)
    }

    pub(crate) fn run(mut command: Command, dir: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = Vec::new();
        for line in stdout.lines() {
            lines.push(line.expect("text"));
            if lines.last().is_some_and(|line| line.starts_with("ready in ")) {
                let client = Client::new(&dir.join("admin.kubeconfig"));
                return Self { child, lines, client };
            }
        }
        let mut log = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
        let status = child.wait().expect("it ends");
        panic!("it ended before it was ready, {status}: {log}");
    }

    /// Ends it with SIGTERM and gives its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
        self.child.wait().expect("it ends").code()
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail for a child that has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a start that is expected to be refused.
/// What a start ends with that is to be refused; one that becomes ready would never end by itself.
pub(crate) fn refusal(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    if stdout.lines().any(|line| line.expect("text").starts_with("ready in ")) {
        child.kill().expect("it is there");
        child.wait().expect("it ends");
        panic!("it was not refused");
    }
    child.wait_with_output().expect("it ends")
}

pub(crate) fn refused(dir: &Path, listen: &str) -> String {
    refused_with(dir, listen, &no_edge())
}

pub(crate) fn refused_with(dir: &Path, listen: &str, ports: &[String]) -> String {
    let Output { status, stderr, .. } = refusal(&mut command_with(dir, listen, ports));
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).expect("text")
}
