//! The engine without its thread: decides writes, makes them durable, publishes them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use corten_stdx::error::Chain as Causes;

use super::disk::{self, Disk};
use super::frame::Chain;
use super::limits::Options;
use super::log::{AppendError, Log};
use super::published::Published;
use super::recover::{OpenError, Recovered, write_closed};
use super::reserve;
use super::upkeep::Upkeep;
use super::view::View;
use super::window::Window;
use crate::{Alarm, Change, Committed, Event, Expect, Revision, StoreError};

pub(crate) struct Core {
    disk: Arc<dyn Disk>,
    options: Options,
    published: Arc<Published>,
    chain: Chain,
    log: Log,
    /// The same as the published one.
    view: View,
    window: Window,
    /// When keys expire.
    deadlines: BTreeSet<(u64, Bytes)>,
    alarm: Option<Alarm>,
    log_bytes: u64,
    /// The log's length that asks for the next snapshot.
    snapshot_at: u64,
    newest_snapshot: Revision,
    snapshot: Option<JoinHandle<std::io::Result<Revision>>>,
}

/// A write that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: Bytes,
    pub(crate) expect: Expect,
    pub(crate) change: Change,
}

type Answers = Vec<Result<Committed, StoreError>>;

/// How often a full disk is tried again while nobody writes.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// How long the writer sleeps at most while keys expire some time: the clock may be set, or the machine suspended.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

