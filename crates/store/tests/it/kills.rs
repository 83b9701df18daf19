//! A process that writes is killed again and again. Every line that it printed is a write that was answered.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_store::embedded::disk::Directory;
use corten_store::embedded::{EmbeddedStore, Options, verify};
use corten_store::{At, Store};

use crate::reader::history;
use crate::sim_disk::Dice;

const KILLS: u64 = 30;
const CLIENTS: u64 = 8;

/// Per client the last answered write: its number and revision.
type Answered = BTreeMap<u64, (u64, u64)>;

fn run_and_kill(directory: &std::path::Path, after: Duration) -> Answered {
    let mut child = Command::new(env!("CARGO_BIN_EXE_store-load"))
        .arg(directory)
        .args([&CLIENTS.to_string(), "60", "acks"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (writes, begun) = sync_channel(1);
    let reader = std::thread::spawn(move || {
        let mut answered = Answered::new();
        for line in output.lines() {
            let line = line.unwrap();
            if answered.is_empty() {
                writes.send(()).unwrap();
            }
            let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            // The kill may cut the last line.
            if let [client, number, revision] = numbers[..] {
                answered.insert(client, (number, revision));
            }
        }
        answered
    });
    if begun.recv_timeout(Duration::from_secs(30)).is_ok() {
        std::thread::sleep(after);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_answered() {
    let directory = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(1);
    let mut total = 0;
    for kill in 0..KILLS {
        let answered = run_and_kill(directory.path(), Duration::from_millis(dice.roll(60)));
        let disk = Directory::open(directory.path()).unwrap();
        let report = verify(&disk).unwrap();
        assert_eq!(report.damages, [], "kill {kill}");
        let store = EmbeddedStore::open(disk, Options::new(Clock::system(), &Random::system())).unwrap();
        let (revision, floor) = (store.status().revision, store.status().floor);
        for (client, (number, answered)) in answered {
            assert!(answered <= revision, "kill {kill}: client {client} was told {answered}");
            let key = format!("/load/{client}/{}", number % 100);
            let entry = store.get(key.as_bytes(), At::Exact(answered)).await.unwrap().0.unwrap();
            let value = format!("{number}:");
            assert!(entry.value.starts_with(value.as_bytes()), "kill {kill}: client {client} wrote {number}");
            assert_eq!((entry.value.len(), entry.mod_revision), (1024, answered));
            total += 1;
        }
        let events = history(&store, "", floor, revision).await.unwrap();
        assert!(events.iter().map(|event| event.revision).eq(floor + 1..=revision), "kill {kill}");
    }
    assert!(total > KILLS, "the child wrote: {total}");
}
