//! A steady load of HTTP/1.1 requests that believes nothing: every response is read whole and its body checked, and a request
//! without a right answer counts as lost, whatever the reason.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use corten_stdx::clock::Stopwatch;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A request that takes longer is lost.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Failures that an error tells word for word.
const FAILURES_SHOWN: usize = 20;

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
    workers: JoinSet<Vec<Sample>>,
    name: &'static str,
    watch: Stopwatch,
}

/// What became of one request.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Since the load's start.
    pub(crate) begun: Duration,
    pub(crate) took: Duration,
    /// What it sent, if it was a POST; no other request of the load has it.
    pub(crate) token: String,
    pub(crate) failure: Option<Failure>,
}

/// Why a request had no right answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Not even a connection was made.
    pub(crate) is_refusal: bool,
    pub(crate) text: String,
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) samples: Vec<Sample>,
}

/// The context of an error that came before there was a connection.
#[derive(Debug)]
struct NoConnection;

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connect")
    }
}

impl Load {
    /// Begins; ends when told to.
    pub(crate) fn start(self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        let period = Duration::from_secs(1) * self.connections / self.requests_per_s.max(1);
        let (name, watch) = (self.name, Stopwatch::start());
        let load = Arc::new(self);
        for worker in 0..load.connections {
            workers.spawn(work(load.clone(), worker, period, watch, stop.clone()));
        }
        Running { stop, workers, name, watch }
    }
}

impl Running {
    /// Since its start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.watch.elapsed()
    }

    pub(crate) async fn stop(mut self) -> Result<Report> {
        let took = self.watch.elapsed();
        self.stop.store(true, Ordering::SeqCst);
        let mut samples = Vec::new();
        while let Some(ended) = self.workers.join_next().await {
            samples.extend(ended.context("a worker of the load")?);
        }
        samples.sort_unstable_by_key(|sample| sample.begun);
        Ok(Report { name: self.name, took, samples })
    }
}

impl Report {
    /// Requests without a right answer.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Sample, &Failure)> {
        self.samples.iter().filter_map(|sample| Some((sample, sample.failure.as_ref()?)))
    }

    /// An error that names the first failures, unless nothing was lost.
    pub(crate) fn nothing_lost(&self) -> Result<()> {
        let failures: Vec<String> = self.failures().map(|(sample, failure)| sample.describe(failure)).collect();
        let (name, sent, lost) = (self.name, self.samples.len(), failures.len());
        ensure!(sent > 0, "{name}: nothing was sent");
        let first = &failures[..lost.min(FAILURES_SHOWN)];
        ensure!(lost == 0, "{name}: {lost} of {sent} requests were lost; the first:\n  {}", first.join("\n  "));
        Ok(())
    }

    pub(crate) fn requests_per_s(&self) -> f64 {
        self.samples.len() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.samples.iter().map(|sample| sample.took).max().unwrap_or_default()
    }
}

impl Sample {
    pub(crate) fn describe(&self, failure: &Failure) -> String {
        format!("at {} ms, after {} ms: {}", self.begun.as_millis(), self.took.as_millis(), failure.text)
    }
}

async fn work(load: Arc<Load>, worker: u32, period: Duration, watch: Stopwatch, stop: Arc<AtomicBool>) -> Vec<Sample> {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut connection, mut samples) = (None, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let begun = watch.elapsed();
        let token = format!("{worker}-{}", samples.len());
        let failure = match timeout(ANSWER_LIMIT, load.ask(&mut connection, &token)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                Some(Failure { is_refusal: error.is::<NoConnection>(), text: format!("{token}: {error:#}") })
            }
            Err(_) => Some(Failure { is_refusal: false, text: format!("{token}: no answer within {ANSWER_LIMIT:?}") }),
        };
        if failure.is_some() {
            connection = None;
        }
        samples.push(Sample { begun, took: watch.elapsed() - begun, token, failure });
    }
    samples
}

impl Load {
    async fn ask(&self, connection: &mut Option<BufReader<TcpStream>>, token: &str) -> Result<()> {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(self.address).await.context(NoConnection)?),
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
