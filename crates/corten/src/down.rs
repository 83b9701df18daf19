//! `corten down`: ends everything that an instance runs on this server: programs in containers are asked to end, then whatever is
//! left is killed, the edge too. Data stay, and so does what the cluster wants: the next `corten up` brings everything back.
//!
//! A service calls it when its server goes down: programs that nobody asks to end would hold that up until systemd loses patience.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use corten_cli::option::period;
use corten_stdx::clock::{Clock, Stopwatch};
use corten_sys::cgroup::Hierarchies;
use rustix::process::{Pid, Signal, kill_process};

use crate::datadir::{DataDir, RUN};
use crate::{edge, purge, service};

/// How pods' own processes are called: they end with what they hold.
const POD: &str = "corten-pod";

/// Between two looks at who is left.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub struct Down {
    /// Where everything is kept.
    #[arg(long, value_name = "D", default_value = "/var/lib/corten")]
    pub data_dir: PathBuf,
    /// How long programs may take to end before they are killed.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = period)]
    pub grace: Duration,
    /// Do nothing unless this server is going down.
    #[arg(long, hide = true)]
    pub with_server: bool,
}

pub fn run(settings: &Down) -> anyhow::Result<()> {
    if settings.with_server && !service::server_is_going_down()? {
        return Ok(());
    }
    let Some(dir) = DataDir::existing(&settings.data_dir)? else { return Ok(()) };
    ensure!(rustix::process::geteuid().is_root(), "down ends processes of all users; run it as root");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    runtime.block_on(down(dir.instance(), settings.grace, &Clock::system()))
}

async fn down(instance: &str, grace: Duration, clock: &Clock) -> anyhow::Result<()> {
    let hierarchies = Hierarchies::detect()?;
    let group = |name: &str| hierarchies.group(name).members();
    let (all, edge) = (format!("corten-{instance}"), format!("corten-{instance}/edge"));
    let of_edge = group(&edge)?;
    let programs: Vec<i32> = group(&all)?.into_iter().filter(|pid| !of_edge.contains(pid) && !is_pod(*pid)).collect();
    for pid in programs.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        match kill_process(pid, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("process {pid:?} cannot be asked to end")),
        }
    }
    let watch = Stopwatch::start();
    while watch.elapsed() < grace && group(&all)?.iter().any(|pid| programs.contains(pid)) {
        clock.sleep(LOOK).await;
    }
    edge::end::end(&Path::new(RUN).join(instance), instance, Duration::ZERO)?;
    purge::end_processes(instance, clock).await?;
    println!("{} programs have ended; corten up starts them again", programs.len());
    Ok(())
}

/// One that has ended meanwhile is none.
fn is_pod(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with(POD))
}
