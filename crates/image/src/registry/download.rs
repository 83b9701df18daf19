//! A blob as a reader for a thread that blocks, fed by a task that does not. A connection that breaks or stalls is made again, and
//! the blob goes on where it was.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_RANGE;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{PAUSE, Session, TRIES};
use crate::ImageError;
use crate::manifest::Descriptor;

/// Pieces between network and disk, each as long as a read from the socket.
const PIECES_MAX: usize = 32;

type Piece = Result<Bytes, ImageError>;

/// The reading end; its error is an [`ImageError`].
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    piece: Bytes,
    left: u64,
}

/// The reader and the future that feeds it.
pub(crate) fn download(session: Arc<Session>, blob: Descriptor) -> (Pieces, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let pieces = Pieces { receiver, piece: Bytes::new(), left: blob.size };
    let feed = async move {
        if let Err(error) = feed(&session, &blob, &sender).await {
            // Nobody reads any more: then nobody needs to know.
            if sender.send(Err(error)).await.is_err() {
                tracing::debug!(digest = %blob.digest, "a download was given up");
            }
        }
    };
    (pieces, feed)
}

async fn feed(session: &Session, blob: &Descriptor, sender: &mpsc::Sender<Piece>) -> Result<(), ImageError> {
    let (mut at, mut fruitless, mut pause) = (0, 0, PAUSE);
    while at < blob.size {
        let before = at;
        let response = session.blob_from(&blob.digest, at).await?;
        let problem = match begins(&response, at) {
            Some(start) => relay(session, response, start, &mut at, sender).await,
            None => Some("the registry sends another part than it was asked for".to_owned()),
        };
        let Some(problem) = problem else { return Ok(()) };
        (fruitless, pause) = if at > before { (0, PAUSE) } else { (fruitless + 1, pause * 2) };
        if fruitless == TRIES {
            return Err(
                session.failed(format!("{} breaks off after {at} of {} bytes: {problem}", blob.digest, blob.size))
            );
        }
        if at < blob.size {
            tracing::debug!(digest = %blob.digest, at, problem, "a download goes on");
            session.settings.clock.sleep(pause).await;
        }
    }
    Ok(())
}

/// Where the body begins: a registry may not know ranges.
fn begins(response: &Response<Incoming>, at: u64) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let start = range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()?;
    (start == at).then_some(start)
}

/// Hands on what comes; why it ended before its time, or `None` when nobody reads any more.
async fn relay(
    session: &Session,
    response: Response<Incoming>,
    start: u64,
    at: &mut u64,
    sender: &mpsc::Sender<Piece>,
) -> Option<String> {
    let mut body = response.into_body();
    let mut skip = *at - start;
    loop {
        let mut data = match tokio::time::timeout(session.settings.stall_max, body.frame()).await {
            Err(_) => return Some("the registry fell silent".to_owned()),
            Ok(None) => return Some("the connection ended".to_owned()),
            Ok(Some(Err(error))) => return Some(error.to_string()),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(_) => continue,
            },
        };
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
        data.advance(skipped);
        skip -= skipped as u64;
        *at += data.len() as u64;
        if !data.is_empty() && sender.send(Ok(data)).await.is_err() {
            return None;
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            self.piece = match self.receiver.blocking_recv() {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None if self.left == 0 => return Ok(0),
                None => return Err(io::Error::other("the download was given up")),
            };
        }
        let read = self.piece.len().min(into.len());
        self.piece.copy_to_slice(&mut into[..read]);
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}
