//! How many pods there should be for what they use: upstream's rules (`replica_calculator.go`), which trust a figure only of a pod
//! that takes requests, and never let what is not known cause a change.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::value::Str;

/// A pod that was just started works on itself: its first figures of processor time do not count.
const START_S: i64 = 300;

/// A pod that became unready within this of its start has never been ready.
const FIRST_READY_S: i64 = 30;

/// A pod of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: Str,
    /// It is being deleted, or has failed.
    pub(super) gone: bool,
    pub(super) pending: bool,
    /// Unix seconds.
    pub(super) started_s: Option<i64>,
    /// Whether it is ready, and since when it is or is not.
    pub(super) ready: Option<(bool, i64)>,
    /// What it has asked for, in thousandths; the error says which container asks for nothing.
    pub(super) request: Result<i64, String>,
}

/// What a pod uses, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) milli: i64,
    pub(super) at_s: i64,
    pub(super) window_s: i64,
}

pub(super) type Figures = BTreeMap<Str, Figure>;

/// What is wanted of each pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Percent of what it has asked for.
    Utilization(i64),
    /// In thousandths.
    Average(i64),
}

/// By how much use may differ from the goal without consequences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    fn holds(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What the pods of a target are asked about.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) pods: &'a [Pod],
    pub(super) goal: Goal,
    /// Processor time is spent on starting, memory is not.
    pub(super) is_cpu: bool,
    pub(super) tolerance: Tolerance,
    pub(super) current: i64,
    pub(super) now_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) replicas: i64,
    /// Percent, where that is the goal.
    pub(super) utilization: Option<i64>,
    /// Of a pod, in thousandths.
    pub(super) average: i64,
}

/// Pods by what is known of them.
#[derive(Default)]
struct Groups<'a> {
    ready: usize,
    unready: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
    gone: BTreeSet<&'a str>,
}

/// Use in proportion to the goal.
struct Ratio {
    ratio: f64,
    utilization: Option<i64>,
    average: i64,
}

pub(super) fn replicas(question: &Question<'_>, mut figures: Figures) -> Result<Answer, String> {
    let Question { pods, goal, tolerance, current, .. } = *question;
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(question, &figures);
    figures.retain(|name, _| !groups.gone.contains(name.as_str()) && !groups.unready.contains(name.as_str()));
    if figures.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let requests = requests(pods, goal)?;
    let seen = ratio(&figures, &requests, goal)?;
    let answer = |replicas| Answer { replicas, utilization: seen.utilization, average: seen.average };
    let up_with_unready = !groups.unready.is_empty() && seen.ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        let kept = tolerance.holds(seen.ratio);
        return Ok(answer(if kept { current } else { ceil(seen.ratio, groups.ready) }));
    }
    assume(&mut figures, &groups, &requests, goal, seen.ratio);
    if up_with_unready {
        figures.extend(groups.unready.iter().map(|name| (Str::from(*name), nothing(0))));
    }
    let assumed = ratio(&figures, &requests, goal)?.ratio;
    let turned = (seen.ratio < 1.0 && assumed > 1.0) || (seen.ratio > 1.0 && assumed < 1.0);
    if tolerance.holds(assumed) || turned {
        return Ok(answer(current));
    }
    let wanted = ceil(assumed, figures.len());
    let turned = (assumed < 1.0 && wanted > current) || (assumed > 1.0 && wanted < current);
    Ok(answer(if turned { current } else { wanted }))
}

