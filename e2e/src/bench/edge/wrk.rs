//! wrk, a closed loop of requests over kept connections, and what it prints.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

pub(super) struct Load<'a> {
    pub(super) address: String,
    pub(super) host: &'a str,
    pub(super) seconds: u32,
    pub(super) connections: u32,
    /// The processors that it may use.
    pub(super) around: &'a str,
}

#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) requests: f64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Load<'_> {
    /// An error if any request failed.
    pub(super) fn run(&self) -> Result<Seen> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", self.around, "wrk", "--threads", "1", "--latency"]);
        command.args(["--connections", &self.connections.to_string(), "--duration", &format!("{}s", self.seconds)]);
        command.args(["--header", &format!("Host: {}", self.host), &format!("http://{}/some/path", self.address)]);
        let output = command.output().context("cannot start wrk; apt-get install -y wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {}: {text}", output.status);
        parse(&text).with_context(|| format!("wrk printed:\n{text}"))
    }
}

fn parse(text: &str) -> Result<Seen> {
    let mut seen = Seen { requests: f64::NAN, per_second: f64::NAN, p50_ms: f64::NAN, p99_ms: f64::NAN };
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Socket", "errors:", ..] | ["Non-2xx", ..] => anyhow::bail!("requests failed: {line}"),
            ["50%", time] => seen.p50_ms = ms(time)?,
            ["99%", time] => seen.p99_ms = ms(time)?,
            [number, "requests", "in", ..] => seen.requests = number.parse()?,
            ["Requests/sec:", rate] => seen.per_second = rate.parse()?,
            _ => {}
        }
    }
    let numbers = [seen.requests, seen.per_second, seen.p50_ms, seen.p99_ms];
    ensure!(numbers.iter().all(|number| *number > 0.0), "a number is missing: {numbers:?}");
    Ok(seen)
}

/// `312.00us`, `1.25ms`, `2.00s`.
fn ms(time: &str) -> Result<f64> {
    let at = time.find(|letter: char| letter.is_alphabetic()).context("a time has a unit")?;
    let scale = match &time[at..] {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        unit => anyhow::bail!("no unit is called {unit}"),
    };
    Ok(time[..at].parse::<f64>()? * scale)
}

/// The code that one request is answered with; 0 where nobody answers.
pub(super) fn code(address: SocketAddr, host: &str) -> Result<u16> {
    let Ok(mut stream) = TcpStream::connect(address) else { return Ok(0) };
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Running 1s test @ http://127.0.0.1:80/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.05ms  316.02us   5.79ms   81.86%
  Latency Distribution
     50%  998.00us
     75%    1.17ms
     90%    1.39ms
     99%    2.02ms
  33418 requests in 1.10s, 40.22MB read
Requests/sec:  30380.51
Transfer/sec:     36.57MB
";

    #[test]
    fn what_is_printed_is_read() {
        let seen = parse(PRINTED).unwrap();
        assert_eq!(seen, Seen { requests: 33418.0, per_second: 30380.51, p50_ms: 0.998, p99_ms: 2.02 });
    }

    #[test]
    fn a_failed_request_is_an_error() {
        assert!(parse(&format!("{PRINTED}  Non-2xx or 3xx responses: 3\n")).is_err());
        let errors = "  Socket errors: connect 0, read 1, write 0, timeout 0\n";
        assert!(parse(&format!("{errors}{PRINTED}")).is_err());
        assert!(parse("Requests/sec: 1\n").is_err());
    }
}
