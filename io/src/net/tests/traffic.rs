//! What is counted of links.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::NodeId;
use quorate_core::measures::{Tally, Traffic};
use quorate_core::wire::{Heard, Packet, PacketKind, Request, encode_packet};
use tokio::time::timeout;

use super::{Peer, linked, unread};
use crate::net::NetEvent;

fn of(peer: &Peer, other: u128) -> Traffic {
    let told = peer.net.traffic().into_iter().find(|(node, _)| *node == NodeId(other));
    told.expect("there was a link to it").1
}

fn alive() -> Bytes {
    encode_packet(&Packet::Alive { heard: vec![Heard { node: NodeId(3), age_ms: 12 }] }).into()
}

#[tokio::test]
async fn both_ends_count_the_same_by_kind_and_go_on_counting_over_the_next_link() {
    let (mut a, at_a, mut b, at_b) = linked().await;
    let request: Bytes = encode_packet(&Packet::Request { id: 1, request: Request::Leave }).into();
    for _ in 0..10 {
        a.net.send(at_a, alive());
        b.packet().await;
    }
    b.net.send(at_b, request.clone());
    a.packet().await;
    a.net.close(at_a);
    assert!(matches!(b.news().await, NetEvent::LinkDown { .. }));
    b.net.dial(a.addr());
    let (again, ..) = a.link_up().await;
    b.link_up().await;
    a.net.send(again, alive());
    b.packet().await;
    let eleven = Tally { messages: 11, bytes: 11 * alive().len() as u64 };
    let sent = of(&a, 2).sent[PacketKind::Alive as usize];
    let received = of(&b, 1).received[PacketKind::Alive as usize];
    assert_eq!((sent, received), (eleven, eleven));
    let one = Tally { messages: 1, bytes: request.len() as u64 };
    assert_eq!(of(&b, 1).sent[PacketKind::Requests as usize], one);
    assert_eq!(of(&a, 2).received[PacketKind::Requests as usize], one);
    for traffic in [of(&a, 2), of(&b, 1)] {
        let none = Tally::default();
        assert_eq!((traffic.links, traffic.queued, traffic.dropped), (2, none, none));
    }
}

#[tokio::test]
async fn what_a_silent_peer_does_not_take_waits_and_is_lost_with_its_link() {
    let (mut a, link, _unread) = unread().await;
    let packet = Bytes::from(vec![5; 1024 * 1024]);
    let (mut handed_over, mut waited) = (0, 0);
    while timeout(Duration::from_millis(1), a.event()).await.is_err() {
        a.net.send(link, packet.clone());
        handed_over += 1;
        waited = waited.max(of(&a, 2).queued.messages);
        assert!(handed_over < 1024, "the queue grows without bound");
    }
    assert!(waited > 1, "{waited}");
    assert!(matches!(a.news().await, NetEvent::LinkDown { .. }));
    a.net.send(link, packet.clone());
    let told = of(&a, 2);
    assert_eq!(told.queued, Tally::default());
    let sent = told.sent[PacketKind::Alive as usize];
    assert!(sent.messages > 0 && told.dropped.messages > 0, "{told:?}");
    assert_eq!(sent.messages + told.dropped.messages, handed_over, "{told:?}");
    assert_eq!(told.dropped.bytes, told.dropped.messages * packet.len() as u64);
}
