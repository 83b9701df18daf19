//! Joining, and every way in which it is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;

use super::Stage;
use super::further::Further;
use super::lan::ADDRESS;
use crate::process::wait;
use crate::spine::node::LIMIT;
use crate::spine::story;

/// Two seconds are the aim; a busy machine has more.
const JOINED_MAX: Duration = Duration::from_secs(20);

/// The command for a further server.
pub(super) fn command(stage: &Stage, more: &[&str]) -> Result<String> {
    let printed = stage.first.corten(&[&["token", "create"], more].concat())?;
    let wanted = format!("corten node --server https://{ADDRESS}:6443 --token ");
    ensure!(printed.starts_with(&wanted) && printed.lines().count() == 1, "token create prints {printed:?}");
    Ok(printed.trim().to_owned())
}

/// Two servers join, each with a token of its own; a used one lets nobody in, and neither does the name of a living server. The second
/// joins as the story tells it.
pub(super) fn both(stage: &mut Stage) -> Result<()> {
    let used = story(stage)?;
    refused(stage, &[&used, "--name", "four"], "token")?;
    let other = command(stage, &[])?;
    refused(stage, &[&other, "--name", "two"], "a server of this name is in the cluster and alive")?;
    let third = command(stage, &[])?;
    joined(stage, |stage| &mut stage.third, &third)
}

/// The script of the story joins the second server, has pods there, and empties it. Gives the command that it was joined by.
fn story(stage: &mut Stage) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let (tells, told) = (folder.path().join("on-second"), folder.path().join("told"));
    fs::write(&tells, "#!/bin/sh\necho \"corten $*\" >\"$TOLD.new\" && mv \"$TOLD.new\" \"$TOLD\"\n")?;
    fs::set_permissions(&tells, fs::Permissions::from_mode(0o755))?;
    let mut script = story::script(&stage.first, story::SECOND_SERVER)?;
    script.env("ON_SECOND", &tells).env("TOLD", &told);
    let mut command = String::new();
    let said = std::thread::scope(|scope| {
        let running = scope.spawn(|| story::succeeds(&mut script));
        wait(LIMIT, || Ok((told.exists() || running.is_finished()).then_some(())))?;
        if told.exists() {
            command = fs::read_to_string(&told)?.trim().to_owned();
            joined(stage, |stage| &mut stage.second, &command)?;
        }
        running.join().map_err(|_| anyhow::anyhow!("the script's thread panicked"))?
    })?;
    said.lines().filter(|line| line.contains("requests meanwhile")).for_each(|line| println!("        {line}"));
    Ok(command)
}

/// A server that was made anew joins under its old name, as soon as the cluster misses the old one: it is the same node with the
/// same addresses for pods, and the pod that is bound to it runs there again.
pub(super) fn reinstalled(stage: &mut Stage) -> Result<()> {
    let node = ["get", "node", "three", "-o", "jsonpath={.metadata.uid} {.spec.podCIDR}"];
    let (before, machine) = (stage.first.kubectl(&node)?, fs::read(stage.third.data().join("instance"))?);
    stage.third.kill()?;
    stage.third.empty()?;
    stage.first.until(&["get", "node", "three", "--no-headers"], |line| line.contains(" NotReady "))?;
    let command = command(stage, &[])?;
    joined(stage, |stage| &mut stage.third, &command)?;
    let after = stage.first.kubectl(&node)?;
    ensure!(after == before, "the node was {before} and is {after}");
    ensure!(fs::read(stage.third.data().join("instance"))? != machine, "it is the same instance, not one made anew");
    // The one that was there, or one of its name that took its place, as the cluster missed the server for long enough.
    stage.first.until(&["exec", "only-0", "--", "echo", "here"], |told| told == "here\n")?;
    Ok(())
}

fn joined(stage: &mut Stage, which: impl Fn(&mut Stage) -> &mut Further, command: &str) -> Result<()> {
    let further = which(stage);
    let watch = Stopwatch::start();
    further.start(command)?;
    let name = further.name;
    stage.first.until(&["get", "node", name, "--no-headers"], |line| line.contains(" Ready "))?;
    ensure!(watch.elapsed() < JOINED_MAX, "{name} has joined after {:?}", watch.elapsed());
    println!("        {name} has joined after {} ms", watch.elapsed().as_millis());
    let range = stage.first.kubectl(&["get", "node", name, "-o", "jsonpath={.spec.podCIDR}"])?;
    ensure!(range.starts_with("10.244.") && range.ends_with("/24"), "{name} has the range {range}");
    Ok(())
}

/// What must not let anybody in.
pub(super) fn refusals(stage: &mut Stage) -> Result<()> {
    let good = command(stage, &[])?;
    let (front, token) = good.rsplit_once(' ').context("a token is the last word")?;
    let parts: Vec<&str> = token.split('.').collect();
    let [id, secret, hash] = parts.as_slice() else { anyhow::bail!("{token} has not three parts") };
    let other_hash = hash.chars().rev().collect::<String>();
    refused(stage, &[front, "abc"], "is not what `corten token create` prints")?;
    refused(stage, &[front, &format!("{id}.{secret}.{other_hash}")], "is not the one that the token was made in")?;
    refused(stage, &[front, &format!("{id}.0000000000000000.{hash}")], "the cluster does not know the token")?;
    let nowhere = good.replace(ADDRESS, "192.0.2.77");
    refused(stage, &[&nowhere], "no API answers at https://192.0.2.77:6443")?;
    refused(stage, &[&format!("corten node --server https://{ADDRESS}:6443")], "this server is in no cluster")?;
    let expired = command(stage, &["--ttl", "1s"])?;
    let gone = expired.rsplit(' ').next().and_then(|token| token.split('.').next()).context("a token")?.to_owned();
    stage.first.until(&["-n", "kube-system", "get", "secrets", "-o", "name"], |names| !names.contains(&gone))?;
    refused(stage, &[&expired], "is wrong, was used or is over")?;
    let mut ahead = stage.second.on(&["env", "CORTEN_CLOCK_OFFSET=3600"]);
    let words = good.split_whitespace().skip(1);
    ahead.arg(stage.first.program()).args(words).arg("--data-dir").arg(stage.second.data());
    let said = String::from_utf8_lossy(&ahead.output()?.stderr).into_owned();
    ensure!(said.contains("s ahead of the cluster's; set it"), "a clock that is off is told as: {said}");
    ensure!(!stage.second.data().exists(), "a refused start leaves something in {}", stage.second.data().display());
    stage.first.corten(&["token", "rm", id])?;
    refused(stage, &[&good], "is wrong, was used or is over")
}

/// A command on the second server that is refused with these words, and leaves nothing.
fn refused(stage: &Stage, command: &[&str], expect: &str) -> Result<()> {
    let words: Vec<&str> = command.iter().flat_map(|part| part.split_whitespace()).skip(1).collect();
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let mut started = stage.second.on(&[]);
    let output = started.arg(stage.first.program()).args(&words).arg("--data-dir").arg(&data).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains(expect), "{words:?} is refused with: {said}");
    ensure!(!data.exists(), "{words:?} leaves {}", data.display());
    Ok(())
}
