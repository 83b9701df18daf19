use super::*;
use crate::fact::Subject;

const NOW: i64 = 1_767_225_600_000;
const PER_HOUR: i64 = 20;

/// A notifier's life, a line a moment: what is seen, and what goes out.
struct Life {
    ledger: Ledger,
    now_ms: i64,
    said: Vec<String>,
}

impl Life {
    fn new() -> Self {
        let mut life = Self { ledger: Ledger::default(), now_ms: NOW, said: Vec::new() };
        life.sees(&[]);
        life
    }

    /// Looks, and sends what is due.
    fn sees(&mut self, sights: &[Sight]) {
        self.sees_but(sights, &[]);
    }

    fn sees_but(&mut self, sights: &[Sight], blind: &[Kind]) {
        let sights = Sights { all: sights.to_vec(), blind: blind.to_vec() };
        self.ledger.look(&sights, &Kind::ALL, self.now_ms);
        if self.ledger.due_ms(PER_HOUR).is_some_and(|due_ms| due_ms <= self.now_ms) {
            let (news, omitted) = self.ledger.news();
            let one = |news: &News| format!("{} {}", news.state(), news.key.subject.text());
            let lines: Vec<String> = news.iter().map(one).collect();
            self.said.push(if omitted > 0 { format!("{omitted} dropped, {}", lines.len()) } else { lines.join(", ") });
            self.ledger.delivered(PER_HOUR, self.now_ms);
        }
    }

    /// The same sight for so many seconds, and then a restart of whoever looks.
    fn goes_on(&mut self, sights: &[Sight], seconds: i64) {
        let step_ms = if seconds > 10 { 1000 } else { 100 };
        for _ in 0..seconds * 1000 / step_ms {
            self.now_ms += step_ms;
            self.sees(sights);
        }
        let status = self.ledger.to_status(None, 1, self.now_ms);
        let read = Ledger::from_status(Some(&status));
        assert_eq!(read, self.ledger, "a ledger is the same after a restart");
        self.ledger = read;
    }
}

fn sight(name: &str, health: Health) -> Sight {
    Sight::new(Kind::CrashLoop, Subject::new("deployment", "shop", name), health, "it keeps dying")
}

fn ill(name: &str) -> Sight {
    sight(name, Health::Ill)
}

fn undone(revision: &'static str, health: Health) -> Sight {
    let subject = Subject::new("deployment", "shop", "web");
    Sight { mark: revision.into(), ..Sight::new(Kind::RolloutUndone, subject, health, "undone") }
}

#[test]
fn one_fact_is_one_message_and_so_is_its_end() {
    let mut life = Life::new();
    life.goes_on(&[ill("web")], 600);
    assert_eq!(life.said, ["wrong deployment/web in shop"]);
    life.goes_on(&[], 600);
    assert_eq!(life.said[1..], ["well deployment/web in shop"]);
    assert_eq!(life.ledger.open(), 0);
}

#[test]
fn both_are_told_within_five_seconds() {
    let mut life = Life::new();
    life.goes_on(&[ill("web")], 1);
    assert_eq!(life.said.len(), 1);
    life.goes_on(&[], 4);
    assert_eq!(life.said.len(), 2);
}

#[test]
fn many_at_once_are_one_message() {
    let mut life = Life::new();
    life.goes_on(&[ill("a"), ill("b"), ill("c")], 10);
    life.goes_on(&[], 10);
    let expected = ["wrong deployment/a in shop, wrong deployment/b in shop, wrong deployment/c in shop"];
    assert_eq!(life.said[..1], expected);
    assert_eq!(life.said.len(), 2);
}

#[test]
fn what_is_unsure_stays_as_it_was() {
    let mut life = Life::new();
    life.goes_on(&[sight("web", Health::Unsure)], 60);
    assert!(life.said.is_empty());
    life.goes_on(&[ill("web")], 1);
    life.goes_on(&[sight("web", Health::Unsure)], 60);
    life.goes_on(&[], 1);
    life.goes_on(&[sight("web", Health::Unsure)], 60);
    assert_eq!(life.said.len(), 1, "{:?}", life.said);
    life.goes_on(&[], 5);
    assert_eq!(life.said.len(), 2);
}

#[test]
fn what_cannot_be_seen_is_not_over() {
    let mut life = Life::new();
    life.goes_on(&[ill("web")], 1);
    for _ in 0..100 {
        life.now_ms += 1000;
        life.sees_but(&[], &[Kind::CrashLoop]);
    }
    assert_eq!(life.said.len(), 1);
}

#[test]
fn what_comes_and_goes_is_told_ever_more_rarely() {
    let mut life = Life::new();
    for _ in 0..360 {
        life.goes_on(&[ill("web")], 5);
        life.goes_on(&[], 5);
    }
    assert_eq!(life.said.len(), 5, "an hour of ups and downs: {:?}", life.said);
    life.goes_on(&[], 700);
    assert_eq!(life.said.last().map(String::as_str), Some("well deployment/web in shop"));
}

