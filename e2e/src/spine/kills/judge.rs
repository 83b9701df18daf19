//! What became of requests while something was killed. One whose answer was wrong or missing is lost; but the kill of an edge cuts
//! what it was carrying: such a request is excused if it was under way at that moment, and if it was not refused.

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
    for (sample, failure) in report.samples.iter().filter_map(|sample| Some((sample, sample.failure.as_ref()?))) {
        if !failure.is_refusal && deaths.iter().any(|death| death.cuts(sample)) {
            cut += 1;
        } else {
            lost.push(sample.describe(failure));
        }
    }
    let (name, sent) = (report.name, report.samples.len());
    ensure!(sent > 0, "{name}: nothing was sent");
    ensure!(lost.is_empty(), "{name}: {} of {sent} requests were lost:\n  {}", lost.len(), lost.join("\n  "));
    Ok(cut)
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

    fn report(begun_ms: u64, is_refusal: bool) -> Report {
        let failure = Some(Failure { is_refusal, text: String::new() });
        let sample = Sample { begun: Duration::from_millis(begun_ms), took: Duration::from_millis(10), failure };
        Report { name: "r", took: Duration::from_secs(1), samples: vec![sample] }
    }

    #[test]
    fn what_was_under_way_is_cut_and_all_else_is_lost() {
        let death = Death { begun: Duration::from_millis(100), over: Duration::from_millis(120) };
        assert_eq!(lost(&report(95, false), &[death]).ok(), Some(1));
        assert_eq!(lost(&report(120, false), &[death]).ok(), Some(1));
        assert!(lost(&report(95, true), &[death]).is_err());
        assert!(lost(&report(80, false), &[death]).is_err());
        assert!(lost(&report(121, false), &[death]).is_err());
        assert!(lost(&report(95, false), &[]).is_err());
    }
}
