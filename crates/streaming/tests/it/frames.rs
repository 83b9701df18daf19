//! The parser: bytes that another implementation wrote, and bytes that nobody should write.

use bytes::{Bytes, BytesMut};
use corten_streaming::CHUNK_BYTES_MAX;
use corten_streaming::spdy::frame::{CONTROL_BYTES_MAX, Decoder, Encoder, Frame, FrameError};
use corten_streaming::spdy::{BLOCK_BYTES_MAX, Headers};
use proptest::prelude::*;

/// Written by moby/spdystream 0.5.1, which kubectl uses.
const RECORDED: [&str; 8] = [
    "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
    "800300010000001700000003000000000000c22e555c92929907000000ffff",
    "800300010000002f000000050000000000000225550c295001940829cb8bc0d9c6c2c0c280818181b30812f799a03cc16800000000ffff",
    "000000030000000568656c6c6f",
    "0000000301000000",
    "800300060000000400000001",
    "80030003000000080000000500000005",
    "80030007000000080000000000000000",
];

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn syn(stream: u32, headers: &[(&str, &str)]) -> Frame {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Frame::SynStream { stream, fin: false, headers: Headers(headers) }
}

/// All frames of some bytes that come in pieces.
fn decode(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Frame>, FrameError> {
    let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(&piece);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            frames.push(frame);
        }
        assert!(buffer.len() <= CONTROL_BYTES_MAX + 8 + piece.len(), "{} bytes wait", buffer.len());
    }
    Ok(frames)
}

#[test]
fn recorded_frames_are_read() {
    let mut frames = decode(RECORDED.map(unhex)).unwrap();
    // The other implementation writes headers in no order.
    let Frame::SynStream { headers, .. } = &mut frames[2] else { panic!("{:?}", frames[2]) };
    headers.0.sort();
    let hello = Bytes::from_static(b"hello");
    let expected = [
        syn(1, &[("streamtype", "error")]),
        syn(3, &[("streamtype", "stdin")]),
        syn(5, &[("port", "8080"), ("requestid", "0"), ("streamtype", "data")]),
        Frame::Data { stream: 3, fin: false, bytes: hello },
        Frame::Data { stream: 3, fin: true, bytes: Bytes::new() },
        Frame::Ping { id: 1 },
        Frame::Reset { stream: 5, status: 5 },
        Frame::GoAway { last: 0 },
    ];
    assert_eq!(frames, expected);
}

#[test]
fn pieces_do_not_matter() {
    let bytes: Vec<u8> = RECORDED.into_iter().flat_map(unhex).collect();
    let whole = decode([bytes.clone()]).unwrap();
    let mut single = decode(bytes.chunks(1).map(<[u8]>::to_vec)).unwrap();
    // Data comes as it arrives.
    let data: Vec<u8> = single.extract_if(3..8, |_| true).flat_map(|frame| data(&frame)).collect();
    assert_eq!(data, b"hello");
    let rest: Vec<_> = whole.into_iter().filter(|frame| data_len(frame) == 0).collect();
    assert_eq!(single, rest);
}

fn data(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Data { bytes, .. } => bytes.to_vec(),
        _ => Vec::new(),
    }
}

fn data_len(frame: &Frame) -> usize {
    data(frame).len()
}

#[test]
fn what_is_too_long_is_refused_before_it_is_kept() {
    let long = [&[0x80, 3, 0, 1, 0], &[0xff; 3][..]].concat();
    assert_eq!(decode([long]), Err(FrameError::TooLong(0x00ff_ffff)));
    assert_eq!(decode([vec![0x80, 2, 0, 1, 0, 0, 0, 0]]), Err(FrameError::Version(2)));
    assert_eq!(decode([vec![0x80, 3, 0, 3, 0, 0, 0, 0]]), Err(FrameError::TooShort(3)));
    // A data frame may be as long as it likes: it is handed on in pieces.
    let data = [&[0, 0, 0, 1, 1, 0xff, 0xff, 0xff][..], &[7; 100_000]].concat();
    let frames = decode([data]).unwrap();
    assert!(frames.iter().all(|frame| data_len(frame) <= CHUNK_BYTES_MAX));
    assert_eq!(frames.iter().map(data_len).sum::<usize>(), 100_000);
}

proptest! {
    #[test]
    fn frames_come_back(headers in prop::collection::vec(("[a-z-]{0,20}", ".{0,40}"), 0..20), bytes: Vec<u8>, stream in 1_u32..1 << 31) {
        let headers = Headers(headers);
        let frames = [
            Frame::SynStream { stream, fin: true, headers: headers.clone() },
            Frame::Headers { stream, fin: false, headers: headers.clone() },
            Frame::SynReply { stream, fin: false, headers },
            Frame::Data { stream, fin: true, bytes: bytes.into() },
            Frame::WindowUpdate { stream, delta: 77 },
        ];
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut out).unwrap();
        }
        prop_assert_eq!(decode([out.to_vec()]).unwrap(), frames);
    }

    #[test]
    fn any_bytes_are_read_without_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        drop(decode(pieces));
    }

    /// Control frames with sensible headers and any body, behind ones that have filled the compressor's history.
    #[test]
    fn damaged_frames_are_errors_or_frames(kind in 0_u8..12, body in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, to: u8) {
        let mut bytes: Vec<u8> = RECORDED[..3].iter().flat_map(|text| unhex(text)).collect();
        bytes.extend_from_slice(&[0x80, 3, 0, kind, 0, 0, u8::try_from(body.len() >> 8).unwrap(), (body.len() & 255) as u8]);
        bytes.extend_from_slice(&body);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(frames) = decode([bytes]) {
            for frame in frames {
                if let Frame::SynStream { headers, .. } | Frame::SynReply { headers, .. } | Frame::Headers { headers, .. } = frame {
                    let length: usize = headers.0.iter().map(|(name, value)| name.len() + value.len()).sum();
                    prop_assert!(length <= BLOCK_BYTES_MAX + 4096);
                }
            }
        }
    }
}
