//! The service: made, found there, ended and killed, undone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::machine::{CORTEN, DATA, Machine};
use super::visitors;
use crate::process::wait;
use crate::spine::node::LIMIT;

/// What is not root's, not there, or taken is said, and nothing is made.
pub(super) fn refusals(machine: &Machine) -> Result<()> {
    let before = files(machine)?;
    let said = machine.refused(&["setpriv", "--reuid=65534", "--clear-groups", CORTEN, "install"])?;
    ensure!(said.contains("run it as root"), "{said}");
    let said = machine.refused(&[CORTEN, "upgrade", CORTEN])?;
    ensure!(said.contains("corten is not installed on this server"), "{said}");
    machine.run(&["systemd-run", "--unit=taken", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc"])?;
    // Its port, 80, as the kernel writes it.
    let listens = |table: &str| table.lines().any(|line| line.contains(":0050 ") && line.contains(" 0A "));
    wait(LIMIT, || Ok(listens(&machine.run(&["cat", "/proc/net/tcp", "/proc/net/tcp6"])?).then_some(())))?;
    let said = machine.refused(&[CORTEN, "install"])?;
    ensure!(said.contains("port 80 is in use by busybox (process "), "{said}");
    machine.run(&["systemctl", "stop", "taken"])?;
    ensure!(machine.run(&[CORTEN, "uninstall"])?.contains("there is nothing to undo"), "something was installed");
    let after = files(machine)?;
    ensure!(before == after, "refusals have changed {:?}", before.symmetric_difference(&after));
    Ok(())
}

/// Installed, again with the same flags and with others; then an application that answers.
pub(super) fn whole(machine: &Machine) -> Result<()> {
    let said = machine.run(&[CORTEN, "install"])?;
    ensure!(said.contains("\nready, with its data in /var/lib/corten"), "{said}");
    ensure!(machine.run(&[CORTEN, "install"])?.contains("it runs"), "a second time is not the first");
    let other = machine.refused(&[CORTEN, "install", "--http-port", "8080"])?;
    ensure!(other.contains("installed with other flags: `up`, and now `up --http-port 8080`"), "{other}");
    for (property, value) in [("KillMode", "process"), ("Delegate", "yes"), ("UnitFileState", "enabled")] {
        ensure!(machine.property(property)? == value, "{property} is {}", machine.property(property)?);
    }
    fs::write(machine.file("app.yaml"), include_str!("app.yaml"))?;
    machine.kubectl(&["apply", "-f", "/corten/app.yaml"])?;
    settled(machine)?;
    ensure!(starts(machine)? == 1, "the pod with a disk has started {} times", starts(machine)?);
    Ok(())
}

/// The application is there, and answers through the edge.
pub(super) fn settled(machine: &Machine) -> Result<()> {
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    for object in ["deployment/web", "statefulset/rows"] {
        machine.kubectl(&["-n", "app", "rollout", "status", object, &limit])?;
    }
    let url = format!("http://{}/passwd", super::machine::EDGE.ip());
    let ask = ["busybox", "wget", "-q", "-O", "-", "--header", "Host: app.localhost", &url];
    wait(LIMIT, || Ok(machine.output(&ask)?.stdout.starts_with(b"root:").then_some(())))
        .context("the application does not answer through the edge")
}

/// How often the pod with a disk has begun, by what it has written to that.
pub(super) fn starts(machine: &Machine) -> Result<usize> {
    let written = machine.kubectl(&["-n", "app", "exec", "rows-0", "--", "cat", "/data/starts"])?;
    Ok(written.lines().count())
}

/// Identities and starts of all containers.
pub(super) fn containers(machine: &Machine) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} \
                {.status.containerStatuses[*].state.running.startedAt}{\"\\n\"}{end}";
    machine.kubectl(&["-n", "app", "get", "pods", "-o", path])
}

/// Control is started anew in order, then killed: systemd starts it again, and nobody notices.
pub(super) async fn restarted(machine: &Machine) -> Result<()> {
    let (before, load) = (containers(machine)?, visitors());
    machine.run(&["systemctl", "restart", "corten"])?;
    machine.killed()?;
    let report = load.stop().await?;
    println!("        {} requests, slowest {:?}", report.samples.len(), report.slowest());
    report.nothing_lost()?;
    ensure!(containers(machine)? == before, "containers are not what they were:\n{before}\n{}", containers(machine)?);
    Ok(())
}

/// Undone twice; pods and data are there until they are taken away too.
pub(super) fn undone(machine: &Machine) -> Result<()> {
    let said = machine.run(&[CORTEN, "uninstall"])?;
    ensure!(said.contains(&format!("corten purge --data-dir {DATA}")), "{said}");
    ensure!(machine.run(&[CORTEN, "uninstall"])?.contains("there is nothing to undo"), "a second time");
    let left = files(machine)?;
    ensure!(!left.iter().any(|file| file.contains("corten")), "left behind: {left:?}");
    ensure!(machine.run(&["ip", "-o", "link"])?.lines().count() > 2, "pods have gone with the service");
    ensure!(machine.disk(DATA).join("store").is_dir(), "data have gone with the service");
    // Installed again, it takes over what runs; then all of it goes.
    let before = machine.run(&["pidof", "httpd"])?;
    machine.run(&[CORTEN, "install"])?;
    ensure!(machine.run(&["pidof", "httpd"])? == before, "pods were started again");
    machine.run(&[CORTEN, "uninstall", "--purge"])?;
    ensure!(!machine.disk(DATA).exists(), "data are left");
    let links = machine.run(&["ip", "-o", "link"])?;
    ensure!(links.lines().count() == 2, "links are left:\n{links}");
    let left = machine.output(&["pidof", "httpd", "corten", "corten-pod"])?;
    ensure!(left.stdout.is_empty(), "processes are left: {}", String::from_utf8_lossy(&left.stdout));
    Ok(())
}

/// Everything below the folders that an installation may touch.
fn files(machine: &Machine) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for folder in ["etc", "local"] {
        below(&machine.disk(folder), &mut found)?;
    }
    Ok(found)
}

fn below(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            below(&path, found)?;
        }
        found.insert(path.display().to_string());
    }
    Ok(())
}
