//! Messages on their way out: to a real mail server, and to a webhook.

mod email;
mod mailbox;
mod webhook;

use corten_notify::fact::{Key, Kind, Subject};
use corten_notify::ledger::News;
use corten_notify::letter::Letter;

/// A message with one piece of news.
fn letter() -> Letter {
    let key = Key { kind: Kind::CrashLoop, subject: Subject::new("deployment", "shop", "web") };
    let text = "its container app keeps dying: exit code 3".to_owned();
    Letter {
        id: "uid-1".to_owned(),
        notifier: "kube-system/ops".to_owned(),
        at_ms: 1_767_225_600_000,
        news: vec![News { at_ms: 1_767_225_600_000, well: false, key, text }],
        omitted: 0,
    }
}
