//! The edge's codec: the same bytes mean the same in whatever pieces they come, and what is passed on means what was understood.

use std::net::IpAddr;

use corten_proxy::codec::body::Body;
use corten_proxy::codec::request::{Request, Version};
use corten_proxy::codec::response::Response;
use corten_proxy::codec::scan::Scan;
use corten_proxy::codec::{Limits, Malformed, chunked};
use corten_proxy::wire::{self, Asker, Sent};

/// Bytes of input that are looked at: more find nothing new.
const BYTES_MAX: usize = 4096;

/// A request as it was understood.
#[derive(Clone, Debug, PartialEq)]
struct Understood {
    method: Vec<u8>,
    target: Vec<u8>,
    host: Option<Vec<u8>>,
    body: Vec<u8>,
    /// The head as it is passed on.
    passed_on: Vec<u8>,
    chunked: bool,
}

/// Requests, and why the stream ended if it did.
type Stream = (Vec<Understood>, Option<Malformed>);

struct Reader {
    limits: Limits,
    scan: Scan,
    input: Vec<u8>,
    open: Option<(Body, Understood, bool)>,
    done: Vec<Understood>,
    closed: bool,
}

impl Reader {
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Stream {
        let limits = Limits::default();
        let (scan, input, done) = (Scan::default(), Vec::new(), Vec::new());
        let mut reader = Self { limits, scan, input, open: None, done, closed: false };
        for piece in pieces {
            reader.input.extend_from_slice(piece);
            loop {
                match reader.step() {
                    Ok(true) if !reader.closed => {}
                    Ok(_) => break,
                    Err(refused) => return (reader.done, Some(refused)),
                }
            }
        }
        (reader.done, None)
    }

    fn step(&mut self) -> Result<bool, Malformed> {
        if self.closed {
            return Ok(false);
        }
        let Some((mut body, mut request, stays)) = self.open.take() else { return self.head() };
        let piece = body.piece(&self.input)?;
        let end = piece.skip + piece.data;
        request.body.extend_from_slice(&self.input[piece.skip..end]);
        self.input.drain(..end);
        if body.is_done() {
            self.done.push(request);
            self.closed = !stays;
            return Ok(true);
        }
        self.open = Some((body, request, stays));
        Ok(end > 0)
    }

    fn head(&mut self) -> Result<bool, Malformed> {
        let Some(length) = self.scan.head(&self.input, &self.limits)? else { return Ok(false) };
        self.scan = Scan::default();
        let mut read = Request::default();
        read.read(&self.input[..length], &self.limits)?;
        self.input.drain(..length);
        let mut passed_on = Vec::new();
        let asker = Asker::new(IpAddr::from([10, 0, 0, 1]), false, 80);
        wire::request(&mut passed_on, &read, read.target(), &asker, None);
        let request = Understood {
            method: read.method().to_vec(),
            target: read.target().to_vec(),
            host: read.authority().map(<[u8]>::to_vec),
            body: Vec::new(),
            passed_on,
            chunked: matches!(read.body(&self.limits), Body::Chunked(_)),
        };
        self.open = Some((read.body(&self.limits), request, read.keep_alive));
        Ok(true)
    }
}

/// The request as the server behind gets it.
fn written(request: &Understood) -> Vec<u8> {
    let mut bytes = request.passed_on.clone();
    if !request.chunked {
        bytes.extend_from_slice(&request.body);
        return bytes;
    }
    for chunk in request.body.chunks(7) {
        chunked::write_chunk(&mut bytes, chunk);
    }
    bytes.extend_from_slice(chunked::LAST_CHUNK);
    bytes
}

/// A stream of requests.
pub(crate) fn requests(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let whole = Reader::read([bytes].into_iter());
    assert_eq!(Reader::read(bytes.chunks(1)), whole, "byte by byte");
    let first = bytes.first().map_or(1, |byte| usize::from(*byte) % 32 + 1);
    assert_eq!(Reader::read(bytes.chunks(first)), whole, "in pieces of {first}");
    // Who names no host, as HTTP/1.0 allows, is passed on with an empty Host field, which this reader takes from nobody.
    for request in whole.0.iter().filter(|request| request.host.is_some()) {
        let once = written(request);
        let (mut again, refused) = Reader::read([&once[..]].into_iter());
        assert_eq!((again.len(), refused), (1, None), "what is passed on is one request: {}", once.escape_ascii());
        let again = again.remove(0);
        let meaning = |request: &Understood| {
            (request.method.clone(), request.target.clone(), request.host.clone(), request.body.clone())
        };
        assert_eq!(meaning(&again), meaning(request), "it means the same: {}", once.escape_ascii());
        assert_eq!(
            written(&again).escape_ascii().to_string(),
            once.escape_ascii().to_string(),
            "nothing changes any more"
        );
    }
}

/// The head of an answer; the first byte says to whom.
pub(crate) fn response(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes[..bytes.len().min(BYTES_MAX)].split_first() else { return };
    let (to_head, old) = (flags & 1 != 0, flags & 2 != 0);
    let limits = Limits::default();
    let found = Scan::default().head(bytes, &limits);
    let mut slow = Scan::default();
    let by_byte = (1..=bytes.len()).find_map(|end| slow.head(&bytes[..end], &limits).transpose());
    assert_eq!(by_byte.transpose(), found, "in pieces");
    let Ok(Some(length)) = found else { return };
    let mut read = Response::default();
    if read.read(&bytes[..length], to_head, &limits).is_err() || read.status < 200 {
        return;
    }
    let to = if old { Version::Http10 } else { Version::Http11 };
    let sent = wire::sent(&read, to);
    let stays = read.keep_alive && sent != Sent::UntilClose;
    let mut out = Vec::new();
    wire::response(&mut out, &read, sent, stays, to);
    assert_eq!(
        Scan::default().head(&out, &Limits { head_bytes_max: 2 * BYTES_MAX, ..limits }),
        Ok(Some(out.len())),
        "one head"
    );
    let mut again = Response::default();
    let understood = again.read(&out, to_head, &limits);
    assert_eq!(understood, Ok(()), "{}", out.escape_ascii());
    assert_eq!((again.status, again.keep_alive), (read.status, stays), "{}", out.escape_ascii());
    let mut third = Vec::new();
    wire::response(&mut third, &again, wire::sent(&again, to), stays, to);
    assert_eq!(third.escape_ascii().to_string(), out.escape_ascii().to_string(), "nothing changes any more");
}
