//! Loads an embedded store, for measuring and for tests that kill it.
//!
//! `store-load DIR CLIENTS SECONDS [acks]`: each client rewrites keys of its own with 1 KiB values, as fast as it is
//! answered. Prints writes a second, latency and CPU time a write; or, with `acks`, one line for every answered write
//! (client, number, revision), written before the client goes on.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_stdx::clock::{Clock, Stopwatch};
use corten_stdx::random::Random;
use corten_store::embedded::disk::Directory;
use corten_store::embedded::{EmbeddedStore, Options};
use corten_store::{At, Change, Expect, Store, StoreError};
use futures_util::future::try_join_all;

const VALUE_BYTES: usize = 1024;
const KEYS_PER_CLIENT: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [directory, clients, seconds, rest @ ..] = &arguments[..] else {
        return Err("usage: store-load DIR CLIENTS SECONDS [acks]".into());
    };
    let time = Duration::from_secs(seconds.parse()?);
    let (clients, acks) = (clients.parse::<u64>()?, rest == ["acks"]);
    tokio::runtime::Builder::new_multi_thread().enable_time().build()?.block_on(async {
        let options = Options::new(Clock::system(), &Random::system());
        let store = Arc::new(EmbeddedStore::open(Directory::open(Path::new(directory))?, options)?);
        let before = cpu_time()?;
        let watch = Stopwatch::start();
        let running = (0..clients).map(|client| write_for(store.clone(), client, time, acks));
        let mut latencies: Vec<_> = try_join_all(running).await?.concat();
        let (elapsed, cpu) = (watch.elapsed(), cpu_time()? - before);
        store.close().await?;
        if !acks {
            report(&mut latencies, elapsed, cpu);
        }
        Ok(())
    })
}

async fn write_for(
    store: Arc<EmbeddedStore>,
    client: u64,
    time: Duration,
    acks: bool,
) -> Result<Vec<Duration>, StoreError> {
    let (start, mut latencies) = (Stopwatch::start(), Vec::new());
    let mut number = 0;
    while start.elapsed() < time {
        let key = Bytes::from(format!("/load/{client}/{}", number % KEYS_PER_CLIENT));
        let expect = match store.get(&key, At::Latest).await?.0 {
            None => Expect::Absent,
            Some(entry) => Expect::Revision(entry.mod_revision),
        };
        let mut value = format!("{number}:").into_bytes();
        value.resize(VALUE_BYTES, b'x');
        let one = Stopwatch::start();
        let put = Change::Put { value: value.into(), ttl: None };
        let revision = store.write(key, expect, put).await?.revision;
        latencies.push(one.elapsed());
        if acks {
            writeln!(std::io::stdout(), "{client} {number} {revision}")
                .map_err(|error| StoreError::Indeterminate(error.to_string()))?;
        }
        number += 1;
    }
    Ok(latencies)
}

fn report(latencies: &mut [Duration], elapsed: Duration, cpu: Duration) {
    latencies.sort();
    let writes = latencies.len();
    let at = |part: f64| latencies.get((writes as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "{:.0} writes/s, p50 {:?}, p99 {:?}, {:.1} us CPU a write",
        writes as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        cpu.as_secs_f64() * 1e6 / writes.max(1) as f64,
    );
}

/// Of all threads of this process, also those that ended.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}
