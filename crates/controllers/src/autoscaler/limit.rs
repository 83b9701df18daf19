//! How fast a number of pods may change (`horizontal.go`): what was recommended lately holds it back, policies bound each
//! step, and the autoscaler's own bounds come last. Times are Unix milliseconds.

use corten_apimachinery::value::Value;

/// How long a smaller number waits, where nothing else is said.
const DOWN_WINDOW_S: i64 = 300;

/// Without policies a number may double, or become four.
const UP_MIN: i64 = 4;

/// What is remembered of one autoscaler, in memory alone: after a restart the number holds still for a window.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// What was recommended, and when.
    recommended: Vec<(i64, i64)>,
    /// By how much the number rose or fell, and when.
    ups: Vec<(i64, i64)>,
    downs: Vec<(i64, i64)>,
}

/// One direction's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) window_s: i64,
    pub(super) select: Select,
    pub(super) policies: Vec<Policy>,
}

/// Which of several policies holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Select {
    Max,
    Min,
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) percent: bool,
    pub(super) value: i64,
    pub(super) period_s: i64,
}

/// `spec.behavior`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Behavior {
    pub(super) up: Rules,
    pub(super) down: Rules,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: i64,
    pub(super) max: i64,
}

/// A condition's reason and message.
pub(super) type Words = (&'static str, &'static str);

/// The number that is to be, and what the conditions say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i64,
    pub(super) able: Words,
    pub(super) limited: bool,
    pub(super) limit: Words,
}

const READY: Words = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Words = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Words = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Words = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Words = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Words = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Words = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Words =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

impl Behavior {
    /// As the API server has filled it in; `None` where nothing is asked for.
    pub(super) fn of(spec: &Value) -> Option<Self> {
        let behavior = spec.get("behavior").filter(|behavior| !behavior.is_null())?;
        Some(Self {
            up: Rules::of(behavior.get("scaleUp"), 0),
            down: Rules::of(behavior.get("scaleDown"), DOWN_WINDOW_S),
        })
    }
}

impl Rules {
    fn of(rules: Option<&Value>, window_s: i64) -> Self {
        let policies = rules.and_then(|rules| rules.at(&["policies"])).and_then(Value::as_array).unwrap_or_default();
        let policy = |policy: &Value| Policy {
            percent: policy.str_at(&["type"]) == "Percent",
            value: policy.i64_at(&["value"]).unwrap_or_default(),
            period_s: policy.i64_at(&["periodSeconds"]).unwrap_or_default(),
        };
        Self {
            window_s: rules.and_then(|rules| rules.i64_at(&["stabilizationWindowSeconds"])).unwrap_or(window_s),
            select: match rules.map(|rules| rules.str_at(&["selectPolicy"])).unwrap_or_default() {
                "Min" => Select::Min,
                "Disabled" => Select::Disabled,
                _ => Select::Max,
            },
            policies: policies.iter().map(policy).collect(),
        }
    }

    fn longest_s(&self) -> i64 {
        self.policies.iter().map(|policy| policy.period_s).max().unwrap_or_default()
    }
}

impl Past {
    /// The number at which an autoscaler is first seen counts as recommended.
    pub(super) fn begin(&mut self, current: i64, now_ms: i64) {
        if self.recommended.is_empty() {
            self.recommended.push((current, now_ms));
        }
    }

    /// Keeps what was done, for the policies.
    pub(super) fn scaled(&mut self, behavior: Option<&Behavior>, from: i64, to: i64, now_ms: i64) {
        let Some(behavior) = behavior else { return };
        let (events, rules, change) = match to > from {
            true => (&mut self.ups, &behavior.up, to - from),
            false => (&mut self.downs, &behavior.down, from - to),
        };
        events.retain(|(_, at_ms)| *at_ms > now_ms - rules.longest_s() * 1000);
        events.push((change, now_ms));
    }

