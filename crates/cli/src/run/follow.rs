//! The output of every container of an application, as it comes, also of those that begin later. A connection that breaks is
//! made again behind the last line that was shown.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::StreamBody;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::BodyExt as _;

use super::board::Board;
use crate::app::PODS;
use crate::connect::Session;

/// Before a log is asked for again.
const PAUSE: Duration = Duration::from_millis(500);

/// A line that is longer is shown in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A container of a pod that has begun.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Begun {
    pod: String,
    container: String,
    id: String,
}

/// Pods that are ending are left alone, unless they were followed before. Resolves when the application is removed, or nobody reads what is printed.
pub(super) async fn follow(session: &Session, board: &Board, with_names: bool) -> anyhow::Result<()> {
    let (mut known, mut running) = (BTreeSet::new(), FuturesUnordered::new());
    loop {
        let stays = |pod: &&Value| Meta::of(pod).deletion_timestamp().is_none();
        for begun in board.pods().iter().filter(stays).flat_map(begun) {
            if known.insert(begun.clone()) {
                running.push(show(session, board, begun, with_names));
            }
        }
        if !board.is_there() && running.is_empty() {
            eprintln!("it was removed");
            return Ok(());
        }
        tokio::select! {
            () = board.changed() => {}
            Some(ended) = running.next() => match ended {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            },
        }
    }
}

fn begun(pod: &Value) -> Vec<Begun> {
    let statuses = pod.at(&["status", "containerStatuses"]).and_then(Value::as_array).unwrap_or_default();
    let of = |status: &Value| Begun {
        pod: Meta::of(pod).name().to_owned(),
        container: status.str_at(&["name"]).to_owned(),
        id: status.str_at(&["containerID"]).to_owned(),
    };
    let is_there =
        |status: &&Value| status.at(&["state", "running"]).is_some() || status.at(&["state", "terminated"]).is_some();
    statuses.iter().filter(is_there).map(of).filter(|begun| !begun.id.is_empty()).collect()
}

/// Shows a container's log to its end.
async fn show(session: &Session, board: &Board, begun: Begun, with_names: bool) -> io::Result<()> {
    let mut lines =
        Lines { prefix: if with_names { format!("{} | ", begun.pod) } else { String::new() }, ..Lines::default() };
    loop {
        if let Ok(body) = session.client.read(&path(session, &begun, &lines.last)).await
            && lines.show(body).await?
        {
            return Ok(());
        }
        session.clock.sleep(PAUSE).await;
        let is_there = board.pods().iter().flat_map(self::begun).any(|other| other == begun);
        if !is_there {
            return Ok(());
        }
    }
}

fn path(session: &Session, begun: &Begun, since: &str) -> String {
    let path = PODS.path(&session.namespace, &begun.pod, "log");
    let since = if since.is_empty() { String::new() } else { format!("&sinceTime={}", since.replace('+', "%2B")) };
    format!("{path}?follow=true&timestamps=true&container={}{since}", begun.container)
}

/// Lines that begin with their time, which is not shown.
#[derive(Default)]
struct Lines {
    prefix: String,
    /// The time of the last line that was shown.
    last: String,
    rest: Vec<u8>,
}

impl Lines {
    /// Whether the log has come to its end, and not the connection to its.
    async fn show(&mut self, mut body: StreamBody) -> io::Result<bool> {
        self.rest.clear();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Ok(false) };
            let Ok(bytes) = frame.into_data() else { continue };
            self.take(&bytes, &mut io::stdout().lock())?;
        }
        let rest = std::mem::take(&mut self.rest);
        self.line(&rest, &mut io::stdout().lock())?;
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8], out: &mut impl io::Write) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line[..end], out)?;
        }
        if self.rest.len() > LINE_BYTES_MAX {
            let piece = std::mem::take(&mut self.rest);
            self.line(&piece, out)?;
        }
        out.flush()
    }

    /// One that was shown before the connection broke is not shown again.
    fn line(&mut self, line: &[u8], out: &mut impl io::Write) -> io::Result<()> {
        let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let time = String::from_utf8_lossy(&line[..at]).into_owned();
        if line.is_empty() || time <= self.last {
            return Ok(());
        }
        self.last = time;
        out.write_all(self.prefix.as_bytes())?;
        out.write_all(line.get(at + 1..).unwrap_or_default())?;
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn each_line_is_shown_once_in_whatever_pieces_it_comes() {
        let (mut lines, mut out) = (Lines { prefix: "a | ".to_owned(), ..Lines::default() }, Vec::new());
        let text = b"2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.2Z \n2026-01-01T00:00:00.3Z three\n";
        for byte in text {
            lines.take(&[*byte], &mut out).expect("a buffer takes all");
        }
        // The connection broke and begins with the second of the last line again.
        lines.take(&text[..], &mut out).expect("a buffer takes all");
        lines.take(b"2026-01-01T00:00:00.4Z four\n", &mut out).expect("a buffer takes all");
        assert_eq!(String::from_utf8(out).expect("text"), "a | one\na | \na | three\na | four\n");
    }

    #[test]
    fn a_container_has_begun_once_it_has_an_id() {
        let pod = value!({"metadata": {"name": "a"}, "status": {"containerStatuses": [
            {"name": "x", "containerID": "corten://1", "state": {"running": {}}},
            {"name": "y", "containerID": "", "state": {"waiting": {}}},
            {"name": "z", "containerID": "corten://2", "state": {"terminated": {}}}
        ]}});
        let names: Vec<String> = begun(&pod).into_iter().map(|begun| begun.container).collect();
        assert_eq!(names, ["x", "z"]);
    }
}
