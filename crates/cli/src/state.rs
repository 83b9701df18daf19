//! What an application waits for, and what helps: a pure function of its objects.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

const REVISION: &str = "deployment.kubernetes.io/revision";
const TEMPLATE: &str = "pod-template-hash";

/// The objects of one application.
#[derive(Clone, Copy)]
pub(crate) struct Objects<'a> {
    pub(crate) deployment: &'a Value,
    pub(crate) sets: &'a [Value],
    pub(crate) pods: &'a [Value],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Every pod of the newest form takes requests.
    Ready,
    Waiting(Told),
    /// It does not get better by waiting.
    Stuck(Told),
}

/// Something that is the matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// One word for tables: `ErrImagePull`.
    pub(crate) brief: String,
    /// A sentence without its end.
    pub(crate) what: String,
    /// What to do about it, if there is something.
    pub(crate) next: Option<String>,
    /// The pod that it is about.
    pub(crate) pod: Option<String>,
}

impl Told {
    fn new(brief: &str, what: impl Into<String>) -> Self {
        Self { brief: brief.to_owned(), what: what.into(), ..Self::default() }
    }

    fn then(mut self, next: &str) -> Self {
        self.next = Some(next.to_owned());
        self
    }

    fn of(mut self, pod: &Value) -> Self {
        self.pod = Some(Meta::of(pod).name().to_owned());
        self
    }
}

impl Objects<'_> {
    pub(crate) fn state(self) -> State {
        let number = |path: &[&str]| self.deployment.i64_at(path).unwrap_or_default();
        let wanted = number(&["spec", "replicas"]);
        if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
            return State::Waiting(Told::new("New", "the controllers have not seen it yet"));
        }
        if let Some(said) = failing(self.deployment) {
            let next = "see `kubectl get resourcequota,limitrange`, or ask for less";
            return State::Waiting(Told::new("NoPods", said).then(next));
        }
        let newest = self.newest();
        let mut waiting = None;
        for pod in &newest {
            match of_pod(pod) {
                Some(State::Stuck(told)) => return State::Stuck(told.of(pod)),
                Some(State::Waiting(told)) => waiting = waiting.or(Some(told.of(pod))),
                Some(State::Ready) | None => {}
            }
        }
        let updated = number(&["status", "updatedReplicas"]) == wanted;
        if let Some(told) = waiting {
            State::Waiting(told)
        } else if updated
            && number(&["status", "availableReplicas"]) == wanted
            && number(&["status", "replicas"]) == wanted
        {
            State::Ready
        } else if updated && !newest.is_empty() && number(&["status", "availableReplicas"]) < wanted {
            State::Waiting(Told::new("Settling", "it has begun, and is to run for a moment"))
        } else if updated {
            State::Waiting(Told::new("Replacing", "the pods of before are ending"))
        } else {
            State::Waiting(Told::new("Pending", "its pods are being made"))
        }
    }

    /// Pods in the Deployment's newest form that are to stay, the oldest first.
    fn newest(&self) -> Vec<&Value> {
        let revision = Meta::of(self.deployment).annotation(REVISION);
        let set = self.sets.iter().find(|set| revision.is_some() && Meta::of(set).annotation(REVISION) == revision);
        let template = set.and_then(|set| Meta::of(set).label(TEMPLATE));
        let is_newest = |pod: &&Value| {
            let meta = Meta::of(pod);
            template.is_some() && meta.label(TEMPLATE) == template && meta.deletion_timestamp().is_none()
        };
        let mut pods: Vec<&Value> = self.pods.iter().filter(is_newest).collect();
        pods.sort_by_key(|pod| (Meta::of(pod).creation_timestamp(), Meta::of(pod).name()));
        pods
    }
}

/// Why no pod can be made.
fn failing(deployment: &Value) -> Option<String> {
    let condition = condition(deployment, "ReplicaFailure")?;
    (condition.str_at(&["status"]) == "True").then(|| condition.str_at(&["message"]).to_owned())
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.iter().find(|condition| condition.str_at(&["type"]) == name)
}

