//! What an autoscaler reads: its target's scale, the pods behind it, what they use and what they are asked for.

use corten_apimachinery::duration;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::{Client, Error, Resource, Select};

use super::usage::{self, Answer, Figure, Figures, Goal, Pod, Question, Tolerance};
use crate::pod::PODS;

const POD_METRICS: Resource = Resource::new("metrics.k8s.io", "v1beta1", "pods");
/// A metric of pods is a subresource of all of them.
const CUSTOM_METRICS: Resource = Resource::new("custom.metrics.k8s.io", "v1beta2", "pods");
const ALL: &str = "*";

/// By how much use may differ from its goal, where nothing else is said.
const TOLERANCE: f64 = 0.1;

/// Targets that need no discovery.
static TARGETS: [(&str, &str, Resource); 4] = [
    ("apps", "Deployment", Resource::new("apps", "v1", "deployments")),
    ("apps", "ReplicaSet", Resource::new("apps", "v1", "replicasets")),
    ("apps", "StatefulSet", Resource::new("apps", "v1", "statefulsets")),
    ("", "ReplicationController", Resource::new("", "v1", "replicationcontrollers")),
];

pub(super) struct Reader<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
}

/// Why a metric says nothing.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) text: String,
}

/// The largest number that a metric asks for, and its name.
pub(super) struct Wanted {
    pub(super) replicas: i64,
    pub(super) metric: String,
}

/// All metrics of an autoscaler.
pub(super) struct Measured {
    pub(super) wanted: Option<Wanted>,
    pub(super) failures: Vec<Failure>,
    /// How many there are.
    pub(super) asked: usize,
    /// `status.currentMetrics`.
    pub(super) metrics: Vec<Value>,
}

/// One metric of the specification, of the kinds that are measured here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric<'a> {
    kind: Kind,
    /// Of the resource, or of the metric itself.
    name: &'a str,
    /// Empty for the whole pod.
    container: &'a str,
    goal: Goal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Resource,
    ContainerResource,
    Pods,
}

impl Kind {
    fn of(text: &str) -> Option<Self> {
        [Self::Resource, Self::ContainerResource, Self::Pods].into_iter().find(|kind| kind.text() == text)
    }

    /// As `type` says it.
    fn text(self) -> &'static str {
        match self {
            Self::Resource => "Resource",
            Self::ContainerResource => "ContainerResource",
            Self::Pods => "Pods",
        }
    }

    /// Where the metric of this type stands.
    fn field(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::ContainerResource => "containerResource",
            Self::Pods => "pods",
        }
    }

    /// The reason of events and conditions.
    fn failed(self) -> &'static str {
        match self {
            Self::Resource => "FailedGetResourceMetric",
            Self::ContainerResource => "FailedGetContainerResourceMetric",
            Self::Pods => "FailedGetPodsMetric",
        }
    }
}

/// What is known of the pods behind a target.
struct Seen<'a> {
    pods: &'a [Value],
    tolerance: Tolerance,
    /// How many there are to be now.
    current: i64,
    now_s: i64,
}

