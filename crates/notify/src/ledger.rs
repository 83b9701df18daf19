//! What one notifier knows: facts that are open or were lately, news that nobody was told yet, and when the next message may go.
//! Pure; it stands in the notifier's status (`record`), so that whoever goes on after a restart tells nothing twice and forgets
//! nothing.
//!
//! One open fact is one piece of news, and so is its end. A fact is over when it has been well for a moment; each relapse within an
//! hour makes that moment twice as long, so that what comes and goes all the time is soon told once for all of it. News wait a
//! moment for others, and together make one message; so do those that wait longer, because the target is away or has had enough
//! messages for now.

mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::value::Str;

use crate::fact::{Health, Key, Kind, Sight, Sights};

/// News wait so long for others.
const GATHER_MS: i64 = 500;

/// What is well for so long is well again; doubled by each relapse, up to the second figure.
const CALM_MS: i64 = 2_000;
const CALM_MS_MAX: i64 = 600_000;

/// A fact that has been over for so long is forgotten, and its next time is the first one.
const REMEMBERED_MS: i64 = 3_600_000;

/// Pauses before what could not be delivered is tried again: doubled from the first to the second.
const RETRY_MS: i64 = 1_000;
const RETRY_MS_MAX: i64 = 60_000;

/// So many news may wait for one target. Older ones are counted alone.
const NEWS_MAX: usize = 200;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Whether it has ever looked: what was over before is no news.
    begun: bool,
    facts: BTreeMap<Key, Entry>,
    news: Vec<News>,
    /// News that were dropped for want of room.
    omitted: i64,
    /// Messages that were delivered.
    sent: i64,
    /// The last one of them, in Unix milliseconds; 0 for none.
    sent_ms: i64,
    /// Up to when the messages so far have used up what may be sent (GCRA's theoretical arrival time).
    paid_ms: i64,
    /// Attempts in a row that have failed, when the next one is due, and what the last one failed with.
    failures: i64,
    retry_ms: i64,
    error: String,
}

/// What is known of one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    state: State,
    /// Since when it is in this state.
    since_ms: i64,
    text: String,
    mark: Str,
    relapses: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Well, and not yet for long enough.
    Calm,
    Over,
}

/// Something that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub at_ms: i64,
    /// It is well again.
    pub well: bool,
    pub key: Key,
    pub text: String,
}

impl Ledger {
    /// Takes in what is seen at a moment. Gives when to look again, if not before something changes, in Unix milliseconds.
    pub fn look(&mut self, sights: &Sights, wanted: &[Kind], now_ms: i64) -> Option<i64> {
        let is_first = !self.begun;
        self.begun = true;
        self.facts.retain(|key, _| wanted.contains(&key.kind));
        let mut seen = BTreeSet::new();
        let mut next = None;
        for sight in sights.all.iter().filter(|sight| wanted.contains(&sight.key.kind)) {
            seen.insert(&sight.key);
            let silent_until_ms = sight.silent_until_s.saturating_mul(1000);
            if silent_until_ms > now_ms {
                next = sooner(next, silent_until_ms);
                continue;
            }
            self.take(sight, is_first, now_ms);
        }
        let unseen = |key: &&Key| !seen.contains(key) && !sights.blind.contains(&key.kind);
        let rest: Vec<Key> = self.facts.keys().filter(unseen).cloned().collect();
        for key in rest {
            self.well(&key, now_ms);
        }
        let lately = |entry: &Entry| entry.state != State::Over || now_ms - entry.since_ms < REMEMBERED_MS;
        self.facts.retain(|key, entry| seen.contains(key) || lately(entry));
        let calm = self.facts.values().filter(|entry| entry.state == State::Calm);
        calm.map(|entry| entry.since_ms + entry.calm_ms()).fold(next, sooner)
    }

