//! What became of requests while something was killed. One whose answer was wrong or missing is lost; but a kill cuts what whoever
//! died was carrying: such a request is excused if it was under way at that moment, and if it was not refused.
//!
//! Who asks by a Service's address is led by the kernel alone, and to a server that died until the kernel's table is changed: for that
//! long he is refused (`Strikes`).

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::load::{Report, Sample};

/// When a process was killed and when it was gone, since a load's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) begun: Duration,
    pub(crate) over: Duration,
}

impl Death {
    /// Whether whoever died may have had this request then.
    fn cuts(&self, sample: &Sample) -> bool {
        sample.begun <= self.over && sample.begun + sample.took >= self.begun
    }
}

/// An error that names what was lost; else how many were cut by a death of an edge.
pub(crate) fn lost(report: &Report, deaths: &[Death]) -> Result<usize> {
    let (mut cut, mut lost) = (0, Vec::new());
    for (sample, failure) in report.failures() {
        if !failure.is_refusal && deaths.iter().any(|death| death.cuts(sample)) {
            cut += 1;
        } else {
            lost.push(sample.describe(failure));
        }
    }
    nothing(report, &lost)?;
    Ok(cut)
}

fn nothing(report: &Report, lost: &[String]) -> Result<()> {
    let (name, sent) = (report.name, report.samples.len());
    ensure!(sent > 0, "{name}: nothing was sent");
    ensure!(lost.is_empty(), "{name}: {} of {sent} requests were lost:\n  {}", lost.len(), lost.join("\n  "));
    Ok(())
}

/// Kills of servers behind a Service, and when there was nobody to change the kernel's table.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    pub(crate) deaths: Vec<Death>,
    /// Of control: from its kill until it is ready again.
    pub(crate) absences: Vec<Death>,
}

impl Strikes {
    /// Until when who asks by the Service's address may be led to the server that died, if the table is changed within `limit`.
    fn seen_until(&self, death: &Death, limit: Duration) -> Duration {
        let within =
            |until: Duration| self.absences.iter().filter(move |away| away.begun <= until && away.over + limit > until);
        let mut until = death.over + limit;
        while let Some(away) = within(until).filter(|away| away.over >= death.begun).map(|away| away.over).max() {
            until = away + limit;
        }
        until
    }

    /// An error that names what was lost; else how many were refused or cut, and how long after the kill of a server, with control there, the
    /// last of them was begun.
    pub(crate) fn lost(&self, report: &Report, limit: Duration) -> Result<(usize, Duration)> {
        let (mut count, mut longest, mut lost) = (0, Duration::ZERO, Vec::new());
        for (sample, failure) in report.failures() {
            let ended = sample.begun + sample.took;
            let excuses = |death: &&Death| ended >= death.begun && sample.begun <= self.seen_until(death, limit);
            let Some(death) = self.deaths.iter().rfind(excuses) else {
                lost.push(sample.describe(failure));
                continue;
            };
            count += 1;
            if self.seen_until(death, limit) == death.over + limit {
                longest = longest.max(sample.begun.saturating_sub(death.begun));
            }
        }
        nothing(report, &lost)?;
        Ok((count, longest))
    }
}

/// Of the requests that were begun within `range` after a death.
pub(crate) fn longest_wait(report: &Report, death: &Death, range: Duration) -> Duration {
    let after = report.samples.iter().filter(|sample| sample.begun >= death.begun && sample.failure.is_none());
    let next = after.filter(|sample| sample.begun < death.begun + range);
    next.map(|sample| sample.took).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Failure;

    fn death(begun_ms: u64, over_ms: u64) -> Death {
        Death { begun: Duration::from_millis(begun_ms), over: Duration::from_millis(over_ms) }
    }

    fn report(begun_ms: u64, is_refusal: bool) -> Report {
        let failure = Some(Failure { is_refusal, text: String::new() });
        let (begun, took) = (Duration::from_millis(begun_ms), Duration::from_millis(10));
        let sample = Sample { begun, took, token: String::new(), failure };
        Report { name: "r", took: Duration::from_secs(1), samples: vec![sample] }
    }

    #[test]
    fn what_was_under_way_is_cut_and_all_else_is_lost() {
        let death = death(100, 120);
        assert_eq!(lost(&report(95, false), &[death]).ok(), Some(1));
        assert_eq!(lost(&report(120, false), &[death]).ok(), Some(1));
        assert!(lost(&report(95, true), &[death]).is_err());
        assert!(lost(&report(80, false), &[death]).is_err());
        assert!(lost(&report(121, false), &[death]).is_err());
        assert!(lost(&report(95, false), &[]).is_err());
    }

    #[test]
    fn a_server_that_died_is_seen_until_the_table_is_changed() {
        let limit = Duration::from_millis(50);
        let check = |absences: &[Death], begun_ms: u64, expect: Option<u64>| {
            let strikes = Strikes { deaths: vec![death(100, 120)], absences: absences.to_vec() };
            let found = strikes.lost(&report(begun_ms, true), limit).ok();
            assert_eq!(found, expect.map(|after_ms| (1, Duration::from_millis(after_ms))), "{begun_ms}");
        };
        check(&[], 80, None);
        check(&[], 95, Some(0));
        check(&[], 170, Some(70));
        check(&[], 171, None);
        // Nobody changes it before control is back; then it has the same time for it.
        check(&[death(90, 300)], 350, Some(0));
        check(&[death(160, 300)], 350, Some(0));
        check(&[death(160, 300)], 351, None);
        check(&[death(160, 300), death(320, 400)], 450, Some(0));
        check(&[death(10, 40)], 171, None);
    }
}
