//! The protocol as both sides see it: bytes that never change, peers of other versions, hostile input.

mod samples;

use corten_podspec::{
    CRITICAL, DecodeError, EdgeOrder, Event, HolderEvent, HolderRequest, ITEMS_MAX, MESSAGE_BYTES_MAX, MountKind,
    Request, Start, Step, id_of,
};
use proptest::prelude::*;

const GOLDEN: &str = include_str!("golden.tsv");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows are only ever added: a row that changes breaks every pod that runs.
#[test]
fn bytes_of_each_message_stay() {
    let mut lines = Vec::new();
    for (index, request) in samples::requests().iter().enumerate() {
        lines.push(format!("request {index}\t{}", hex(&request.encode(7).unwrap())));
    }
    for (index, event) in samples::events().iter().enumerate() {
        lines.push(format!("event {index}\t{}", hex(&event.encode(9).unwrap())));
    }
    for (index, request) in samples::holder_requests().iter().enumerate() {
        lines.push(format!("holder request {index}\t{}", hex(&request.encode(7).unwrap())));
    }
    for (index, event) in samples::holder_events().iter().enumerate() {
        lines.push(format!("holder event {index}\t{}", hex(&event.encode(9).unwrap())));
    }
    for (index, order) in samples::edge_orders().iter().enumerate() {
        lines.push(format!("edge order {index}\t{}", hex(&order.encode(11).unwrap())));
    }
    let golden: Vec<&str> = GOLDEN.lines().collect();
    assert_eq!(lines, golden, "\n{}\n", lines.join("\n"));
}

#[test]
fn messages_come_back_as_they_were() {
    for request in samples::requests() {
        assert_eq!(Request::decode(&request.encode(3).unwrap()), Ok((3, request)));
    }
    for event in samples::events() {
        assert_eq!(Event::decode(&event.encode(4).unwrap()), Ok((4, event)));
    }
    for request in samples::holder_requests() {
        assert_eq!(HolderRequest::decode(&request.encode(5).unwrap()), Ok((5, request)));
    }
    for event in samples::holder_events() {
        assert_eq!(HolderEvent::decode(&event.encode(6).unwrap()), Ok((6, event)));
    }
    for order in samples::edge_orders() {
        assert_eq!(EdgeOrder::decode(&order.encode(7).unwrap()), Ok((7, order)));
    }
}

fn with_field(request: &Request, tag: u16) -> Vec<u8> {
    let mut bytes = request.encode(1).expect("samples are short");
    bytes.extend_from_slice(&tag.to_le_bytes());
    bytes.extend_from_slice(&3_u32.to_le_bytes());
    bytes.extend_from_slice(b"new");
    bytes
}

#[test]
fn a_newer_peers_fields_are_skipped_unless_critical() {
    for request in samples::requests() {
        assert_eq!(Request::decode(&with_field(&request, 0x7fff)), Ok((1, request.clone())));
        let critical = Request::decode(&with_field(&request, CRITICAL | 9));
        assert_eq!(critical, Err(DecodeError::NotUnderstood { tag: CRITICAL | 9 }));
    }
}

#[test]
fn a_newer_peers_messages_can_be_answered() {
    let mut bytes = samples::requests()[0].encode(77).unwrap();
    bytes[0] = 0xee;
    assert_eq!(Request::decode(&bytes), Err(DecodeError::UnknownKind { kind: 0xee, id: 77 }));
    assert_eq!(id_of(&bytes), Some(77));
    assert_eq!(id_of(&bytes[..7]), None);
}

#[test]
fn limits_hold_on_both_sides() {
    let long = Start { mounts: vec![Default::default(); MESSAGE_BYTES_MAX / 6 + 1], ..Start::default() };
    assert!(matches!(Request::from(long).encode(1), Err(DecodeError::TooLong { .. })));
    assert!(matches!(Request::decode(&vec![0; MESSAGE_BYTES_MAX + 1]), Err(DecodeError::TooLong { .. })));
    let many = Start { mounts: vec![Default::default(); ITEMS_MAX + 1], ..Start::default() };
    let bytes = Request::from(many).encode(1).unwrap();
    assert_eq!(Request::decode(&bytes), Err(DecodeError::TooMany { tag: 3 }));
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let key = |value: &[u8]| {
        let mut bytes = vec![6, 0, 0, 0, 1, 0, 0, 0, 1, 0];
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(value);
        Request::decode(&bytes)
    };
    assert!(key(&[0; 8]).is_ok());
    assert_eq!(key(&[0; 7]), Err(DecodeError::BadValue { tag: 1 }));
    let mut cut = samples::requests()[2].encode(1).unwrap();
    cut.pop();
    assert_eq!(Request::decode(&cut), Err(DecodeError::Truncated));
}

#[test]
fn numbers_name_one_variant() {
    for step in Step::ALL {
        assert_eq!(Step::of(step.number()), Some(*step));
    }
    for kind in MountKind::ALL {
        assert_eq!(MountKind::of(kind.number()), Some(*kind));
    }
    assert_eq!(Step::of(0), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u8..110) {
        let mut message = vec![kind, 0, 0, 0, 1, 0, 0, 0];
        message.extend_from_slice(&bytes);
        prop_assert_eq!(Request::decode(&message).is_ok_and(|(id, _)| id != 1), false);
        prop_assert_eq!(Event::decode(&message).is_ok_and(|(id, _)| id != 1), false);
    }

    /// What is understood of damaged bytes is a message like any other: it survives the way there and back.
    #[test]
    fn damaged_messages_are_errors_or_messages(which in 0_usize..15, at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = samples::requests()[which].encode(1).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok((id, request)) = Request::decode(&bytes) {
            prop_assert_eq!(Request::decode(&request.encode(id).unwrap()), Ok((id, request)));
        }
    }
}