impl Reader<'_> {
    /// The target's resource and its scale.
    pub(super) async fn scale(&self, autoscaler: &Value) -> Result<(Resource, Value), String> {
        let target = |field| autoscaler.str_at(&["spec", "scaleTargetRef", field]);
        let (version, kind, name) = (target("apiVersion"), target("kind"), target("name"));
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let known = TARGETS.iter().find(|(own, of, _)| *own == group && *of == kind);
        let resource = match known {
            Some((.., resource)) => resource.clone(),
            None => {
                let served = self.client.discover().await.map_err(|error| error.to_string())?.served;
                let found = served.into_iter().find(|one| one.resource.group == group && one.kind == kind);
                found
                    .map(|one| one.resource)
                    .ok_or_else(|| format!("no matches for kind {kind:?} in group {group:?}"))?
            }
        };
        let path = resource.path(self.namespace, name, "scale");
        let scale = self.client.get_path(&path, "application/json").await.map_err(|error| error.to_string())?;
        Ok((resource, scale))
    }

    pub(super) async fn measure(&self, autoscaler: &Value, scale: &Value, now_ms: i64) -> Result<Measured, Error> {
        let metrics = autoscaler.at(&["spec", "metrics"]).and_then(Value::as_array).unwrap_or_default();
        let mut measured = Measured { wanted: None, failures: Vec::new(), asked: metrics.len(), metrics: Vec::new() };
        let labels = scale.str_at(&["status", "selector"]);
        if labels.is_empty() {
            let text = "the HPA target's scale is missing a selector".to_owned();
            measured.failures.push(Failure { reason: "InvalidSelector", text });
            return Ok(measured);
        }
        let select = Select { labels: labels.to_owned(), ..Select::default() };
        let pods = self.client.list(&PODS, self.namespace, &select).await?.items;
        let current = scale.i64_at(&["spec", "replicas"]).unwrap_or_default();
        let seen = Seen { pods: &pods, tolerance: tolerance(autoscaler), current, now_s: now_ms / 1000 };
        let metrics: Vec<_> = metrics.iter().map(Metric::of).collect();
        let is_used = |metric: &Result<Metric<'_>, Failure>| metric.as_ref().is_ok_and(|one| one.kind != Kind::Pods);
        let used = if metrics.iter().any(is_used) { self.used(&select).await } else { Ok(Vec::new()) };
        for metric in metrics {
            match self.ask(metric, &seen, &used, &select).await {
                Ok((metric, answer)) => measured.take(&metric, answer),
                Err(failure) => measured.failures.push(failure),
            }
        }
        Ok(measured)
    }

    async fn ask<'a>(
        &self,
        metric: Result<Metric<'a>, Failure>,
        seen: &Seen<'_>,
        used: &Result<Vec<Value>, String>,
        select: &Select,
    ) -> Result<(Metric<'a>, Answer), Failure> {
        let metric = metric?;
        let answer = match metric.kind {
            Kind::Pods => metric.of_values(seen, self.values(metric.name, select).await),
            Kind::Resource | Kind::ContainerResource => metric.of_use(seen, used.as_deref()),
        };
        let failed = |text| Failure { reason: metric.kind.failed(), text };
        answer.map(|answer| (metric.clone(), answer)).map_err(failed)
    }

    /// What the pods use.
    async fn used(&self, select: &Select) -> Result<Vec<Value>, String> {
        let used = self.client.list(&POD_METRICS, self.namespace, select).await.map(|listed| listed.items);
        used.map_err(|error| format!("unable to fetch metrics from resource metrics API: {error}"))
    }

    /// The values of a metric that is not of a resource.
    async fn values(&self, metric: &str, select: &Select) -> Result<Vec<Value>, String> {
        let list = self.client.get_part(&CUSTOM_METRICS, self.namespace, ALL, metric, select).await;
        let list = list.map_err(|error| format!("unable to fetch metrics from custom metrics API: {error}"))?;
        Ok(list.at(&["items"]).and_then(Value::as_array).unwrap_or_default().to_vec())
    }
}

impl Measured {
    fn take(&mut self, metric: &Metric<'_>, answer: Answer) {
        self.metrics.push(metric.state(answer));
        if self.wanted.as_ref().is_none_or(|wanted| answer.replicas > wanted.replicas) {
            self.wanted = Some(Wanted { replicas: answer.replicas, metric: metric.title() });
        }
    }
}

impl<'a> Metric<'a> {
    fn of(metric: &'a Value) -> Result<Self, Failure> {
        let kind = metric.str_at(&["type"]);
        let kind = Kind::of(kind).ok_or_else(|| unmeasured(kind))?;
        let field = kind.field();
        let target = |name| metric.at(&[field, "target", name]).filter(|value| !value.is_null());
        let percent = target("averageUtilization").and_then(Value::as_i64).map(Goal::Utilization);
        let amount = target("averageValue").and_then(|value| Quantity::from_value(value).ok());
        let goal = percent.filter(|_| kind != Kind::Pods).or(amount.map(|amount| Goal::Average(amount.milli_value())));
        let goal = goal.filter(|goal| !matches!(goal, Goal::Average(0) | Goal::Utilization(0)));
        let text = match kind {
            Kind::Pods => "invalid pods metric source: no average value target was set",
            _ => {
                "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set"
            }
        };
        let goal = goal.ok_or_else(|| Failure { reason: kind.failed(), text: text.to_owned() })?;
        let name = match kind {
            Kind::Pods => metric.str_at(&[field, "metric", "name"]),
            _ => metric.str_at(&[field, "name"]),
        };
        Ok(Self { kind, name, container: metric.str_at(&[field, "container"]), goal })
    }

