//! The head of a request: parsed, and refused where its meaning is not certain.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

use super::body::Body;
use super::fields::{Delimiter, Fields, Span, span};
use super::name::Name;
use super::target::{Authority, Target, without_dots};
use super::{FIELDS_MAX, Limits, Malformed};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// A request's head. It is used again for the next one, so that a connection allocates once.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub fields: Fields,
    pub version: Version,
    pub framing: Framing,
    /// The client leaves the connection open for more.
    pub keep_alive: bool,
    /// The client waits for an interim answer before it sends the body.
    pub expects_continue: bool,
    method: Span,
    path: Span,
    /// The path without dot segments, where it had some.
    clean: Option<Vec<u8>>,
    host: Option<Span>,
    port: Option<u16>,
    authority: Option<Span>,
    upgrade: Option<Span>,
}

impl Request {
    pub fn method(&self) -> &[u8] {
        self.fields.get(self.method)
    }

    pub fn is_method(&self, method: &str) -> bool {
        self.method() == method.as_bytes()
    }

    /// Path and query, as they are passed on: no dot segments; `*` for the server as a whole.
    pub fn target(&self) -> &[u8] {
        self.clean.as_deref().unwrap_or_else(|| self.fields.get(self.path))
    }

    pub fn path(&self) -> &[u8] {
        self.target().split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// The host that is asked, without port. Only HTTP/1.0 may leave it out.
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|host| self.fields.get(host))
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Host and port as they are passed on.
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|authority| self.fields.get(authority))
    }

    /// The one protocol that the client would rather speak on this connection.
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|protocol| self.fields.get(protocol))
    }

    pub fn body(&self, limits: &Limits) -> Body {
        match self.framing {
            Framing::None => Body::NONE,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::chunked(limits),
        }
    }

    /// Reads a whole head, as [`super::scan::Scan`] has found it.
    ///
    /// # Errors
    /// Whatever could be understood in two ways.
    pub fn read(&mut self, head: &[u8], limits: &Limits) -> Result<(), Malformed> {
        let mut table = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let outcome = ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, head, &mut table);
        match outcome {
            Ok(Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
            Err(httparse::Error::Version) if names_a_version(head) => return Err(Malformed::Version),
            _ => return Err(Malformed::Syntax),
        }
        if parsed.headers.len() > limits.fields_max {
            return Err(Malformed::TooManyFields);
        }
        self.fields.set(head, parsed.headers);
        self.version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        self.method = span(head, parsed.method.ok_or(Malformed::Syntax)?.as_bytes());
        let absolute = self.read_target(head, parsed.path.ok_or(Malformed::Syntax)?.as_bytes(), limits)?;
        self.read_host(absolute)?;
        self.read_framing()?;
        self.read_options()
    }

    /// Gives back the authority of an absolute target.
    fn read_target<'a>(
        &mut self,
        head: &[u8],
        target: &'a [u8],
        limits: &Limits,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        if target.len() > limits.target_bytes_max {
            return Err(Malformed::TargetTooLong);
        }
        // A tunnel to anywhere is nothing that this proxy gives; TRACE would show a client what others added.
        if self.is_method("CONNECT") || self.is_method("TRACE") {
            return Err(Malformed::Method);
        }
        self.path = span(head, target);
        match Target::parse(target)? {
            Target::Asterisk if self.is_method("OPTIONS") => {
                self.clean = None;
                Ok(None)
            }
            Target::Asterisk => Err(Malformed::Target),
            Target::Origin { path, authority } => {
                // The path of an absolute target may stand nowhere in the head.
                let clean = without_dots(path)?;
                self.clean = if authority.is_some() { clean.or_else(|| Some(path.to_vec())) } else { clean };
                Ok(authority)
            }
        }
    }

    fn read_host(&mut self, absolute: Option<&[u8]>) -> Result<(), Malformed> {
        (self.host, self.port, self.authority) = (None, None, None);
        let mut hosts = self.fields.spans(Name::Host);
        let (named, more) = (hosts.next(), hosts.next());
        if more.is_some() {
            return Err(Malformed::HostRepeated);
        }
        let Some(authority) = named else {
            // Only the old version asks without a host, and then for a path alone.
            let may_lack = self.version == Version::Http10 && absolute.is_none();
            return if may_lack { Ok(()) } else { Err(Malformed::NoHost) };
        };
        let text = self.fields.get(authority);
        let parsed = Authority::parse(text)?;
        if absolute.is_some_and(|absolute| !absolute.eq_ignore_ascii_case(text)) {
            return Err(Malformed::HostDiffers);
        }
        let (host, port) = (authority.first(parsed.host.len()), parsed.port);
        (self.host, self.port, self.authority) = (Some(host), port, Some(authority));
        Ok(())
    }

    fn read_framing(&mut self) -> Result<(), Malformed> {
        self.framing = match self.fields.delimiter()? {
            Delimiter::Nothing => Framing::None,
            Delimiter::Length(length) => Framing::Length(length),
            Delimiter::Chunked if self.version == Version::Http10 => return Err(Malformed::EncodingInOldVersion),
            Delimiter::Chunked => Framing::Chunked,
        };
        Ok(())
    }

    fn read_options(&mut self) -> Result<(), Malformed> {
        let options = self.fields.options()?;
        let is_new = self.version == Version::Http11;
        self.keep_alive = if is_new { !options.close } else { options.keep_alive && !options.close };
        self.expects_continue = match self.fields.all(Name::Expect).next() {
            Some(_) if !is_new => false,
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => self.framing != Framing::None,
            Some(_) => return Err(Malformed::Expectation),
            None => false,
        };
        // An offer counts only as it must be made: by GET, without a body, naming one protocol (RFC 9110, 7.8).
        let may_change = is_new && options.upgrade && self.framing == Framing::None && self.is_method("GET");
        let mut offers = self.fields.spans(Name::Upgrade);
        let (offer, more) = (offers.next(), offers.next());
        self.upgrade = offer.filter(|_| may_change && more.is_none());
        Ok(())
    }
}

