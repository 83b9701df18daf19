//! As much of HTTP/1.1 (RFC 9112) as a small server behind a proxy needs.

use std::io::{self, BufRead, Read as _};

const HEAD_BYTES_MAX: u64 = 16 << 10;
const BODY_BYTES_MAX: usize = 1 << 20;

pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub keep_alive: bool,
    pub body: Vec<u8>,
}

pub struct Response {
    pub status: u16,
    pub kind: &'static str,
    pub body: Vec<u8>,
}

pub enum Problem {
    Io(io::Error),
    Malformed(&'static str),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Request {
    /// `None` when the client has closed the connection between two requests.
    pub fn read(reader: &mut impl BufRead) -> Result<Option<Self>, Problem> {
        let mut head = reader.by_ref().take(HEAD_BYTES_MAX);
        let first = line(&mut head)?;
        if first.is_empty() {
            return Ok(None);
        }
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Problem::Malformed("the first line is malformed\n"));
        };
        let (mut length, mut chunked, mut keep_alive) = (0, false, version == "HTTP/1.1");
        loop {
            let header = line(&mut head)?;
            if header.is_empty() {
                break;
            }
            let Some((name, value)) = header.split_once(':') else {
                return Err(Problem::Malformed("a header is malformed\n"));
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    length = value.parse().map_err(|_| Problem::Malformed("the content's length is no number\n"))?;
                }
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => keep_alive = !value.eq_ignore_ascii_case("close") && keep_alive,
                _ => {}
            }
        }
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let body = if chunked { chunks(reader)? } else { exactly(reader, length)? };
        Ok(Some(Self { method: method.to_owned(), path, keep_alive, body }))
    }
}

fn line(reader: &mut impl BufRead) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes)?;
    if !bytes.is_empty() && !bytes.ends_with(b"\r\n") {
        return Err(Problem::Malformed("a line does not end, or is too long\n"));
    }
    bytes.truncate(bytes.len().saturating_sub(2));
    String::from_utf8(bytes).map_err(|_| Problem::Malformed("a line is no text\n"))
}

fn exactly(reader: &mut impl BufRead, length: usize) -> Result<Vec<u8>, Problem> {
    if length > BODY_BYTES_MAX {
        return Err(Problem::Malformed("the content is too long\n"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn chunks(reader: &mut impl BufRead) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    loop {
        let head = line(&mut reader.by_ref().take(1024))?;
        let size = head.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| Problem::Malformed("a chunk's size is no number\n"))?;
        if size == 0 {
            // Trailers, of which nothing is used, and the empty line.
            while !line(&mut reader.by_ref().take(HEAD_BYTES_MAX))?.is_empty() {}
            return Ok(body);
        }
        if size.saturating_add(body.len()) > BODY_BYTES_MAX {
            return Err(Problem::Malformed("the content is too long\n"));
        }
        body.extend(exactly(reader, size)?);
        line(reader)?;
    }
}

impl Response {
    pub fn text(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: text.into() }
    }

    pub fn html(page: &str) -> Self {
        Self { status: 200, kind: "text/html; charset=utf-8", body: page.into() }
    }

    pub fn json(json: &str) -> Self {
        Self { status: 200, kind: "application/json", body: json.into() }
    }

    /// In one piece, so that it goes out in one.
    pub fn bytes(&self, pod: &str, keep_alive: bool, head_only: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            405 => "Method Not Allowed",
            _ => "Not Found",
        };
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nX-Pod: {pod}\r\nConnection: {connection}\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut text: &[u8]) -> Result<Option<Request>, Problem> {
        Request::read(&mut text)
    }

    #[test]
    fn bodies_come_by_length_or_in_chunks() {
        let plain = b"POST /echo?x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let chunked =
            b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n2\r\nbc\r\n0\r\nT: x\r\n\r\n";
        for text in [&plain[..], chunked] {
            let Ok(Some(request)) = read(text) else { panic!("a request") };
            assert_eq!(
                (request.path.as_str(), request.body.as_slice(), request.keep_alive),
                ("/echo", &b"abc"[..], true)
            );
        }
    }

    #[test]
    fn malformed_requests_are_refused() {
        assert!(matches!(read(b""), Ok(None)));
        for text in ["GET\r\n\r\n", "GET / HTTP/1.1\nA: b\n\n", "GET / HTTP/1.1\r\nA\r\n\r\n"] {
            assert!(matches!(read(text.as_bytes()), Err(Problem::Malformed(_))), "{text}");
        }
        let long = "POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n";
        assert!(matches!(read(long.as_bytes()), Err(Problem::Malformed(_))));
    }
}
