//! Container logs: lines in CRI's format, `TIME STREAM TAG CONTENT`, chosen and cut as the client asks. The tag `P` says that
//! the line goes on in the next of its stream.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use corten_apimachinery::time::Time;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use super::Server;
use super::answer::{Answer, BoxError, Refusal, of};
use super::follow::Watch;
use super::route::{LogOptions, Target};

/// Bytes that are read at once; also what waits for a client in one piece.
const READ_BYTES: usize = 64 * 1024;

/// Pieces that wait for a slow client; reading waits behind them.
const PIECES_WAITING_MAX: usize = 4;

/// A line longer than this is no log line; what the pod process writes has 16 KiB of content.
const LINE_BYTES_MAX: usize = 256 * 1024;

pub(super) async fn serve(server: &Server, target: &Target, options: LogOptions) -> Result<Answer, Refusal> {
    let pod = server.host.pod(&target.namespace, &target.pod);
    let pod = pod.ok_or_else(|| Refusal::not_found(format!("pod {:?} does not exist", target.pod)))?;
    let container = pod.container(&target.container).ok_or_else(|| {
        Refusal::not_found(format!("container {:?} not found in pod {:?}", target.container, target.pod))
    })?;
    let log = if options.previous { &container.previous_log } else { &container.log };
    let log = log.clone().map_err(Refusal::bad)?;
    let now_s = server.clock.now_s();
    let lines = Lines::new(&options, now_s).map_err(Refusal::bad)?;
    let path = log.path.clone();
    let start = Start { tail: options.tail_lines };
    let file = blocking(move || start.open(&path)).await;
    let file = file.map_err(|error| Refusal::bad(format!("failed to open log file {:?}: {error}", log.path)))?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let (host, id) = (server.host.clone(), pod.id(&target.container, log.attempt));
    let follow = options.follow;
    let reading = async move {
        let ended = async { host.ended(&id).await };
        let reader = Reader { path: log.path, file: Some(file), lines, out: sender };
        if let Err(error) = if follow { reader.follow(ended).await } else { reader.once().await } {
            tracing::warn!(%error, "container log cannot be read");
        }
    };
    if follow {
        server.tasks.spawn_endless("container-logs", reading);
    } else {
        server.tasks.spawn("container-logs", reading);
    }
    let body = StreamBody::new(Pieces(receiver)).boxed_unsync();
    Ok(of("text/plain", body))
}

/// The pieces as a body.
pub(super) struct Pieces(pub(super) mpsc::Receiver<Bytes>);

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// File work on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Where reading begins.
struct Start {
    tail: Option<u64>,
}

impl Start {
    fn open(&self, path: &std::path::Path) -> io::Result<File> {
        let mut file = File::open(path)?;
        if let Some(lines) = self.tail {
            let at = tail_start(&mut file, lines)?;
            file.seek(SeekFrom::Start(at))?;
        }
        Ok(file)
    }
}

/// Where the last `lines` lines begin. An incomplete line at the end counts as none, as it may become any.
fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut found = 0;
    let mut at = end;
    let mut block = vec![0; READ_BYTES];
    while at > 0 {
        let length = usize::try_from(at).unwrap_or(usize::MAX).min(READ_BYTES);
        at -= length as u64;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block[..length])?;
        for (index, _) in block[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // One more end of line than lines: that one belongs to the line before.
            if found == lines {
                return Ok(at + index as u64 + 1);
            }
            found += 1;
        }
    }
    Ok(0)
}

/// Turns log lines into what the client sees.
struct Lines {
    partial: Vec<u8>,
    timestamps: bool,
    /// Times before this one are left out; compared as text, for all times are written alike.
    since: Option<String>,
    /// Bytes that may still be sent.
    left: Option<u64>,
    /// Lines of the file that may still be read: who asks for the last ones gets no more of them while the container writes on.
    lines_left: Option<u64>,
    stream: Option<&'static str>,
    /// The next content begins a line.
    at_start: bool,
}

impl Lines {
    fn new(options: &LogOptions, now_s: i64) -> Result<Self, String> {
        let since = match (&options.since_time, options.since_seconds) {
            (Some(time), _) => Some(Time::parse(time).map_err(|error| error.to_string())?),
            (None, Some(seconds)) => Some(Time::from_seconds(now_s.saturating_sub(seconds))),
            (None, None) => None,
        };
        Ok(Self {
            partial: Vec::new(),
            timestamps: options.timestamps,
            since: since.map(|time| time.to_rfc3339().trim_end_matches('Z').to_owned()),
            left: options.limit_bytes,
            lines_left: options.tail_lines.filter(|_| !options.follow),
            stream: options.stream,
            at_start: true,
        })
    }

    /// Takes bytes of the file and gives the client's; what is no whole line waits.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while self.lines_left != Some(0)
            && let Some(end) = rest.iter().position(|byte| *byte == b'\n')
        {
            self.lines_left = self.lines_left.map(|left| left - 1);
            let line = &rest[..end];
            if self.partial.is_empty() {
                self.line(line, &mut out);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, &mut out);
            }
            rest = &rest[end + 1..];
        }
        if self.partial.len() + rest.len() <= LINE_BYTES_MAX {
            self.partial.extend_from_slice(rest);
        }
        out
    }

    fn is_full(&self) -> bool {
        self.left == Some(0) || self.lines_left == Some(0)
    }

    /// What is no line of the format is left out.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tag), Some(content)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let early = self.since.as_ref().is_some_and(|since| time < since.as_bytes());
        let other = self.stream.is_some_and(|wanted| stream != wanted.as_bytes());
        if early || other || !matches!(stream, b"stdout" | b"stderr") {
            return;
        }
        if self.timestamps && self.at_start {
            self.emit(time, out);
            self.emit(b" ", out);
        }
        self.emit(content, out);
        let goes_on = tag.split(|byte| *byte == b':').next() == Some(b"P");
        if !goes_on {
            self.emit(b"\n", out);
        }
        self.at_start = !goes_on;
    }

    fn emit(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let length = self.left.map_or(bytes.len(), |left| bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        out.extend_from_slice(&bytes[..length]);
        self.left = self.left.map(|left| left - length as u64);
    }
}

