//! What blocks an object: a fact, and the command that helps or shows more.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

/// A fact that blocks something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// A sentence without its end; further lines are details of it.
    pub(crate) fact: String,
    /// Commands, the best one first.
    pub(crate) next: Vec<String>,
}

impl Finding {
    pub(crate) fn new(fact: impl Into<String>) -> Self {
        Self { fact: fact.into(), next: Vec::new() }
    }

    pub(crate) fn then(mut self, command: impl Into<String>) -> Self {
        self.next.push(command.into());
        self
    }
}

/// The items of a list at a path.
pub(crate) fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, &["status", "conditions"]).iter().find(|condition| condition.str_at(&["type"]) == kind)
}

/// The message of the newest event for one of some reasons.
pub(crate) fn event<'a>(events: &'a [Value], reasons: &[&str]) -> Option<&'a str> {
    let at = |event: &Value| {
        let time = ["lastTimestamp", "eventTime"].map(|field| event.str_at(&[field]).to_owned());
        time.into_iter().find(|time| !time.is_empty()).unwrap_or_default()
    };
    let fitting = events.iter().filter(|event| reasons.contains(&event.str_at(&["reason"])));
    fitting.max_by_key(|event| at(event)).map(|event| event.str_at(&["message"]))
}

/// Whether the labels of an object are what a Service's selector asks for.
pub(crate) fn selects(selector: &Value, object: &Value) -> bool {
    let Some(selector) = selector.as_object() else { return false };
    let meta = Meta::of(object);
    selector.iter().all(|(label, value)| meta.label(label).is_some() && meta.label(label) == value.as_str())
}

/// `app=web,tier=front`.
pub(crate) fn labels(map: Option<&Value>) -> String {
    let map = map.and_then(Value::as_object);
    let pairs = map.into_iter().flat_map(|map| map.iter());
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

/// Names with commas, the first few of them.
pub(crate) fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// Whether a pod takes requests.
pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.str_at(&["status"]) == "True")
}

/// Finalizers of an object that is being deleted, in words; `None` where it is not, or nothing holds it.
pub(crate) fn held(object: &Value) -> Option<Finding> {
    let meta = Meta::of(object);
    let since = meta.deletion_timestamp()?;
    let finalizers: Vec<String> = meta.finalizers().map(str::to_owned).collect();
    if finalizers.is_empty() {
        return None;
    }
    let fact = format!("its deletion was asked for at {since}, and finalizers hold it: {}", some(&finalizers));
    Some(Finding::new(fact))
}
