//! Reads a stream of requests by the codec alone, in pieces of any size.

use corten_proxy::codec::body::Body;
use corten_proxy::codec::request::Request;
use corten_proxy::codec::scan::Scan;
use corten_proxy::codec::{Limits, Malformed};

/// A request that was read to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// All that came out of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Read {
    pub(crate) requests: Vec<Seen>,
    pub(crate) refused: Option<Malformed>,
    /// Bytes of the last request that were read before the stream ended or was refused.
    pub(crate) unfinished: Option<Seen>,
}

struct Reader {
    limits: Limits,
    scan: Scan,
    request: Request,
    body: Option<(Body, Seen)>,
    input: Vec<u8>,
    closed: bool,
    read: Read,
}

/// Feeds the pieces one after the other.
pub(crate) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: Limits) -> Read {
    let mut reader = Reader {
        limits,
        scan: Scan::default(),
        request: Request::default(),
        body: None,
        input: Vec::new(),
        closed: false,
        read: Read::default(),
    };
    for piece in pieces {
        reader.input.extend_from_slice(piece);
        while reader.read.refused.is_none() && !reader.closed {
            match reader.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(refused) => reader.read.refused = Some(refused),
            }
        }
    }
    reader.read.unfinished = reader.body.map(|(_, seen)| seen);
    reader.read
}

impl Reader {
    /// Whether something was done.
    fn step(&mut self) -> Result<bool, Malformed> {
        let Some((mut body, mut seen)) = self.body.take() else { return self.head() };
        let piece = body.piece(&self.input);
        let moved = piece.map(|piece| {
            seen.body.extend_from_slice(&self.input[piece.skip..piece.skip + piece.data]);
            self.input.drain(..piece.skip + piece.data).len()
        });
        if moved.is_ok() && body.is_done() {
            self.read.requests.push(seen);
            self.closed = !self.request.keep_alive;
            return Ok(true);
        }
        self.body = Some((body, seen));
        Ok(moved? > 0)
    }

    fn head(&mut self) -> Result<bool, Malformed> {
        let Some(length) = self.scan.head(&self.input, &self.limits)? else { return Ok(false) };
        self.scan = Scan::default();
        self.request.read(&self.input[..length], &self.limits)?;
        self.input.drain(..length);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (method, target) = (text(self.request.method()), text(self.request.target()));
        self.body = Some((self.request.body(&self.limits), Seen { method, target, body: Vec::new() }));
        Ok(true)
    }
}
