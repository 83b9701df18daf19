//! The upgrade: which carrier and which protocol a request asks for, and the answer that switches, or says why not.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Protocols that a SPDY client offers, and the one that was chosen.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Protocols that the server would have taken.
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Begins the name of a WebSocket's protocol that carries SPDY.
pub const TUNNEL_PREFIX: &str = "SPDY/3.1+";

/// What the request carries its streams by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    WebSocket,
    Spdy,
}

/// A request that is not upgraded: its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    pub code: StatusCode,
    pub text: String,
    accepted: Vec<&'static str>,
}

impl Refused {
    pub fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), accepted: Vec::new() }
    }

    /// The answer, in plain text.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.text + "\n")));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        for protocol in self.accepted {
            headers.append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// Whether the request asks for an upgrade at all.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    contains(headers, CONNECTION, "upgrade")
}

/// Whether it asks for a WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    is_upgrade(headers) && contains(headers, UPGRADE, "websocket")
}

/// Chooses the first protocol of the client's that the server speaks, and makes the answer that switches to it. A WebSocket's
/// client may name none, which is the protocol `""`.
///
/// # Errors
/// When it is no upgrade, or none of the client's protocols is spoken.
pub fn negotiate<B>(
    request: &Request<B>,
    websocket: &[&'static str],
    spdy: &[&'static str],
) -> Result<(Carrier, &'static str, Response<Full<Bytes>>), Refused> {
    let headers = request.headers();
    if is_websocket(headers) {
        let (protocol, response) = switch_to_websocket(headers, websocket)?;
        return Ok((Carrier::WebSocket, protocol, response));
    }
    if !is_upgrade(headers) || !contains(headers, UPGRADE, "spdy/3.1") {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request"));
    }
    let (protocol, response) = switch_to_spdy(headers, spdy)?;
    Ok((Carrier::Spdy, protocol, response))
}

fn switch_to_websocket(
    headers: &HeaderMap,
    spoken: &[&'static str],
) -> Result<(&'static str, Response<Full<Bytes>>), Refused> {
    let bad = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("missing Sec-WebSocket-Key"))?;
    if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(bad("unsupported Sec-WebSocket-Version, only 13 is supported"));
    }
    let mut offered = tokens(headers, SEC_WEBSOCKET_PROTOCOL);
    if offered.is_empty() {
        offered.push(String::new());
    }
    let protocol = choose(&offered, spoken).ok_or_else(|| {
        let text = format!("requested protocol(s) are not supported: {offered:?}; supports {spoken:?}");
        Refused::new(StatusCode::FORBIDDEN, text)
    })?;
    let mut response = switching("websocket");
    if !protocol.is_empty() {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header's value");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok((protocol, response))
}

fn switch_to_spdy(
    headers: &HeaderMap,
    spoken: &[&'static str],
) -> Result<(&'static str, Response<Full<Bytes>>), Refused> {
    let offered = tokens(headers, STREAM_PROTOCOL);
    if offered.is_empty() {
        let text = format!("unable to upgrade: header {} does not exist in request", "X-Stream-Protocol-Version");
        return Err(Refused::new(StatusCode::BAD_REQUEST, text));
    }
    let Some(protocol) = choose(&offered, spoken) else {
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {spoken:?}"
        );
        return Err(Refused { accepted: spoken.to_vec(), ..Refused::new(StatusCode::FORBIDDEN, text) });
    };
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    Ok((protocol, response))
}

fn switching(to: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    response
}

fn choose(offered: &[String], spoken: &[&'static str]) -> Option<&'static str> {
    offered.iter().find_map(|offer| spoken.iter().copied().find(|own| own == offer))
}

/// The comma-separated parts of all headers of a name.
fn tokens(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

fn contains(headers: &HeaderMap, name: HeaderName, part: &str) -> bool {
    tokens(headers, name).iter().any(|token| token.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    const SOCKET: [(&str, &str); 4] = [
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_first_protocol_of_the_client_wins() {
        let offer = [&SOCKET[..], &[("Sec-WebSocket-Protocol", "x, v5, v4")]].concat();
        let (carrier, protocol, response) = negotiate(&request(&offer), &["v4", "v5"], &[]).unwrap();
        assert_eq!((carrier, protocol), (Carrier::WebSocket, "v5"));
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-protocol"], "v5");
        // RFC 6455, 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_websocket_may_name_no_protocol() {
        let (_, protocol, response) = negotiate(&request(&SOCKET), &["", "v4"], &[]).unwrap();
        assert_eq!(protocol, "");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
        assert_eq!(negotiate(&request(&SOCKET), &["v4"], &[]).unwrap_err().code, 403);
    }

    #[test]
    fn spdy_names_its_protocols_in_a_header_of_its_own() {
        let base = [("connection", "upgrade"), ("upgrade", "SPDY/3.1")];
        let offer = [&base[..], &[("x-stream-protocol-version", "v9"), ("x-stream-protocol-version", "v3")]].concat();
        let (carrier, protocol, response) = negotiate(&request(&offer), &[], &["v4", "v3"]).unwrap();
        assert_eq!((carrier, protocol), (Carrier::Spdy, "v3"));
        assert_eq!(response.headers()["x-stream-protocol-version"], "v3");
        assert_eq!(negotiate(&request(&base), &[], &["v4"]).unwrap_err().code, 400);
        let refused = negotiate(&request(&offer), &[], &["v4", "v5"]).unwrap_err().into_response();
        assert_eq!(refused.status(), 403);
        assert_eq!(refused.headers().get_all(ACCEPTED_PROTOCOLS).iter().count(), 2);
        assert_eq!(negotiate(&request(&[]), &[], &["v4"]).unwrap_err().code, 400);
    }
}