/// `None` where nothing is to be told.
fn of_pod(pod: &Value) -> Option<State> {
    let status = |field: &str| pod.str_at(&["status", field]);
    if status("phase") == "Failed" {
        let reason = if status("reason").is_empty() { "Failed" } else { status("reason") };
        return Some(State::Stuck(Told::new(reason, format!("its server refuses it: {}", status("message")))));
    }
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|one| one.str_at(&["status"]) == "False") {
        let what = format!("no server takes it: {}", scheduled.str_at(&["message"]));
        let next = "ask for less, or add a server: `corten token create`";
        return Some(State::Waiting(Told::new("Unschedulable", what).then(next)));
    }
    let container = pod.at(&["status", "containerStatuses"]).and_then(Value::as_array).and_then(|list| list.first());
    let Some(container) = container else {
        return Some(State::Waiting(Told::new("Pending", "a server is chosen for it")));
    };
    if container.at(&["ready"]).and_then(Value::as_bool) == Some(true) {
        return Some(State::Ready);
    }
    Some(of_container(pod, container))
}

fn of_container(pod: &Value, container: &Value) -> State {
    let reason = container.str_at(&["state", "waiting", "reason"]);
    let message = container.str_at(&["state", "waiting", "message"]);
    let image = container.str_at(&["image"]);
    match reason {
        "ErrImagePull" => State::Waiting(no_image(reason, image, message)),
        "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
            State::Stuck(no_image(reason, image, message))
        }
        "CrashLoopBackOff" => State::Stuck(ended(reason, container.at(&["lastState", "terminated"]))),
        "" if container.at(&["state", "terminated"]).is_some() => {
            State::Waiting(ended("Ended", container.at(&["state", "terminated"])))
        }
        "" if container.at(&["state", "running"]).is_some() => State::Waiting(not_ready(pod)),
        "" | "ContainerCreating" | "PodInitializing" => {
            State::Waiting(Told::new("Starting", format!("the image {image} and its volumes are being made ready")))
        }
        _ => State::Stuck(Told::new(reason, format!("its container cannot be started: {message}"))),
    }
}

fn no_image(reason: &str, image: &str, message: &str) -> Told {
    let local = image.starts_with("localhost/") || image.contains("/localhost/");
    let next = match local {
        true => "put it into a server's store: `corten image import FILE`, or look at the name: `corten image ls`",
        false => "look at the name, and whether the servers reach its registry",
    };
    Told::new(reason, format!("its image cannot be had: {message}")).then(next)
}

fn ended(brief: &str, terminated: Option<&Value>) -> Told {
    let code = terminated.and_then(|ended| ended.i64_at(&["exitCode"])).unwrap_or_default();
    let reason = terminated.map(|ended| ended.str_at(&["reason"])).unwrap_or_default();
    if reason == "OOMKilled" {
        let what = "its program was killed, having used more memory than its limit (OOMKilled)";
        return Told::new(brief, what).then("run it again with a larger --memory");
    }
    if code == 0 {
        let next = "this keeps programs running; for one that has an end use `kubectl create job NAME --image=IMAGE`";
        return Told::new(brief, "its program has come to its end, and is started again").then(next);
    }
    let message = terminated.map(|ended| ended.str_at(&["message"])).unwrap_or_default();
    let also = if message.is_empty() { String::new() } else { format!(": {message}") };
    let next = "mend what it says, then run it again";
    Told::new(brief, format!("its program ends with exit code {code}{also}")).then(next)
}

