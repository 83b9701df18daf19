//! The server as a further one: a first server is at the other end of its cable, and `corten install node` has systemd run what
//! `corten token create` prints there. It is a member after its own restart, a kill and a reboot, without the token.

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;

use super::machine::{CORTEN, DATA, Machine};
use crate::process::wait;
use crate::spine::node::{LIMIT, Node};

/// The first server's name, and where it is.
const FIRST: [&str; 4] = ["--listen", "192.0.2.1:6443", "--name", "first"];

/// The server's own name.
const NAME: &str = "host-1";

/// Runs on the server that joins, of an image that the first one alone has.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: far}
spec:
  nodeName: host-1
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "localhost/test/busybox:1", command: [sh, -c, "echo begun; exec sleep 100000"]}
"#;

pub(super) fn joins(machine: &mut Machine) -> Result<()> {
    let mut first = machine.other()?.at(&FIRST);
    let outcome = member(machine, &mut first);
    if outcome.is_err() {
        println!("{}", first.report()?);
    }
    let purged = first.purge();
    outcome.and(purged)
}

fn member(machine: &mut Machine, first: &mut Node) -> Result<()> {
    first.images(&["busybox"])?;
    first.up()?;
    let printed = first.corten(&["token", "create"])?;
    let join = printed.trim().strip_prefix("corten ").with_context(|| format!("token create prints {printed:?}"))?;
    let watch = Stopwatch::start();
    let install: Vec<&str> = [CORTEN, "install"].into_iter().chain(join.split(' ')).collect();
    let said = machine.run(&install)?;
    ensure!(said.contains("\nready, with its data in /var/lib/corten"), "{said}");
    is_ready(first)?;
    println!("        a member after {} ms", watch.elapsed().as_millis());
    ensure!(!machine.disk("etc/corten/joining").exists(), "the token is still on the disk");
    let file = first.folder().join("far.yaml");
    std::fs::write(&file, POD)?;
    first.kubectl(&["apply", "-f", &file.display().to_string()])?;
    let before = container(first)?;
    restarted(machine, first)?;
    ensure!(container(first)? == before, "the container is another one: {before}, {}", container(first)?);
    rebooted(machine, first, &before)?;
    machine.run(&[CORTEN, "uninstall", "--purge"])?;
    ensure!(!machine.disk(DATA).exists(), "data are left");
    Ok(())
}

/// Started anew in order, then killed: it is a member by what is on its disk.
fn restarted(machine: &Machine, first: &Node) -> Result<()> {
    machine.run(&["systemctl", "restart", "corten"])?;
    is_ready(first)?;
    machine.killed()?;
    is_ready(first)
}

fn rebooted(machine: &mut Machine, first: &Node, before: &str) -> Result<()> {
    machine.shut_down()?;
    let watch = Stopwatch::start();
    machine.boot()?;
    machine.ready()?;
    // What the API said before the boot is said until the server has its word.
    let after = wait(LIMIT, || Ok(Some(container(first)?).filter(|now| now != before)))
        .context("after the reboot the pod does not begin again")?;
    println!("        a member again, with its pod, {:.1} s after it was switched on", watch.elapsed().as_secs_f64());
    let logs = first.kubectl(&["logs", "far"])?;
    ensure!(logs == "begun\n", "the container {after} says {logs:?}");
    is_ready(first)
}

fn is_ready(first: &Node) -> Result<()> {
    first.until(&["get", "node", NAME, "--no-headers"], |line| line.contains(" Ready ")).map(drop)
}

/// Which one runs.
fn container(first: &Node) -> Result<String> {
    let running =
        "jsonpath={.status.containerStatuses[0].state.running.startedAt} {.status.containerStatuses[0].containerID}";
    first.until(&["get", "pod", "far", "-o", running], |said| !said.starts_with(' ') && said.len() > 1)
}