fn group<'a>(question: &Question<'a>, figures: &Figures) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in question.pods {
        let name = pod.name.as_str();
        if pod.gone {
            groups.gone.insert(name);
        } else if pod.pending {
            groups.unready.insert(name);
        } else if let Some(figure) = figures.get(name) {
            if question.is_cpu && is_unready(pod, figure, question.now_s) {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

/// Whether a pod's figure is of its start rather than of its work.
fn is_unready(pod: &Pod, figure: &Figure, now_s: i64) -> bool {
    let (Some(started_s), Some((ready, since_s))) = (pod.started_s, pod.ready) else { return true };
    if started_s + START_S > now_s {
        return !ready || figure.at_s < since_s + figure.window_s;
    }
    !ready && started_s + FIRST_READY_S > since_s
}

fn requests(pods: &[Pod], goal: Goal) -> Result<BTreeMap<&str, i64>, String> {
    if matches!(goal, Goal::Average(_)) {
        return Ok(BTreeMap::new());
    }
    pods.iter().map(|pod| Ok((pod.name.as_str(), pod.request.clone()?))).collect()
}

fn ratio(figures: &Figures, requests: &BTreeMap<&str, i64>, goal: Goal) -> Result<Ratio, String> {
    let known = |name: &Str| matches!(goal, Goal::Average(_)) || requests.contains_key(name.as_str());
    let counted: Vec<(&Str, &Figure)> = figures.iter().filter(|(name, _)| known(name)).collect();
    let total: i64 = counted.iter().map(|(_, figure)| figure.milli).sum();
    let average = total / i64::try_from(counted.len()).unwrap_or(i64::MAX).max(1);
    let asked: i64 = counted.iter().filter_map(|(name, _)| requests.get(name.as_str())).sum();
    Ok(match goal {
        Goal::Average(wanted) => Ratio { ratio: share(average, wanted), utilization: None, average },
        Goal::Utilization(_) if asked == 0 => return Err("no metrics returned matched known pods".to_owned()),
        Goal::Utilization(wanted) => {
            let utilization = total.saturating_mul(100) / asked;
            Ratio { ratio: share(utilization, wanted), utilization: Some(utilization), average }
        }
    })
}

/// What is not known does not speak for a change: on the way down all of it is in use, on the way up none.
fn assume(figures: &mut Figures, groups: &Groups<'_>, requests: &BTreeMap<&str, i64>, goal: Goal, ratio: f64) {
    let whole = |name: &str| match goal {
        Goal::Average(wanted) => wanted,
        Goal::Utilization(wanted) => requests.get(name).copied().unwrap_or_default() * wanted.max(100) / 100,
    };
    if ratio < 1.0 {
        figures.extend(groups.missing.iter().map(|name| (Str::from(*name), nothing(whole(name)))));
    } else if ratio > 1.0 {
        figures.extend(groups.missing.iter().map(|name| (Str::from(*name), nothing(0))));
    }
}

/// A figure that nobody has measured.
fn nothing(milli: i64) -> Figure {
    Figure { milli, at_s: 0, window_s: 0 }
}

#[expect(clippy::cast_precision_loss, reason = "upstream's arithmetic is that of floats")]
fn share(used: i64, wanted: i64) -> f64 {
    used as f64 / wanted as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a number of pods; a cast of floats saturates"
)]
fn ceil(ratio: f64, pods: usize) -> i64 {
    (ratio * pods as f64).ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 10_000;
    const USUAL: Tolerance = Tolerance { down: 0.1, up: 0.1 };

    fn pod(name: &str) -> Pod {
        Pod {
            name: name.into(),
            started_s: Some(NOW - 1000),
            ready: Some((true, NOW - 990)),
            request: Ok(1000),
            gone: false,
            pending: false,
        }
    }

    /// Pods `a`, `b`, … that use so many thousandths each; a `None` has no figure.
    #[track_caller]
    fn check(
        goal: Goal,
        used: &[Option<i64>],
        change: impl Fn(&mut Vec<Pod>),
        expect: Result<(i64, Option<i64>), &str>,
    ) {
        let names: Vec<String> = (b'a'..).take(used.len()).map(|letter| char::from(letter).to_string()).collect();
        let mut pods: Vec<Pod> = names.iter().map(|name| pod(name)).collect();
        change(&mut pods);
        let figure = |milli| Figure { milli, at_s: NOW - 5, window_s: 15 };
        let figures: Figures = names
            .iter()
            .zip(used)
            .filter_map(|(name, milli)| Some((name.as_str().into(), figure((*milli)?))))
            .collect();
        let current = i64::try_from(pods.len()).expect("a few");
        let question = Question { pods: &pods, goal, is_cpu: true, tolerance: USUAL, current, now_s: NOW };
        let answer = replicas(&question, figures).map(|answer| (answer.replicas, answer.utilization));
        assert_eq!(answer, expect.map_err(str::to_owned));
    }

    const HALF: Goal = Goal::Utilization(50);

    #[test]
    fn use_in_proportion_to_the_goal() {
        let none = |_: &mut Vec<Pod>| {};
        check(HALF, &[Some(1000), Some(1000)], none, Ok((4, Some(100))));
        check(HALF, &[Some(500), Some(500)], none, Ok((2, Some(50))));
        check(HALF, &[Some(540), Some(540)], none, Ok((2, Some(54))));
        check(HALF, &[Some(560), Some(560)], none, Ok((3, Some(56))));
        check(HALF, &[Some(100), Some(100), Some(100), Some(100)], none, Ok((1, Some(10))));
        check(HALF, &[Some(0), Some(0)], none, Ok((0, Some(0))));
        check(Goal::Average(250), &[Some(1000), Some(0)], none, Ok((4, None)));
        check(Goal::Average(500), &[Some(520), Some(520)], none, Ok((2, None)));
    }

    #[test]
    fn what_is_missing_speaks_for_no_change() {
        let none = |_: &mut Vec<Pod>| {};
        // Down: one of three uses nothing, two are unknown and count as full.
        check(HALF, &[Some(0), None, None], none, Ok((3, Some(0))));
        // Up: 3 × 2 would be wanted of the one; with two idle ones it is two thirds of that.
        check(HALF, &[Some(1000), None, None], none, Ok((3, Some(100))));
        check(HALF, &[Some(4000), None, None], none, Ok((8, Some(400))));
        check(HALF, &[None, None], none, Err("did not receive metrics for targeted pods (pods might be unready)"));
        check(HALF, &[], none, Err("no pods returned by selector while calculating replica count"));
    }

    #[test]
    fn pods_that_start_do_not_count_yet() {
        let starting = |pods: &mut Vec<Pod>| {
            pods[1].started_s = Some(NOW - 20);
            pods[1].ready = Some((true, NOW - 10));
        };
        // Its figure is older than a window since it is ready: it is idle on the way up, and left out on the way down.
        check(HALF, &[Some(3000), Some(3000)], starting, Ok((6, Some(300))));
        check(HALF, &[Some(100), Some(1000)], starting, Ok((1, Some(10))));
        let ready_long_enough = |pods: &mut Vec<Pod>| {
            pods[1].started_s = Some(NOW - 100);
            pods[1].ready = Some((true, NOW - 90));
        };
        check(HALF, &[Some(3000), Some(3000)], ready_long_enough, Ok((12, Some(300))));
        let never_ready = |pods: &mut Vec<Pod>| pods[1].ready = Some((false, NOW - 995));
        check(HALF, &[Some(100), Some(1000)], never_ready, Ok((1, Some(10))));
        let ill_again = |pods: &mut Vec<Pod>| pods[1].ready = Some((false, NOW - 10));
        check(HALF, &[Some(1000), Some(1000)], ill_again, Ok((4, Some(100))));
        let pending = |pods: &mut Vec<Pod>| pods[1].pending = true;
        check(HALF, &[Some(500), None], pending, Ok((2, Some(50))));
        let gone = |pods: &mut Vec<Pod>| pods[1].gone = true;
        check(HALF, &[Some(1000), Some(1000)], gone, Ok((2, Some(100))));
    }

    #[test]
    fn without_a_request_there_is_no_share() {
        let refused = |pods: &mut Vec<Pod>| pods[1].request = Err("missing request for cpu".to_owned());
        check(HALF, &[Some(1000), Some(1000)], refused, Err("missing request for cpu"));
        check(Goal::Average(500), &[Some(1000), Some(1000)], refused, Ok((4, None)));
    }
}
