//! How `kubectl get pods` sums a pod up.

use corten_apimachinery::duration;
use corten_apimachinery::kind::Column;
use corten_apimachinery::value::Value;

use crate::kinds::column::{
    NONE, age, at, at_or, condition, condition_is_true, deleting, flag, list, name, seconds, text, wide,
};

pub(super) fn columns() -> Vec<Column> {
    vec![
        name(),
        text("Ready", |pod, _| {
            let summary = Summary::of(pod);
            format!("{}/{}", summary.ready, summary.total).into()
        }),
        text("Status", |pod, _| Summary::of(pod).reason.into()),
        text("Restarts", |pod, now| Summary::of(pod).restarts(now).into()),
        age(),
        wide(text("IP", |pod, _| {
            let ip = list(pod, &["status", "podIPs"]).first();
            ip.map_or_else(|| NONE.into(), |ip| at_or(ip, &["ip"], NONE))
        })),
        wide(text("Node", |pod, _| at_or(pod, &["spec", "nodeName"], NONE))),
        wide(text("Nominated Node", |pod, _| at_or(pod, &["status", "nominatedNodeName"], NONE))),
        wide(text("Readiness Gates", |pod, _| readiness_gates(pod).into())),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, &["spec", "readinessGates"]);
    let passed = gates.iter().filter(|gate| condition_is_true(pod, gate.str_at(&["conditionType"]))).count();
    if gates.is_empty() { NONE.to_owned() } else { format!("{passed}/{}", gates.len()) }
}

/// Restarts, and when the last one was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += container.i64_at(&["restartCount"]).unwrap_or_default();
        self.last = self.last.max(seconds(container, &["lastState", "terminated", "finishedAt"]));
    }
}

/// What the containers of a pod amount to.
struct Summary {
    ready: usize,
    total: usize,
    restarts: Restarts,
    reason: String,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let mut summary = Self {
            ready: 0,
            total: list(pod, &["spec", "containers"]).len(),
            restarts: Restarts::default(),
            reason: phase_reason(pod),
        };
        summary.total +=
            list(pod, &["spec", "initContainers"]).iter().filter(|container| is_sidecar(container)).count();
        let (initializing, sidecar_restarts) = summary.initialize(pod);
        if !initializing || condition_is_true(pod, "Initialized") {
            summary.restarts = sidecar_restarts;
            summary.run(pod);
        }
        summary.end(pod);
        summary
    }

    /// Goes over the init containers up to the first that is not done. Whether there is one, and the restarts of
    /// those that go on running beside the pod's containers.
    fn initialize(&mut self, pod: &Value) -> (bool, Restarts) {
        let specs = list(pod, &["spec", "initContainers"]);
        let mut sidecar_restarts = Restarts::default();
        for (index, container) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            let spec = specs.iter().find(|spec| spec.str_at(&["name"]) == container.str_at(&["name"]));
            let sidecar = spec.is_some_and(is_sidecar);
            self.restarts.add(container);
            if sidecar {
                sidecar_restarts.add(container);
            }
            let terminated = container.at(&["state", "terminated"]);
            if terminated.is_some_and(|state| exit_code(state) == 0) {
                continue;
            }
            if sidecar && flag(container, &["started"]) {
                self.ready += usize::from(flag(container, &["ready"]));
                continue;
            }
            self.reason = init_reason(container, terminated, index, specs.len());
            return (true, sidecar_restarts);
        }
        (false, sidecar_restarts)
    }

    /// Goes over the containers from the last to the first, so that the first one's trouble is what is shown.
    fn run(&mut self, pod: &Value) {
        let mut running = false;
        let mut failure = None;
        for container in list(pod, &["status", "containerStatuses"]).iter().rev() {
            self.restarts.add(container);
            let waiting = container.str_at(&["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(state) = container.at(&["state", "terminated"]) {
                self.reason = termination(state);
                if exit_code(state) != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if flag(container, &["ready"]) && container.at(&["state", "running"]).is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && condition_is_true(pod, "Ready") {
                "Running".clone_into(&mut self.reason);
            } else if let Some(failure) = failure {
                self.reason = failure;
            } else if running {
                "NotReady".clone_into(&mut self.reason);
            }
        }
    }

    /// A pod that is being deleted says so, unless it is done or its node is away.
    fn end(&mut self, pod: &Value) {
        if !deleting(pod) {
            return;
        }
        if pod.str_at(&["status", "reason"]) == "NodeLost" {
            "Unknown".clone_into(&mut self.reason);
        } else if !matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut self.reason);
        }
    }

    fn restarts(&self, now: i64) -> String {
        match self.restarts {
            Restarts { count, last: Some(last) } if count != 0 => {
                format!("{count} ({} ago)", duration::human(now - last))
            }
            Restarts { count, .. } => count.to_string(),
        }
    }
}

