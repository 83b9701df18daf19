//! The ledger in the status of its notifier: what is for people (counts, a condition) and what is for the next look.

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::{Entry, Ledger, News, State};
use crate::fact::{Key, Kind, Subject};

/// The condition that says whether messages arrive.
const DELIVERING: &str = "Delivering";

impl Ledger {
    /// Reads a status. What is not understood, because a newer version has written it, is left out.
    pub fn from_status(status: Option<&Value>) -> Self {
        let Some(ledger) = status.and_then(|status| status.get("ledger")) else { return Self::default() };
        let list = |field: &str| ledger.get(field).and_then(Value::as_array).unwrap_or_default();
        let number = |field: &str| ledger.i64_at(&[field]).unwrap_or_default();
        Self {
            begun: true,
            facts: list("facts").iter().filter_map(entry).collect(),
            news: list("news").iter().filter_map(news).collect(),
            omitted: number("omitted"),
            sent: number("sent"),
            sent_ms: millis(ledger, "sentTime"),
            paid_ms: millis(ledger, "paidUntil"),
            failures: number("failures"),
            retry_ms: millis(ledger, "retryTime"),
            error: ledger.str_at(&["error"]).to_owned(),
        }
    }

    /// The status that holds it; `before` is the one so far.
    pub fn to_status(&self, before: Option<&Value>, generation: i64, now_ms: i64) -> Value {
        let mut status = Map::new();
        status.insert("observedGeneration", generation);
        status.insert("open", count(self.open()));
        status.insert("waiting", count(self.news.len()));
        if self.sent_ms > 0 {
            status.insert("lastMessageTime", Time::from_seconds(self.sent_ms.div_euclid(1000)).to_rfc3339());
        }
        status.insert("conditions", vec![self.condition(before, now_ms)]);
        status.insert("ledger", self.to_value());
        Value::Object(status)
    }

    fn condition(&self, before: Option<&Value>, now_ms: i64) -> Value {
        let (state, reason, message) = if self.failures > 0 {
            ("False", "NotDelivered", self.error.clone())
        } else if self.sent > 0 {
            ("True", "Delivered", format!("messages delivered so far: {}", self.sent))
        } else {
            ("Unknown", "NothingToTell", "there was nothing to tell yet".to_owned())
        };
        let conditions = before.and_then(|before| before.get("conditions")).and_then(Value::as_array);
        let known = conditions.unwrap_or_default().iter().find(|one| one.str_at(&["type"]) == DELIVERING);
        let since = match known.filter(|known| known.str_at(&["status"]) == state) {
            Some(known) => known.str_at(&["lastTransitionTime"]).into(),
            None => Time::from_seconds(now_ms.div_euclid(1000)).to_rfc3339(),
        };
        value!({"type": DELIVERING, "status": state, "reason": reason, "message": message, "lastTransitionTime": since})
    }

    fn to_value(&self) -> Value {
        let mut ledger = Map::new();
        let facts: Vec<Value> = self.facts.iter().map(|(key, entry)| entry.to_value(key)).collect();
        let news: Vec<Value> = self.news.iter().map(News::to_value).collect();
        for (field, list) in [("facts", facts), ("news", news)] {
            if !list.is_empty() {
                ledger.insert(field, list);
            }
        }
        for (field, number) in [("omitted", self.omitted), ("sent", self.sent), ("failures", self.failures)] {
            if number > 0 {
                ledger.insert(field, number);
            }
        }
        for (field, at_ms) in [("sentTime", self.sent_ms), ("paidUntil", self.paid_ms), ("retryTime", self.retry_ms)] {
            if at_ms > 0 {
                ledger.insert(field, Time::from_millis(at_ms).to_rfc3339_micro());
            }
        }
        if !self.error.is_empty() {
            ledger.insert("error", self.error.as_str());
        }
        Value::Object(ledger)
    }
}

impl Entry {
    fn to_value(&self, key: &Key) -> Value {
        let mut entry = value!({
            "kind": (key.kind.name()), "object": (key.subject.to_value()), "state": (self.state.name()),
            "since": (Time::from_millis(self.since_ms).to_rfc3339_micro()), "text": (self.text.as_str())
        });
        let map = entry.as_object_mut().expect("made an object above");
        if !self.mark.is_empty() {
            map.insert("mark", self.mark.clone());
        }
        if self.relapses > 0 {
            map.insert("relapses", self.relapses);
        }
        entry
    }
}

impl News {
    pub(crate) fn state(&self) -> &'static str {
        if self.well { "well" } else { "wrong" }
    }

    fn to_value(&self) -> Value {
        value!({
            "time": (Time::from_millis(self.at_ms).to_rfc3339_micro()), "state": (self.state()),
            "kind": (self.key.kind.name()), "object": (self.key.subject.to_value()), "text": (self.text.as_str())
        })
    }
}

impl State {
    const ALL: [Self; 3] = [Self::Open, Self::Calm, Self::Over];

    fn name(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Calm => "Calm",
            Self::Over => "Over",
        }
    }
}

fn key(value: &Value) -> Option<Key> {
    let kind = Kind::of_name(value.str_at(&["kind"]))?;
    Some(Key { kind, subject: value.get("object").map(Subject::from_value)? })
}

fn entry(value: &Value) -> Option<(Key, Entry)> {
    let state = State::ALL.into_iter().find(|state| state.name() == value.str_at(&["state"]))?;
    let entry = Entry {
        state,
        since_ms: millis(value, "since"),
        text: value.str_at(&["text"]).to_owned(),
        mark: value.str_at(&["mark"]).into(),
        relapses: value.i64_at(&["relapses"]).unwrap_or_default(),
    };
    Some((key(value)?, entry))
}

fn news(value: &Value) -> Option<News> {
    let well = value.str_at(&["state"]) == "well";
    Some(News { at_ms: millis(value, "time"), well, key: key(value)?, text: value.str_at(&["text"]).to_owned() })
}

/// A time of ours; the schema sees to it that it is one. 0 for none.
fn millis(value: &Value, field: &str) -> i64 {
    Time::parse_micro(value.str_at(&[field]))
        .map_or(0, |time| time.seconds * 1000 + i64::from(time.nanoseconds / 1_000_000))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
