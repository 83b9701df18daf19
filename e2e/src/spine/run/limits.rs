//! What a container may take, measured from inside it: memory, processor time, processes, and bytes a second to a disk. An
//! annotation that says nothing keeps its pod from starting.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use super::{all, run};
use crate::spine::node::Node;

pub(super) const NAME: &str = "limits";
/// Takes more memory than it may.
pub(super) const HOG: &str = "hog";

/// Bytes that are written past every cache, and seconds that this takes at the least, at 5,000,000 bytes a second. The first
/// slice of the kernel's throttling is free.
const BYTES: u32 = 8 << 20;
const SECONDS_MIN: f64 = 1.0;
const RATE: &str = "5M";

/// What busybox's `time` says.
const REAL: &str = r"real\s+0m ([0-9.]+)s";
const USER: &str = r"user\s+0m ([0-9.]+)s";
const SYSTEM: &str = r"sys\s+0m ([0-9.]+)s";

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";

pub(super) fn hold(node: &Node, shell: &str) -> Result<()> {
    memory(node, shell)?;
    let limits = ["--memory", "64Mi", "--cpus", "0.2", "--pids", "20", "--io-read", RATE, "--io-write", RATE];
    let said = run(node, &[&["-d", "--name", NAME], &limits[..], &[shell, "sh", "-c", WAIT]].concat())?;
    ensure!(said.status.success(), "corten run says {}", all(&said));
    bytes_a_second(node)?;
    processor(node)?;
    processes(node)?;
    annotation_that_says_nothing(node, shell)
}

/// Who takes more is killed, and that is what is told.
fn memory(node: &Node, shell: &str) -> Result<()> {
    let script = "x=a; while :; do x=$x$x; done";
    let said = run(node, &["-d", "--name", HOG, "-p", "9", "--memory", "16Mi", shell, "sh", "-c", script])?;
    let all = all(&said);
    ensure!(!said.status.success() && all.contains("OOMKilled") && all.contains("larger --memory"), "it says {all}");
    let rows = node.corten(&["ps"])?;
    let row = rows.lines().find(|row| row.starts_with(HOG)).context("it is listed")?;
    ensure!(row.contains("CrashLoopBackOff") || row.contains("Ended"), "ps shows {row}");
    Ok(())
}

/// What is written past the caches takes its time. Where the server's data lie on no disk of its own, such as on a file system in
/// memory or on an overlay, there is nothing to measure, and it is looked at what the kernel was told.
fn bytes_a_second(node: &Node) -> Result<()> {
    told(node)?;
    let device = fs::metadata(node.data())?.dev();
    let numbers = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    if !Path::new("/sys/dev/block").join(&numbers).exists() {
        println!("        the data are on {numbers}, which is no disk: bytes a second are not measured");
        return Ok(());
    }
    for way in ["if=/dev/zero of=/tmp/bytes oflag=direct", "if=/tmp/bytes of=/dev/null iflag=direct"] {
        let count = BYTES >> 20;
        let said = exec(node, &format!("time dd {way} bs=1M count={count} 2>&1"))?;
        let seconds = number(&said, REAL)?;
        ensure!((SECONDS_MIN..60.0).contains(&seconds), "dd {way} took {seconds} s at {RATE} bytes a second: {said}");
    }
    Ok(())
}

/// The container's group names every disk with the rate.
fn told(node: &Node) -> Result<()> {
    let uid = node.kubectl(&["get", "pods", "-l", &label(), "-o", "jsonpath={.items[0].metadata.uid}"])?;
    // A pod whose limits are its requests is right below the instance's group.
    let group = format!("corten-{}/pod{uid}/{NAME}-0", node.instance()?);
    let files = ["blkio/GROUP/blkio.throttle.write_bps_device", "GROUP/io.max", "unified/GROUP/io.max"];
    let files = files.map(|file| Path::new("/sys/fs/cgroup").join(file.replace("GROUP", &group)));
    let all = files.iter().filter(|file| file.exists()).map(fs::read_to_string).collect::<Result<Vec<_>, _>>()?;
    ensure!(all.iter().any(|text| text.contains("5000000")), "the pod's groups say {all:?}");
    Ok(())
}

/// A fifth of a processor, and not more.
fn processor(node: &Node) -> Result<()> {
    let said = exec(node, "time sh -c 'timeout 1 sh -c \"while :; do :; done\"; true' 2>&1")?;
    let (real, used) = (number(&said, REAL)?, number(&said, USER)? + number(&said, SYSTEM)?);
    // The first period may be used up by what has run before.
    ensure!(real >= 1.0 && used <= 0.2 * real + 0.15, "it has used {used} s in {real} s: {said}");
    Ok(())
}

/// The next process beyond the limit is refused.
fn processes(node: &Node) -> Result<()> {
    let said = exec(node, "(for i in $(seq 40); do sleep 3 & done) 2>&1; true")?;
    ensure!(said.contains("can't fork"), "40 processes were begun beside a limit of 20: {said}");
    Ok(())
}

/// Nothing starts without the limit that was meant.
fn annotation_that_says_nothing(node: &Node, shell: &str) -> Result<()> {
    let annotation = "--annotations=corten.dev/io-write-bps=fast";
    let image = format!("--image={shell}");
    node.kubectl(&["run", "fast", &image, "--image-pull-policy=IfNotPresent", annotation, "--", "true"])?;
    let words = "the annotation corten.dev/io-write-bps is \"fast\"; it is to be a number of bytes a second";
    node.until(&["get", "events", "--field-selector=involvedObject.name=fast"], |events| events.contains(words))?;
    let state = node.field("default", "pod/fast", "{.status.containerStatuses[0].state}")?;
    ensure!(state.contains("ContainerCreating"), "its container is {state}");
    node.kubectl(&["delete", "pod", "fast", "--grace-period=1"])?;
    Ok(())
}

fn label() -> String {
    format!("app.kubernetes.io/name={NAME}")
}

fn exec(node: &Node, script: &str) -> Result<String> {
    node.kubectl(&["exec", &format!("deployment/{NAME}"), "--", "sh", "-c", script])
}

fn number(text: &str, pattern: &str) -> Result<f64> {
    let found = Regex::new(pattern)?.captures(text);
    let found = found.with_context(|| format!("{pattern} is not in {text:?}"))?;
    Ok(found[1].parse()?)
}
