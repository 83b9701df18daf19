//! The status of an autoscaler under construction.

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

pub(super) struct Status {
    map: Map,
    now: Value,
}

impl Status {
    /// Begins with what it has; what is measured anew is measured or gone.
    pub(super) fn of(autoscaler: &Value, now_ms: i64) -> Self {
        let mut map = autoscaler.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        map.remove("currentMetrics");
        map.insert_if_absent("desiredReplicas", || 0.into());
        Self { map, now: Time::from_seconds(now_ms.div_euclid(1000)).to_rfc3339().into() }
    }

    pub(super) fn current(&mut self, replicas: i64) {
        self.map.insert("currentReplicas", replicas);
    }

    pub(super) fn desired(&mut self, replicas: i64, scaled: bool) {
        self.map.insert("desiredReplicas", replicas);
        if scaled {
            self.map.insert("lastScaleTime", self.now.clone());
        }
    }

    pub(super) fn metrics(&mut self, metrics: Vec<Value>) {
        self.map.insert("currentMetrics", metrics);
    }

    pub(super) fn able(&mut self, is: bool, reason: &str, message: &str) {
        self.condition("AbleToScale", is, reason, message);
    }

    pub(super) fn active(&mut self, is: bool, reason: &str, message: &str) {
        self.condition("ScalingActive", is, reason, message);
    }

    pub(super) fn limited(&mut self, is: bool, reason: &str, message: &str) {
        self.condition("ScalingLimited", is, reason, message);
    }

    /// The time is that of the last change of whether it holds.
    fn condition(&mut self, kind: &str, is: bool, reason: &str, message: &str) {
        let holds = if is { "True" } else { "False" };
        self.map.insert_if_absent("conditions", || Value::Array(Vec::new()));
        let Some(conditions) = self.map.get_mut("conditions").and_then(Value::as_array_mut) else { return };
        let at = conditions.iter().position(|condition| condition.str_at(&["type"]) == kind);
        let since = at.map(|at| &conditions[at]).filter(|old| old.str_at(&["status"]) == holds);
        let since = since.and_then(|old| old.get("lastTransitionTime")).unwrap_or(&self.now).clone();
        let new = value!({
            "type": kind, "status": holds, "lastTransitionTime": since, "reason": reason, "message": message
        });
        match at {
            Some(at) => conditions[at] = new,
            None => conditions.push(new),
        }
    }

    /// The autoscaler with this status, where that is another one than it has.
    pub(super) fn changed(self, autoscaler: &Value) -> Option<Value> {
        let status = Value::Object(self.map);
        if autoscaler.get("status") == Some(&status) {
            return None;
        }
        let mut new = autoscaler.clone();
        new.as_object_mut()?.insert("status", status);
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_it_holds() {
        let mut autoscaler = value!({"metadata": {"name": "a"}});
        for (now_s, is, expect) in [
            (10, true, "1970-01-01T00:00:10Z"),
            (20, true, "1970-01-01T00:00:10Z"),
            (30, false, "1970-01-01T00:00:30Z"),
        ] {
            let mut status = Status::of(&autoscaler, now_s * 1000);
            status.able(is, "Reason", "text");
            autoscaler = status.changed(&autoscaler).unwrap_or(autoscaler);
            let condition = &autoscaler.at(&["status", "conditions"]).and_then(Value::as_array).expect("conditions")[0];
            assert_eq!(condition.str_at(&["lastTransitionTime"]), expect);
        }
        let mut same = Status::of(&autoscaler, 40_000);
        same.able(false, "Reason", "text");
        assert_eq!(same.changed(&autoscaler), None);
    }
}
