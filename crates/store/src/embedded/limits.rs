//! The limits of the engine, and what else its caller decides.

use std::time::Duration;

use corten_stdx::clock::Clock;

/// Options of [`super::EmbeddedStore::open`].
#[derive(Clone, Debug)]
pub struct Options {
    pub limits: Limits,
    pub clock: Clock,
    /// Identity of a store that is made new; any random number. Frames of another store are then no frames of this one.
    pub new_store_id: u64,
    /// Writes snapshots on the writer's thread, so that the order of calls to the disk depends on the writes alone.
    pub snapshots_inline: bool,
}

impl Options {
    pub fn new(clock: Clock, random: &corten_stdx::random::Random) -> Self {
        Self { limits: Limits::default(), clock, new_store_id: random.next_u64(), snapshots_inline: false }
    }
}

/// Everything that grows with use has its bound here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// History younger than this is kept ...
    pub history_age_min: Duration,
    /// ... and this many events at least ...
    pub history_events_min: u64,
    /// ... but never more than this, whatever the two above want.
    pub history_bytes_max: u64,
    /// A log segment is followed by the next one when it is this long.
    pub segment_bytes: u64,
    /// A snapshot is written when the log since the last one is longer than this and than the objects.
    pub snapshot_log_bytes_min: u64,
    /// Space that is held so that deletions still pass when the disk is full.
    pub reserve_bytes: u64,
    /// Writes that wait for the writer; more wait for a place.
    pub queue_writes_max: usize,
    /// Writes that share one flush.
    pub batch_writes_max: usize,
    /// Bytes that share one flush; a batch ends with the write that passes it.
    pub batch_bytes_max: usize,
    /// How long a flush waits for each further write, while fewer came than shared the flush before: their writers were
    /// just answered and most come again at once. Without it every second flush would carry almost none.
    pub gather_pause: Duration,
    /// The log gets an end marker after this long without a write.
    pub idle_before_end_marker: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history_age_min: Duration::from_secs(5 * 60),
            history_events_min: 10_000,
            history_bytes_max: 64 << 20,
            segment_bytes: 16 << 20,
            snapshot_log_bytes_min: 16 << 20,
            reserve_bytes: 16 << 20,
            queue_writes_max: 4096,
            batch_writes_max: 1024,
            batch_bytes_max: 8 << 20,
            gather_pause: Duration::from_micros(50),
            idle_before_end_marker: Duration::from_millis(100),
        }
    }
}
