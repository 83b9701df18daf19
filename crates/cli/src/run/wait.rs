//! Waits until an application is ready, and tells what it waits for: each thing once, with what helps.

use std::time::Duration;

use anyhow::bail;
use corten_stdx::clock::Stopwatch;
use http_body_util::BodyExt as _;

use super::board::Board;
use crate::app::PODS;
use crate::connect::Session;
use crate::state::{State, Told};
use crate::url::url;

/// What is over so soon is not worth a line.
const QUIET: Duration = Duration::from_millis(1500);

/// How long the edge may take to say where an Ingress is reached.
const EDGE_LIMIT: Duration = Duration::from_secs(5);

/// The last lines of a program that keeps ending.
const LINES: &str = "10";

/// Resolves when all pods are ready, with the URL if there is one.
///
/// # Errors
/// When it does not get better by waiting, takes too long, or is removed meanwhile.
pub(super) async fn ready(
    session: &Session,
    board: &Board,
    limit: Duration,
    is_inside: bool,
) -> anyhow::Result<Option<String>> {
    let watch = Stopwatch::start();
    let (mut told, mut waiting) = (Told::default(), Told::default());
    let mut pause = QUIET;
    loop {
        match board.state() {
            None => bail!("it was removed meanwhile"),
            Some(State::Ready) => break,
            Some(State::Stuck(stuck)) => {
                show_last_lines(session, &stuck).await;
                bail!("{}{}", stuck.what, stuck.next.map(|next| format!("; {next}")).unwrap_or_default());
            }
            Some(State::Waiting(now)) => {
                if now != waiting {
                    (waiting, pause) = (now, QUIET);
                }
            }
        }
        if watch.elapsed() >= limit {
            let next = waiting.next.map(|next| format!("; {next}")).unwrap_or_default();
            bail!("not ready after {} s: {}{next}", limit.as_secs(), waiting.what);
        }
        tokio::select! {
            () = board.changed() => {}
            () = session.clock.sleep(pause.min(limit.saturating_sub(watch.elapsed()))) => {
                if waiting != told {
                    tell(&waiting);
                    told = waiting.clone();
                }
                pause = limit;
            }
        }
    }
    let seconds = watch.elapsed().as_secs_f64();
    let found = if is_inside { None } else { reached(session, board).await };
    eprintln!("{:<10} after {seconds:.1} s", "ready");
    Ok(found)
}

fn tell(told: &Told) {
    let pod = told.pod.as_ref().map(|pod| format!("{pod}: ")).unwrap_or_default();
    eprintln!("{:<10} {pod}{}", "waiting", told.what);
    if let Some(next) = &told.next {
        eprintln!("{:<10} {next}", "");
    }
}

/// The URL, once an edge says that it has it.
async fn reached(session: &Session, board: &Board) -> Option<String> {
    let found = async {
        loop {
            if let Some(url) = board.ingress().as_ref().and_then(url) {
                return url;
            }
            board.changed().await;
        }
    };
    tokio::select! {
        url = found => Some(url),
        () = session.clock.sleep(EDGE_LIMIT) => {
            eprintln!("{:<10} no edge says where it is reached; `kubectl port-forward` leads to it", "url");
            None
        }
    }
}

/// What a program said before it ended. That it cannot be had is no reason to say nothing else.
async fn show_last_lines(session: &Session, stuck: &Told) {
    let Some(pod) = stuck.pod.as_ref().filter(|_| stuck.brief == "CrashLoopBackOff") else { return };
    let path = PODS.path(&session.namespace, pod, "log");
    let Ok(body) = session.client.read(&format!("{path}?tailLines={LINES}")).await else { return };
    let Ok(lines) = body.collect().await else { return };
    let lines = lines.to_bytes();
    for line in String::from_utf8_lossy(&lines).lines() {
        eprintln!("{:<10} {line}", "said");
    }
}