    /// By what pods use of a resource.
    fn of_use(&self, seen: &Seen<'_>, used: Result<&[Value], &String>) -> Result<Answer, String> {
        let what = if matches!(self.goal, Goal::Utilization(_)) { "utilization" } else { "usage" };
        let failed = |text: &str| format!("failed to get {} {what}: {text}", self.name);
        let nothing = |text: &str| failed(&format!("unable to get metrics for resource {}: {text}", self.name));
        let used = used.map_err(|text| nothing(text))?;
        if used.is_empty() {
            return Err(nothing("no metrics returned from resource metrics API"));
        }
        let figures: Figures = used.iter().filter_map(|used| self.figure(used)).collect();
        self.replicas(seen, figures).map_err(|text| failed(&text))
    }

    /// By the values of a metric, one a pod.
    fn of_values(&self, seen: &Seen<'_>, values: Result<Vec<Value>, String>) -> Result<Answer, String> {
        let failed = |text: &str| format!("failed to get pods metric value: {text}");
        let nothing = |text: &str| failed(&format!("unable to get metric {}: {text}", self.name));
        let values = values.map_err(|text| nothing(&text))?;
        if values.is_empty() {
            return Err(nothing("no metrics returned from custom metrics API"));
        }
        self.replicas(seen, values.iter().filter_map(value_of).collect()).map_err(|text| failed(&text))
    }

    fn replicas(&self, seen: &Seen<'_>, figures: Figures) -> Result<Answer, String> {
        let resource = if self.kind == Kind::Pods { "" } else { self.name };
        let pods: Vec<Pod> = seen.pods.iter().map(|object| pod(object, resource, self.container)).collect();
        let Seen { tolerance, current, now_s, .. } = *seen;
        let question = Question { pods: &pods, goal: self.goal, is_cpu: resource == "cpu", tolerance, current, now_s };
        usage::replicas(&question, figures)
    }

    /// What one pod uses; `None` where one of its containers is not known.
    fn figure(&self, used: &Value) -> Option<(Str, Figure)> {
        let containers = used.at(&["containers"]).and_then(Value::as_array).unwrap_or_default();
        let own = |container: &&Value| self.container.is_empty() || container.str_at(&["name"]) == self.container;
        let amounts: Option<Vec<i64>> = containers
            .iter()
            .filter(own)
            .map(|container| {
                let amount = container.at(&["usage", self.name])?;
                Some(Quantity::from_value(amount).ok()?.milli_value())
            })
            .collect();
        let amounts = amounts.filter(|amounts| !amounts.is_empty())?;
        let at_s = Time::parse(used.str_at(&["timestamp"])).ok()?.seconds;
        let window_s = duration::parse(used.str_at(&["window"])).unwrap_or_default() / 1_000_000_000;
        Some((Meta::of(used).name().into(), Figure { milli: amounts.iter().sum(), at_s, window_s }))
    }

    /// As upstream's conditions and events name it.
    fn title(&self) -> String {
        let container = if self.container.is_empty() { "" } else { "container " };
        let share = if matches!(self.goal, Goal::Utilization(_)) { " utilization (percentage of request)" } else { "" };
        match self.kind {
            Kind::Pods => format!("pods metric {}", self.name),
            _ => format!("{} {container}resource{share}", self.name),
        }
    }

    /// An entry of `status.currentMetrics`.
    fn state(&self, answer: Answer) -> Value {
        let mut current = Map::new();
        if let Some(utilization) = answer.utilization {
            current.insert("averageUtilization", utilization);
        }
        let average = Quantity::from_milli(answer.average, Format::DecimalSi).to_string();
        current.insert("averageValue", average);
        let mut own = Map::new();
        match self.kind {
            Kind::Pods => drop(own.insert("metric", value!({"name": (self.name)}))),
            _ => drop(own.insert("name", self.name)),
        }
        if !self.container.is_empty() {
            own.insert("container", self.container);
        }
        own.insert("current", current);
        let mut state = value!({"type": (self.kind.text())});
        if let Some(state) = state.as_object_mut() {
            state.insert(self.kind.field(), own);
        }
        state
    }
}

