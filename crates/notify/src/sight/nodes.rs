//! Servers that are lost, or say that they are not ready.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, View};

use super::{condition, silent_until_s};
use crate::fact::{Health, Kind, Sight, Subject};
use crate::kind::seconds;

/// A server has this long to become ready for the first time. One of which nothing is heard any more had it already.
const STARTUP_S: i64 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// What is told of it, if it is not ready.
    ill: Option<String>,
    /// Nothing is heard of it.
    is_lost: bool,
    /// The same of what it is short of.
    short: Option<String>,
    created_s: i64,
    silent_until_s: i64,
}

impl View for Server {
    fn from_object(node: &Value) -> Option<Self> {
        let created_s = seconds(Meta::of(node).creation_timestamp());
        let is_lost = condition(node, "Ready").is_some_and(|ready| ready.str_at(&["status"]) == "Unknown");
        Some(Self { ill: ill(node), is_lost, short: short(node), created_s, silent_until_s: silent_until_s(node) })
    }
}

impl Server {
    pub(crate) fn is_ready(&self) -> bool {
        self.ill.is_none()
    }

    pub(crate) fn silent_until_s(&self) -> i64 {
        self.silent_until_s
    }

    /// Until when it may still become ready, in Unix seconds.
    fn starts_until_s(&self) -> i64 {
        if self.is_lost { self.created_s } else { self.created_s + STARTUP_S }
    }
}

fn ill(node: &Value) -> Option<String> {
    let Some(ready) = condition(node, "Ready") else { return Some("it has never said that it is ready".to_owned()) };
    let since = ready.str_at(&["lastTransitionTime"]);
    match ready.str_at(&["status"]) {
        "True" => None,
        "Unknown" => Some(format!("the server is lost: nothing was heard of it since {since}")),
        _ => Some(format!("the server is not ready: {}", ready.str_at(&["message"]))),
    }
}

/// What a server says that it is short of. It says so for some minutes after the last sign of it.
fn short(node: &Value) -> Option<String> {
    let kinds = [("MemoryPressure", "memory"), ("DiskPressure", "disk"), ("PIDPressure", "processes")];
    let holds = |kind| condition(node, kind).is_some_and(|one| one.str_at(&["status"]) == "True");
    let short: Vec<&str> = kinds.into_iter().filter(|(kind, _)| holds(kind)).map(|(_, what)| what).collect();
    (!short.is_empty()).then(|| format!("it is short of {}, ends pods and takes no more", short.join(" and ")))
}

pub(crate) fn sights<'a>(nodes: impl Iterator<Item = &'a Held<Server>>, now_s: i64) -> Vec<Sight> {
    let one = |node: &Held<Server>| {
        let of = |kind, health, text: &Option<String>| {
            let subject = Subject::new("node", "", node.head.name.clone());
            let sight = Sight::new(kind, subject, health, text.clone()?);
            Some(Sight { silent_until_s: node.silent_until_s, ..sight })
        };
        let health = if now_s < node.starts_until_s() { Health::Unsure } else { Health::Ill };
        [of(Kind::Node, health, &node.ill), of(Kind::Pressure, Health::Ill, &node.short)]
    };
    nodes.flat_map(one).flatten().collect()
}

/// When a server that is not ready has had its time, in Unix milliseconds.
pub(crate) fn next_ms<'a>(nodes: impl Iterator<Item = &'a Held<Server>>, now_s: i64) -> Option<i64> {
    let ends = nodes.filter(|node| !node.is_ready()).map(|node| node.starts_until_s());
    ends.filter(|ends_s| *ends_s > now_s).min().map(|ends_s| ends_s * 1000)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn node(status: &str) -> Held<Server> {
        let ready = value!({"type": "Ready", "status": status, "lastTransitionTime": "T", "message": "m"});
        let metadata = value!({"name": "two", "creationTimestamp": "1970-01-01T00:00:10Z"});
        let object = value!({"metadata": metadata, "status": {"conditions": [ready]}});
        Held::from_object(&object).expect("a view")
    }

    #[test]
    fn a_server_that_is_short_of_something_is_told() {
        let of = |memory: &str, disk: &str| {
            let conditions = value!([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": memory},
                    {"type": "DiskPressure", "status": disk}]);
            let node = Held::from_object(&value!({"metadata": {"name": "two"}, "status": {"conditions": conditions}}));
            let sights = sights([&node.expect("a view")].into_iter(), 0);
            sights
                .into_iter()
                .map(|sight| format!("{:?} {:?} {}", sight.key.kind, sight.health, sight.text))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("False", "False"), [""; 0]);
        assert_eq!(of("True", "False"), ["Pressure Ill it is short of memory, ends pods and takes no more"]);
        assert_eq!(of("True", "True"), ["Pressure Ill it is short of memory and disk, ends pods and takes no more"]);
    }

    #[test]
    fn a_server_that_is_not_ready_is_told_once_it_had_its_time() {
        let at = |status: &str, now_s: i64| {
            let node = node(status);
            let sights = sights([&node].into_iter(), now_s);
            (sights.first().map(|sight| (sight.health, sight.text.clone())), next_ms([&node].into_iter(), now_s))
        };
        assert_eq!(at("True", 20), (None, None));
        let message = || "the server is not ready: m".to_owned();
        assert_eq!(at("False", 20), (Some((Health::Unsure, message())), Some(70_000)));
        assert_eq!(at("False", 70), (Some((Health::Ill, message())), None));
        let lost = || (Some((Health::Ill, "the server is lost: nothing was heard of it since T".to_owned())), None);
        assert_eq!([at("Unknown", 20), at("Unknown", 70)], [lost(), lost()]);
    }
}
