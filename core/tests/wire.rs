//! Bytes from outside: whatever they are, the decoder answers and allocates no more than they hold.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use quorate_core::configuration::Addresses;
use quorate_core::copies::CopyMessage;
use quorate_core::engine::Transaction;
use quorate_core::measures::{Measures, Owned, Tally, Traffic};
use quorate_core::raft::{Body, Entry, Latency, Message, Payload, Snapshot};
use quorate_core::shard::{Mark, NoHash, Reply, ShardError, SqlKind};
use quorate_core::wire::{
    Announce, DATAGRAM_BYTES_MAX, Heard, Hello, PACKET_BYTES_MAX, Packet, PacketKind, Request,
    Response, StaleReason, WireError, decode_announce, decode_packet, encode_announce,
    encode_packet, group_hash,
};
use quorate_core::{ClusterId, Index, LogId, NodeId, Start, Term};

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 2434))
}

fn samples() -> Vec<Packet> {
    let addresses = Addresses { node: address(), client: Some(address()), http: None };
    let hello = Hello {
        name: "n1".to_owned(),
        start: Start { number: 3, nonce: 99 },
        recent: vec![Start { number: 1, nonce: 8 }, Start { number: 3, nonce: 9 }],
        remembered: Some(Start { number: 2, nonce: 1 }),
        last_index: Index(7),
        term: Term(2),
        acknowledged: None,
        addresses,
    };
    let entry = |index| Entry {
        index: Index(index),
        term: Term(2),
        payload: Payload::Data(vec![7; 300].into()),
    };
    let append = Body::Append {
        prev_index: Index(4),
        prev_term: Term(1),
        entries: (5..9).map(entry).collect(),
        commit: Index(5),
    };
    vec![
        Packet::Hello(hello),
        Packet::Welcome { start: Start { number: 1, nonce: 2 } },
        Packet::Raft {
            cluster: ClusterId(5),
            log: LogId(0),
            message: Message { term: Term(2), body: append },
        },
        Packet::Alive { heard: vec![Heard { node: NodeId(3), age_ms: 12 }] },
        Packet::Request {
            id: 4,
            request: Request::Join {
                name: "n2".to_owned(),
                addresses,
                dissolved_from: None,
                brings: None,
            },
        },
        Packet::Measure { id: 300 },
        Packet::Measured { id: 300, measures: Box::new(measures()) },
    ]
}

fn measures() -> Measures {
    let latency = Latency {
        acknowledged: 900,
        total_us: 1 << 40,
        worst_us: 70_000,
        waiting_us: 3,
        behind: 5,
    };
    let tally = Tally { messages: 1 << 33, bytes: 1 << 50 };
    let traffic = Traffic {
        sent: [tally; PacketKind::COUNT],
        queued: Tally { messages: 1, bytes: 100 },
        links: 2,
        ..Traffic::default()
    };
    let missing = vec![NodeId(u128::MAX)];
    let no_quorum = ShardError::NoQuorum { missing, needed: 2, voters: 3 };
    Measures {
        owned: vec![
            Owned { log: LogId(1), term: Term(9), refuses: None },
            Owned { log: LogId(2), term: Term(9), refuses: Some(no_quorum) },
        ],
        followers: vec![(NodeId(7), latency)],
        traffic: vec![(NodeId(7), traffic)],
    }
}

/// A message of a log, of each kind.
fn bodies() -> Vec<Body> {
    let (index, term, last_index, last_term) = (Index(200), Term(3), Index(1 << 40), Term(300));
    let snapshot = Snapshot { index, term, ..Snapshot::default() };
    vec![
        Body::PreVote { next: term, last_index, last_term },
        Body::PreVoteReply { next: term, granted: true },
        Body::Vote { last_index, last_term, transfer: false },
        Body::VoteReply { granted: false },
        Body::Append { prev_index: index, prev_term: term, entries: vec![], commit: index },
        Body::Appended { matched: index },
        Body::AppendRefused { prev_index: index, hint_index: index, hint_term: term },
        Body::Install { snapshot },
        Body::Heartbeat { commit: index, round: 7 },
        Body::HeartbeatReply { round: 7 },
        Body::TimeoutNow,
    ]
}

/// One packet of each sort that is not among the samples.
fn others() -> Vec<Packet> {
    let (cluster, log, id) = (ClusterId(u128::MAX), LogId(u64::MAX), 1 << 50);
    let mark = Mark { term: Term(1), number: 1 };
    let error = ShardError::Busy;
    let message = |body| Message { term: Term(1 << 20), body };
    let raft = |body| Packet::Raft { cluster, log, message: message(body) };
    let mut all: Vec<Packet> = bodies().into_iter().map(raft).collect();
    all.extend([
        Packet::Stale(StaleReason::UnknownStart(Start { number: 1, nonce: 2 })),
        Packet::Response { id, response: Response::Unknown },
        Packet::Logs { cluster, messages: vec![(log, message(Body::TimeoutNow))] },
        Packet::Sql {
            id,
            log,
            transaction: Transaction::default(),
            kind: SqlKind::Write,
            timeout_ms: 5,
        },
        Packet::Copy { cluster, log, message: CopyMessage::Preparing { transfer: 1 } },
        Packet::Copies { cluster, copies: vec![] },
        Packet::SqlReply { id, reply: Reply::Failed(error) },
        Packet::Verify { log, mark, timeout_ms: 5 },
        Packet::Verified { log, mark, hashed: Err(NoHash::NotNow) },
    ]);
    all
}