/// What an entry of a `MetricValueList` says of a pod.
fn value_of(value: &Value) -> Option<(Str, Figure)> {
    let milli = Quantity::from_value(value.at(&["value"])?).ok()?.milli_value();
    let at_s = Time::parse(value.str_at(&["timestamp"])).ok()?.seconds;
    let window_s = value.i64_at(&["windowSeconds"]).unwrap_or_default();
    Some((value.str_at(&["describedObject", "name"]).into(), Figure { milli, at_s, window_s }))
}

/// A kind of metric that no API here serves.
fn unmeasured(kind: &str) -> Failure {
    let (reason, api) = match kind {
        "Object" => ("FailedGetObjectMetric", "custom.metrics.k8s.io"),
        "External" => ("FailedGetExternalMetric", "external.metrics.k8s.io"),
        other => {
            let text = format!("unknown metric source type {other:?}");
            return Failure { reason: "InvalidMetricSourceType", text };
        }
    };
    Failure { reason, text: format!("unable to get the metric: nobody serves {api} here") }
}

/// `behavior.scaleUp.tolerance` and its sister.
fn tolerance(autoscaler: &Value) -> Tolerance {
    let of = |direction| {
        let own = autoscaler.at(&["spec", "behavior", direction, "tolerance"]).filter(|value| !value.is_null());
        own.and_then(|value| Quantity::from_value(value).ok()).map_or(TOLERANCE, |own| own.as_f64())
    };
    Tolerance { down: of("scaleDown"), up: of("scaleUp") }
}

fn pod(object: &Value, resource: &str, container: &str) -> Pod {
    let meta = Meta::of(object);
    let seconds = |text: &str| Time::parse(text).ok().map(|time| time.seconds);
    let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Ready");
    let phase = object.str_at(&["status", "phase"]);
    Pod {
        name: meta.name().into(),
        gone: meta.deletion_timestamp().is_some() || phase == "Failed",
        pending: phase == "Pending",
        started_s: seconds(object.str_at(&["status", "startTime"])),
        ready: ready.map(|ready| {
            let since_s = seconds(ready.str_at(&["lastTransitionTime"])).unwrap_or_default();
            (ready.str_at(&["status"]) != "False", since_s)
        }),
        request: request(object, resource, container),
    }
}

