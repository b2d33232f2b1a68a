//! Multicast on the loopback interface.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::wire::DATAGRAM_BYTES_MAX;
use socket2::SockRef;

use super::{Peer, config};
use crate::net::{AddressFilter, MulticastConfig, NetConfig, NetEvent};

/// A group of its own for each test of each process: they run at the same time.
fn group(test: u8) -> MulticastConfig {
    let [.., high, low] = std::process::id().to_be_bytes();
    let group = Ipv4Addr::new(239, 128 + test, high, low);
    MulticastConfig { group, port: 23_000 + u16::from(test), ttl: 0, ..Default::default() }
}

fn node(group: &MulticastConfig, node: u128) -> Peer {
    Peer::start(NetConfig { multicast: Some(group.clone()), ..config() }, node)
}

async fn datagram(peer: &mut Peer) -> Bytes {
    match peer.news().await {
        NetEvent::Datagram { from, bytes } => {
            assert!(from.ip().is_loopback());
            bytes
        }
        other => panic!("expected Datagram, got {other:?}"),
    }
}

/// A stranger's socket, whose datagrams stay on the loopback interface.
fn stranger() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    SockRef::from(&socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket
}

#[tokio::test]
async fn several_nodes_of_one_host_all_get_what_each_of_the_others_sends() {
    let group = group(1);
    let mut nodes: Vec<Peer> = (1..=4).map(|n| node(&group, n)).collect();
    for sender in 0..nodes.len() {
        let bytes = Bytes::from(format!("from {sender}"));
        nodes[sender].net.multicast(&bytes);
        for (n, receiver) in nodes.iter_mut().enumerate() {
            if n != sender {
                assert_eq!(datagram(receiver).await, bytes);
            }
        }
    }
    for node in &mut nodes {
        assert!(node.is_quiet().await, "nobody gets a datagram twice, or its own");
    }
}

#[tokio::test]
async fn other_groups_on_the_same_port_are_not_heard() {
    let ours = group(2);
    let theirs = MulticastConfig { group: Ipv4Addr::new(239, 1, 77, 200), ..ours.clone() };
    let (mut a, mut b, c) = (node(&ours, 1), node(&theirs, 2), node(&ours, 3));
    c.net.multicast(&Bytes::from_static(b"hello"));
    assert_eq!(datagram(&mut a).await, "hello");
    assert!(b.is_quiet().await);
}

#[tokio::test]
async fn datagrams_above_the_bound_are_dropped_and_counted() {
    let group = group(3);
    let mut a = node(&group, 1);
    let stranger = stranger();
    let to = (group.group, group.port);
    stranger.send_to(&vec![1; DATAGRAM_BYTES_MAX + 1], to).unwrap();
    stranger.send_to(&vec![2; 20_000], to).unwrap();
    stranger.send_to(&vec![3; DATAGRAM_BYTES_MAX], to).unwrap();
    assert_eq!(datagram(&mut a).await, vec![3; DATAGRAM_BYTES_MAX]);
    assert_eq!(a.net.counters().datagrams_oversized, 2);
}

#[tokio::test]
async fn only_trusted_addresses_are_heard() {
    let trusted = AddressFilter::new(vec!["10.0.0.*".parse().unwrap()]);
    let distrustful = MulticastConfig { trusted, ..group(4) };
    let (mut a, mut b) = (node(&distrustful, 1), node(&group(4), 2));
    stranger().send_to(b"hello", (distrustful.group, distrustful.port)).unwrap();
    assert_eq!(datagram(&mut b).await, "hello");
    assert!(a.is_quiet().await);
    assert_eq!(a.net.counters().datagrams_untrusted, 1);
}

#[tokio::test]
async fn a_flood_that_nobody_takes_is_dropped_and_memory_stays_bounded() {
    let group = group(5);
    let a = node(&group, 1);
    let stranger = stranger();
    let mut counters = a.net.counters();
    while counters.datagrams_dropped == 0 {
        for _ in 0..50 {
            stranger.send_to(b"flood", (group.group, group.port)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        counters = a.net.counters();
    }
    assert!(counters.datagrams_received <= 256, "no more than the channel holds");
}