#[test]
fn the_kind_of_a_packet_is_told_from_its_first_bytes() {
    let mut kinds = BTreeSet::new();
    for packet in samples().into_iter().chain(others()) {
        let bytes = encode_packet(&packet);
        assert_eq!(PacketKind::of(&bytes), packet.kind(), "{packet:?}");
        kinds.insert(packet.kind());
    }
    for (number, kind) in PacketKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, number, "{kind:?}");
        assert!(kinds.contains(&kind) || kind == PacketKind::Unknown, "no packet is {kind:?}");
    }
    // Nothing, no number of a packet, a number that does not end, an unknown message of a log.
    let endless = [&[4][..], &[0xff; 40]].concat();
    for bytes in [&[][..], &[99], &[4], &endless, &[4, 1, 1, 1, 99]] {
        assert_eq!(PacketKind::of(bytes), PacketKind::Unknown, "{bytes:?}");
    }
}

#[test]
fn measures_beyond_their_bounds_are_refused() {
    let refused = |measures: Measures| {
        let bytes = encode_packet(&Packet::Measured { id: 1, measures: Box::new(measures) });
        decode_packet(&bytes) == Err(WireError::Bound)
    };
    let Measures { owned, followers, traffic } = measures();
    let much = || Measures {
        owned: owned.iter().cycle().take(4096).cloned().collect(),
        followers: followers.iter().cycle().take(64).copied().collect(),
        traffic: traffic.iter().cycle().take(64).cloned().collect(),
    };
    assert!(!refused(much()));
    assert!(refused(Measures {
        owned: owned.iter().cycle().take(4097).cloned().collect(),
        ..much()
    }));
    assert!(refused(Measures { followers: vec![followers[0]; 65], ..much() }));
    assert!(refused(Measures { traffic: vec![traffic[0].clone(); 65], ..much() }));
}

#[test]
fn every_packet_comes_back_as_it_was() {
    for packet in samples() {
        assert_eq!(decode_packet(&encode_packet(&packet)), Ok(packet));
    }
}

#[test]
fn a_truncated_packet_is_refused_at_every_length() {
    for packet in samples() {
        let bytes = encode_packet(&packet);
        for length in 0..bytes.len() {
            assert!(decode_packet(&bytes[..length]).is_err(), "{packet:?} cut at {length}");
        }
    }
}

#[test]
fn a_packet_with_something_behind_it_is_refused() {
    let mut bytes = encode_packet(&samples()[0]);
    bytes.push(0);
    assert_eq!(decode_packet(&bytes), Err(WireError::Malformed));
}

#[test]
fn what_is_too_long_is_refused_unread() {
    assert_eq!(decode_packet(&vec![0; PACKET_BYTES_MAX + 1]), Err(WireError::TooLong));
    assert_eq!(decode_announce(&[0; DATAGRAM_BYTES_MAX + 1]), Err(WireError::TooLong));
}

#[test]
fn lists_beyond_their_bound_are_refused() {
    let heard = vec![Heard { node: NodeId(3), age_ms: 12 }; 257];
    assert_eq!(decode_packet(&encode_packet(&Packet::Alive { heard })), Err(WireError::Bound));
}

#[test]
fn a_length_that_lies_about_what_follows_reserves_nothing() {
    // A report of 2^32 nodes in six bytes.
    let mut bytes = vec![5];
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(decode_packet(&bytes), Err(WireError::Malformed));
}

#[test]
fn foreign_datagrams_are_told_from_malformed_ones() {
    assert_eq!(decode_announce(b"hello world"), Err(WireError::Foreign));
    assert_eq!(decode_announce(b"QRT\x02rest"), Err(WireError::Foreign));
    assert_eq!(decode_announce(b"QRT\x01"), Err(WireError::Malformed));
}

#[test]
fn an_announcement_fits_a_datagram_and_names_no_group() {
    let announce = Announce {
        group: group_hash("a group name"),
        node: NodeId(u128::MAX),
        cluster: Some(ClusterId(u128::MAX)),
        address: SocketAddr::from(([0xffff; 8], u16::MAX)),
        seeking: true,
    };
    let bytes = encode_announce(&announce);
    assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
    assert_eq!(decode_announce(&bytes), Ok(announce));
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = decode_packet(&bytes);
        let _ = decode_announce(&bytes);
        let mut datagram = b"QRT\x01".to_vec();
        datagram.extend(&bytes);
        let _ = decode_announce(&datagram);
    }

    #[test]
    fn a_packet_with_flipped_bits_gets_an_answer(
        which in 0_usize..7,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..6),
    ) {
        let mut bytes = encode_packet(&samples()[which]);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Ok(packet) = decode_packet(&bytes) {
            prop_assert!(encode_packet(&packet).len() <= bytes.len());
        }
    }
}