/// Reads one container's log for one client.
struct Reader {
    path: PathBuf,
    /// None only while a thread reads it.
    file: Option<File>,
    lines: Lines,
    out: mpsc::Sender<Bytes>,
}

/// What reading came to.
#[derive(PartialEq)]
enum Read {
    End,
    /// The client has all it wants, or has gone.
    Over,
}

impl Reader {
    async fn once(mut self) -> io::Result<()> {
        self.rest().await.map(drop)
    }

    /// Reads on as the file grows, also in a new file of the same name, until the container has ended.
    async fn follow(mut self, ended: impl Future<Output = ()>) -> io::Result<()> {
        // Before the first look, so that nothing is missed between a look and the wait.
        let mut watch = Watch::new(&self.path)?;
        let mut ended = std::pin::pin!(ended);
        let mut running = true;
        loop {
            if self.rest().await? == Read::Over {
                return Ok(());
            }
            if self.is_renamed()? {
                // It may have grown between the two looks.
                if self.rest().await? == Read::Over {
                    return Ok(());
                }
                self.file = Some(File::open(&self.path)?);
                continue;
            }
            if !running {
                return Ok(());
            }
            tokio::select! {
                changed = watch.changed() => changed?,
                () = &mut ended => running = false,
                () = self.out.closed() => return Ok(()),
            }
        }
    }

    /// Sends what there is up to the end of the file.
    async fn rest(&mut self) -> io::Result<Read> {
        loop {
            let Some(mut file) = self.file.take() else { return Ok(Read::Over) };
            let (file, block) = blocking(move || {
                let mut block = vec![0; READ_BYTES];
                let length = file.read(&mut block)?;
                block.truncate(length);
                Ok((file, block))
            })
            .await?;
            self.file = Some(file);
            if block.is_empty() {
                return Ok(Read::End);
            }
            let piece = self.lines.take(&block);
            if !piece.is_empty() && self.out.send(piece.into()).await.is_err() || self.lines.is_full() {
                return Ok(Read::Over);
            }
        }
    }

    /// The path names another file by now, or, in the middle of a rotation, none: then it is this one still.
    fn is_renamed(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let own = rustix::fs::fstat(file)?;
        match rustix::fs::stat(&self.path) {
            Ok(there) => Ok((there.st_dev, there.st_ino) != (own.st_dev, own.st_ino)),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LOG: &str = "2026-01-02T03:04:05.000000001Z stdout F one\n\
        2026-01-02T03:04:06.000000000Z stderr F two\n\
        2026-01-02T03:04:07.000000000Z stdout P thr\n\
        garbage\n\
        2026-01-02T03:04:07.000000000Z stdout F ee  \n";

    fn shown(options: &LogOptions, now_s: i64) -> String {
        let mut lines = Lines::new(options, now_s).expect("good options");
        // In pieces that end anywhere.
        let out: Vec<u8> = LOG.as_bytes().chunks(11).flat_map(|piece| lines.take(piece)).collect();
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_are_joined_chosen_and_cut() {
        let all = LogOptions::default();
        assert_eq!(shown(&all, 0), "one\ntwo\nthree  \n");
        assert_eq!(shown(&LogOptions { stream: Some("stderr"), ..all.clone() }, 0), "two\n");
        assert_eq!(shown(&LogOptions { limit_bytes: Some(6), ..all.clone() }, 0), "one\ntw");
        let times = "2026-01-02T03:04:05.000000001Z one\n2026-01-02T03:04:06.000000000Z two\n\
            2026-01-02T03:04:07.000000000Z three  \n";
        assert_eq!(shown(&LogOptions { timestamps: true, ..all.clone() }, 0), times);
        let since = |time: &str| shown(&LogOptions { since_time: Some(time.to_owned()), ..all.clone() }, 0);
        assert_eq!(since("2026-01-02T03:04:06Z"), "two\nthree  \n");
        assert_eq!(since("2026-01-02T05:04:07+02:00"), "three  \n");
        let now_s = 1_767_323_050;
        assert_eq!(shown(&LogOptions { since_seconds: Some(4), ..all }, now_s), "two\nthree  \n");
    }

    #[test]
    fn the_last_lines_are_no_more_while_the_container_writes_on() {
        let last = LogOptions { tail_lines: Some(2), ..LogOptions::default() };
        assert_eq!(shown(&last, 0), "one\ntwo\n", "what was written after the beginning was found");
        let on = LogOptions { follow: true, ..last };
        assert_eq!(shown(&on, 0), "one\ntwo\nthree  \n");
    }

    #[test]
    fn the_tail_is_found_from_the_end() {
        let mut file = tempfile::tempfile().expect("a file");
        let long = "x".repeat(READ_BYTES);
        write!(file, "a\n{long}\nb\nc\nrest").expect("written");
        let at = 2 + long.len() as u64 + 1;
        for (lines, expect) in [(0, at + 4), (1, at + 2), (2, at), (3, 2), (4, 0), (9, 0)] {
            assert_eq!(tail_start(&mut file, lines).expect("read"), expect, "{lines}");
        }
    }
}
