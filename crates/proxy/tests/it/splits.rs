//! The same bytes give the same outcome, in whatever pieces they come; and nothing makes the codec panic.

use corten_proxy::codec::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::corpus::cases;
use crate::stream::read;

/// Small, so that generated input reaches them.
fn limits() -> Limits {
    Limits {
        head_bytes_max: 160,
        fields_max: 6,
        target_bytes_max: 40,
        chunk_overhead_bytes_max: 24,
        trailer_bytes_max: 24,
    }
}

fn same_in_any_pieces(bytes: &[u8], cuts: &[Index]) {
    let whole = read([bytes], limits());
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let mut start = 0;
    let pieces = ends.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]);
    assert_eq!(read(pieces, limits()), whole, "in pieces");
    assert_eq!(read(bytes.chunks(1), limits()), whole, "byte by byte");
}

/// Streams that are nearly requests: cases of the corpus in a row, some bytes changed.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<_> = cases().into_iter().map(|case| case.bytes).collect();
    let bytes = prop_oneof![select(b"\r\n\t :;0a,\0".to_vec()), any::<u8>()];
    (vec(select(all), 1..4), vec((any::<Index>(), bytes), 0..4)).prop_map(|(cases, changes)| {
        let mut stream = cases.concat();
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        stream
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn streams(bytes in nearly(), cuts in vec(any::<Index>(), 0..6)) {
        same_in_any_pieces(&bytes, &cuts);
    }

    #[test]
    fn noise(bytes in vec(any::<u8>(), 0..300), cuts in vec(any::<Index>(), 0..4)) {
        same_in_any_pieces(&bytes, &cuts);
    }

    #[test]
    fn written_requests(
        path in "/[a-z]{0,8}",
        data in vec(any::<u8>(), 0..400),
        sizes in vec(1..50_usize, 1..6),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let mut bytes = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
        let mut rest = &data[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            corten_proxy::codec::chunked::write_chunk(&mut bytes, chunk);
            rest = after;
        }
        bytes.extend_from_slice(corten_proxy::codec::chunked::LAST_CHUNK);
        let whole = read([&bytes[..]], limits());
        prop_assert_eq!(whole.refused, None);
        prop_assert_eq!(&whole.requests[0].body, &data);
        same_in_any_pieces(&bytes, &cuts);
    }
}
