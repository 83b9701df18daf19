//! Reads a watch: one JSON text a line, in frames that are cut anywhere.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;

use crate::transport::{StreamBody, TransportError};

/// A line that is longer is no event of ours: three times the largest object that a server takes.
const LINE_BYTES_MAX: usize = 9 * 1024 * 1024;

pub(crate) struct Lines {
    body: StreamBody,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line's end.
    searched: usize,
}

impl Lines {
    pub(crate) fn new(body: StreamBody) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line without its end; `None` at the end of the body. A rest without a line's end is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(TransportError::new("a watch's event is too long", "no end of the line"));
            }
            let Some(frame) = self.body.frame().await else {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(TransportError::new("a watch broke off", "inside an event")),
                };
            };
            let frame = frame.map_err(|error| TransportError::new("a watch broke off", error))?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody as Frames;
    use hyper::body::Frame;

    use super::*;
    use crate::transport::BoxError;

    async fn read(text: &'static str, frame: usize) -> Vec<String> {
        let frames = text.as_bytes().chunks(frame).map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from_static(part))));
        let mut lines = Lines::new(Frames::new(stream::iter(frames)).boxed_unsync());
        let mut seen = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => seen.push(String::from_utf8(line.to_vec()).expect("text")),
                Ok(None) => return seen,
                Err(error) => {
                    seen.push(format!("{error}: {}", error.source));
                    return seen;
                }
            }
        }
    }

    #[tokio::test]
    async fn frames_are_cut_anywhere() {
        for frame in 1..12 {
            assert_eq!(read("one\ntwo\n\nthree\n", frame).await, ["one", "two", "", "three"]);
            assert_eq!(read("one\ntw", frame).await, ["one", "a watch broke off: inside an event"]);
        }
    }
}
