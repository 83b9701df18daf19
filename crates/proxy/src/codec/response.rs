//! The head of an answer. A server behind the proxy is held to the same rules as a client: an answer whose end is not
//! certain would let it speak in the name of the next one.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

use super::body::Body;
use super::fields::{Delimiter, Fields, Span, span};
use super::name::Name;
use super::request::Version;
use super::{FIELDS_MAX, Limits, Malformed};

/// Where an answer's body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body, whatever the fields say: answers to HEAD, 1xx, 204, 304.
    #[default]
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// An answer's head, used again for the next one.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub fields: Fields,
    pub version: Version,
    pub status: u16,
    pub framing: Framing,
    /// The server leaves the connection open for more.
    pub keep_alive: bool,
    reason: Span,
    upgrade: Option<Span>,
}

impl Response {
    pub fn reason(&self) -> &[u8] {
        self.fields.get(self.reason)
    }

    /// 1xx but for the change of protocol: another answer follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The protocol that the server changes to.
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|protocol| self.fields.get(protocol))
    }

    pub fn body(&self, limits: &Limits) -> Body {
        match self.framing {
            Framing::None => Body::NONE,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::chunked(limits),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    /// Reads a whole head. `to_head` says that the request was HEAD.
    ///
    /// # Errors
    /// Whatever could be understood in two ways.
    pub fn read(&mut self, head: &[u8], to_head: bool, limits: &Limits) -> Result<(), Malformed> {
        let mut table = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let outcome = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut table);
        match outcome {
            Ok(Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
            Err(httparse::Error::Version) => return Err(Malformed::Version),
            _ => return Err(Malformed::Syntax),
        }
        if parsed.headers.len() > limits.fields_max {
            return Err(Malformed::TooManyFields);
        }
        self.fields.set(head, parsed.headers);
        self.version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        self.status = parsed.code.filter(|code| (100..600).contains(code)).ok_or(Malformed::Status)?;
        // The parser gives a reason of its own for bytes beyond ASCII, which lies nowhere in the head.
        let reason = parsed.reason.unwrap_or_default();
        self.reason = if reason.is_empty() { Span::default() } else { span(head, reason.as_bytes()) };
        let options = self.fields.options()?;
        self.read_framing(to_head)?;
        let is_new = self.version == Version::Http11;
        let stays = if is_new { !options.close } else { options.keep_alive && !options.close };
        self.keep_alive = stays && self.framing != Framing::UntilClose;
        let mut offers = self.fields.spans(Name::Upgrade);
        let (offer, more) = (offers.next(), offers.next());
        self.upgrade = offer.filter(|_| options.upgrade && more.is_none());
        Ok(())
    }

    fn read_framing(&mut self, to_head: bool) -> Result<(), Malformed> {
        let delimiter = self.fields.delimiter()?;
        if delimiter == Delimiter::Chunked && self.version == Version::Http10 {
            return Err(Malformed::EncodingInOldVersion);
        }
        self.framing = match delimiter {
            _ if to_head || self.status < 200 || matches!(self.status, 204 | 304) => Framing::None,
            Delimiter::Nothing => Framing::UntilClose,
            Delimiter::Length(length) => Framing::Length(length),
            Delimiter::Chunked => Framing::Chunked,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, to_head: bool, expected: Result<(u16, Framing, bool), Malformed>) {
        let mut response = Response::default();
        let outcome = response.read(head.as_bytes(), to_head, &Limits::default());
        let seen = outcome.map(|()| (response.status, response.framing, response.keep_alive));
        assert_eq!(seen, expected, "{head:?}");
    }

    #[test]
    fn the_end_of_an_answer_is_certain() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Ok((200, Framing::Length(5), true)));
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Ok((200, Framing::None, true)));
        check("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", false, Ok((200, Framing::Chunked, true)));
        check("HTTP/1.1 200 OK\r\n\r\n", false, Ok((200, Framing::UntilClose, false)));
        check("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, Ok((304, Framing::None, true)));
        check("HTTP/1.1 204 No\r\nConnection: close\r\n\r\n", false, Ok((204, Framing::None, false)));
        check("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, Ok((200, Framing::Length(5), false)));
        let kept = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n";
        check(kept, false, Ok((200, Framing::Length(5), true)));
    }

    #[test]
    fn an_answer_of_two_meanings_is_refused() {
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(both, false, Err(Malformed::LengthAndEncoding));
        let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
        check(twice, false, Err(Malformed::LengthRepeated));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, Err(Malformed::Encoding));
        check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Err(Malformed::EncodingInOldVersion));
        check("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false, Err(Malformed::Syntax));
        check("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", false, Err(Malformed::Syntax));
        check("HTTP/1.1 099 Low\r\n\r\n", false, Err(Malformed::Status));
        check("HTTP/2.0 200 OK\r\n\r\n", false, Err(Malformed::Version));
    }
}
