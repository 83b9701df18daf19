//! Images for the other nodes of the cluster, by the requests that a registry is asked (OCI distribution specification): manifests
//! and blobs of a repository, whose registry stands in `ns` as mirrors are told. What is not here is 404, and the one who asks
//! goes on to somebody else.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use super::Server;
use super::answer::{Answer, Refusal, of};
use super::logs::{Pieces, blocking};

/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;
/// Pieces that wait for a slow node; reading waits behind them.
const PIECES_WAITING_MAX: usize = 4;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

pub(super) async fn manifest(server: &Server, repository: String, version: String) -> Result<Answer, Refusal> {
    let images = server.images.clone();
    let found = blocking(move || images.manifest(&repository, &version).map_err(io::Error::other)).await;
    let bytes = found.map_err(failed)?.ok_or_else(absent)?;
    let digest = HeaderValue::try_from(corten_image::Digest::of(&bytes).to_string()).expect("letters and digits");
    let mut answer = super::answer::json(bytes);
    answer.headers_mut().insert(DIGEST, digest);
    Ok(answer)
}

/// A file, or the rest of it from where a broken download goes on.
pub(super) async fn blob(server: &Server, digest: String, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let (images, from) = (server.images.clone(), from(headers));
    let opened = blocking(move || {
        let Some(mut file) = images.blob(&digest).map_err(io::Error::other)? else { return Ok(None) };
        let bytes = file.metadata()?.len();
        let from = from.filter(|from| *from < bytes).unwrap_or(0);
        file.seek(SeekFrom::Start(from))?;
        Ok(Some((file, from, bytes)))
    });
    let (file, from, bytes) = opened.await.map_err(failed)?.ok_or_else(absent)?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    server.tasks.spawn("image-blob", async move {
        if let Err(error) = send(file, sender).await {
            tracing::warn!(%error, "an image's file cannot be read");
        }
    });
    let mut answer = of("application/octet-stream", StreamBody::new(Pieces(receiver)).boxed_unsync());
    // What ends before its length has broken off, and is asked for again.
    answer.headers_mut().insert(CONTENT_LENGTH, (bytes - from).into());
    if from > 0 {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{bytes}", bytes - 1);
        answer.headers_mut().insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits"));
    }
    Ok(answer)
}

/// `bytes=N-`; other forms are answered with the whole, as one may.
fn from(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Until the end, or until nobody reads any more.
async fn send(mut file: File, sender: mpsc::Sender<Bytes>) -> io::Result<()> {
    loop {
        let read = blocking(move || {
            let mut piece = vec![0; READ_BYTES];
            let length = file.read(&mut piece)?;
            piece.truncate(length);
            Ok((file, Bytes::from(piece)))
        });
        let (rest, piece) = read.await?;
        file = rest;
        if piece.is_empty() || sender.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

fn absent() -> Refusal {
    Refusal::not_found("it is not here")
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn failed(error: io::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