#[test]
fn an_hour_has_no_more_messages_than_it_may() {
    let mut life = Life::new();
    let mut open: Vec<Sight> = Vec::new();
    for number in 0..180 {
        open.push(ill(&format!("web-{number}")));
        life.goes_on(&open, 20);
    }
    // Half of them may come at once, before those of the hour.
    assert!((20..=30).contains(&life.said.len()), "{}", life.said.len());
    let told: usize = life.said.iter().map(|said| said.matches("wrong").count()).sum();
    let (waiting, omitted) = life.ledger.news();
    assert_eq!((told + waiting.len(), omitted), (180, 0), "nothing is lost");
}

#[test]
fn an_occurrence_is_told_even_if_it_is_over_and_never_twice() {
    let mut life = Life::new();
    life.goes_on(&[undone("3", Health::Well)], 5);
    assert_eq!(life.said, ["wrong deployment/web in shop, well deployment/web in shop"]);
    life.goes_on(&[undone("3", Health::Well)], 2 * 3600);
    assert_eq!(life.said.len(), 1);
    life.goes_on(&[undone("5", Health::Ill)], 5);
    life.goes_on(&[undone("5", Health::Well)], 5);
    assert_eq!(life.said[1..], ["wrong deployment/web in shop", "well deployment/web in shop"]);
}

#[test]
fn what_was_over_before_the_first_look_is_no_news() {
    let mut ledger = Ledger::default();
    ledger.look(&Sights { all: vec![undone("3", Health::Well)], blind: vec![] }, &Kind::ALL, NOW);
    assert_eq!(ledger.due_ms(PER_HOUR), None);
    let mut ledger = Ledger::default();
    ledger.look(&Sights { all: vec![ill("web")], blind: vec![] }, &Kind::ALL, NOW);
    assert_eq!(ledger.due_ms(PER_HOUR), Some(NOW + GATHER_MS), "what is wrong already is");
}

#[test]
fn silence_of_an_object_is_kept() {
    let mut life = Life::new();
    let until_s = NOW / 1000 + 60;
    let silent = |health| Sight { silent_until_s: until_s, ..sight("web", health) };
    life.goes_on(&[silent(Health::Ill)], 59);
    assert!(life.said.is_empty());
    life.goes_on(&[silent(Health::Ill)], 5);
    assert_eq!(life.said, ["wrong deployment/web in shop"], "it is still ill when the silence ends");
    let next = life.ledger.clone().look(
        &Sights { all: vec![Sight { silent_until_s: until_s + 600, ..ill("b") }], blind: vec![Kind::CrashLoop] },
        &Kind::ALL,
        life.now_ms,
    );
    assert_eq!(next, Some((until_s + 600) * 1000), "the end of a silence is a moment to look");
}

#[test]
fn kinds_that_nobody_wants_are_forgotten() {
    let mut life = Life::new();
    life.goes_on(&[ill("web")], 1);
    let now_ms = life.now_ms;
    life.ledger.look(&Sights { all: vec![ill("web"), ill("b")], blind: vec![] }, &[Kind::Node], now_ms);
    assert_eq!((life.ledger.open(), life.ledger.due_ms(PER_HOUR)), (0, None));
}

#[test]
fn what_cannot_be_delivered_is_tried_again_after_pauses_and_all_of_it() {
    let mut ledger = Ledger::default();
    let sights = |count: usize| {
        let all = (0..count).map(|number| ill(&format!("web-{number}"))).collect();
        Sights { all, blind: vec![] }
    };
    let mut now_ms = NOW;
    let mut pauses = Vec::new();
    for attempt in 1..=10 {
        ledger.look(&sights(attempt), &Kind::ALL, now_ms);
        let due_ms = ledger.due_ms(PER_HOUR).expect("there is something to tell");
        pauses.push(due_ms - now_ms);
        now_ms = due_ms;
        assert_eq!(ledger.failed("away".to_owned(), now_ms), i64::try_from(attempt).expect("small"));
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
    let status = ledger.to_status(None, 1, now_ms);
    let condition = status.at(&["conditions"]).and_then(corten_apimachinery::value::Value::as_array).expect("one");
    assert_eq!((condition[0].str_at(&["status"]), condition[0].str_at(&["message"])), ("False", "away"));
    assert_eq!(Ledger::from_status(Some(&status)), ledger);
    ledger.try_now();
    assert!(ledger.due_ms(PER_HOUR).is_some_and(|due_ms| due_ms <= now_ms));
    assert_eq!(ledger.news().0.len(), 10);
    assert_eq!(ledger.delivered(PER_HOUR, now_ms), 10);
    assert_eq!(ledger.due_ms(PER_HOUR), None);
}

#[test]
fn news_that_nobody_takes_for_long_are_counted() {
    let mut ledger = Ledger::default();
    for number in 0..NEWS_MAX + 7 {
        let sights = Sights { all: vec![ill(&format!("web-{number}"))], blind: vec![Kind::CrashLoop] };
        ledger.look(&sights, &Kind::ALL, NOW);
    }
    let (news, omitted) = ledger.news();
    assert_eq!((news.len(), omitted), (NEWS_MAX, 7));
    assert_eq!(news[0].key.subject.name, "web-7");
}
