//! A steady load of HTTP/1.1 requests that believes nothing: every response is read whole and its body checked, and a request
//! without a right answer counts as lost, whatever the reason.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use corten_stdx::clock::Stopwatch;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A request that takes longer is lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Failures that are kept word for word.
const FAILURES_KEPT: usize = 20;

/// What is asked, how often, over what kind of connections.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    /// Sent by POST and expected back within the answer; none is a GET.
    pub(crate) echo: bool,
    /// Part of every right answer.
    pub(crate) expect: String,
    /// Otherwise every request has a connection of its own.
    pub(crate) keep_alive: bool,
    pub(crate) connections: u32,
    /// Of all connections together.
    pub(crate) requests_per_s: u32,
}

/// A load under way.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    workers: JoinSet<()>,
    name: &'static str,
    watch: Stopwatch,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
    slowest_us: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) requests_per_s: f64,
    pub(crate) slowest: Duration,
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Begins; ends when told to.
    pub(crate) fn start(self) -> Running {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut workers = JoinSet::new();
        let period = Duration::from_secs(1) * self.connections / self.requests_per_s.max(1);
        let name = self.name;
        let load = Arc::new(self);
        for worker in 0..load.connections {
            workers.spawn(work(load.clone(), worker, period, stop.clone(), counts.clone()));
        }
        Running { stop, counts, workers, name, watch: Stopwatch::start() }
    }
}

impl Running {
    /// Requests that had no right answer so far.
    pub(crate) fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::SeqCst)
    }

    pub(crate) async fn stop(mut self) -> Result<Report> {
        let took_s = self.watch.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.workers.join_next().await {
            ended.context("a worker of the load")?;
        }
        let sent = self.counts.sent.load(Ordering::SeqCst);
        Ok(Report {
            name: self.name,
            sent,
            lost: self.lost(),
            requests_per_s: sent as f64 / took_s,
            slowest: Duration::from_micros(self.counts.slowest_us.load(Ordering::SeqCst)),
            failures: std::mem::take(&mut *self.counts.failures.lock().await),
        })
    }
}

impl Report {
    /// An error that names the first failures, unless nothing was lost.
    pub(crate) fn nothing_lost(&self) -> Result<()> {
        let Self { name, sent, lost, failures, .. } = self;
        ensure!(*sent > 0, "{name}: nothing was sent");
        ensure!(*lost == 0, "{name}: {lost} of {sent} requests were lost; the first:\n  {}", failures.join("\n  "));
        Ok(())
    }
}

async fn work(load: Arc<Load>, worker: u32, period: Duration, stop: Arc<AtomicBool>, counts: Arc<Counts>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    let mut number = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        number += 1;
        let watch = Stopwatch::start();
        let token = format!("{worker}-{number}");
        let asked = timeout(ANSWER_LIMIT, load.ask(&mut connection, &token)).await;
        counts.sent.fetch_add(1, Ordering::SeqCst);
        let took_us = u64::try_from(watch.elapsed().as_micros()).unwrap_or(u64::MAX);
        counts.slowest_us.fetch_max(took_us, Ordering::SeqCst);
        let failure = match asked {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {ANSWER_LIMIT:?}"),
        };
        connection = None;
        counts.lost.fetch_add(1, Ordering::SeqCst);
        let mut failures = counts.failures.lock().await;
        if failures.len() < FAILURES_KEPT {
            failures.push(format!("{token} after {} ms: {failure}", took_us / 1000));
        }
    }
}

impl Load {
    async fn ask(&self, connection: &mut Option<BufReader<TcpStream>>, token: &str) -> Result<()> {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(self.address).await.context("connect")?),
        };
        let keep = if self.keep_alive { "" } else { "Connection: close\r\n" };
        let (method, body) = if self.echo { ("POST", token) } else { ("GET", "") };
        let length = if self.echo { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        let head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n{keep}{length}\r\n{body}", self.path, self.host);
        stream.get_mut().write_all(head.as_bytes()).await.context("send")?;
        let answer = Answer::read(&mut stream).await?;
        ensure!(answer.code == 200, "code {}: {}", answer.code, answer.body.chars().take(200).collect::<String>());
        ensure!(answer.body.contains(&self.expect), "the answer lacks {:?}: {:?}", self.expect, answer.body);
        ensure!(!self.echo || answer.body.contains(token), "another's answer: {:?}", answer.body);
        if self.keep_alive && !answer.closes {
            *connection = Some(stream);
        }
        Ok(())
    }
}

struct Answer {
    code: u16,
    closes: bool,
    body: String,
}

impl Answer {
    async fn read(stream: &mut BufReader<TcpStream>) -> Result<Self> {
        let status = line(stream).await.context("status line")?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("status line")?;
        let (mut length, mut chunked, mut closes) = (None, false, false);
        loop {
            let field = line(stream).await.context("header")?;
            let Some((name, value)) = field.split_once(':') else { break };
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", value) => length = Some(value.parse::<usize>()?),
                ("transfer-encoding", value) => chunked = value.eq_ignore_ascii_case("chunked"),
                ("connection", value) => closes = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        match length {
            _ if chunked => chunks(stream, &mut body).await?,
            Some(length) => {
                body.resize(length, 0);
                stream.read_exact(&mut body).await.context("body")?;
            }
            None => {
                closes = true;
                stream.read_to_end(&mut body).await.context("body")?;
            }
        }
        Ok(Self { code, closes, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

async fn chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let size = usize::from_str_radix(&line(stream).await?, 16).context("chunk size")?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).await.context("chunk")?;
        ensure!(line(stream).await?.is_empty(), "a chunk has no end");
        if size == 0 {
            return Ok(());
        }
    }
}

/// A line without its end; none at all is an error.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        bail!("the connection was closed");
    }
    Ok(line.trim_end().to_owned())
}