/// What a pod, or one container of it, has asked for.
fn request(pod: &Value, resource: &str, container: &str) -> Result<i64, String> {
    let name = Meta::of(pod).name();
    let whole = pod.at(&["spec", "resources", "requests", resource]).filter(|_| container.is_empty());
    if let Some(whole) = whole.and_then(|amount| Quantity::from_value(amount).ok()) {
        return Ok(whole.milli_value());
    }
    let list = |field| pod.at(&["spec", field]).and_then(Value::as_array).unwrap_or_default();
    let sidecars = list("initContainers").iter().filter(|one| one.str_at(&["restartPolicy"]) == "Always");
    let all = list("containers").iter().chain(sidecars);
    let own: Vec<&Value> = all.filter(|one| container.is_empty() || one.str_at(&["name"]) == container).collect();
    if own.is_empty() {
        return Err(format!("container {container} not found in Pod {name}"));
    }
    let amount = |one: &&Value| {
        let amount = one.at(&["resources", "requests", resource]).and_then(|amount| Quantity::from_value(amount).ok());
        let missing = || format!("missing request for {resource} in container {} of Pod {name}", one.str_at(&["name"]));
        amount.map(|amount| amount.milli_value()).ok_or_else(missing)
    };
    own.iter().map(amount).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600;

    fn object(request: Value) -> Value {
        value!({
            "metadata": {"name": "web-1"}, "spec": {"containers": [{"name": "app", "resources": {"requests": request}}]},
            "status": {"phase": "Running", "startTime": "2025-12-31T23:00:00Z",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-12-31T23:00:05Z"}]}
        })
    }

    fn used(cpu: &str) -> Value {
        value!({"metadata": {"name": "web-1"}, "timestamp": "2025-12-31T23:59:58Z", "window": "15s",
            "containers": [{"name": "app", "usage": {"cpu": cpu, "memory": "64Mi"}}]})
    }

    fn asked(value: &str) -> Value {
        value!({"describedObject": {"kind": "Pod", "name": "web-1"}, "metric": {"name": "requests_per_second"},
            "timestamp": "2025-12-31T23:59:58Z", "windowSeconds": 5, "value": value})
    }

    #[track_caller]
    fn check(metric: Value, request: Value, expect: Result<(i64, Value), &str>) {
        let usual = Tolerance { down: 0.1, up: 0.1 };
        let answer = Metric::of(&metric).and_then(|metric| {
            let seen = Seen { pods: &[object(request)], tolerance: usual, current: 1, now_s: NOW };
            let answer = match metric.kind {
                Kind::Pods => metric.of_values(&seen, Ok(vec![asked("25")])),
                _ => metric.of_use(&seen, Ok(&[used("300m")])),
            };
            let failed = |text| Failure { reason: metric.kind.failed(), text };
            answer.map(|answer| (answer.replicas, metric.state(answer))).map_err(failed)
        });
        match (answer, expect) {
            (Ok(answer), Ok(expect)) => assert_eq!(answer, expect),
            (Err(failure), Err(expect)) => assert_eq!(format!("{}: {}", failure.reason, failure.text), expect),
            (Ok(answer), Err(_)) => panic!("{answer:?}"),
            (Err(failure), Ok(_)) => panic!("{}: {}", failure.reason, failure.text),
        }
    }

    #[test]
    fn metrics_of_resources() {
        let percent = |name: &str| value!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": 50}}});
        let state = value!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 150, "averageValue": "300m"}}});
        check(percent("cpu"), value!({"cpu": "200m"}), Ok((3, state)));
        let missing = "FailedGetResourceMetric: failed to get memory utilization: missing request for memory in container app of Pod web-1";
        check(percent("memory"), value!({"cpu": "200m"}), Err(missing));
        let average = value!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "32Mi"}}});
        let state =
            value!({"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "67108864"}}});
        check(average, value!({}), Ok((2, state)));
        let of = |container: &str| {
            value!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": container,
                "target": {"type": "AverageValue", "averageValue": "100m"}}})
        };
        let state = value!({"type": "ContainerResource", "containerResource": {
            "name": "cpu", "container": "app", "current": {"averageValue": "300m"}}});
        check(of("app"), value!({}), Ok((3, state)));
        let none = "FailedGetContainerResourceMetric: failed to get cpu usage: did not receive metrics for targeted pods (pods might be unready)";
        check(of("other"), value!({}), Err(none));
    }

    #[test]
    fn metrics_of_pods() {
        let of = |target: Value| value!({"type": "Pods", "pods": {"metric": {"name": "requests_per_second"}, "target": target}});
        let state = value!({"type": "Pods", "pods": {"metric": {"name": "requests_per_second"}, "current": {"averageValue": "25"}}});
        check(of(value!({"type": "AverageValue", "averageValue": "10"})), value!({}), Ok((3, state.clone())));
        check(of(value!({"type": "AverageValue", "averageValue": "24"})), value!({}), Ok((1, state)));
        let none = "FailedGetPodsMetric: invalid pods metric source: no average value target was set";
        check(of(value!({"type": "Value", "value": "10"})), value!({}), Err(none));
    }

    #[test]
    fn metrics_that_nobody_serves_say_so() {
        let external = value!({"type": "External", "external": {}});
        let text = "FailedGetExternalMetric: unable to get the metric: nobody serves external.metrics.k8s.io here";
        check(external, value!({}), Err(text));
        check(
            value!({"type": "Moon"}),
            value!({}),
            Err("InvalidMetricSourceType: unknown metric source type \"Moon\""),
        );
    }

    #[test]
    fn tolerances_may_be_asked_for() {
        let autoscaler = value!({"spec": {"behavior": {"scaleUp": {"tolerance": "0"}, "scaleDown": {}}}});
        assert_eq!(tolerance(&autoscaler), Tolerance { down: 0.1, up: 0.0 });
    }
}
