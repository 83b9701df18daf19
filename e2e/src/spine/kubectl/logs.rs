//! logs: followed to the end of a container, of the one before, and every way to ask for a part of them.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::following::Following;
use super::{IDLE, NAMESPACE, NEW, container, run};
use crate::spine::node::Node;

const POD: &str = "talker";

/// Counts its lives, and talks until it is told to end with a code.
const TALKS: &str =
    "trap 'echo ends; exit 3' USR1; echo life >> /lives/all; life=$(wc -l < /lives/all); echo begins $life
i=0; while :; do echo $life.$i; i=$((i + 1)); sleep 0.1; done";

pub(super) fn all(node: &Node) -> Result<()> {
    let mut talks = container("talks", TALKS);
    talks["volumeMounts"] = json!([{"name": "lives", "mountPath": "/lives"}]);
    let idle = container("idle", &format!("echo from idle; {IDLE}"));
    let before = container("before", "echo from before");
    let volumes = json!([{"name": "lives", "emptyDir": {}}]);
    run(node, POD, &json!({"initContainers": [before], "containers": [talks, idle], "volumes": volumes}))?;
    parts(node)?;
    selected(node)?;
    restarted(node)
}

fn logs(node: &Node, options: &[&str]) -> Result<String> {
    node.kubectl(&[&["-n", NAMESPACE, "logs"], options].concat())
}

/// Containers, numbers of lines, times.
fn parts(node: &Node) -> Result<()> {
    ensure!(logs(node, &[POD, "-c", "before"])? == "from before\n", "the init container");
    ensure!(logs(node, &[POD, "-c", "idle", "--limit-bytes=6"])? == "from i", "six bytes");
    let tail = logs(node, &[POD, "-c", "talks", "--tail=2"])?;
    ensure!(tail.lines().count() == 2 && !tail.contains("begins"), "the last two lines are {tail:?}");

    let stamped = logs(node, &[POD, "-c", "talks", "--timestamps"])?;
    let stamps: Vec<&str> = stamped.lines().filter_map(|line| line.split_once(' ')).map(|(stamp, _)| stamp).collect();
    let rising = stamps.is_sorted() && stamps.iter().all(|stamp| stamp.starts_with("20") && stamp.ends_with('Z'));
    ensure!(stamps.len() == stamped.lines().count() && rising, "not times that rise: {stamped}");
    let first = stamped.lines().next().context("it has talked")?;
    ensure!(first.ends_with(" begins 1"), "it begins with {first:?}");

    // Once it has talked for a while, what it said first is older.
    let recent = ["-n", NAMESPACE, "logs", POD, "-c", "talks", "--since=2s"];
    node.until(&recent, |text| text.contains("1.") && !text.contains("begins"))?;
    let since = stamps.last().context("it has talked")?;
    let since = format!("--since-time={}Z", since.split('.').next().context("a time has seconds")?);
    let later = logs(node, &[POD, "-c", "talks", "--timestamps", &since])?;
    let second = &since["--since-time=".len()..since.len() - 1];
    ensure!(later.lines().next().is_some_and(|line| line.starts_with(second)), "{since} gives {later}");
    Ok(())
}

/// All containers, and all pods of a label.
fn selected(node: &Node) -> Result<()> {
    let all = logs(node, &["-l", &format!("app={POD}"), "--all-containers", "--prefix", "--tail=1"])?;
    for (container, word) in [("before", "from before"), ("talks", "1."), ("idle", "from idle")] {
        let line = format!("[pod/{POD}/{container}] {word}");
        ensure!(all.lines().any(|other| other.starts_with(&line)), "{line:?} is not in {all}");
    }
    let Output { status, stderr, .. } = node.command(&["-n", NAMESPACE, "logs", POD]).output()?;
    let said = String::from_utf8_lossy(&stderr);
    let defaulted = "Defaulted container \"talks\" out of: talks, idle, before (init)";
    ensure!(status.success() && said.contains(defaulted), "without a container: {said}");
    Ok(())
}

/// Who follows hears all of a container's life and then its end; the life before stays to be read.
fn restarted(node: &Node) -> Result<()> {
    let refused = node.command(&["-n", NAMESPACE, "logs", POD, "-c", "talks", "--previous"]).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    let none = format!("previous terminated container \"talks\" in pod \"{POD}\" not found");
    ensure!(!refused.status.success() && said.contains(&none), "before the first restart: {said}");

    let follow = ["-n", NAMESPACE, "logs", "-f", POD, "-c", "talks"];
    let mut following = Following::start(&mut node.command_of(NEW, &follow))?;
    following.shows("begins 1")?;
    let so_far = following.seen.len();
    following.until(|lines| lines.len() > so_far + 5)?;
    node.kubectl(&["-n", NAMESPACE, "exec", POD, "-c", "talks", "--", "kill", "-USR1", "1"])?;
    let (status, said) = following.ends()?;
    ensure!(status.success(), "who follows ends with {status}: {said}");
    let last = following.seen.last().context("it was followed")?;
    ensure!(last == "ends", "the last line that is followed is {last:?}");

    node.until(&["-n", NAMESPACE, "logs", POD, "-c", "talks"], |text| text.starts_with("begins 2\n"))?;
    let previous = logs(node, &[POD, "-c", "talks", "--previous"])?;
    ensure!(previous.lines().eq(following.seen.iter().map(String::as_str)), "the life before: {previous}");
    let count = "{.status.containerStatuses[?(@.name=='talks')].restartCount}";
    let count = node.field(NAMESPACE, &format!("pod/{POD}"), count)?;
    ensure!(count == "1", "{count} restarts");
    Ok(())
}
