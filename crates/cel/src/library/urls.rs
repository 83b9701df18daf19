//! Addresses of the web: `url("https://example.com:80/path?k=v").getHost()`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::{Key, Map, Text, Value};

pub(super) const ROWS: &[Row] = &[
    ("url", "string_to_url", "(string) -> kubernetes.URL", url),
    ("isURL", "is_url_string", "(string) -> bool", is_url),
    ("getScheme", "url_get_scheme", "kubernetes.URL.() -> string", scheme),
    ("getHost", "url_get_host", "kubernetes.URL.() -> string", host),
    ("getHostname", "url_get_hostname", "kubernetes.URL.() -> string", hostname),
    ("getPort", "url_get_port", "kubernetes.URL.() -> string", port),
    ("getEscapedPath", "url_get_escaped_path", "kubernetes.URL.() -> string", path),
    ("getQuery", "url_get_query", "kubernetes.URL.() -> map(string, list(string))", query),
];

/// An address with a scheme, or an absolute path.
#[derive(Clone, Debug)]
pub struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// Reads what a request may name; the error says why not.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("parse {text:?}: {why}");
        if text.is_empty() {
            return Err(wrong("empty url"));
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(wrong("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = scheme_of(text).map_err(wrong)?;
        let whole = rest;
        let (rest, _fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') && (scheme.is_empty() || whole.is_empty()) {
            return Err(wrong("invalid URI for request"));
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
                after.find('/').map_or((after, ""), |slash| after.split_at(slash))
            }
            _ if rest.starts_with('/') => ("", rest),
            // What follows a scheme without a slash is opaque.
            _ => ("", ""),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        check_host(host).map_err(|why| wrong(&why))?;
        check_escapes(path).map_err(|why| wrong(&why))?;
        Ok(Self {
            text: text.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: escaped(path),
            query: query.to_owned(),
        })
    }

    fn hostname(&self) -> &str {
        match self.host.strip_prefix('[') {
            Some(inside) => inside.split(']').next().unwrap_or(inside),
            None => self.host.split(':').next().unwrap_or(&self.host),
        }
    }

    fn port(&self) -> &str {
        let behind = self.host.rsplit_once(']').map_or(self.host.as_str(), |(_, behind)| behind);
        behind.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn scheme_of(text: &str) -> Result<(&str, &str), &'static str> {
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if index > 0 => {}
            b':' if index == 0 => return Err("missing protocol scheme"),
            b':' => return Ok((&text[..index], &text[index + 1..])),
            _ => break,
        }
    }
    match text.find(['/', ':']) {
        Some(at) if text.as_bytes()[at] == b':' => Err("first path segment in URL cannot contain colon"),
        _ => Ok(("", text)),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(inside) => inside.split_once(']').ok_or("missing ']' in host")?.1,
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if (!port.is_empty() && !port.starts_with(':')) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("invalid port {port:?} after host"));
    }
    match host.chars().find(|character| " <>\"\\^`{|}".contains(*character)) {
        Some(character) => Err(format!("invalid character {:?} in host name", character.to_string())),
        None => check_escapes(host),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (index, _) in text.match_indices('%') {
        let escape = &text.as_bytes()[index..text.len().min(index + 3)];
        if escape.len() < 3 || !escape[1..].iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(escape)));
        }
    }
    Ok(())
}

/// A path with everything escaped that has to be.
fn escaped(path: &str) -> String {
    path.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(byte.into()),
            _ if b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
        escaped
    })
}

/// A part of a query with its escapes resolved; `None` where they are wrong.
fn unescaped(text: &str) -> Option<String> {
    check_escapes(text).ok()?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn url<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let Some(text) = given[0].as_str() else { return unfit() };
    let parsed =
        Url::parse(text).map_err(|why| Error::new(format!("URL parse error during conversion from string: {why}")));
    parsed.map(|url| Value::Url(Arc::new(url)))
}

fn is_url<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::Bool(Url::parse(text).is_ok())))
}

fn part<'a>(given: &[Value<'a>], of: fn(&Url) -> &str) -> Result<Value<'a>, Error> {
    match given {
        [Value::Url(url)] => Ok(Value::string(of(url))),
        _ => unfit(),
    }
}

fn scheme<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |url| &url.scheme)
}

fn host<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |url| &url.host)
}

fn hostname<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, Url::hostname)
}

fn port<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, Url::port)
}

fn path<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |url| &url.path)
}

fn query<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::Url(url)] = given.as_slice() else { return unfit() };
    let mut values: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) {
            values.entry(key).or_default().push(Value::string(value));
        }
    }
    let entries = values.into_iter().map(|(key, values)| (Key::String(Text::Owned(key.into())), Value::list(values)));
    Ok(Value::Map(entries.collect::<Map<'a>>()))
}
