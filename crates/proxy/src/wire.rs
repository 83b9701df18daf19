//! Heads as they are sent: always written anew from what was understood, never copied as a whole.

use std::net::IpAddr;

use crate::access::Member;
use crate::codec::name::Name;
use crate::codec::request::{self, Request};
use crate::codec::response::{self, Response};

/// Who asks, as the server behind is told.
#[derive(Clone, Debug)]
pub struct Asker {
    pub(crate) tls: bool,
    /// The address, for the log.
    pub(crate) client: Member,
    /// The fields that say so, the same for every request of a connection.
    fields: String,
}

impl Asker {
    /// `port` is the one that was asked.
    pub fn new(address: IpAddr, tls: bool, port: u16) -> Self {
        let (address, scheme) = (address.to_string(), if tls { "https" } else { "http" });
        let fields = format!(
            "X-Forwarded-For: {address}\r\nX-Real-IP: {address}\r\nX-Forwarded-Port: {port}\r\n\
             X-Forwarded-Proto: {scheme}\r\n"
        );
        Self { tls, client: Member::new("client", &address), fields }
    }
}

/// How a body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A request for the server. Fields for one connection alone stay behind, and what the client says of itself.
pub fn request(out: &mut Vec<u8>, request: &Request, target: &[u8], asker: &Asker, upgrade: Option<&[u8]>) {
    put(out, &[request.method(), b" ", target, b" HTTP/1.1\r\n"]);
    if let Some(authority) = request.authority() {
        put(out, &[b"Host: ", authority, b"\r\n"]);
    } else {
        out.extend_from_slice(b"Host: \r\n");
    }
    for (known, name, value) in request.fields.iter() {
        let ours = matches!(known, Name::Host | Name::ContentLength | Name::Expect);
        // Servers that hand fields on as variables cannot tell an underscore from a dash: a forged field would look genuine.
        let ambiguous = known == Name::Other && name.contains(&b'_');
        let nominated = request.fields.is_nominated(name);
        if !(ours || known.is_hop_by_hop() || known.is_about_client() || ambiguous || nominated) {
            put(out, &[name, b": ", value, b"\r\n"]);
        }
    }
    match request.framing {
        request::Framing::None => {}
        request::Framing::Length(length) => number(out, "Content-Length", length),
        request::Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if request.expects_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if let Some(protocol) = upgrade {
        put(out, &[b"Connection: Upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
    }
    about(out, request, asker);
    out.extend_from_slice(b"\r\n");
}

fn about(out: &mut Vec<u8>, request: &Request, asker: &Asker) {
    out.extend_from_slice(asker.fields.as_bytes());
    if let Some(authority) = request.authority() {
        put(out, &[b"X-Forwarded-Host: ", authority, b"\r\n"]);
    }
}

/// How an answer's body leaves for a client of a version.
pub fn sent(response: &Response, to: request::Version) -> Sent {
    match response.framing {
        response::Framing::None => Sent::None,
        response::Framing::Length(length) => Sent::Length(length),
        response::Framing::Chunked | response::Framing::UntilClose => match to {
            request::Version::Http11 => Sent::Chunked,
            request::Version::Http10 => Sent::UntilClose,
        },
    }
}

/// An answer for the client. `stays` says whether the connection does; an old client is told both.
pub fn response(out: &mut Vec<u8>, response: &Response, sent: Sent, stays: bool, to: request::Version) {
    status(out, response);
    fields(out, response, sent);
    match sent {
        Sent::Length(length) => number(out, "Content-Length", length),
        Sent::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Sent::None | Sent::UntilClose => {}
    }
    if !stays {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if to == request::Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The answer that changes the protocol.
pub(crate) fn switching(out: &mut Vec<u8>, response: &Response, protocol: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    fields(out, response, Sent::Chunked);
    put(out, &[b"Connection: Upgrade\r\nUpgrade: ", protocol, b"\r\n\r\n"]);
}

/// An answer before the answer.
pub(crate) fn interim(out: &mut Vec<u8>, response: &Response) {
    status(out, response);
    fields(out, response, Sent::Chunked);
    out.extend_from_slice(b"\r\n");
}

fn status(out: &mut Vec<u8>, response: &Response) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, response.status.into());
    put(out, &[b" ", response.reason(), b"\r\n"]);
}

fn fields(out: &mut Vec<u8>, response: &Response, sent: Sent) {
    for (known, name, value) in response.fields.iter() {
        // Without a body, the length is what it would be: for HEAD and 304, but not for 204.
        let length = known == Name::ContentLength && (sent != Sent::None || response.status == 204);
        let nominated = response.fields.is_nominated(name);
        if !(length || known.is_hop_by_hop() || nominated) {
            put(out, &[name, b": ", value, b"\r\n"]);
        }
    }
}

/// An answer of the edge itself.
pub(crate) fn own(out: &mut Vec<u8>, status: u16, more: &[(&str, &[u8])], body: &str, stays: bool, to_head: bool) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, status.into());
    put(out, &[b" ", reason(status).as_bytes(), b"\r\nContent-Type: text/plain; charset=utf-8\r\n"]);
    number(out, "Content-Length", body.len() as u64);
    for (name, value) in more {
        put(out, &[name.as_bytes(), b": ", value, b"\r\n"]);
    }
    out.extend_from_slice(if stays { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    if !to_head {
        out.extend_from_slice(body.as_bytes());
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    put(out, &[name.as_bytes(), b": "]);
    decimal(out, value);
    out.extend_from_slice(b"\r\n");
}

/// The numbers below a hundred, two digits each.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [*b"00"; 100];
    let mut number = 1;
    while number < pairs.len() {
        let [tens, ones] = pairs[number - 1];
        pairs[number] = if ones < b'9' { [tens, ones + 1] } else { [tens + 1, b'0'] };
        number += 1;
    }
    pairs
};

/// A number in decimal digits, without the cost of a formatter: each request writes a handful.
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    while number >= 10 {
        start -= 2;
        let pair = usize::try_from(number % 100).expect("two digits");
        digits[start..start + 2].copy_from_slice(&PAIRS[pair]);
        number /= 100;
    }
    // Of a pair below ten, or of a number below ten.
    if number > 0 || start == digits.len() {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number).expect("a digit");
    }
    out.extend_from_slice(&digits[start..]);
}

const fn reason(status: u16) -> &'static str {
    match status {
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Limits;

    #[test]
    fn a_request_is_written_anew() {
        let mut read = Request::default();
        let head = "GET /a/./b HTTP/1.1\r\nhost: h\r\nConnection: close, X-Own\r\nX-Own: 1\r\nX-Forwarded-For: 6.6.6.6\r\n\
                    X_Forwarded_For: 6.6.6.6\r\nTE: trailers\r\nAccept:*/*\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n\r\n";
        read.read(head.as_bytes(), &Limits::default()).unwrap();
        let asker = Asker::new(IpAddr::from([10, 0, 0, 1]), true, 443);
        let mut out = Vec::new();
        request(&mut out, &read, read.target(), &asker, None);
        let expected = "GET /a/b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nX-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n\
                        X-Forwarded-Port: 443\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn numbers_are_decimal() {
        for number in (0..2000).chain([9_999, 10_000, 99_999, 100_000, u64::MAX]) {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[track_caller]
    fn answer(head: &str, to_head: bool, to: request::Version, expected: &str) {
        let mut read = Response::default();
        read.read(head.as_bytes(), to_head, &Limits::default()).unwrap();
        let mut out = Vec::new();
        let sent = sent(&read, to);
        response(&mut out, &read, sent, sent != Sent::UntilClose, to);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_answer_is_written_anew() {
        use request::Version::{Http10, Http11};
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nA: b\r\nConnection: c\r\nC: d\r\n\r\n";
        answer(chunked, false, Http11, "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n");
        answer(chunked, false, Http10, "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n");
        let sized = "HTTP/1.0 200 Fine\r\ncontent-length: 3\r\n\r\n";
        answer(sized, false, Http11, "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\n\r\n");
        answer(sized, true, Http11, "HTTP/1.1 200 Fine\r\ncontent-length: 3\r\n\r\n");
        answer(sized, false, Http10, "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n");
        answer("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", false, Http11, "HTTP/1.1 204 No\r\n\r\n");
    }
}