    /// What may become of a recommendation.
    pub(super) fn limit(
        &mut self,
        behavior: Option<&Behavior>,
        bounds: Bounds,
        current: i64,
        wanted: i64,
        now_ms: i64,
    ) -> Limited {
        let (windows, up_s) = match behavior {
            Some(behavior) => ((behavior.up.window_s, behavior.down.window_s), Some(behavior.up.window_s)),
            None => ((0, DOWN_WINDOW_S), None),
        };
        let since = |window_s: i64| now_ms - window_s * 1000;
        self.recommended.retain(|(_, at_ms)| *at_ms > since(windows.0.max(windows.1)));
        let within = |window_s: i64| {
            let cutoff = since(window_s);
            self.recommended.iter().filter(move |(_, at_ms)| *at_ms > cutoff).map(|(replicas, _)| *replicas)
        };
        let most = within(windows.1).fold(wanted, i64::max);
        let steady = match up_s {
            None => most,
            Some(up_s) => current.max(within(up_s).fold(wanted, i64::min)).min(most),
        };
        self.recommended.push((wanted, now_ms));
        let able = match steady == wanted {
            true => READY,
            false if behavior.is_some() && wanted >= current => UP_STABILIZED,
            false => DOWN_STABILIZED,
        };
        let (replicas, limit) = match behavior {
            Some(behavior) => self.by_policies(behavior, bounds, current, steady, now_ms),
            None => by_rule(bounds, current, steady),
        };
        Limited { replicas, able, limited: replicas != steady, limit }
    }