fn not_ready(pod: &Value) -> Told {
    let containers = pod.at(&["spec", "containers"]).and_then(Value::as_array).unwrap_or_default();
    let port = containers.first().and_then(|one| one.i64_at(&["readinessProbe", "tcpSocket", "port"]));
    match port {
        Some(port) => {
            let next = format!("its program is to listen on 0.0.0.0:{port}; -p names another port");
            Told::new("NotReady", format!("nothing takes connections at its port {port} yet")).then(&next)
        }
        None => Told::new("NotReady", "it runs and is not ready yet"),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod(status: Value) -> Value {
        value!({
            "metadata": {"name": "web-1-a", "labels": {"pod-template-hash": "new"}},
            "spec": {"containers": [{"readinessProbe": {"tcpSocket": {"port": 8080}}}]}, "status": status
        })
    }

    fn container(state: Value) -> Value {
        value!({"phase": "Pending", "containerStatuses": [{"image": "localhost/www:1", "ready": false, "state": state}]})
    }

    fn state(pods: &[Value], ready: i64) -> State {
        let deployment = value!({
            "metadata": {"generation": 2, "annotations": {"deployment.kubernetes.io/revision": "2"}}, "spec": {"replicas": 1},
            "status": {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": ready}
        });
        let set = |revision: &str, hash: &str| {
            let annotations = value!({"deployment.kubernetes.io/revision": revision});
            value!({"metadata": {"annotations": annotations, "labels": {"pod-template-hash": hash}}})
        };
        Objects { deployment: &deployment, sets: &[set("1", "old"), set("2", "new")], pods }.state()
    }

    #[track_caller]
    fn check(status: Value, stuck: bool, brief: &str, what: &str, next: &str) {
        let told = match state(&[pod(status)], 0) {
            State::Ready => panic!("it is not ready"),
            State::Waiting(told) => (false, told),
            State::Stuck(told) => (true, told),
        };
        assert_eq!((told.0, told.1.brief.as_str(), told.1.pod.as_deref()), (stuck, brief, Some("web-1-a")));
        assert!(told.1.what.contains(what), "{:?}", told.1.what);
        let said = told.1.next.unwrap_or_default();
        assert!(said.contains(next), "{said:?}");
    }

    #[test]
    fn a_pod_says_what_it_waits_for_and_what_helps() {
        let waiting = |reason: &str| container(value!({"waiting": {"reason": reason, "message": "no such thing"}}));
        check(waiting("ContainerCreating"), false, "Starting", "localhost/www:1", "");
        check(waiting("ErrImagePull"), false, "ErrImagePull", "no such thing", "corten image import");
        check(waiting("ImagePullBackOff"), true, "ImagePullBackOff", "no such thing", "corten image import");
        check(waiting("CreateContainerConfigError"), true, "CreateContainerConfigError", "no such thing", "");
        check(container(value!({"running": {}})), false, "NotReady", "port 8080", "0.0.0.0:8080");
        let ended = container(value!({"terminated": {"exitCode": 3}}));
        check(ended, false, "Ended", "exit code 3", "mend");
        let unschedulable =
            value!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
        check(unschedulable, false, "Unschedulable", "0/1 nodes", "add a server");
        let refused = value!({"phase": "Failed", "reason": "OutOfcpu", "message": "too much"});
        check(refused, true, "OutOfcpu", "too much", "");
    }

    #[test]
    fn a_crash_names_its_cause() {
        let crashed = |last: Value| {
            value!({"containerStatuses": [{"ready": false, "lastState": {"terminated": last},
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]})
        };
        check(crashed(value!({"exitCode": 1})), true, "CrashLoopBackOff", "exit code 1", "");
        check(
            crashed(value!({"exitCode": 137, "reason": "OOMKilled"})),
            true,
            "CrashLoopBackOff",
            "OOMKilled",
            "--memory",
        );
        check(crashed(value!({"exitCode": 0})), true, "CrashLoopBackOff", "come to its end", "create job");
    }

    #[test]
    fn only_the_newest_form_counts() {
        let mut old = pod(container(value!({"waiting": {"reason": "ImagePullBackOff"}})));
        corten_apimachinery::meta::metadata_mut(&mut old).insert("labels", value!({"pod-template-hash": "old"}));
        let ready = pod(value!({"containerStatuses": [{"ready": true, "state": {"running": {}}}]}));
        assert_eq!(state(&[old.clone(), ready.clone()], 1), State::Ready);
        assert!(matches!(state(&[ready], 0), State::Waiting(told) if told.brief == "Settling"));
        assert!(matches!(state(&[old], 0), State::Waiting(told) if told.brief == "Replacing"));
    }
}
