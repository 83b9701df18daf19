//! One server: its data directory, its control process, and kubectl for it.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::informer::Informer;
use crate::process::{Process, wait};

/// What nothing in these tests takes, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The node's name in its cluster.
pub(crate) const NAME: &str = "e2e";

/// Where it is, unless told otherwise.
const PLACE: [&str; 4] = ["--listen", "127.0.0.1:6443", "--name", NAME];

/// When a node ends pods. Not as early as by default: whatever else fills this machine's disk, pods of tests stay.
pub(crate) const EVICTION: &str = "memory.available<100Mi,nodefs.available<2%";

pub(crate) struct Node {
    program: PathBuf,
    /// Where kubectl is.
    programs: PathBuf,
    folder: TempDir,
    /// The data directory's name there.
    data: &'static str,
    /// What starts the program: words before its own.
    prefix: Vec<String>,
    /// Where it is, by options of `up`.
    place: Vec<&'static str>,
    /// How long a node may be silent, where it is not the default.
    grace_s: Option<u32>,
    /// With how little left it ends pods.
    eviction: String,
    /// Which of the built-in controllers run.
    controllers: &'static str,
    /// How many pods it may have, where it is not the default.
    max_pods: Option<usize>,
    control: Option<Process>,
    /// Watches from the kills of control on.
    pub(super) informer: Option<Informer>,
}

impl Node {
    pub(crate) fn new(program: PathBuf, programs: &Path) -> Result<Self> {
        let (programs, folder) = (programs.to_owned(), tempfile::tempdir()?);
        let (prefix, place) = (Vec::new(), PLACE.to_vec());
        Ok(Self {
            program,
            programs,
            folder,
            data: "data",
            prefix,
            place,
            grace_s: None,
            eviction: EVICTION.to_owned(),
            controllers: "all",
            max_pods: None,
            control: None,
            informer: None,
        })
    }

    /// Somewhere else than usual.
    pub(crate) fn at(mut self, place: &[&'static str]) -> Self {
        self.place = place.to_vec();
        self
    }

    /// Another server of the same programs.
    pub(super) fn beside(&self, place: &[&'static str]) -> Result<Self> {
        Ok(Self::new(self.program.clone(), &self.programs)?.at(place))
    }

    /// It ends pods when less than this is left.
    pub(super) fn evicts(&mut self, thresholds: &str) {
        thresholds.clone_into(&mut self.eviction);
    }

    /// From now on its data directory is another one, which is not there yet.
    pub(super) fn move_to(&mut self, data: &'static str) {
        self.data = data;
    }

    /// Control is started by this command, which runs what follows it.
    pub(crate) fn started_by(&mut self, prefix: &[&str]) {
        self.prefix = prefix.iter().map(ToString::to_string).collect();
    }

    /// Nodes may be silent for so long.
    pub(crate) fn grace_s(&mut self, grace_s: u32) {
        self.grace_s = Some(grace_s);
    }

    /// Where kubectl is.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// It may have so many pods.
    pub(crate) fn max_pods(&mut self, pods: usize) {
        self.max_pods = Some(pods);
    }

    /// Which of the built-in controllers run from the next start on.
    pub(crate) fn controllers(&mut self, which: &'static str) {
        self.controllers = which;
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// What links, groups and sockets of this server are called by.
    pub(crate) fn instance(&self) -> Result<String> {
        Ok(fs::read_to_string(self.data().join("instance"))?.trim().to_owned())
    }

    /// Control's process.
    pub(crate) fn control(&mut self) -> Result<&mut Process> {
        self.control.as_mut().context("control runs")
    }

    /// For files of tests.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data().join("admin.kubeconfig")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join(self.data)
    }

    /// Where the edge is.
    pub(crate) fn edge(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 80))
    }

    /// Starts control and waits until it says that everything is ready.
    pub(crate) fn up(&mut self) -> Result<()> {
        self.start()?;
        self.until_ready()?;
        let nodes = self.kubectl(&["get", "nodes", "--no-headers"])?;
        ensure!(nodes.contains(" Ready "), "the node is not ready: {nodes}");
        Ok(())
    }

    /// Waits until control, which was started, says that everything is ready.
    pub(crate) fn until_ready(&mut self) -> Result<()> {
        let control = self.control.as_mut().context("started")?;
        wait(LIMIT, || {
            control.check()?;
            Ok(control.output()?.contains("ready in").then_some(()))
        })
        .with_context(|| format!("corten up does not say `ready in`:\n{}", control.tail().unwrap_or_default()))
    }

