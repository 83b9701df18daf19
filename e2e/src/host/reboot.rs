//! Reboots: in order, and by cutting the power in the middle of something. Afterwards everything answers again by itself.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use corten_stdx::clock::Stopwatch;

use super::database::{self, Writer};
use super::install::{settled, starts};
use super::machine::{CORTEN, DATA, Machine};
use super::pretend::Fails;
use super::pull::Pull;
use super::upgrade::{NEW, running};
use crate::process::wait;
use crate::spine::node::LIMIT;

/// Less than systemd's own, and far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a user may say of the service: programs have less time to end.
const GRACE: &str = "[Service]
ExecStopPost=
ExecStopPost=-/usr/local/lib/corten/current down --with-server --grace 2s --data-dir /var/lib/corten
";

/// It goes down when it is told to.
pub(super) fn in_order(machine: &mut Machine) -> Result<()> {
    let (before, address) = (starts(machine)?, service(machine)?);
    let more = machine.disk("etc/systemd/system/corten.service.d");
    fs::create_dir(&more)?;
    fs::write(more.join("grace.conf"), GRACE)?;
    machine.run(&["systemctl", "daemon-reload"])?;
    let watch = Stopwatch::start();
    machine.shut_down()?;
    let took = watch.elapsed();
    println!("        down after {:.1} s", took.as_secs_f64());
    // Those of the Deployment do not listen to SIGTERM; systemd waits 90 s for such ones.
    ensure!(took < PATIENCE, "it went down after {took:?}");
    fs::remove_dir_all(&more)?;
    again(machine, before)?;
    let ends = machine.kubectl(&["-n", "app", "exec", "rows-0", "--", "cat", "/data/ends"])?;
    ensure!(ends == "ended\n", "a program that listens to SIGTERM was asked to end: {ends:?}");
    database::kept(machine)?;
    ensure!(service(machine)? == address, "the Service is not where it was: {address}, {}", service(machine)?);
    let said = machine.run(&[CORTEN, "status"])?;
    ensure!(said.contains("host-1"), "{said}");
    Ok(())
}

/// The power is cut in the middle of a rollout, of a pull and of writing rows, then of an upgrade.
pub(super) fn power_cuts(machine: &mut Machine) -> Result<()> {
    let (before, writer) = (starts(machine)?, Writer::start(machine)?);
    let pull = Pull::begin(machine)?;
    machine.kubectl(&["-n", "app", "set", "env", "deployment/web", "RELEASE=two"])?;
    machine.cut_power()?;
    pull.is_cut(machine)?;
    again(machine, before)?;
    let watch = Stopwatch::start();
    pull.ends(machine)?;
    let pulled = watch.elapsed().as_secs_f64();
    database::kept(machine)?;
    writer.kept(machine)?;
    let kept = watch.elapsed().as_secs_f64();
    database::end(machine)?;
    let gone = watch.elapsed().as_secs_f64();
    println!(
        "        pulled {pulled:.1} s later, the databases as they were after {kept:.1} s, gone after {gone:.1} s"
    );
    let path = "jsonpath={.items[*].spec.containers[0].env[0].value}";
    let release = machine.kubectl(&["-n", "app", "get", "pods", "-l", "app=web", "-o", path])?;
    ensure!(release == "two two", "the rollout has not come to its end: {release}");

    let (before, former) = (starts(machine)?, running(machine)?);
    Fails::Waits.write(&machine.file("new"))?;
    let mut upgrade = machine.command(&[CORTEN, "upgrade", NEW])?;
    let mut upgrade = upgrade.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let tried = wait(LIMIT, || {
        // It may be between two programs.
        Ok(running(machine)?.contains("/corten-9.9.9-").then_some(()))
    });
    machine.cut_power()?;
    upgrade.wait()?;
    tried?;
    again(machine, before)?;
    ensure!(running(machine)? == former, "after the reboot control runs {}", running(machine)?);
    Ok(())
}

/// Switched on: everything that was there is there, and the pod with a disk has begun once more.
fn again(machine: &mut Machine, before: usize) -> Result<()> {
    let watch = Stopwatch::start();
    machine.boot()?;
    let booted = watch.elapsed().as_secs_f64();
    machine.ready()?;
    let ready = watch.elapsed().as_secs_f64();
    settled(machine)?;
    let all = watch.elapsed().as_secs_f64();
    println!("        booted after {booted:.1} s, ready after {ready:.1} s, everything answers after {all:.1} s");
    ensure!(starts(machine)? > before, "{DATA}: the pod with a disk has not begun again, or its data are gone");
    Ok(())
}

fn service(machine: &Machine) -> Result<String> {
    machine.kubectl(&["-n", "app", "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])
}
