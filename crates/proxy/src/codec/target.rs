//! Targets of requests (RFC 9112, 3.2) and the hosts in them. A path leaves here without dot segments, so that the path that
//! chose the route is the path that the server behind it sees.

use super::Malformed;

/// A host and its port, as a Host field or an absolute target has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name or an address; one of version 6 stands in brackets.
    pub host: &'a [u8],
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// # Errors
    /// When the text is no host with an optional port.
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        let host_end = match text.first() {
            Some(b'[') => 1 + text.iter().position(|byte| *byte == b']').ok_or(Malformed::HostSyntax)?,
            _ => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_end);
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
                let text = str::from_utf8(digits).map_err(|_| Malformed::HostSyntax)?;
                Some(text.parse().map_err(|_| Malformed::HostSyntax)?)
            }
            _ => return Err(Malformed::HostSyntax),
        };
        if host.is_empty() || !is_host(host) {
            return Err(Malformed::HostSyntax);
        }
        Ok(Self { host, port })
    }
}

/// Letters, digits and what names and addresses are written with. Stricter than RFC 3986, which allows nearly everything.
fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', inside @ .., b']'] => inside.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)),
        _ => host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)),
    }
}

/// A target in the form in which it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Path and query; the authority stands before it in an absolute target.
    Origin { path: &'a [u8], authority: Option<&'a [u8]> },
    /// `OPTIONS *`.
    Asterisk,
}

impl<'a> Target<'a> {
    /// # Errors
    /// When it is none of the forms that a server is asked with.
    pub fn parse(target: &'a [u8]) -> Result<Self, Malformed> {
        // Space and line ends never come this far; a fragment is never sent; the rest is not ASCII text.
        if !target.iter().all(|byte| matches!(byte, 0x21..=0x7e)) || target.contains(&b'#') {
            return Err(Malformed::Target);
        }
        match target {
            b"*" => Ok(Self::Asterisk),
            [b'/', ..] => Ok(Self::Origin { path: target, authority: None }),
            _ => absolute(target),
        }
    }
}

fn absolute(target: &[u8]) -> Result<Target<'_>, Malformed> {
    let after = |scheme: &str| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    };
    let rest = after("http://").or_else(|| after("https://")).ok_or(Malformed::Target)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.is_empty() { b"/" } else { path };
    if path[0] != b'/' {
        return Err(Malformed::Target);
    }
    Ok(Target::Origin { path, authority: Some(authority) })
}

/// Path and query without dot segments, also written in percent; `None` when there were none.
///
/// # Errors
/// When the path leads above its root, or has a byte in percent that no path has.
pub fn without_dots(target: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let path_end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(path_end);
    // Most have nothing that has to be looked at.
    if !path.iter().any(|byte| matches!(byte, b'.' | b'%')) {
        return Ok(None);
    }
    if has_bad_percent(path) {
        return Err(Malformed::Target);
    }
    let segments = || path[1..].split(|byte| *byte == b'/');
    if !segments().any(|segment| dots(segment) > 0) {
        return Ok(None);
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in segments() {
        ends_in_slash = dots(segment) > 0;
        match dots(segment) {
            1 => {}
            2 => drop(kept.pop().ok_or(Malformed::Target)?),
            _ => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(target.len());
    for segment in kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if ends_in_slash || out.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(query);
    Ok(Some(out))
}

/// 1 for `.`, 2 for `..`, 0 for every other segment; a dot may be written as `%2e`.
fn dots(segment: &[u8]) -> usize {
    let mut rest = segment;
    let mut count = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return 0,
        };
        count += 1;
    }
    if count <= 2 { count } else { 0 }
}

/// A percent sign without two digits after it, or one that stands for a zero byte.
fn has_bad_percent(path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'%').map(|(at, _)| &path[at + 1..]);
    let is_bad = |after: &[u8]| match after {
        [b'0', b'0', ..] => true,
        [high, low, ..] => !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit(),
        _ => true,
    };
    ends.into_iter().any(is_bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let ok =
            |text: &'static str| Authority::parse(text.as_bytes()).map(|a| (str::from_utf8(a.host).unwrap(), a.port));
        assert_eq!(ok("a.example"), Ok(("a.example", None)));
        assert_eq!(ok("a:8080"), Ok(("a", Some(8080))));
        assert_eq!(ok("a:"), Ok(("a", None)));
        assert_eq!(ok("[::1]:80"), Ok(("[::1]", Some(80))));
        for bad in ["", ":80", "a b", "a:b", "a:80:80", "a:99999", "a@b", "a/b", "a,b", "[::1", "[g]", "a\\b", "[::1]a"]
        {
            assert_eq!(ok(bad), Err(Malformed::HostSyntax), "{bad}");
        }
    }

    #[test]
    fn forms() {
        let path = |text: &'static str| match Target::parse(text.as_bytes()) {
            Ok(Target::Origin { path, authority }) => {
                Ok((str::from_utf8(path).unwrap(), authority.map(|a| str::from_utf8(a).unwrap())))
            }
            Ok(Target::Asterisk) => Ok(("*", None)),
            Err(error) => Err(error),
        };
        assert_eq!(path("/a?b"), Ok(("/a?b", None)));
        assert_eq!(path("*"), Ok(("*", None)));
        assert_eq!(path("http://h:1/a"), Ok(("/a", Some("h:1"))));
        assert_eq!(path("HTTP://h"), Ok(("/", Some("h"))));
        for bad in ["", "a", "h:443", "ftp://h/", "/a#b", "/\u{e9}", "http:/h", "**", "http://h?x", "/a\u{7f}"] {
            assert_eq!(path(bad), Err(Malformed::Target), "{bad}");
        }
    }

    #[test]
    fn dot_segments_go() {
        let done = |text: &str| without_dots(text.as_bytes()).map(|out| out.map(|out| String::from_utf8(out).unwrap()));
        for same in ["/", "/a/b", "/a//b", "/...", "/.a", "/a?x=/../", "/a%2fb"] {
            assert_eq!(done(same), Ok(None), "{same}");
        }
        for (from, to) in [
            ("/a/../b", "/b"),
            ("/a/./b?q=..", "/a/b?q=.."),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/%2E%2e/b", "/b"),
            ("/.", "/"),
            ("/a//../b", "/a/b"),
        ] {
            assert_eq!(done(from), Ok(Some(to.to_owned())), "{from}");
        }
        for bad in ["/..", "/a/../../b", "/%2e%2e/b", "/%", "/%4", "/%zz", "/%00"] {
            assert_eq!(done(bad), Err(Malformed::Target), "{bad}");
        }
    }
}
