//! Kills of the edge under load. Its sockets are the holder's, so nobody is refused: what comes while it is away waits for the
//! next one, and for a moment only. What it was carrying when it was killed is cut; nothing else is lost.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::names::{ASKED_TWICE, Askers};
use super::node::Node;
use super::shop::HOSTS;
use crate::load::{Load, Report, Running, Sample};

const KILLS: usize = 8;

/// Between two kills.
const PAUSE: Duration = Duration::from_millis(1500);

/// What a request may wait that comes while there is no edge. On a quiet machine it is tens of milliseconds, and 300 are promised;
/// this leaves room for a busy one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// When an edge was killed and when it was gone, since the load's start.
struct Death {
    begun: Duration,
    over: Duration,
}

pub(super) async fn kills(node: &mut Node) -> Result<()> {
    let askers = Askers::start(node)?;
    let load = Load {
        name: "while the edge is killed",
        address: node.edge(),
        host: HOSTS[0].0.to_owned(),
        path: "/".to_owned(),
        echo: false,
        expect: HOSTS[0].1.to_owned(),
        keep_alive: false,
        connections: 32,
        requests_per_s: 400,
    };
    let running = load.start();
    let mut deaths = Vec::new();
    for _ in 0..KILLS {
        tokio::time::sleep(PAUSE).await;
        deaths.push(death(node, &running)?);
    }
    tokio::time::sleep(PAUSE).await;
    let report = running.stop().await?;
    judge(&report, &deaths)?;
    askers.go_on(node, ASKED_TWICE)?;
    askers.finish(node)
}

/// Kills the edge and waits until it is gone.
fn death(node: &Node, load: &Running) -> Result<Death> {
    let edge = pidfd_open(Pid::from_raw(process(node)?).context("a process has an id")?, PidfdFlags::empty())?;
    let begun = load.elapsed();
    pidfd_send_signal(&edge, Signal::KILL)?;
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    let gone = poll(&mut [PollFd::new(&edge, PollFlags::IN)], Some(&limit))?;
    ensure!(gone == 1, "the killed edge does not end");
    Ok(Death { begun, over: load.elapsed() })
}

fn judge(report: &Report, deaths: &[Death]) -> Result<()> {
    let (mut cut, mut lost) = (0, Vec::new());
    for (sample, failure) in report.samples.iter().filter_map(|sample| Some((sample, sample.failure.as_ref()?))) {
        if !failure.is_refusal && deaths.iter().any(|death| was_under_way(sample, death)) {
            cut += 1;
        } else {
            lost.push(sample.describe(failure));
        }
    }
    let waits: Vec<Duration> = deaths.iter().map(|death| longest_wait(report, death)).collect();
    let worst = waits.iter().max().copied().unwrap_or_default();
    let sent = report.samples.len();
    println!("        {sent} requests, {cut} cut; the longest waits after a kill: {waits:.0?}");
    ensure!(lost.is_empty(), "{} of {sent} requests were lost:\n  {}", lost.len(), lost.join("\n  "));
    ensure!(worst < ANSWERED_WITHIN, "a request that came while there was no edge waited {worst:?}");
    Ok(())
}

/// Whether the edge may have had this request when it died.
fn was_under_way(sample: &Sample, death: &Death) -> bool {
    sample.begun <= death.over && sample.begun + sample.took >= death.begun
}

/// Of the requests that were begun after a death, and before the next one.
fn longest_wait(report: &Report, death: &Death) -> Duration {
    let after = report.samples.iter().filter(|sample| sample.begun >= death.begun && sample.failure.is_none());
    let next = after.filter(|sample| sample.begun < death.begun + PAUSE / 2);
    next.map(|sample| sample.took).max().unwrap_or_default()
}

/// The process that runs `corten edge` for this instance, by its control group: the neighbour has one too.
fn process(node: &Node) -> Result<i32> {
    let group = format!("/corten-{}/edge", node.instance()?);
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ends while we look is none.
        let Ok(groups) = fs::read_to_string(entry.path().join("cgroup")) else { continue };
        if groups.lines().any(|line| line.ends_with(&group)) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no edge runs for {}", node.data().display())
}
