//! The connection to one pod process without waiting threads: requests of many tasks at once, each answered by its id, and
//! exits that come in between, which one task takes.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_podspec::{Event, Exited, Hello, Request, VERSION, Welcome};
use rustix::fs::{OFlags, fcntl_setfl};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::{Answer, Connection, Error, socket};

type Answered = (Event, Option<OwnedFd>);

/// The id of requests whose answers nobody waits for.
const POSTED: u32 = u32::MAX;

/// Requests by their id; none when the connection has ended.
type Waiting = Option<HashMap<u32, oneshot::Sender<Answered>>>;

#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    last_id: AtomicU32,
    waiting: Mutex<Waiting>,
}

impl Link {
    pub(super) fn new(connection: Connection) -> io::Result<Self> {
        let socket = connection.into_socket();
        fcntl_setfl(&socket, OFlags::NONBLOCK)?;
        // Of packets, not of a stream; only its readiness is asked here.
        let socket = UnixStream::from_std(socket.into())?;
        Ok(Self { socket, last_id: AtomicU32::new(0), waiting: Mutex::new(Some(HashMap::new())) })
    }

    /// Connects to a pod process that was started before, and asks what it knows.
    pub(super) async fn adopt(path: &Path) -> Result<(Self, Welcome), Error> {
        let link = Self::new(crate::adopt(path)?)?;
        let welcome = link.hello().await?;
        Ok((link, welcome))
    }

    /// The first request, before anybody takes exits: what ends meanwhile stands in the answer.
    pub(super) async fn hello(&self) -> Result<Welcome, Error> {
        match self.serving(self.ask(&Hello { version: VERSION }.into(), &[])).await? {
            (Event::Welcome(welcome), _) => Ok(welcome),
            _ => Err(Error::Unexpected),
        }
    }

    /// Polls a request together with the reading that answers it.
    async fn serving<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut request = pin!(request);
        loop {
            tokio::select! {
                answer = &mut request => return answer,
                early = self.next_exit() => { early?; }
            }
        }
    }

    /// A request while nobody takes exits yet.
    pub(super) async fn call_alone(&self, request: impl Into<Request>) -> Result<Answer, Error> {
        self.serving(self.call(request, &[])).await
    }

    /// Sends a request and waits for its answer, which [`Self::next_exit`] brings.
    pub(super) async fn call(
        &self,
        request: impl Into<Request>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Answer, Error> {
        match self.ask(&request.into(), descriptors).await? {
            (Event::Done(done), descriptor) => Ok(Answer { done, descriptor }),
            (Event::Failed(failed), _) => Err(Error::Failed(failed)),
            _ => Err(Error::Unexpected),
        }
    }

    /// Sends a request whose answer does not matter: what it asks for is asked again after the next connection.
    pub(super) async fn post(&self, request: impl Into<Request>) -> Result<(), Error> {
        self.send(&request.into().encode(POSTED)?, &[]).await
    }

    async fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answered, Error> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) % (POSTED - 1) + 1;
        let bytes = request.encode(id)?;
        let (sender, receiver) = oneshot::channel();
        self.waiting().as_mut().ok_or(Error::Closed)?.insert(id, sender);
        if let Err(error) = self.send(&bytes, descriptors).await {
            self.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
            return Err(error);
        }
        receiver.await.map_err(|_| Error::Closed)
    }

    async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        loop {
            self.socket.writable().await?;
            let sent = self.socket.try_io(Interest::WRITABLE, || once(socket::send(&self.socket, bytes, descriptors)));
            if let Some(result) = unless_early(sent) {
                return result;
            }
        }
    }

    /// Hands out answers until a process has ended. After an error the link is of no more use, and every request fails.
    pub(super) async fn next_exit(&self) -> Result<Exited, Error> {
        loop {
            if let Some(exited) = self.take_one().await? {
                return Ok(exited);
            }
        }
    }

    /// Hands out the answers that are waited for; what is asked from then on fails. What has ended stays with the pod process,
    /// which tells it to the next connection.
    pub(super) async fn finish(&self) {
        while self.is_waited_for() {
            if let Err(error) = self.take_one().await {
                return tracing::debug!(%error, "the connection has ended before its last answer");
            }
        }
    }

    /// Whether somebody waits for an answer. The link is closed where nobody does.
    fn is_waited_for(&self) -> bool {
        let mut waiting = self.waiting();
        let some = waiting.as_ref().is_some_and(|waiting| !waiting.is_empty());
        if !some {
            *waiting = None;
        }
        some
    }

    /// Takes what comes next: an answer, which goes to whoever waits for it, or the end of a process.
    async fn take_one(&self) -> Result<Option<Exited>, Error> {
        let (id, event, descriptor) = self.receive().await.inspect_err(|_| *self.waiting() = None)?;
        if let (0, Event::Exited(exited)) = (id, &event) {
            return Ok(Some(exited.clone()));
        }
        let sender = self.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
        if id != POSTED && sender.is_none_or(|sender| sender.send((event, descriptor)).is_err()) {
            tracing::debug!(id, "nobody waits for this answer any more");
        }
        Ok(None)
    }

    async fn receive(&self) -> Result<(u32, Event, Option<OwnedFd>), Error> {
        loop {
            self.socket.readable().await?;
            let received = self.socket.try_io(Interest::READABLE, || once(socket::receive(&self.socket)));
            if let Some(result) = unless_early(received) {
                return result;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the event loop that the socket was not ready after all; any other outcome is the caller's.
fn once<T>(result: Result<T, Error>) -> io::Result<Result<T, Error>> {
    match result {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        other => Ok(other),
    }
}

fn unless_early<T>(result: io::Result<Result<T, Error>>) -> Option<Result<T, Error>> {
    match result {
        Ok(result) => Some(result),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => Some(Err(error.into())),
    }
}
