//! The writer's thread: takes what callers ask for, in batches, and answers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::core::{Core, Write};
use super::limits::Limits;
use super::published::Published;
use crate::{Alarm, Change, Committed, Revision, StoreError};

/// What callers ask of the writer. The permit is the caller's place in the queue.
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) permit: OwnedSemaphorePermit,
}

pub(crate) enum Ask {
    Write(Write, oneshot::Sender<Result<Committed, StoreError>>),
    Compact(Revision, oneshot::Sender<Result<(), StoreError>>),
    /// Look at the clock.
    Expire(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// Runs until the store is closed or dropped. `lock` is the directory's.
pub(crate) fn run(
    mut core: Core,
    requests: &Receiver<Request>,
    limits: &Limits,
    published: Arc<Published>,
    lock: Box<dyn Send>,
) {
    let end = End(published);
    let mut closers = Vec::new();
    let mut last_writes = 0;
    while closers.is_empty() {
        match next(&core, requests) {
            Ok(first) => (closers, last_writes) = serve(&mut core, first, requests, limits, last_writes),
            Err(RecvTimeoutError::Timeout) => {
                core.expire();
                core.idle();
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    core.close();
    drop((lock, end));
    while let Ok(request) = requests.try_recv() {
        refuse(request, &mut closers);
    }
    closers.into_iter().for_each(|closer| answer(closer, ()));
}

fn next(core: &Core, requests: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
    match core.patience() {
        Some(patience) => requests.recv_timeout(patience),
        None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// One batch: what is in the queue already, up to the limits. Returns who waits for the end, if it is to be, and how many
/// writes there were.
fn serve(
    core: &mut Core,
    first: Request,
    requests: &Receiver<Request>,
    limits: &Limits,
    last_writes: usize,
) -> (Vec<oneshot::Sender<()>>, usize) {
    let (mut writes, mut waiting, mut closers) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(Request { ask, permit }) = next {
        match ask {
            Ask::Write(write, reply) => {
                bytes += write_bytes(&write);
                writes.push(write);
                waiting.push((reply, permit));
            }
            other => {
                // What stands between writes happens between them.
                flush(core, &mut writes, &mut waiting);
                closers.extend(control(core, other));
            }
        }
        let more = closers.is_empty() && writes.len() < limits.batch_writes_max && bytes < limits.batch_bytes_max;
        next = if more { gather(requests, writes.len() < last_writes, limits) } else { None };
    }
    core.expire();
    let count = writes.len();
    flush(core, &mut writes, &mut waiting);
    core.keep_up();
    (closers, count)
}

fn gather(requests: &Receiver<Request>, wait: bool, limits: &Limits) -> Option<Request> {
    match requests.try_recv() {
        Ok(request) => Some(request),
        Err(_) if wait => requests.recv_timeout(limits.gather_pause).ok(),
        Err(_) => None,
    }
}

fn flush(
    core: &mut Core,
    writes: &mut Vec<Write>,
    waiting: &mut Vec<(oneshot::Sender<Result<Committed, StoreError>>, OwnedSemaphorePermit)>,
) {
    if writes.is_empty() {
        return;
    }
    let answers = core.write(writes);
    writes.clear();
    for ((reply, _permit), result) in waiting.drain(..).zip(answers) {
        answer(reply, result);
    }
}

fn control(core: &mut Core, ask: Ask) -> Option<oneshot::Sender<()>> {
    match ask {
        Ask::Compact(revision, reply) => answer(reply, core.compact(revision)),
        Ask::Expire(reply) => {
            core.expire();
            answer(reply, ());
        }
        Ask::Close(reply) => return Some(reply),
        Ask::Write(..) => unreachable!("writes are collected by the caller"),
    }
    None
}

fn refuse(request: Request, closers: &mut Vec<oneshot::Sender<()>>) {
    match request.ask {
        Ask::Write(_, reply) => answer(reply, Err(StoreError::Closed)),
        Ask::Compact(_, reply) => answer(reply, Err(StoreError::Closed)),
        Ask::Expire(reply) => answer(reply, ()),
        Ask::Close(reply) => closers.push(reply),
    }
}

fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::trace!("nobody waits for this answer any more");
    }
}

fn write_bytes(write: &Write) -> usize {
    let value_bytes = match &write.change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
    };
    write.key.len() + value_bytes
}

/// Tells readers that nothing more comes, however the thread ends.
struct End(Arc<Published>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_alarm(Some(Alarm::ReadOnly));
        }
        self.0.close();
    }
}
