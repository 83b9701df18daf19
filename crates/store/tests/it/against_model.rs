//! Random sequences of operations on the model and on the embedded engine, which must answer alike.

use std::time::Duration;

use bytes::Bytes;
use corten_store::embedded::EmbeddedStore;
use corten_store::model::ModelStore;
use corten_store::{At, Change, Expect, Store};
use proptest::prelude::*;

use crate::reader::history;
use crate::sim_disk::SimDisk;
use crate::workload::options;

#[derive(Clone, Debug)]
enum Op {
    Put {
        key: u8,
        guess: Guess,
        bytes: u16,
        ttl_s: Option<u8>,
    },
    Delete {
        key: u8,
        guess: Guess,
    },
    /// How far back, in part of the history: 0 now, 255 its start.
    Get {
        key: u8,
        back: u8,
    },
    List {
        prefix: u8,
        after: Option<u8>,
        limit: u8,
        back: u8,
    },
    Watch {
        prefix: u8,
        back: u8,
    },
    Compact {
        back: u8,
    },
    Advance {
        seconds: u8,
    },
    Restart,
}

/// What the writer believes of the key.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Right,
    Absent,
    Old,
}

fn guess() -> impl Strategy<Value = Guess> {
    prop_oneof![8 => Just(Guess::Right), 1 => Just(Guess::Absent), 1 => Just(Guess::Old)]
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..12u8;
    prop_oneof![
        8 => (key.clone(), guess(), 0..800u16, proptest::option::weighted(0.3, 1..20u8))
            .prop_map(|(key, guess, bytes, ttl_s)| Op::Put { key, guess, bytes, ttl_s }),
        3 => (key.clone(), guess()).prop_map(|(key, guess)| Op::Delete { key, guess }),
        2 => (key.clone(), any::<u8>()).prop_map(|(key, back)| Op::Get { key, back }),
        3 => (0..4u8, proptest::option::of(key), 0..5u8, any::<u8>())
            .prop_map(|(prefix, after, limit, back)| Op::List { prefix, after, limit, back }),
        2 => (0..4u8, any::<u8>()).prop_map(|(prefix, back)| Op::Watch { prefix, back }),
        1 => any::<u8>().prop_map(|back| Op::Compact { back }),
        1 => (1..10u8).prop_map(|seconds| Op::Advance { seconds }),
        1 => Just(Op::Restart),
    ]
}

fn key(number: u8) -> Bytes {
    format!("/{}/{number}", number % 3).into()
}

fn prefix(number: u8) -> String {
    if number == 3 { String::new() } else { format!("/{number}/") }
}

struct Pair {
    model: ModelStore,
    disk: SimDisk,
    embedded: Option<EmbeddedStore>,
    options: corten_store::embedded::Options,
}

impl Pair {
    fn new() -> Self {
        let mut options = options();
        // The model forgets only what it is told to forget.
        options.limits.history_events_min = 1_000_000;
        let disk = SimDisk::default();
        let embedded = Some(EmbeddedStore::open(disk.clone(), options.clone()).unwrap());
        Self { model: ModelStore::new(options.clock.clone()), disk, embedded, options }
    }

    fn embedded(&self) -> &EmbeddedStore {
        self.embedded.as_ref().unwrap()
    }

    fn revision(&self, back: u8) -> u64 {
        let status = self.model.status();
        // Some lie a little below the floor, which both must refuse alike.
        let span = status.revision - status.floor + 2;
        (status.revision - (span * u64::from(back) / 255).min(status.revision - 1)).max(1)
    }

    async fn write(&self, key: Bytes, guess: Guess, change: Change) {
        let current = self.model.get(&key, At::Latest).await.unwrap().0;
        let expect = match (guess, current) {
            (Guess::Right, Some(entry)) => Expect::Revision(entry.mod_revision),
            (Guess::Old, Some(entry)) => Expect::Revision(entry.mod_revision - 1),
            (Guess::Old, None) => Expect::Revision(1),
            (Guess::Right | Guess::Absent, _) => Expect::Absent,
        };
        let expected = self.model.write(key.clone(), expect, change.clone()).await;
        assert_eq!(self.embedded().write(key, expect, change).await, expected);
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Put { key: number, guess, bytes, ttl_s } => {
                let ttl = ttl_s.map(|seconds| Duration::from_secs(seconds.into()));
                let value = vec![b'v'; bytes.into()].into();
                self.write(key(number), guess, Change::Put { value, ttl }).await;
            }
            Op::Delete { key: number, guess } => self.write(key(number), guess, Change::Delete).await,
            Op::Get { key: number, back } => {
                let at = At::Exact(self.revision(back));
                let expected = self.model.get(&key(number), at).await;
                assert_eq!(self.embedded().get(&key(number), at).await, expected);
            }
            Op::List { prefix: number, after, limit, back } => {
                let (prefix, after, at) = (prefix(number), after.map(key), At::Exact(self.revision(back)));
                let expected = self.model.list(prefix.as_bytes(), after.as_deref(), limit.into(), at).await;
                let page = self.embedded().list(prefix.as_bytes(), after.as_deref(), limit.into(), at).await;
                assert_eq!(page, expected);
            }
            Op::Watch { prefix: number, back } => {
                let (from, until) = (self.revision(back), self.model.status().revision);
                let expected = history(&self.model, &prefix(number), from, until).await;
                assert_eq!(history(self.embedded(), &prefix(number), from, until).await, expected);
            }
            Op::Compact { back } => {
                let revision = self.revision(back);
                self.model.compact(revision).await.unwrap();
                self.embedded().compact(revision).await.unwrap();
            }
            Op::Advance { seconds } => {
                self.options.clock.advance(Duration::from_secs(seconds.into()));
                self.model.expire();
                self.embedded().expire().await.unwrap();
            }
            Op::Restart => {
                self.embedded = None;
                self.embedded = Some(EmbeddedStore::open(self.disk.clone(), self.options.clone()).unwrap());
                // A restart may bring back history that was let go; what is kept must not shrink.
                let floor = self.model.status().floor;
                assert!(self.embedded().status().floor <= floor);
                self.embedded().compact(floor).await.unwrap();
            }
        }
        assert_eq!(self.embedded().hash().await, self.model.hash().await);
        let (model, embedded) = (self.model.status(), self.embedded().status());
        assert_eq!((embedded.floor, embedded.objects, embedded.alarm), (model.floor, model.objects, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_answers_like_the_model(ops in proptest::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for op in ops {
                pair.step(op).await;
            }
        });
    }
}
