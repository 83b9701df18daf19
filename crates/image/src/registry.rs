//! What a registry is asked: manifests and blobs of one repository, by the OCI distribution specification. Requests that
//! fail for a while are repeated; a registry that wants to know who asks is told so, with the first credentials that fit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::digest::Digest;
use crate::manifest::{Descriptor, MANIFEST_BYTES_MAX, MANIFEST_TYPES};
use crate::reference::Reference;
use crate::share::{Dial, Peer};
use crate::{Credentials, ImageError, Settings};

mod address;
mod challenge;
mod connection;
mod credentials;
mod download;

use address::Address;
use challenge::Challenge;
pub(crate) use connection::Connector;
pub(crate) use credentials::fitting;
pub(crate) use download::download;

/// Tries of one request, and of a download that makes no progress.
const TRIES: u32 = 5;
/// Before the second try; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(200);
/// However long a registry wants us to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// One repository, asked by one user.
pub(crate) struct Session {
    settings: Settings,
    connector: Connector,
    reference: Reference,
    address: Address,
    credentials: Option<Credentials>,
    /// The header that the registry accepted last.
    authorization: Mutex<Option<HeaderValue>>,
    /// Who is asked, for messages.
    place: String,
    /// Another node of the cluster, which has images of many registries.
    is_peer: bool,
}

impl Session {
    pub(crate) fn new(
        settings: &Settings,
        connector: &Connector,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Self {
        let plain = settings.plain_http.iter().any(|registry| registry == reference.registry());
        Self {
            settings: settings.clone(),
            connector: connector.clone(),
            reference: reference.clone(),
            address: Address::of(reference.registry(), plain),
            credentials,
            authorization: Mutex::default(),
            place: "the registry".to_owned(),
            is_peer: false,
        }
    }

    /// Asks another node in place of the registry.
    pub(crate) fn of_peer(settings: &Settings, peer: &Peer, dial: Arc<dyn Dial>, reference: &Reference) -> Self {
        Self {
            settings: settings.clone(),
            connector: Connector::through(dial),
            reference: reference.clone(),
            address: Address::of_peer(&peer.host, peer.port),
            credentials: None,
            authorization: Mutex::default(),
            place: format!("the server {}", peer.name),
            is_peer: true,
        }
    }

    pub(crate) fn is_peer(&self) -> bool {
        self.is_peer
    }

    /// A manifest or index by tag or digest, checked as far as its digest is known.
    pub(crate) async fn manifest(&self, version: &str) -> Result<Vec<u8>, ImageError> {
        let response = self.get(&self.uri("manifests", version)?, &accept()).await?;
        let said = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let said = said.map(str::to_owned);
        let bytes = self.small(response, MANIFEST_BYTES_MAX).await?;
        let digest = Digest::of(&bytes);
        let wanted = version.parse::<Digest>().ok().or(said.and_then(|said| said.parse().ok()));
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(self.damaged(format!("its manifest has the digest {digest}, not the one that was promised")));
        }
        Ok(bytes)
    }

    /// A small blob, whole. Its digest is the caller's to check.
    pub(crate) async fn blob(&self, descriptor: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, ImageError> {
        let response = self.get(&self.blob_uri(&descriptor.digest)?, &HeaderMap::new()).await?;
        self.small(response, bytes_max).await
    }

    /// A blob from a place on, as a stream. The registry may begin at the start nevertheless.
    async fn blob_from(&self, digest: &Digest, at: u64) -> Result<Response<Incoming>, ImageError> {
        let mut headers = HeaderMap::new();
        if at > 0 {
            headers.insert(RANGE, HeaderValue::try_from(format!("bytes={at}-")).expect("digits"));
        }
        self.get(&self.blob_uri(digest)?, &headers).await
    }

    fn blob_uri(&self, digest: &Digest) -> Result<Uri, ImageError> {
        self.uri("blobs", &digest.to_string())
    }

    fn uri(&self, kind: &str, version: &str) -> Result<Uri, ImageError> {
        let mut text = format!("{}/v2/{}/{kind}/{version}", self.address.url(), self.reference.path());
        if self.is_peer {
            // As mirrors are told for which registry they stand.
            text = format!("{text}?ns={}", self.reference.registry());
        }
        text.parse().map_err(|_| self.failed(format!("{text} is no URL")))
    }

    /// Until it is answered for good.
    async fn get(&self, uri: &Uri, headers: &HeaderMap) -> Result<Response<Incoming>, ImageError> {
        let mut pause = PAUSE;
        for tries_left in (0..TRIES).rev() {
            let outcome = self.authorized(uri, headers).await;
            let (wait, problem) = match outcome {
                Ok(response) if !is_passing(response.status()) => return self.judge(response),
                Ok(response) => (retry_after(&response), format!("{} answers {}", self.place, response.status())),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(problem)) => (None, problem),
            };
            if tries_left == 0 {
                return Err(self.failed(problem));
            }
            tracing::debug!(%uri, problem, "asking again");
            self.settings.clock.sleep(wait.unwrap_or(pause)).await;
            pause *= 2;
        }
        unreachable!("the last try returns")
    }

