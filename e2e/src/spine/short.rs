//! A server that runs short: of memory, then of disk, which a pod fills to the last byte while the store is on it. Who has asked for
//! less than it uses goes first, critical pods stay, the server says what it is short of, and goes on when it has room again.
//!
//! It is an instance of its own, on a disk of its own. It is short of memory by a threshold that no machine meets, so that
//! nothing here depends on what else this machine does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::statvfs;

use super::node::{LIMIT, Node};
use crate::process::wait;

/// Ports and ranges that nothing else in these tests has.
const PLACE: [&str; 16] = [
    "--listen",
    "127.0.0.1:9443",
    "--node-listen",
    "0.0.0.0:12250",
    "--http-port",
    "0",
    "--https-port",
    "0",
    "--service-cidr",
    "10.98.0.0/16",
    "--pod-cidr",
    "10.246.0.0/16",
    "--name",
    "small",
    "--eviction-pressure-transition-period",
    "1",
];

const DISK_BYTES: u64 = 256 << 20;

/// What one pod says of how it is.
const PHASE: &str = "jsonpath={.status.phase} {.status.reason}";

pub(super) fn of_everything(node: &Node) -> Result<()> {
    let mut small = node.beside(&PLACE)?;
    small.move_to("disk/data");
    let disk = Disk::mount(small.folder())?;
    let outcome = of_memory(&mut small).and_then(|()| of_disk(&mut small, &disk));
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(error).context(small.report()?),
    };
    let purged = small.purge();
    outcome.and(purged).and(disk.unmount())
}

fn of_memory(small: &mut Node) -> Result<()> {
    small.images(&["busybox"])?;
    small.up()?;
    let file = small.folder().join("short.yaml");
    fs::write(&file, include_str!("short.yaml"))?;
    small.kubectl(&["apply", "-f", file.to_str().context("a path of text")?])?;
    for (namespace, pod) in [("default", "greedy"), ("default", "modest"), ("kube-system", "critical")] {
        ready(small, namespace, pod)?;
    }
    begin_anew(small, "memory.available<1Ti")?;
    // Both at one moment: whoever is not short yet when the first one goes may be, later.
    let both = ["get", "pods", "greedy", "modest", "-o", "jsonpath={.items[*].status.reason}"];
    small.until(&both, |reasons| reasons.starts_with("Evicted"))?;
    let message = small.field("default", "pod/greedy", "{.status.message}")?;
    let words =
        ["The node was low on resource: memory. Threshold quantity: 1Ti, available: ", "Container app was using "];
    ensure!(words.iter().all(|words| message.contains(words)), "{message}");
    let conditions =
        small.field("default", "pod/greedy", "{.status.conditions[?(@.type=='DisruptionTarget')].reason}")?;
    ensure!(conditions == "TerminationByKubelet", "it is said to be {conditions:?}");
    let when = "{.status.conditions[?(@.type=='DisruptionTarget')].lastTransitionTime}";
    let [greedy, modest] = ["greedy", "modest"].map(|pod| small.field("default", &format!("pod/{pod}"), when));
    let (greedy, modest) = (greedy?, modest?);
    ensure!(modest.is_empty() || greedy <= modest, "greedy went at {greedy}, modest at {modest}");
    small.until(&["get", "node", "small", "-o", "jsonpath={.spec.taints[*].key}"], |taints| {
        taints.contains("node.kubernetes.io/memory-pressure")
    })?;
    let events = small.kubectl(&["get", "events", "-A"])?;
    ensure!(["Evicted", "NodeHasInsufficientMemory"].iter().all(|word| events.contains(word)), "{events}");
    critical_stays(small)
}

fn of_disk(small: &mut Node, disk: &Disk) -> Result<()> {
    begin_anew(small, "nodefs.available<25%")?;
    well(small)?;
    let run = |name: &str, script: &str| {
        let words = ["run", name, "--image=localhost/test/busybox:1", "--restart=Never", "--", "sh", "-c", script];
        small.kubectl(&words).map(drop)
    };
    run("keeper", "sleep 1000000")?;
    ready(small, "default", "keeper")?;
    // It begins when it is seen to run.
    run("filler", "until test -e /go; do sleep 0.1; done; dd if=/dev/zero of=/much bs=1M; sleep 1000000")?;
    ready(small, "default", "filler")?;
    small.kubectl(&["exec", "filler", "--", "touch", "/go"])?;
    small.until(&["get", "pod", "filler", "-o", PHASE], |phase| phase == "Failed Evicted")?;
    let message = small.field("default", "pod/filler", "{.status.message}")?;
    ensure!(message.contains("The node was low on resource: ephemeral-storage. Threshold quantity: "), "{message}");
    wait(LIMIT, || Ok((disk.free()? > DISK_BYTES / 3).then_some(()))).context("what it wrote is still there")?;
    // Nobody else went, and what is new is taken again.
    ready(small, "default", "keeper")?;
    critical_stays(small)?;
    small.until(&["create", "configmap", "roomy"], |made| made.contains("created"))?;
    well(small)?;
    run("after", "sleep 1000000")?;
    ready(small, "default", "after")
}

/// Control ends and begins, pods go on.
fn begin_anew(small: &mut Node, eviction: &str) -> Result<()> {
    small.kill()?;
    small.evicts(eviction);
    small.up()
}

fn ready(small: &Node, namespace: &str, pod: &str) -> Result<()> {
    let ready = "jsonpath={.status.containerStatuses[0].ready}";
    small.until(&["-n", namespace, "get", "pod", pod, "-o", ready], |ready| ready == "true").map(drop)
}

fn critical_stays(small: &Node) -> Result<()> {
    let phase =
        small.field("kube-system", "pod/critical", "{.status.phase}{.status.containerStatuses[0].restartCount}")?;
    ensure!(phase == "Running0", "the critical pod is {phase}");
    Ok(())
}

/// The server says that it is short of nothing, and pods may come.
fn well(small: &Node) -> Result<()> {
    let told = "jsonpath={.status.conditions[*].status} {.spec.taints[*].key}";
    small.until(&["get", "node", "small", "-o", told], |told| told.trim() == "False False False True").map(drop)
}

/// A small file system in a file.
struct Disk {
    place: PathBuf,
    is_mounted: bool,
}

impl Disk {
    fn mount(folder: &Path) -> Result<Self> {
        let (file, place) = (folder.join("disk.image"), folder.join("disk"));
        fs::File::create(&file)?.set_len(DISK_BYTES)?;
        fs::create_dir(&place)?;
        done(Command::new("mkfs.ext4").arg("-q").arg(&file))?;
        done(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&place))?;
        Ok(Self { place, is_mounted: true })
    }

    fn free(&self) -> Result<u64> {
        let disk = statvfs(&self.place)?;
        Ok(disk.f_bavail * disk.f_frsize)
    }

    fn unmount(mut self) -> Result<()> {
        wait(LIMIT, || Ok(done(Command::new("umount").arg(&self.place)).ok()))?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = done(Command::new("umount").arg("-l").arg(&self.place))
        {
            println!("{error:#}");
        }
    }
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
