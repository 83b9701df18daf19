//! Frames of SPDY, as kubectl sends them: the same in whatever pieces they come, and the same after they were written.

use bytes::{Bytes, BytesMut};
use corten_streaming::spdy::frame::{CONTROL_BYTES_MAX, Decoder, Encoder, Frame, FrameError};

/// Control frames and the data of each stream's run, joined: data comes as it arrives.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => join(&mut frames, frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(buffer.len() <= CONTROL_BYTES_MAX + 8 + piece.len(), "{} bytes wait", buffer.len());
    }
    (frames, None)
}

fn join(frames: &mut Vec<Frame>, frame: Frame) {
    if let (Some(Frame::Data { stream, fin, bytes }), Frame::Data { stream: of, fin: last, bytes: more }) =
        (frames.last_mut(), &frame)
        && stream == of
        && !*fin
    {
        *bytes = Bytes::from([bytes.as_ref(), more.as_ref()].concat());
        *fin = *last;
        return;
    }
    frames.push(frame);
}

pub(crate) fn frames(bytes: &[u8]) {
    let (frames, error) = decode([bytes].into_iter());
    let (by_byte, error_by_byte) = decode(bytes.chunks(1));
    assert_eq!((&by_byte, &error_by_byte), (&frames, &error), "byte by byte");
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    let known: Vec<Frame> = frames.into_iter().filter(|frame| *frame != Frame::Other).collect();
    for frame in &known {
        if encoder.encode(frame, &mut out).is_err() {
            return;
        }
    }
    let mut joined = Vec::new();
    known.into_iter().for_each(|frame| join(&mut joined, frame));
    assert_eq!(decode([&out[..]].into_iter()), (joined, None), "after it was written");
}
