//! The access log: one line of JSON a request, formatted by the core that served it, gathered in its buffer, and written by a
//! thread of its own. A disk that does not keep up costs lines, which are counted, and never a request.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::wire::decimal;

/// Bytes that a core gathers before they are handed over.
const BATCH_BYTES: usize = 32 * 1024;

/// Batches that may wait to be written: a megabyte.
const BATCHES_MAX: usize = 32;

/// What is said of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) at_ms: i64,
    pub(crate) client: &'a str,
    pub(crate) tls: bool,
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) backend: &'a str,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Why it went wrong, where it did.
    pub(crate) fault: &'a str,
    pub(crate) user_agent: &'a [u8],
}

/// One core's end of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    batch: RefCell<Batch>,
    sender: Option<SyncSender<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl AccessLog {
    pub(crate) fn new(sender: Option<SyncSender<Vec<u8>>>) -> Self {
        Self { batch: RefCell::default(), sender }
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
        let batch = self.batch.take();
        if batch.lines == 0 {
            return 0;
        }
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
    text(out, "client", line.client.as_bytes());
    out.extend_from_slice(if line.tls { b",\"tls\":true" } else { b",\"tls\":false" });
    text(out, "method", line.method);
    text(out, "host", line.host);
    text(out, "target", line.target);
    number(out, ",\"status\":", line.status.into());
    number(out, ",\"bytes\":", line.bytes);
    number(out, ",\"us\":", u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX));
    if !line.backend.is_empty() {
        text(out, "backend", line.backend.as_bytes());
    }
    if let Some(endpoint) = line.endpoint {
        out.extend_from_slice(b",\"endpoint\":\"");
        address(out, endpoint);
        out.push(b'"');
    }
    if !line.fault.is_empty() {
        text(out, "fault", line.fault.as_bytes());
    }
    text(out, "agent", line.user_agent);
    out.extend_from_slice(b"}\n");
}

fn number(out: &mut Vec<u8>, before: &str, number: u64) {
    out.extend_from_slice(before.as_bytes());
    decimal(out, number);
}

/// As it is usually written.
fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            for (at, octet) in address.ip().octets().into_iter().enumerate() {
                number(out, if at == 0 { "" } else { "." }, octet.into());
            }
            number(out, ":", address.port().into());
        }
        SocketAddr::V6(address) => write!(out, "{address}").expect("a vector takes everything"),
    }
}

/// A member whose value is any bytes: what is not printable ASCII is escaped, so that a line is always one line of JSON.
fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
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

    fn line<'a>(target: &'a [u8]) -> Line<'a> {
        Line {
            at_ms: 1,
            client: "127.0.0.1",
            tls: false,
            method: b"GET",
            host: b"h",
            target,
            status: 200,
            bytes: 3,
            took: Duration::from_micros(15),
            backend: "b",
            endpoint: Some(SocketAddr::from(([127, 0, 0, 1], 80))),
            fault: "",
            user_agent: b"curl",
        }
    }

    #[test]
    fn every_line_is_json() {
        for target in [&b"/a"[..], b"/\"\\", b"/\n\x00\xff\x7f"] {
            let mut out = Vec::new();
            format(&mut out, &line(target));
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let expected: String = target.iter().map(|byte| char::from(*byte)).collect();
            assert_eq!(value["target"], expected);
            assert_eq!(
                (&value["status"], &value["us"], &value["endpoint"]),
                (&200.into(), &15.into(), &"127.0.0.1:80".into())
            );
            assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }

    #[test]
    fn addresses_are_written_as_usual() {
        for text in ["127.0.0.1:80", "10.244.255.0:65535", "[::1]:8080"] {
            let mut out = Vec::new();
            address(&mut out, text.parse().unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn a_slow_disk_costs_lines_that_are_counted() {
        let (sender, _receiver) = channel();
        let log = AccessLog::new(Some(sender));
        let mut lost = 0;
        for _ in 0..BATCHES_MAX {
            assert_eq!(log.add(&line(b"/")) + log.flush(), 0);
        }
        for _ in 0..3 {
            lost += log.add(&line(b"/")) + log.flush();
        }
        assert_eq!(lost, 3);
    }
}
