//! Another program while requests come: a good one takes over, bad ones are taken back, and no container and no request notices.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::install::containers;
use super::machine::{CORTEN, Machine};
use super::pretend::{self, Fails};
use super::visitors;

/// Where upgrades come from, there.
pub(super) const NEW: &str = "/corten/new";

pub(super) async fn all(machine: &Machine) -> Result<()> {
    let (before, load) = (containers(machine)?, visitors());
    let outcome = good(machine).and_then(|()| bad(machine));
    let report = load.stop().await?;
    println!("        {} requests, slowest {:?}", report.samples.len(), report.slowest());
    outcome?;
    report.nothing_lost()?;
    let after = containers(machine)?;
    ensure!(after == before, "containers are not what they were:\n{before}\n{after}");
    Ok(())
}

/// The same program as another build: control and the edge run it afterwards.
fn good(machine: &Machine) -> Result<()> {
    let former = running(machine)?;
    pretend::write(&machine.file("corten"), b"\nanother build\n", &machine.file("new"))?;
    let said = machine.run(&[CORTEN, "upgrade", NEW])?;
    let ready = said.lines().find(|line| line.starts_with("ready after ")).with_context(|| said.clone())?;
    println!("        {ready}");
    let now = running(machine)?;
    ensure!(now != former, "control still runs {former}");
    // The former edge has some time to finish what it was doing, and may be there still.
    let pids = machine.run(&["pidof", "corten"])?;
    let control = machine.property("MainPID")?;
    let programs = pids.split_whitespace().filter(|pid| *pid != control).map(|pid| program(machine, pid));
    let edges = programs.collect::<Result<Vec<_>>>()?;
    ensure!(edges.contains(&now), "no edge runs the new program: {edges:?}");
    ensure!(machine.run(&[CORTEN, "upgrade", NEW])?.contains("runs already"), "a second time");
    Ok(())
}

/// Programs that end, at once or after they have said that they are ready: the former one is there again, and says why.
fn bad(machine: &Machine) -> Result<()> {
    let former = running(machine)?;
    for (kind, why) in
        [(Fails::Ends, "it ends instead of becoming ready"), (Fails::Boasts, "it ends instead of becoming ready")]
    {
        kind.write(&machine.file("new"))?;
        let said = machine.refused(&[CORTEN, "upgrade", NEW])?;
        ensure!(said.contains(why) && said.contains("runs again"), "{kind:?}: {said}");
        ensure!(running(machine)? == former, "{kind:?}: control runs {}", running(machine)?);
        ensure!(machine.property("ActiveState")? == "active", "{kind:?}: the service does not run");
    }
    let programs = fs::read_dir(machine.disk("local/lib/corten"))?.count();
    // The one in use, the one before it, and the link.
    ensure!(programs == 3, "{programs} files are among the programs");
    Ok(())
}

/// The file of the program that control runs.
pub(super) fn running(machine: &Machine) -> Result<String> {
    let pid = machine.property("MainPID")?;
    program(machine, &pid)
}

/// The file of the program that a process runs; nothing for one that has ended.
fn program(machine: &Machine, pid: &str) -> Result<String> {
    let said = machine.output(&["readlink", &format!("/proc/{pid}/exe")])?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}
