//! Which pod goes first when the node is short of something, and what is said of it. Pure, as upstream orders and words it
//! (`pkg/kubelet/eviction/helpers.go`): first those that use more than they have asked for, then by priority, then by how much
//! more they use.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::sync::Arc;

use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::value::{Str, Value};

use super::threshold::{Met, Signal, quantity};
use crate::pod::{Container, Pod};
use crate::qos;

/// What a pod, or a container of it, uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub memory_bytes: u64,
    pub pids: u64,
    /// Written outside of volumes of other objects.
    pub disk_bytes: u64,
    pub inodes: u64,
}

impl Used {
    fn of(self, resource: &str) -> u64 {
        match resource {
            "memory" => self.memory_bytes,
            "ephemeral-storage" => self.disk_bytes,
            "inodes" => self.inodes,
            _ => self.pids,
        }
    }
}

/// A pod of the node, and what it uses.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub uid: Str,
    pub object: Arc<Value>,
    pub used: Used,
    /// By container.
    pub containers: Vec<(String, Used)>,
}

impl Candidate {
    pub fn pod(&self) -> Pod<'_> {
        Pod(&self.object)
    }

    /// What it has asked for. Nobody can ask for inodes or processes.
    fn asked(&self, resource: &str) -> i64 {
        match resource {
            "inodes" | "pids" => 0,
            resource => qos::pod_amount(self.pod(), "requests", resource, false).unwrap_or_default(),
        }
    }

    fn beyond(&self, resource: &str) -> i64 {
        i64::try_from(self.used.of(resource)).unwrap_or(i64::MAX).saturating_sub(self.asked(resource))
    }
}

/// Puts first who is to go first. Processes are counted after the priority alone.
pub fn rank(candidates: &mut [Candidate], signal: Signal) {
    let resource = signal.resource();
    candidates.sort_by_key(|candidate| {
        let beyond = candidate.beyond(resource);
        let modest = resource != "pids" && beyond <= 0;
        (modest, candidate.pod().priority(), Reverse(beyond), candidate.uid.clone())
    });
}

/// What its status says of a pod that goes.
pub fn message(candidate: &Candidate, met: &Met) -> String {
    let resource = met.signal.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        met.least, met.available
    );
    let pod = candidate.pod();
    let mut blame = |who: &str, name: &str, used: u64, asked: &Quantity| {
        let used = quantity(used, Format::BinarySi);
        write!(text, "{who} {name} was using {used}, request is {asked}, has larger consumption of {resource}. ")
            .expect("a string takes all");
    };
    let of_pod = pod.spec("resources").and_then(|resources| asked(resources, resource));
    if let ("memory", Some(asked)) = (resource, of_pod) {
        blame("Pod", pod.name(), candidate.used.memory_bytes, &asked);
    }
    if !matches!(resource, "memory" | "ephemeral-storage") {
        return text;
    }
    for container in pod.main_containers().chain(pod.init_containers()) {
        let known = candidate.containers.iter().find(|(name, _)| name == container.name());
        let Some(used) = known.map(|(_, used)| used.of(resource)) else { continue };
        let asked = of_container(container, resource);
        if quantity(used, Format::BinarySi) > asked {
            blame("Container", container.name(), used, &asked);
        }
    }
    text
}

fn of_container(container: Container<'_>, resource: &str) -> Quantity {
    let resources = container.value.get("resources");
    resources.and_then(|resources| asked(resources, resource)).unwrap_or_else(|| quantity(0, Format::DecimalSi))
}

fn asked(resources: &Value, resource: &str) -> Option<Quantity> {
    // What the API server has accepted is a quantity.
    resources.at(&["requests", resource]).and_then(|asked| Quantity::from_value(asked).ok())
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// `name request priority used`, in MiB.
    fn candidate(text: &str) -> Candidate {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, asked, priority, used] = words[..] else { panic!("{text}") };
        let number = |word: &str| word.parse::<i64>().expect("a number");
        let asked = value!({"memory": (format!("{asked}Mi")), "ephemeral-storage": (format!("{asked}Mi"))});
        let container = value!({"name": "c", "resources": {"requests": asked}});
        let object = value!({"metadata": {"name": name}, "spec": {
            "priority": (number(priority)), "containers": [container]}});
        let used = number(used).unsigned_abs();
        let bytes = used * MIB;
        let used = Used { memory_bytes: bytes, pids: used, disk_bytes: bytes, inodes: used };
        Candidate { uid: name.into(), object: Arc::new(object), used, containers: vec![("c".to_owned(), used)] }
    }

    #[track_caller]
    fn check(signal: Signal, candidates: &[&str], expect: &str) {
        let mut candidates: Vec<Candidate> = candidates.iter().map(|text| candidate(text)).collect();
        rank(&mut candidates, signal);
        let names: Vec<&str> = candidates.iter().map(|candidate| candidate.pod().name()).collect();
        assert_eq!(names.join(" "), expect);
    }

    #[test]
    fn who_uses_more_than_asked_goes_first_then_the_lowest_priority_then_the_greediest() {
        let pods = ["modest 100 0 50", "dear 0 9 500", "greedy 10 0 300", "small 0 0 20", "exact 10 0 10"];
        check(Signal::MemoryAvailable, &pods, "greedy small dear exact modest");
        check(Signal::NodefsAvailable, &pods, "greedy small dear exact modest");
        check(Signal::PidAvailable, &pods, "greedy modest small exact dear");
        check(Signal::NodefsInodesFree, &pods, "greedy modest small exact dear");
    }

    #[test]
    fn the_message_names_the_threshold_and_who_was_beyond_its_request() {
        let met =
            |signal: Signal| Met { signal, least: signal.quantity(100 * MIB), available: signal.quantity(5 * MIB + 1) };
        let greedy = candidate("greedy 10 0 300");
        assert_eq!(
            message(&greedy, &met(Signal::MemoryAvailable)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 5242881. \
             Container c was using 300Mi, request is 10Mi, has larger consumption of memory. "
        );
        assert_eq!(
            message(&candidate("modest 100 0 50"), &met(Signal::NodefsAvailable)),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 5242881. "
        );
        let mut whole = greedy.clone();
        let object = Arc::make_mut(&mut whole.object);
        object.object_entry("spec").insert("resources", value!({"requests": {"memory": "20Mi"}}));
        assert!(message(&whole, &met(Signal::MemoryAvailable)).contains(
            "Pod greedy was using 300Mi, request is 20Mi, has larger consumption of memory. Container c was"
        ));
        let pids = Met {
            signal: Signal::PidAvailable,
            least: quantity(9, Format::DecimalSi),
            available: quantity(3, Format::DecimalSi),
        };
        assert_eq!(
            message(&greedy, &pids),
            "The node was low on resource: pids. Threshold quantity: 9, available: 3. "
        );
    }
}
