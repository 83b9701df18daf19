//! Runs a program in a container and keeps a part of what it prints: for hooks and probes.

use std::os::fd::OwnedFd;
use std::time::Duration;

use corten_runtime::engine::{ContainerId, Engine, Streams};
use corten_runtime::spec::ExecSpec;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// So much of the output is kept; the rest is read and forgotten, so that the program is never held up.
const OUTPUT_MAX: usize = 10 << 10;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    /// Both of its outputs, as they came.
    pub(crate) text: String,
}

/// Runs to the end, or to the limit. The error says why it did not run.
pub(crate) async fn run(
    engine: &dyn Engine,
    id: &ContainerId,
    args: Vec<String>,
    limit: Option<Duration>,
) -> Result<Output, String> {
    let shown = format!("{args:?}");
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|error| error.to_string())?;
    let ours = reading;
    let second = writing.try_clone().map_err(|error| error.to_string())?;
    for end in [&writing, &second] {
        blocking(end)?;
    }
    let streams = Streams { stdin: None, stdout: Some(writing), stderr: Some(second) };
    let spec = ExecSpec { args, tty: false };
    let running = engine.exec(id, &spec, streams).await.map_err(|error| error.to_string())?;
    let text = collect(ours);
    let both = async { tokio::join!(text, running.exit) };
    let (text, exit) = match limit {
        None => both.await,
        Some(limit) => tokio::time::timeout(limit, both)
            .await
            .map_err(|_| format!("command {shown} timed out after {}s", limit.as_secs()))?,
    };
    let exit = exit.map_err(|_| "the container ended before the command".to_owned())?;
    Ok(Output { code: exit.code, text: text? })
}

/// The program's ends are as programs expect them.
fn blocking(end: &OwnedFd) -> Result<(), String> {
    let flags = rustix::fs::fcntl_getfl(end).map_err(|error| error.to_string())?;
    rustix::fs::fcntl_setfl(end, flags & !rustix::fs::OFlags::NONBLOCK).map_err(|error| error.to_string())
}

async fn collect(end: OwnedFd) -> Result<String, String> {
    let mut reader = Receiver::from_owned_fd(end).map_err(|error| error.to_string())?;
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Ok(String::from_utf8_lossy(&kept).into_owned()),
            Ok(count) => {
                let room = OUTPUT_MAX - kept.len();
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