    /// One request, and once more with an answer to the registry's challenge.
    async fn authorized(&self, uri: &Uri, headers: &HeaderMap) -> Result<Response<Incoming>, Trouble> {
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = self.send(uri, headers, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(challenge) = Challenge::choose(response.headers().get_all(WWW_AUTHENTICATE)) else {
            return Ok(response);
        };
        let Some(header) = self.meet(&challenge).await? else { return Ok(response) };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(header.clone());
        self.send(uri, headers, Some(&header)).await
    }

    /// The header that a challenge asks for; none when it asks for a user and there is none.
    async fn meet(&self, challenge: &Challenge) -> Result<Option<HeaderValue>, Trouble> {
        let basic = self.credentials.as_ref().map(credentials::basic);
        let (realm, service, scope) = match challenge {
            Challenge::Basic => return Ok(basic),
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let ours = format!("repository:{}:pull", self.reference.path());
        let uri = challenge::token_uri(realm, service.as_deref(), scope.as_deref().unwrap_or(&ours));
        let refused = || self.failed(format!("its token server {realm:?} is no URL that is safe to use"));
        let uri = uri.filter(address::is_safe).ok_or_else(refused)?;
        let response = self.send(&uri, &HeaderMap::new(), basic.as_ref()).await?;
        match response.status() {
            StatusCode::OK => {}
            status if is_passing(status) => return Err(Trouble::Passing(format!("the token server answers {status}"))),
            status => return Err(self.unauthorized(format!("the token server answers {status}")).into()),
        }
        let bytes = self.small(response, TOKEN_BYTES_MAX).await?;
        let token =
            challenge::token(&bytes).ok_or_else(|| self.failed("the token server sends no token".to_owned()))?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| self.failed("the token server sends no token".to_owned()))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// One request, over redirects. Only the registry itself learns who asks.
    async fn send(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, Trouble> {
        const REDIRECTS_MAX: u32 = 5;
        let mut at = uri.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut headers = headers.clone();
            if let Some(value) = authorization.filter(|_| address::same_origin(&at, uri)) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let response = self.connector.get(&at, headers, self.settings.stall_max, &self.settings.tasks).await;
            let response = response.map_err(Trouble::Passing)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let next = address::redirect(&at, response.headers());
            at = next.ok_or_else(|| self.failed(format!("{at} redirects to nowhere, or to what is not safe")))?;
        }
        Err(self.failed(format!("{uri} redirects more than {REDIRECTS_MAX} times")).into())
    }

    async fn small(&self, response: Response<Incoming>, bytes_max: u64) -> Result<Vec<u8>, ImageError> {
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let whole = http_body_util::Limited::new(response.into_body(), limit).collect();
        match tokio::time::timeout(self.settings.stall_max, whole).await {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                Err(self.damaged(format!("an answer has more than {bytes_max} bytes")))
            }
            Ok(Err(error)) => Err(self.failed(format!("the connection broke: {error}"))),
            Err(_) => Err(self.failed(format!("{} fell silent", self.place))),
        }
    }

    /// An answer that will not change by asking again.
    fn judge(&self, response: Response<Incoming>) -> Result<Response<Incoming>, ImageError> {
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(ImageError::NotFound {
                reference: self.reference.to_string(),
                detail: format!("{} does not have it", if self.is_peer { &self.place } else { "its registry" }),
            }),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(self.unauthorized(format!("it answers {status} for {}", self.reference)))
            }
            status => Err(self.failed(format!("{} answers {status}", self.place))),
        }
    }

    fn unauthorized(&self, detail: String) -> ImageError {
        ImageError::Unauthorized { registry: self.reference.registry().to_owned(), detail }
    }

    fn failed(&self, detail: String) -> ImageError {
        ImageError::Failed { what: self.reference.to_string(), detail }
    }

    fn damaged(&self, detail: String) -> ImageError {
        ImageError::Corrupt { what: self.reference.to_string(), detail }
    }
}

/// Why one request had no answer.
enum Trouble {
    /// Worth another try.
    Passing(String),
    Final(ImageError),
}

impl From<ImageError> for Trouble {
    fn from(error: ImageError) -> Self {
        Self::Final(error)
    }
}

fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT || status.is_server_error()
}

/// Seconds; the other form, a date, is rare.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn accept() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_str(&MANIFEST_TYPES.join(", ")).expect("media types"));
    headers
}
