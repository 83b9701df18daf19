//! The access log: one line of JSON a request, formatted by the core that served it, gathered in its buffer, and written by a
//! thread of its own. A disk that does not keep up costs lines, which are counted, and never a request.

use std::cell::RefCell;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::wire::decimal;

/// Bytes that a core gathers before they are handed over. Each batch wakes the writer, which costs the core its processor where
/// both share one.
const BATCH_BYTES: usize = 64 * 1024;

/// Room for the line that makes a batch full, unless it is unusually long.
const LINE_BYTES: usize = 2 * 1024;

/// Batches that may wait to be written: a megabyte.
const BATCHES_MAX: usize = 16;

/// What is said of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) at_ms: i64,
    pub(crate) client: &'a Member,
    pub(crate) tls: bool,
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) backend: Option<&'a Member>,
    pub(crate) endpoint: Option<&'a Member>,
    /// Why it went wrong, where it did.
    pub(crate) fault: &'a str,
    pub(crate) user_agent: &'a [u8],
}

/// A member of lines, written once for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member(Box<[u8]>);

impl Member {
    pub(crate) fn new(name: &str, value: &str) -> Self {
        let mut bytes = Vec::new();
        text(&mut bytes, &format!(",\"{name}\":\""), value.as_bytes());
        Self(bytes.into())
    }
}

/// One core's end of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    batch: RefCell<Batch>,
    sender: Option<SyncSender<Vec<u8>>>,
}

#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl Batch {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(BATCH_BYTES + LINE_BYTES), lines: 0 }
    }
}

impl AccessLog {
    pub(crate) fn new(sender: Option<SyncSender<Vec<u8>>>) -> Self {
        Self { batch: RefCell::new(Batch::new()), sender }
    }

    /// Adds a line; gives back how many lines were lost by that.
    pub(crate) fn add(&self, line: &Line<'_>) -> u64 {
        if self.sender.is_none() {
            return 0;
        }
        let full = {
            let mut batch = self.batch.borrow_mut();
            format(&mut batch.bytes, line);
            batch.lines += 1;
            batch.bytes.len() >= BATCH_BYTES
        };
        if full { self.flush() } else { 0 }
    }

    /// Hands over what was gathered; gives back how many lines were lost by that.
    pub(crate) fn flush(&self) -> u64 {
        let Some(sender) = &self.sender else { return 0 };
        if self.batch.borrow().lines == 0 {
            return 0;
        }
        let batch = self.batch.replace(Batch::new());
        match sender.try_send(batch.bytes) {
            Ok(()) => 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => batch.lines,
        }
    }
}

/// The queue to [`write_all`].
pub(crate) fn channel() -> (SyncSender<Vec<u8>>, Receiver<Vec<u8>>) {
    sync_channel(BATCHES_MAX)
}

/// Writes batches until every core is gone. What cannot be written is said once in a row and lost.
pub(crate) fn write_all(batches: &Receiver<Vec<u8>>, mut out: impl Write) {
    let mut failing = false;
    while let Ok(batch) = batches.recv() {
        let written = out.write_all(&batch).and_then(|()| out.flush());
        if let Err(error) = &written
            && !failing
        {
            tracing::error!(%error, "the access log cannot be written");
        }
        failing = written.is_err();
    }
}

fn format(out: &mut Vec<u8>, line: &Line<'_>) {
    number(out, "{\"ms\":", u64::try_from(line.at_ms).unwrap_or_default());
    out.extend_from_slice(&line.client.0);
    text(out, if line.tls { ",\"tls\":true,\"method\":\"" } else { ",\"tls\":false,\"method\":\"" }, line.method);
    text(out, ",\"host\":\"", line.host);
    text(out, ",\"target\":\"", line.target);
    number(out, ",\"status\":", line.status.into());
    number(out, ",\"bytes\":", line.bytes);
    number(out, ",\"us\":", u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX));
    for member in [line.backend, line.endpoint].into_iter().flatten() {
        out.extend_from_slice(&member.0);
    }
    if !line.fault.is_empty() {
        text(out, ",\"fault\":\"", line.fault.as_bytes());
    }
    text(out, ",\"agent\":\"", line.user_agent);
    out.extend_from_slice(b"}\n");
}

fn number(out: &mut Vec<u8>, before: &str, number: u64) {
    out.extend_from_slice(before.as_bytes());
    decimal(out, number);
}

/// A string of any bytes: what is not printable ASCII is escaped, so that a line is always one line of JSON. `before` is what
/// stands before it, its first quote included.
fn text(out: &mut Vec<u8>, before: &str, value: &[u8]) {
    out.extend_from_slice(before.as_bytes());
    if value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(value);
    } else {
        escape(out, value);
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            _ => write!(out, "\\u{byte:04x}").expect("a vector takes everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(target: &'a [u8], members: &'a [Member; 3]) -> Line<'a> {
        let [client, backend, endpoint] = members;
        Line {
            at_ms: 1,
            client,
            tls: false,
            method: b"GET",
            host: b"h",
            target,
            status: 200,
            bytes: 3,
            took: Duration::from_micros(15),
            backend: Some(backend),
            endpoint: Some(endpoint),
            fault: "",
            user_agent: b"curl",
        }
    }

    fn members() -> [Member; 3] {
        [("client", "127.0.0.1"), ("backend", "b\"\n"), ("endpoint", "127.0.0.1:80")].map(|(n, v)| Member::new(n, v))
    }

    #[test]
    fn every_line_is_json() {
        let members = members();
        for target in [&b"/a"[..], b"/\"\\", b"/\n\x00\xff\x7f"] {
            let mut out = Vec::new();
            format(&mut out, &line(target, &members));
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let expected: String = target.iter().map(|byte| char::from(*byte)).collect();
            assert_eq!(value["target"], expected);
            assert_eq!(
                (&value["status"], &value["us"], &value["endpoint"], &value["backend"]),
                (&200.into(), &15.into(), &"127.0.0.1:80".into(), &"b\"\n".into())
            );
            assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }

    #[test]
    fn a_slow_disk_costs_lines_that_are_counted() {
        let (sender, _receiver) = channel();
        let log = AccessLog::new(Some(sender));
        let (members, mut lost) = (members(), 0);
        for _ in 0..BATCHES_MAX {
            assert_eq!(log.add(&line(b"/", &members)) + log.flush(), 0);
        }
        for _ in 0..3 {
            lost += log.add(&line(b"/", &members)) + log.flush();
        }
        assert_eq!(lost, 3);
    }
}