fn phase_reason(pod: &Value) -> String {
    let gated = condition(pod, "PodScheduled").is_some_and(|of| of.str_at(&["reason"]) == "SchedulingGated");
    let reason = if gated { "SchedulingGated".into() } else { at(pod, &["status", "reason"]) };
    match reason.as_str() {
        Some("") | None => pod.str_at(&["status", "phase"]).to_owned(),
        Some(reason) => reason.to_owned(),
    }
}

fn is_sidecar(spec: &Value) -> bool {
    spec.str_at(&["restartPolicy"]) == "Always"
}

fn exit_code(terminated: &Value) -> i64 {
    terminated.i64_at(&["exitCode"]).unwrap_or_default()
}

fn init_reason(container: &Value, terminated: Option<&Value>, index: usize, total: usize) -> String {
    let waiting = container.str_at(&["state", "waiting", "reason"]);
    match terminated {
        Some(state) => format!("Init:{}", termination(state)),
        None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
        None => format!("Init:{index}/{total}"),
    }
}

fn termination(state: &Value) -> String {
    let signal = state.i64_at(&["signal"]).unwrap_or_default();
    match state.str_at(&["reason"]) {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", exit_code(state)),
        reason => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    /// Ready, status and restarts of a pod.
    #[track_caller]
    fn check_summary(pod: &Value, ready: &str, status: &str, restarts: &str) {
        check("", "Pod", pod, &[ready, status, restarts, "<none>", "<none>", "<none>", "<none>"]);
    }

    fn pod(status: Value) -> Value {
        value!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": status})
    }

    #[test]
    fn running() {
        check_summary(&pod(value!({"phase": "Pending"})), "0/2", "Pending", "0");
        let ready = value!({"ready": true, "state": {"running": {}}});
        let status = value!({"phase": "Running", "containerStatuses": [(ready.clone()), (ready.clone())]});
        check_summary(&pod(status), "2/2", "Running", "0");
        let crashed = value!({
            "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:59:00Z"}}
        });
        check_summary(
            &pod(value!({"phase": "Running", "containerStatuses": [(ready), crashed]})),
            "1/2",
            "CrashLoopBackOff",
            "3 (60s ago)",
        );
    }

    #[test]
    fn ended() {
        let ok = value!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let failed = value!({"state": {"terminated": {"exitCode": 2, "reason": "Error"}}});
        let killed = value!({"state": {"terminated": {"exitCode": 137, "signal": 9}}});
        let ready = value!({"ready": true, "state": {"running": {}}});
        let statuses =
            |a: &Value, b: &Value| pod(value!({"phase": "x", "containerStatuses": [(a.clone()), (b.clone())]}));
        check_summary(&statuses(&ok, &ok), "0/2", "Completed", "0");
        check_summary(&statuses(&ok, &failed), "0/2", "Error", "0");
        check_summary(&statuses(&killed, &ok), "0/2", "Signal:9", "0");
        check_summary(&statuses(&ok, &ready), "1/2", "NotReady", "0");
    }

    #[test]
    fn deleted() {
        let deleted = |phase: &str, reason: &str| value!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": phase, "reason": reason}});
        check_summary(&deleted("Running", ""), "0/0", "Terminating", "0");
        check_summary(&deleted("Failed", "Evicted"), "0/0", "Evicted", "0");
        check_summary(&deleted("Running", "NodeLost"), "0/0", "Unknown", "0");
    }

    #[test]
    fn initializing() {
        let pod = |statuses: Value| {
            value!({
                "spec": {
                    "containers": [{"name": "c"}],
                    "initContainers": [{"name": "a"}, {"name": "b", "restartPolicy": "Always"}]
                },
                "status": {"phase": "Pending", "initContainerStatuses": statuses}
            })
        };
        let done = || value!({"name": "a", "state": {"terminated": {"exitCode": 0}}});
        check_summary(
            &pod(value!([{"name": "a", "state": {"waiting": {"reason": "PodInitializing"}}}])),
            "0/2",
            "Init:0/2",
            "0",
        );
        check_summary(
            &pod(value!([{"name": "a", "state": {"terminated": {"exitCode": 3}}}])),
            "0/2",
            "Init:ExitCode:3",
            "0",
        );
        check_summary(
            &pod(
                value!([(done()), {"name": "b", "restartCount": 1, "state": {"waiting": {"reason": "ErrImagePull"}}}]),
            ),
            "0/2",
            "Init:ErrImagePull",
            "1",
        );
        check_summary(
            &pod(
                value!([(done()), {"name": "b", "restartCount": 2, "started": true, "ready": true, "state": {"running": {}}}]),
            ),
            "1/2",
            "Pending",
            "2",
        );
    }

    #[test]
    fn wide() {
        let pod = value!({
            "spec": {"nodeName": "n", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
            "status": {
                "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "nominatedNodeName": "m",
                "conditions": [{"type": "a", "status": "True"}, {"type": "PodScheduled", "reason": "SchedulingGated"}]
            }
        });
        check("", "Pod", &pod, &["0/0", "SchedulingGated", "0", "10.0.0.1", "n", "m", "1/2"]);
    }
}
