//! One HTTP POST on a connection of its own. Redirections are not followed: the target is the one that was named.

use bytes::Bytes;
use corten_apimachinery::json;
use futures_util::future::join;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{CarryError, tls};
use crate::letter::Letter;

pub(super) async fn post(
    url: &str,
    authorization: Option<&str>,
    authorities_pem: &str,
    letter: &Letter,
) -> Result<(), CarryError> {
    // The URL may be a secret, and is not repeated.
    let wrong = || CarryError::Setting("the webhook's URL is none".to_owned());
    let uri: Uri = url.trim().parse().map_err(|_| wrong())?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let request = request(&uri, authorization, letter)?;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(CarryError::Connect)?;
    if !is_tls {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(host).map_err(|_| wrong())?;
    let stream = tls::connector(authorities_pem).await?.connect(name, stream).await.map_err(CarryError::Tls)?;
    exchange(stream, request).await
}

fn request(uri: &Uri, authorization: Option<&str>, letter: &Letter) -> Result<Request<Full<Bytes>>, CarryError> {
    let setting = |text: &str| CarryError::Setting(text.to_owned());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // What stands before an @ is for a browser, not for the header.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let body = Full::new(json::to_vec(&letter.to_value()).into());
    let mut request = Request::post(path).body(body).map_err(|_| setting("the webhook's URL is none"))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| setting("the webhook's URL is none"))?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("corten/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(authorization) = authorization {
        let value = HeaderValue::from_str(authorization.trim());
        let mut value = value.map_err(|_| setting("the authorization is no value of a header"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), CarryError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection ends when the sender is dropped; what the answer says decides.
    let answer = async move { sender.send_request(request).await.map(|answer| answer.status()) };
    let (answer, ended) = join(answer, connection).await;
    if let Err(error) = ended {
        tracing::debug!(error = %corten_stdx::error::Chain(&error), "a webhook's connection broke");
    }
    let status = answer?;
    if status.is_success() { Ok(()) } else { Err(CarryError::Refused(status)) }
}