impl Core {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        recovered: Recovered,
    ) -> Result<(Self, Arc<Published>), OpenError> {
        let Recovered { chain, mut view, mut window, log, newest_snapshot, log_bytes } = recovered;
        let mut alarm = None;
        if let Err(error) = reserve::take(&*disk, options.limits.reserve_bytes) {
            if !disk::is_full(&error) {
                return Err(error.into());
            }
            alarm = Some(Alarm::NoSpace);
        }
        window.trim(&mut view, options.clock.now_ms().unsigned_abs(), &options.limits);
        let deadlines = view.objects().filter_map(|e| Some((e.expires_at_ms?, e.key.clone()))).collect();
        let published = Arc::new(Published::new(view.clone()));
        published.set_alarm(alarm);
        published.set_disk_bytes(disk.list()?.iter().map(|file| file.bytes).sum());
        let snapshot_at = options.limits.snapshot_log_bytes_min;
        let core = Self {
            disk,
            options,
            published: published.clone(),
            chain,
            log,
            view,
            window,
            deadlines,
            alarm,
            log_bytes,
            snapshot_at,
            newest_snapshot,
            snapshot: None,
        };
        Ok((core, published))
    }

    fn now_ms(&self) -> u64 {
        self.options.clock.now_ms().unsigned_abs()
    }

    /// Does the writes whose expectations hold, with one flush for all.
    pub(crate) fn write(&mut self, writes: &[Write]) -> Answers {
        if self.alarm == Some(Alarm::NoSpace) {
            self.try_leave_no_space();
        }
        if self.alarm == Some(Alarm::ReadOnly) {
            return refuse_all(writes, &StoreError::ReadOnly);
        }
        match self.attempt(writes) {
            Err(AppendError::NoSpace) => {
                self.enter_no_space();
                // Deletions pass now, if the disk has room for them at least.
                self.attempt(writes).unwrap_or_else(|error| self.give_up(writes, error))
            }
            Err(error) => self.give_up(writes, error),
            Ok(answers) => answers,
        }
    }

    fn attempt(&mut self, writes: &[Write]) -> Result<Answers, AppendError> {
        let now_ms = self.now_ms();
        let mut view = self.view.clone();
        let mut events = Vec::new();
        let mut decide = |write: &Write| {
            if self.alarm.is_some() && matches!(write.change, Change::Put { .. }) {
                return Err(StoreError::NoSpace);
            }
            let Write { key, expect, change } = write.clone();
            let event = view.apply(view.decide(key, expect, change, now_ms)?);
            let committed = Committed { revision: event.revision, previous: event.previous.clone() };
            events.push(event);
            Ok(committed)
        };
        let answers = writes.iter().map(&mut decide).collect();
        if !events.is_empty() {
            let before = self.log.open.bytes;
            self.log.commit(now_ms, &events)?;
            self.grown(self.log.open.bytes - before);
            self.committed(view, &events, now_ms);
        }
        Ok(answers)
    }

    fn committed(&mut self, mut view: View, events: &[Arc<Event>], now_ms: u64) {
        for Event { entry, previous, .. } in events.iter().map(|event| &**event) {
            for (entry, expires) in [(previous, false), (entry, true)] {
                let deadline = entry.as_ref().and_then(|e| Some((e.expires_at_ms?, e.key.clone())));
                match deadline {
                    Some(deadline) if expires => self.deadlines.insert(deadline),
                    Some(deadline) => self.deadlines.remove(&deadline),
                    None => false,
                };
            }
        }
        self.window.note(now_ms, view.revision);
        self.window.trim(&mut view, now_ms, &self.options.limits);
        self.view = view.clone();
        self.published.publish(view);
    }

    fn grown(&mut self, bytes: u64) {
        self.log_bytes += bytes;
        self.published.add_disk_bytes(bytes);
    }

    fn give_up(&mut self, writes: &[Write], error: AppendError) -> Answers {
        match error {
            AppendError::NoSpace => refuse_all(writes, &StoreError::NoSpace),
            AppendError::Unknown(error) => {
                let text = Causes(&error).to_string();
                self.enter_read_only(&text);
                refuse_all(writes, &StoreError::Indeterminate(text))
            }
        }
    }

    fn set_alarm(&mut self, alarm: Option<Alarm>) {
        self.alarm = alarm;
        self.published.set_alarm(alarm);
    }

    fn enter_read_only(&mut self, why: &str) {
        tracing::error!(why, "a write to the log failed; the store is read-only until it is opened again");
        self.set_alarm(Some(Alarm::ReadOnly));
    }

    fn enter_no_space(&mut self) {
        tracing::error!("the disk is full; puts are refused until there is room");
        if let Err(error) = reserve::give_up(&*self.disk) {
            tracing::error!(%error, "the reserve cannot be given up");
        }
        self.set_alarm(Some(Alarm::NoSpace));
    }

    fn try_leave_no_space(&mut self) {
        match reserve::take_again(&*self.disk, self.options.limits.reserve_bytes) {
            Ok(()) => {
                tracing::info!("the disk has room again");
                self.set_alarm(None);
            }
            Err(error) => tracing::debug!(%error, "the disk is still full"),
        }
    }

    /// Deletes the keys whose time is over. The deletions are writes like others.
    pub(crate) fn expire(&mut self) {
        loop {
            let due = self.due();
            // What fails stays due and is tried again later.
            if due.is_empty() || self.write(&due).iter().any(Result::is_err) {
                return;
            }
        }
    }

    fn due(&self) -> Vec<Write> {
        let now_ms = self.now_ms();
        let due = self.deadlines.iter().take_while(|(deadline_ms, _)| *deadline_ms <= now_ms);
        let delete = |(_, key): &(u64, Bytes)| {
            let expect = Expect::Revision(self.view.entry(key)?.mod_revision);
            Some(Write { key: key.clone(), expect, change: Change::Delete })
        };
        due.take(self.options.limits.batch_writes_max).filter_map(delete).collect()
    }

    /// Lets history go up to a revision.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision > self.view.revision {
            return Err(StoreError::Future { current: self.view.revision });
        }
        self.view.raise_floor(revision);
        self.published.publish(self.view.clone());
        Ok(())
    }

    /// What need not be done before the answers: the next segment, a snapshot.
    pub(crate) fn keep_up(&mut self) {
        if self.alarm.is_some() {
            return;
        }
        if self.log.open.bytes >= self.options.limits.segment_bytes {
            let rotated = self.log.rotate(&*self.disk, self.view.revision + 1, self.now_ms());
            self.after(rotated);
        }
        self.collect_snapshot();
        // Of two snapshots the older one must reach back behind the history. One that came while the newest does not
        // would either push out the older one too early or be a third.
        let due =
            self.log_bytes >= self.snapshot_at.max(self.view.object_bytes) && self.newest_snapshot <= self.view.floor;
        if due && self.snapshot.is_none() && self.alarm.is_none() {
            self.start_snapshot();
        }
    }

    fn after(&mut self, appended: Result<(), AppendError>) {
        match appended {
            Ok(()) => {}
            Err(AppendError::NoSpace) => self.enter_no_space(),
            Err(AppendError::Unknown(error)) => self.enter_read_only(&Causes(&error).to_string()),
        }
    }

    fn start_snapshot(&mut self) {
        let upkeep = Upkeep {
            disk: self.disk.clone(),
            chain: self.chain,
            view: self.published.view(),
            time_ms: self.now_ms(),
            published: self.published.clone(),
        };
        self.log_bytes = 0;
        self.snapshot_at = self.options.limits.snapshot_log_bytes_min;
        if self.options.snapshots_inline {
            return self.snapshot_done(upkeep.run());
        }
        let thread = std::thread::Builder::new().name("store-snapshot".to_owned());
        match thread.spawn(move || upkeep.run()) {
            Ok(handle) => self.snapshot = Some(handle),
            Err(error) => self.snapshot_done(Err(error)),
        }
    }

    fn collect_snapshot(&mut self) {
        if let Some(handle) = self.snapshot.take_if(|handle| handle.is_finished()) {
            self.join_snapshot(handle);
        }
    }

    fn join_snapshot(&mut self, handle: JoinHandle<std::io::Result<Revision>>) {
        let panicked = |_| Err(std::io::Error::other("the snapshot's thread panicked"));
        self.snapshot_done(handle.join().unwrap_or_else(panicked));
    }

    fn snapshot_done(&mut self, result: std::io::Result<Revision>) {
        match result {
            Ok(revision) => self.newest_snapshot = revision,
            Err(error) => {
                // The log holds everything; only its length grows until a later one succeeds.
                tracing::error!(%error, "snapshot failed; trying again later");
                self.snapshot_at = self.options.limits.snapshot_log_bytes_min / 4;
            }
        }
    }

    /// Called when nothing was written for a while.
    pub(crate) fn idle(&mut self) {
        match self.alarm {
            Some(Alarm::ReadOnly) => {}
            Some(Alarm::NoSpace) => self.try_leave_no_space(),
            None => {
                let marked = self.log.mark_end(self.now_ms());
                self.after(marked);
                self.collect_snapshot();
            }
        }
    }

    /// How long the writer may wait for the next write before it calls [`Core::expire`] or [`Core::idle`].
    pub(crate) fn patience(&self) -> Option<Duration> {
        let deadline = self.deadlines.first().map(|(deadline_ms, _)| {
            // A clock that stands must not make the writer spin.
            Duration::from_millis(deadline_ms.saturating_sub(self.now_ms()).max(1)).min(CLOCK_LOOK)
        });
        match self.alarm {
            Some(Alarm::ReadOnly) => None,
            Some(Alarm::NoSpace) => Some(FULL_DISK_RETRY),
            None if self.log.open.marked => deadline,
            None => Some(deadline.map_or(Duration::MAX, |d| d).min(self.options.limits.idle_before_end_marker)),
        }
    }

    /// Ends the log. Reads go on from memory.
    pub(crate) fn close(mut self) {
        if let Some(handle) = self.snapshot.take() {
            self.join_snapshot(handle);
        }
        if self.alarm != Some(Alarm::ReadOnly) {
            let marked = self.log.mark_end(self.now_ms());
            let ended = marked.is_ok();
            self.after(marked);
            let (end, revision, now_ms) = (self.log.chain, self.view.revision, self.now_ms());
            let word = if ended { write_closed(&*self.disk, self.chain, end, revision, now_ms) } else { Ok(()) };
            if let Err(error) = word {
                tracing::warn!(%error, "no word is left that the store was closed; the next start treats it as crashed");
            }
        }
    }
}

fn refuse_all(writes: &[Write], error: &StoreError) -> Answers {
    writes.iter().map(|_| Err(error.clone())).collect()
}
