//! The guard of the holder. Control has copies of the edge's sockets, and starts another holder when the one that is there dies:
//! whoever comes meanwhile waits in the sockets' queues, and nobody is refused. What the edge was carrying is cut, as when it is
//! killed itself. Without control nobody is there to do so; the next one opens the sockets anew.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use corten_runtime::Holder;
use corten_stdx::clock::Clock;
use corten_stdx::task::Stopped;
use tokio::net::UnixStream;

use super::ALIVE;
use super::doors::Doors;
use super::start::{Place, start};

/// After another one could not be started.
const PAUSE: Duration = Duration::from_millis(200);

pub struct Guard {
    /// Its other end is the holder's.
    alive: UnixStream,
    /// The holder, if this process has started it.
    child: Option<Child>,
    /// What another one needs.
    doors: Doors,
}

impl Guard {
    pub(super) fn new(holder: &mut Holder, child: Option<Child>, doors: Doors) -> anyhow::Result<Self> {
        let (alive, theirs) = UnixStream::pair()?;
        holder.keep(ALIVE, &[], Some(std::os::fd::AsFd::as_fd(&OwnedFd::from(theirs.into_std()?))))?;
        Ok(Self { alive, child, doors: doors.kept(holder)? })
    }

    /// Keeps a holder there until the end.
    pub async fn keep(mut self, place: Arc<Place>, instance: String, clock: Clock, mut stopped: Stopped) {
        loop {
            tokio::select! {
                ended = self.ended() => if let Err(error) = ended {
                    return tracing::error!(error = format!("{error:#}"), "the edge's holder is not watched any more");
                },
                () = stopped.wait() => return,
            }
            tracing::warn!("the holder of the edge's sockets has ended; another one is started");
            while let Err(error) = self.replace(&place, &instance, &clock).await {
                tracing::error!(error = format!("{error:#}"), "the edge has no holder");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stopped.wait() => return,
                }
            }
        }
    }

    /// Resolves when the holder has ended.
    async fn ended(&mut self) -> anyhow::Result<()> {
        loop {
            self.alive.readable().await?;
            match self.alive.try_read(&mut [0]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // Nobody writes; an end by reset is one too.
                _ => break,
            }
        }
        if let Some(mut child) = self.child.take() {
            child.wait().context("the holder")?;
        }
        Ok(())
    }

    async fn replace(&mut self, place: &Place, instance: &str, clock: &Clock) -> anyhow::Result<()> {
        *self = start(self.doors.again()?, place, instance, clock).await?;
        Ok(())
    }
}
