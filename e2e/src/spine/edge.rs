//! Kills of the edge under load. Its sockets are the holder's, so nobody is refused: what comes while it is away waits for the
//! next one, and for a moment only. What it was carrying when it was killed is cut; nothing else is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::kills::{self, Death, longest_wait};
use super::names::{ASKED_TWICE, Askers};
use super::node::Node;
use super::shop::HOSTS;
use crate::load::{Load, Report, Running};

const KILLS: usize = 8;

/// Between two kills.
const PAUSE: Duration = Duration::from_millis(1500);

/// What a request may wait that comes while there is no edge. On a quiet machine it is tens of milliseconds, and 300 are promised;
/// this leaves room for a busy one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

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
    let edge = kills::edge(&node.instance()?)?.context("no edge runs")?;
    let begun = load.elapsed();
    kills::kill(edge, &[])?;
    Ok(Death { begun, over: load.elapsed() })
}

fn judge(report: &Report, deaths: &[Death]) -> Result<()> {
    let waits: Vec<Duration> = deaths.iter().map(|death| longest_wait(report, death, PAUSE / 2)).collect();
    let worst = waits.iter().max().copied().unwrap_or_default();
    let cut = kills::lost(report, deaths)?;
    println!("        {} requests, {cut} cut; the longest waits after a kill: {waits:.0?}", report.samples.len());
    ensure!(worst < ANSWERED_WITHIN, "a request that came while there was no edge waited {worst:?}");
    Ok(())
}