    fn by_policies(&self, behavior: &Behavior, bounds: Bounds, current: i64, wanted: i64, now_ms: i64) -> (i64, Words) {
        if wanted > current {
            let fastest = self.reach(&behavior.up, current, true, now_ms).max(current);
            let (most, words) = if bounds.max > fastest { (fastest, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
            if wanted > most {
                return (most, words);
            }
        } else if wanted < current {
            let fastest = self.reach(&behavior.down, current, false, now_ms).min(current);
            let (least, words) = if bounds.min < fastest { (fastest, DOWN_LIMIT) } else { (bounds.min, TOO_FEW) };
            if wanted < least {
                return (least, words);
            }
        }
        (wanted, WITHIN)
    }

    /// How far the policies of one direction let the number go.
    fn reach(&self, rules: &Rules, current: i64, up: bool, now_ms: i64) -> i64 {
        if rules.select == Select::Disabled {
            return current;
        }
        let changed = |events: &[(i64, i64)], period_s: i64| -> i64 {
            let within = events.iter().filter(|(_, at_ms)| *at_ms > now_ms - period_s * 1000);
            within.map(|(change, _)| *change).sum()
        };
        let proposed = rules.policies.iter().map(|policy| {
            let start = current - changed(&self.ups, policy.period_s) + changed(&self.downs, policy.period_s);
            match (policy.percent, up) {
                (false, true) => start + policy.value,
                (false, false) => start - policy.value,
                // Rounded away from what is: else a small number would never change.
                (true, true) => (start * (100 + policy.value) + 99).div_euclid(100),
                (true, false) => start * (100 - policy.value) / 100,
            }
        });
        let farthest = (rules.select == Select::Max) == up;
        let reach = if farthest { proposed.max() } else { proposed.min() };
        reach.unwrap_or(current)
    }
}

fn by_rule(bounds: Bounds, current: i64, wanted: i64) -> (i64, Words) {
    let fastest = (2 * current).max(UP_MIN);
    let (most, words) = if bounds.max > fastest { (fastest, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
    match wanted {
        wanted if wanted < bounds.min => (bounds.min, TOO_FEW),
        wanted if wanted > most => (most, words),
        wanted => (wanted, WITHIN),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    const BOUNDS: Bounds = Bounds { min: 1, max: 100 };

    /// Recommendations of one autoscaler, each with its second, the number there is, and what is expected.
    #[track_caller]
    fn check(behavior: Option<&Behavior>, steps: &[(i64, i64, i64, i64, &str)]) {
        let mut past = Past::default();
        for &(at_s, current, wanted, replicas, reason) in steps {
            let now_ms = at_s * 1000;
            past.begin(current, now_ms);
            let limited = past.limit(behavior, BOUNDS, current, wanted, now_ms);
            let told = if limited.limited { limited.limit.0 } else { limited.able.0 };
            assert_eq!((limited.replicas, told), (replicas, reason), "at {at_s} s");
            if limited.replicas != current {
                past.scaled(behavior, current, limited.replicas, now_ms);
            }
        }
    }

    fn behavior(spec: &Value) -> Behavior {
        Behavior::of(&value!({"behavior": (spec.clone())})).expect("there is one")
    }

    #[test]
    fn without_behavior_numbers_double_and_fall_after_five_minutes() {
        check(
            None,
            &[
                (0, 1, 50, 4, "ScaleUpLimit"),
                (15, 4, 50, 8, "ScaleUpLimit"),
                (30, 8, 10, 16, "ScaleUpLimit"),
                (60, 16, 16, 32, "ScaleUpLimit"),
                (316, 50, 10, 16, "ScaleDownStabilized"),
                (361, 16, 10, 10, "ReadyForNewScale"),
                (700, 10, 0, 1, "TooFewReplicas"),
            ],
        );
        check(None, &[(0, 90, 150, 100, "TooManyReplicas"), (400, 100, 99, 99, "ReadyForNewScale")]);
    }

    #[test]
    fn policies_bound_each_step() {
        let up = |select: &str| {
            behavior(&value!({
                "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 100, "periodSeconds": 60}]},
                "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
                    {"type": "Percent", "value": 10, "periodSeconds": 60}]}
            }))
        };
        check(
            Some(&up("Max")),
            &[
                (0, 2, 50, 6, "ScaleUpLimit"),
                (15, 6, 50, 6, "ScaleUpLimit"),
                (61, 6, 50, 12, "ScaleUpLimit"),
                (200, 12, 0, 10, "ScaleDownLimit"),
                (215, 10, 0, 10, "ScaleDownLimit"),
                (261, 10, 0, 9, "ScaleDownLimit"),
            ],
        );
        check(Some(&up("Min")), &[(0, 2, 50, 4, "ScaleUpLimit")]);
        check(Some(&up("Disabled")), &[(0, 2, 50, 2, "ScaleUpLimit")]);
        check(Some(&up("Max")), &[(0, 97, 150, 100, "TooManyReplicas")]);
    }

    #[test]
    fn windows_hold_numbers_back() {
        let rules = value!([{"type": "Percent", "value": 1000, "periodSeconds": 15}]);
        let all = value!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
        let slow = behavior(&value!({
            "scaleUp": {"stabilizationWindowSeconds": 30, "policies": (rules.clone())},
            "scaleDown": {"stabilizationWindowSeconds": 60, "policies": (all.clone())}
        }));
        check(
            Some(&slow),
            &[
                (0, 2, 2, 2, "ReadyForNewScale"),
                (10, 2, 8, 2, "ScaleUpStabilized"),
                (20, 2, 6, 2, "ScaleUpStabilized"),
                (31, 2, 8, 6, "ScaleUpStabilized"),
                (60, 6, 1, 6, "ScaleDownStabilized"),
                (92, 6, 1, 1, "ReadyForNewScale"),
            ],
        );
        let quick = behavior(&value!({"scaleUp": {"policies": rules}, "scaleDown": {"policies": all}}));
        assert_eq!((quick.up.window_s, quick.down.window_s), (0, 300));
        check(Some(&quick), &[(0, 2, 10, 10, "ReadyForNewScale"), (10, 10, 2, 10, "ScaleDownStabilized")]);
    }
}