/// Whether the first line is one of HTTP, if not of a version that is spoken here.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (version, more) = (words.nth(2), words.next());
    let is_version = |word: &[u8]| matches!(word, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']);
    version.is_some_and(is_version) && more.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Request, Malformed> {
        let mut request = Request::default();
        request.read(head.as_bytes(), &Limits::default()).map(|()| request)
    }

    #[test]
    fn a_request_is_taken_apart() {
        let request = read("POST /a/../b?c HTTP/1.1\r\nHost: h:80\r\nContent-Length: 3\r\nX: y \r\n\r\n").unwrap();
        assert_eq!(request.method(), b"POST");
        assert_eq!((request.target(), request.path()), (&b"/b?c"[..], &b"/b"[..]));
        assert_eq!(
            (request.host(), request.port(), request.authority()),
            (Some(&b"h"[..]), Some(80), Some(&b"h:80"[..]))
        );
        assert_eq!((request.framing, request.keep_alive), (Framing::Length(3), true));
        assert_eq!(request.fields.other("x"), Some(&b"y"[..]));
    }

    #[test]
    fn an_absolute_target_gives_its_path() {
        let request = read("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(request.target(), b"/");
    }

    #[test]
    fn nothing_stays_of_the_request_before() {
        let mut request =
            read("GET http://h:1/x HTTP/1.1\r\nHost: h:1\r\nUpgrade: w\r\nConnection: upgrade\r\n\r\n").unwrap();
        assert_eq!(request.upgrade(), Some(&b"w"[..]));
        request.read(b"GET /y HTTP/1.0\r\n\r\n", &Limits::default()).unwrap();
        assert_eq!((request.target(), request.host(), request.upgrade()), (&b"/y"[..], None, None));
        assert_eq!((request.port(), request.keep_alive, request.version), (None, false, Version::Http10));
    }

    #[test]
    fn an_upgrade_needs_its_form() {
        let offer = |first: &str, rest: &str| {
            let head = format!("{first} / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n{rest}\r\n");
            read(&head).unwrap().upgrade().is_some()
        };
        assert!(offer("GET", "Connection: keep-alive, Upgrade\r\n"));
        assert!(!offer("GET", ""));
        assert!(!offer("POST", "Connection: Upgrade\r\n"));
        assert!(!offer("GET", "Connection: Upgrade\r\nContent-Length: 1\r\n"));
        assert!(!offer("GET", "Connection: Upgrade\r\nUpgrade: h2c\r\n"));
    }
}