    fn take(&mut self, sight: &Sight, is_first: bool, now_ms: i64) {
        let known = self.facts.get_mut(&sight.key).filter(|entry| entry.mark == sight.mark);
        match (sight.health, known) {
            (Health::Unsure, Some(entry)) if entry.state == State::Calm => entry.turn(State::Open, now_ms),
            (Health::Unsure, _) => {}
            (Health::Ill, Some(entry)) => {
                let was = entry.state;
                if was != State::Open {
                    entry.turn(State::Open, now_ms);
                }
                if was == State::Over {
                    entry.relapses += 1;
                    entry.text = sight.text.clone();
                    self.tell(&sight.key, false, &sight.text, now_ms);
                }
            }
            (Health::Ill, None) => {
                self.enter(sight, State::Open, now_ms);
                self.tell(&sight.key, false, &sight.text, now_ms);
            }
            (Health::Well, Some(_)) => self.well(&sight.key, now_ms),
            // It came and went between two looks.
            (Health::Well, None) if !sight.mark.is_empty() => {
                self.enter(sight, State::Over, now_ms);
                if !is_first {
                    self.tell(&sight.key, false, &sight.text, now_ms);
                    self.tell(&sight.key, true, &sight.text, now_ms);
                }
            }
            (Health::Well, None) => self.well(&sight.key, now_ms),
        }
    }

    fn enter(&mut self, sight: &Sight, state: State, now_ms: i64) {
        let (text, mark) = (sight.text.clone(), sight.mark.clone());
        self.facts.insert(sight.key.clone(), Entry { state, since_ms: now_ms, text, mark, relapses: 0 });
    }

    fn well(&mut self, key: &Key, now_ms: i64) {
        let Some(entry) = self.facts.get_mut(key) else { return };
        match entry.state {
            State::Open => entry.turn(State::Calm, now_ms),
            State::Calm if now_ms - entry.since_ms >= entry.calm_ms() => {
                entry.turn(State::Over, now_ms);
                let text = entry.text.clone();
                self.tell(key, true, &text, now_ms);
            }
            State::Calm | State::Over => {}
        }
    }

    fn tell(&mut self, key: &Key, well: bool, text: &str, now_ms: i64) {
        if self.news.len() >= NEWS_MAX {
            self.news.remove(0);
            self.omitted += 1;
        }
        self.news.push(News { at_ms: now_ms, well, key: key.clone(), text: text.to_owned() });
    }

    /// When the next message may go, in Unix milliseconds; `None` where there is nothing to tell.
    pub fn due_ms(&self, messages_per_hour: i64) -> Option<i64> {
        let first = self.news.first()?;
        let messages = messages_per_hour.max(1);
        let allowed_ms = self.paid_ms - (at_once(messages) - 1) * each_ms(messages);
        Some((first.at_ms + GATHER_MS).max(self.retry_ms).max(allowed_ms))
    }

    /// What waits to be told, the oldest first, and how many older ones were dropped.
    pub fn news(&self) -> (&[News], i64) {
        (&self.news, self.omitted)
    }

    /// The number of the next message.
    pub fn number(&self) -> i64 {
        self.sent + 1
    }

    /// Facts that are open.
    pub fn open(&self) -> usize {
        self.facts.values().filter(|entry| entry.state != State::Over).count()
    }

    /// All that waited was told. Gives how many attempts had failed before.
    pub fn delivered(&mut self, messages_per_hour: i64, now_ms: i64) -> i64 {
        self.news.clear();
        (self.omitted, self.retry_ms) = (0, 0);
        self.error.clear();
        self.sent += 1;
        self.sent_ms = now_ms;
        self.paid_ms = self.paid_ms.max(now_ms) + each_ms(messages_per_hour.max(1));
        std::mem::take(&mut self.failures)
    }

    /// The target did not take it. Gives how many attempts have failed.
    pub fn failed(&mut self, error: String, now_ms: i64) -> i64 {
        let doubled = RETRY_MS << self.failures.clamp(0, 16);
        self.retry_ms = now_ms + doubled.min(RETRY_MS_MAX);
        self.error = error;
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// Tries at once what has failed: the target is another one.
    pub fn try_now(&mut self) {
        self.retry_ms = 0;
    }
}

impl Entry {
    fn turn(&mut self, state: State, now_ms: i64) {
        (self.state, self.since_ms) = (state, now_ms);
    }

    fn calm_ms(&self) -> i64 {
        (CALM_MS << self.relapses.clamp(0, 16)).min(CALM_MS_MAX)
    }
}

fn sooner(known: Option<i64>, other: i64) -> Option<i64> {
    Some(known.map_or(other, |known| known.min(other)))
}

/// Half of an hour's messages may come at once.
fn at_once(messages_per_hour: i64) -> i64 {
    (messages_per_hour / 2).max(1)
}

fn each_ms(messages_per_hour: i64) -> i64 {
    3_600_000 / messages_per_hour
}
