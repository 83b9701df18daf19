//! Probes: whether a container has started, lives, is ready (`pkg/kubelet/prober`). A probe is a task that asks at
//! intervals and reports when its verdict changes; what follows from that is the plan's business.
//!
//! The first question comes at once. As long as the first period lasts, a failure there is asked again after a moment and
//! does not count: the time that a pod needs to become ready is its program's, not the interval's.

mod grpc;

use std::time::Duration;

use corten_apimachinery::value::{Str, Value};
use corten_runtime::engine::ContainerId;
use tokio::sync::{mpsc, watch};

use crate::deed::Subjected;
use crate::http_get::{self, address, connect, port};
use crate::pod::Container;
use crate::program;
use crate::worker::Outcome;

/// First pause between questions in the first period; it doubles up to the last.
const EARLY_MS_FIRST: u64 = 5;
const EARLY_MS_LAST: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What a probe has found out. `Startup` and `Liveness` fail once; then the container is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: Str,
    pub(crate) attempt: u32,
    pub(crate) kind: Kind,
    pub(crate) holds: bool,
}

/// Counts answers against the thresholds.
#[derive(Clone, Debug)]
struct Tally {
    success_threshold: i64,
    failure_threshold: i64,
    verdict: Option<bool>,
    last: Option<bool>,
    in_a_row: i64,
}

impl Tally {
    /// The verdict where it changes.
    fn count(&mut self, holds: bool) -> Option<bool> {
        self.in_a_row = if self.last == Some(holds) { self.in_a_row + 1 } else { 1 };
        self.last = Some(holds);
        let threshold = if holds { self.success_threshold } else { self.failure_threshold };
        if self.in_a_row < threshold || Some(holds) == self.verdict {
            return None;
        }
        self.verdict = Some(holds);
        Some(holds)
    }
}

/// A probe of a running container.
pub(crate) struct Probe {
    pub(crate) of: Subjected,
    pub(crate) id: ContainerId,
    pub(crate) kind: Kind,
    /// The verdict that the status has; `None` where there is none yet.
    pub(crate) verdict: Option<bool>,
    /// Others than the startup probe wait for it.
    pub(crate) started: watch::Receiver<bool>,
}

impl Probe {
    /// Asks until nobody listens; every change of the verdict goes to the loop.
    pub(crate) async fn run(mut self, uid: Str, outcome: mpsc::Sender<(Str, Outcome)>) {
        let Some(container) = self.of.pod().container(&self.id.name) else { return };
        let Some(probe) = container.probe(self.kind.field()).cloned() else { return };
        if self.kind != Kind::Startup && self.started.wait_for(|started| *started).await.is_err() {
            return;
        }
        let number = |field: &str, default: i64| probe.i64_at(&[field]).unwrap_or(default);
        let clock = self.of.ground.parts.clock.clone();
        let seconds = |count: i64| Duration::from_secs(u64::try_from(count).unwrap_or_default());
        let mut tally = Tally {
            success_threshold: number("successThreshold", 1),
            failure_threshold: number("failureThreshold", 3),
            verdict: self.verdict,
            last: None,
            in_a_row: 0,
        };
        let delay_s = number("initialDelaySeconds", 0);
        if self.verdict != Some(true) || self.kind == Kind::Liveness {
            clock.sleep(seconds(delay_s)).await;
        }
        let (period, limit) =
            (seconds(number("periodSeconds", 10).max(1)), seconds(number("timeoutSeconds", 1).max(1)));
        let early_until_ms = clock.now_ms() + i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        let mut early_ms = EARLY_MS_FIRST;
        // A program is started for each question of an exec probe: not more often than asked for.
        let cheap = probe.get("exec").is_none_or(Value::is_null);
        loop {
            let answer = self.ask(&probe, limit).await;
            let early = cheap && tally.last.is_none() && self.verdict != Some(true);
            if answer.is_err() && early && clock.now_ms() < early_until_ms {
                clock.sleep(Duration::from_millis(early_ms)).await;
                early_ms = (early_ms * 2).min(EARLY_MS_LAST);
                continue;
            }
            if let Err(why) = &answer {
                let note = format!("{} probe failed: {why}", self.kind.title());
                let container = self.of.pod().container(&self.id.name);
                self.of.ground.tell(self.of.pod(), container, false, "Unhealthy", &note);
            }
            if let Some(holds) = tally.count(answer.is_ok()) {
                let (name, attempt) = (Str::from(self.id.name.as_str()), self.id.attempt);
                let found = Found { name, attempt, kind: self.kind, holds };
                let heard = outcome.send((uid.clone(), Outcome::Found(found))).await.is_ok();
                let over = self.kind == Kind::Startup || self.kind == Kind::Liveness && !holds;
                if over || !heard {
                    return;
                }
            }
            clock.sleep(period).await;
        }
    }

    async fn ask(&self, probe: &Value, limit: Duration) -> Result<(), String> {
        let container = self.of.pod().container(&self.id.name).ok_or("the container is not there")?;
        let asked = once(&self.of, container, &self.id, probe, limit);
        match tokio::time::timeout(limit + Duration::from_millis(100), asked).await {
            Ok(answer) => answer,
            Err(_) => Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()),
        }
    }
}

/// Asks once.
async fn once(
    of: &Subjected,
    container: Container<'_>,
    id: &ContainerId,
    probe: &Value,
    limit: Duration,
) -> Result<(), String> {
    let given = |field: &str| probe.get(field).filter(|action| !action.is_null());
    if let Some(exec) = given("exec") {
        let args = exec.get("command").and_then(Value::as_array).unwrap_or_default();
        let args = args.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let output = program::run(&*of.ground.parts.engine, id, args, Some(limit)).await?;
        return if output.code == 0 { Ok(()) } else { Err(output.text) };
    }
    if let Some(get) = given("httpGet") {
        let code = http_get::Request::of(get, container, of, "kube-probe/1.36")?.send().await?;
        let holds = (200..400).contains(&code);
        return if holds { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {code}")) };
    }
    if let Some(socket) = given("tcpSocket") {
        let host = socket.str_at(&["host"]);
        let host = if host.is_empty() { address(of)? } else { host.to_owned() };
        return connect(&host, port(socket.get("port"), container)?).await.map(drop);
    }
    if let Some(call) = given("grpc") {
        return grpc::check(&address(of)?, port(call.get("port"), container)?, call.str_at(&["service"])).await;
    }
    Err("missing probe handler".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(verdict: bool, answers: &str, expect: &str) {
        let mut tally =
            Tally { success_threshold: 2, failure_threshold: 3, verdict: Some(verdict), last: None, in_a_row: 0 };
        let seen: String = answers
            .chars()
            .map(|answer| match tally.count(answer == '+') {
                Some(true) => 'Y',
                Some(false) => 'N',
                None => '.',
            })
            .collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn verdicts_follow_thresholds() {
        check(false, "++++", ".Y..");
        check(false, "-+-++", "....Y");
        check(true, "--+---", ".....N");
        check(true, "---++-", "..N.Y.");
    }
}
