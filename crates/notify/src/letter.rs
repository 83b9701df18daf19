//! What a message says: one form for programs (a webhook's JSON) and one for people (an e-mail).

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use crate::ledger::News;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The same for every attempt, so that who got it twice can see that.
    pub id: String,
    /// `kube-system/ops`: the notifier.
    pub notifier: String,
    pub at_ms: i64,
    pub news: Vec<News>,
    /// Older news that were dropped.
    pub omitted: i64,
}

impl Letter {
    /// `wrong: deployment/web in shop (CrashLoop)`, or how many there are.
    pub fn subject(&self) -> String {
        if let [one] = self.news.as_slice() {
            return format!("{}: {} ({})", word(one), one.key.subject.text(), one.key.kind.name());
        }
        let well = self.news.iter().filter(|one| one.well).count();
        match (self.news.len() - well, well) {
            (wrong, 0) => format!("wrong: {wrong} facts"),
            (0, well) => format!("well again: {well} facts"),
            (wrong, well) => format!("wrong: {wrong}, well again: {well}"),
        }
    }

    /// All of it in lines.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.omitted > 0 {
            out.push_str(&format!("{} older news were dropped; see `corten status`.\n", self.omitted));
        }
        for one in &self.news {
            let was = if one.well { "it was: " } else { "" };
            let at = Time::from_seconds(one.at_ms.div_euclid(1000)).to_rfc3339();
            out.push_str(&format!("{}: {}: {was}{} ({at})\n", word(one), one.key.subject.text(), one.text));
            if let Some(command) = command(one) {
                out.push_str(&format!("  {command}\n"));
            }
        }
        out
    }

    /// For programs. `text` is where chat servers look for what they show.
    pub fn to_value(&self) -> Value {
        let news: Vec<Value> = self.news.iter().map(item).collect();
        value!({
            "id": (self.id.as_str()), "notifier": (self.notifier.as_str()),
            "time": (Time::from_seconds(self.at_ms.div_euclid(1000)).to_rfc3339()),
            "subject": (self.subject()), "text": (self.text()), "news": news, "omitted": (self.omitted)
        })
    }
}

fn item(one: &News) -> Value {
    let mut item = value!({
        "state": (one.state()), "fact": (one.key.kind.name()), "object": (one.key.subject.to_value()),
        "text": (one.text.as_str()), "time": (Time::from_seconds(one.at_ms.div_euclid(1000)).to_rfc3339())
    });
    if let (Some(command), Some(item)) = (command(one), item.as_object_mut()) {
        item.insert("next", command);
    }
    item
}

fn word(one: &News) -> &'static str {
    if one.well { "well again" } else { "wrong" }
}

/// What helps to see more.
fn command(one: &News) -> Option<String> {
    let subject = &one.key.subject;
    let flag = if subject.namespace.is_empty() { String::new() } else { format!(" -n {}", subject.namespace) };
    let explained = ["pod", "deployment", "replicaset", "statefulset", "daemonset", "job", "node", "pvc"];
    let verb = if explained.contains(&subject.kind.as_str()) { "corten why" } else { "kubectl get" };
    (!one.well).then(|| format!("{verb} {}/{}{flag}", subject.kind, subject.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Key, Kind, Subject};

    fn news(well: bool, kind: Kind, subject: Subject, text: &str) -> News {
        News { at_ms: 1_767_225_600_000, well, key: Key { kind, subject }, text: text.to_owned() }
    }

    fn letter(news: Vec<News>) -> Letter {
        Letter {
            id: "u-1".to_owned(),
            notifier: "kube-system/ops".to_owned(),
            at_ms: 1_767_225_600_000,
            news,
            omitted: 0,
        }
    }

    #[test]
    fn a_letter_reads_well() {
        let web = || Subject::new("deployment", "shop", "web");
        let one = letter(vec![news(false, Kind::CrashLoop, web(), "its container app keeps dying (exit code 1)")]);
        assert_eq!(one.subject(), "wrong: deployment/web in shop (CrashLoop)");
        let expected = "wrong: deployment/web in shop: its container app keeps dying (exit code 1) (2026-01-01T00:00:00Z)\n  corten why deployment/web -n shop\n";
        assert_eq!(one.text(), expected);
        let lost = Subject::new("node", "", "two");
        let mut two = letter(vec![
            news(true, Kind::CrashLoop, web(), "its container app keeps dying"),
            news(false, Kind::Node, lost, "nothing was heard of it"),
        ]);
        two.omitted = 3;
        assert_eq!(two.subject(), "wrong: 1, well again: 1");
        let expected = "\
3 older news were dropped; see `corten status`.
well again: deployment/web in shop: it was: its container app keeps dying (2026-01-01T00:00:00Z)
wrong: node/two: nothing was heard of it (2026-01-01T00:00:00Z)
  corten why node/two
";
        assert_eq!(two.text(), expected);
    }

    #[test]
    fn programs_get_it_as_json() {
        let one = letter(vec![news(false, Kind::Disk, Subject::new("node", "", "one"), "its disk is 95 % full")]);
        let value = one.to_value();
        let item = value.get("news").and_then(Value::as_array).and_then(<[Value]>::first).expect("one");
        let expected = value!({
            "state": "wrong", "fact": "Disk", "object": {"kind": "node", "name": "one"},
            "text": "its disk is 95 % full", "time": "2026-01-01T00:00:00Z", "next": "corten why node/one"
        });
        assert_eq!(*item, expected);
        assert_eq!((value.str_at(&["id"]), value.str_at(&["notifier"])), ("u-1", "kube-system/ops"));
        assert_eq!(value.str_at(&["text"]), one.text());
    }
}