    /// Starts control and does not wait.
    pub(crate) fn start(&mut self) -> Result<()> {
        let mut words = self.prefix.iter().map(OsStr::new).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().context("a command has a word")?);
        command.args(words);
        command.arg("up").arg("--data-dir").arg(self.data()).args(&self.place);
        command.args(["--pod-pids-limit", super::faults::POD_PIDS_MAX, "--eviction-hard", &self.eviction]);
        command.args(["--controllers", self.controllers]);
        command.args(self.max_pods.map(|pods| format!("--max-pods={pods}")));
        command.args(self.grace_s.map(|grace_s| format!("--node-grace={grace_s}")));
        self.control = Some(Process::start("corten", &command, self.folder.path())?);
        Ok(())
    }

    /// Kills control without warning.
    pub(crate) fn kill(&mut self) -> Result<()> {
        // Dropping a process kills it and waits for its end.
        self.control.take().map(drop).context("control runs")
    }

    pub(crate) fn corten(&self, verb: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(verb).arg("--data-dir").arg(self.data());
        text(&mut command)
    }

    /// What kubectl prints; an error if it fails.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        text(self.command(arguments))
    }

    /// kubectl as a command of its own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of("kubectl", arguments)
    }

    /// A kubectl of another version.
    pub(super) fn command_of(&self, kubectl: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(kubectl));
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder.path());
        command
    }

    /// Makes images of the examples, all if none is named, and puts them into the node's store.
    pub(crate) fn images(&self, names: &[&str]) -> Result<String> {
        make_images(&self.program, &self.data(), names)
    }

    /// A field of an object, by kubectl's JSONPath.
    pub(crate) fn field(&self, namespace: &str, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["-n", namespace, "get", object, "-o", &format!("jsonpath={path}")])
    }

    /// Asks kubectl until the answer is right.
    pub(crate) fn until(&self, arguments: &[&str], right: impl Fn(&str) -> bool) -> Result<String> {
        self.until_of("kubectl", arguments, right)
    }

    /// Asks a kubectl of another version until the answer is right.
    pub(super) fn until_of(&self, kubectl: &str, arguments: &[&str], right: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let found = wait(LIMIT, || {
            last = match text(self.command_of(kubectl, arguments)) {
                Ok(answer) if right(&answer) => return Ok(Some(answer)),
                Ok(answer) => answer,
                Err(error) => format!("{error:#}"),
            };
            Ok(None)
        });
        found.with_context(|| format!("{kubectl} {} says last: {last}", arguments.join(" ")))
    }

    /// What helps to understand a failure.
    pub(crate) fn report(&self) -> Result<String> {
        let mut parts = Vec::new();
        for arguments in [
            &["get", "pods,services,endpointslices,ingresses", "-A", "-o", "wide"][..],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        ] {
            let output = self.command(arguments).output()?;
            parts.push(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        if let Some(control) = &self.control {
            parts.push(control.tail()?);
        }
        Ok(parts.join("\n"))
    }

    /// Ends control and removes everything.
    pub(crate) fn purge(&mut self) -> Result<()> {
        drop(self.informer.take());
        if let Some(mut control) = self.control.take() {
            control.stop()?;
        }
        if !self.data().exists() {
            return Ok(());
        }
        self.corten(&["purge"])?;
        ensure!(!self.data().exists(), "the data directory is still there");
        super::volumes::no_device_of(&self.data())?;
        Ok(())
    }

    pub(crate) fn example(name: &str) -> String {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        examples.join(name).display().to_string()
    }
}

/// Runs the script of the examples: what it has made once it keeps, and then needs no network.
pub(crate) fn make_images(program: &Path, data: &Path, names: &[&str]) -> Result<String> {
    let mut command = Command::new(Node::example("images.sh"));
    text(command.env("CORTEN", program).arg("--data-dir").arg(data).args(names))
}

/// Has what comes from package registries fetched where they can be reached, for the time when they cannot.
pub(crate) fn prepare_images(program: &Path, names: &[&str]) -> Result<()> {
    let mut command = Command::new(Node::example("images.sh"));
    text(command.env("CORTEN", program).arg("--folders").args(names)).map(drop)
}

fn text(command: impl std::borrow::Borrow<Command>) -> Result<String> {
    let mut command = limited(command.borrow());
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{command:?}: {status}: {}", said.trim());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// The same, ended when it hangs; making images from nothing takes minutes. By options that busybox knows too.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.args(["-k", "5", "900"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    limited
}
