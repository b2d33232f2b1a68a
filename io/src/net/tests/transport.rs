//! Transports on 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_core::wire::PACKET_BYTES_MAX;
use quorate_core::{DialError, NodeId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::{PATIENCE, Peer, config, credentials, linked, unread, wrong};
use crate::net::handshake::messages::{HELLO_BYTES, Initiator, PROTOCOL_VERSION};
use crate::net::handshake::{Established, initiate};
use crate::net::{Credentials, NetConfig, NetEvent, NetLimits, StartError, Transport, Trouble};

#[tokio::test]
async fn packets_of_all_lengths_arrive_in_order_in_both_directions() {
    let (mut a, at_a, mut b, at_b) = linked().await;
    let lengths = [0, 1, 1200, 65_515, 65_519, 65_520, 300_000, PACKET_BYTES_MAX, 5];
    for (n, length) in (0_u8..).zip(lengths) {
        a.net.send(at_a, vec![n; length].into());
        b.net.send(at_b, vec![n; length].into());
    }
    for (n, length) in (0_u8..).zip(lengths) {
        assert!(b.packet().await == vec![n; length]);
        assert!(a.packet().await == vec![n; length]);
    }
}

#[tokio::test]
async fn a_close_delivers_what_was_sent_and_only_the_other_end_hears_of_it() {
    let (mut a, at_a, mut b, at_b) = linked().await;
    // Bytes that the closing end will never read must not cost the other end our last ones.
    b.net.send(at_b, vec![1; 3_000_000].into());
    for n in 0..100_u8 {
        a.net.send(at_a, vec![n; 10_000].into());
    }
    a.net.close(at_a);
    a.net.send(at_a, Bytes::from_static(b"too late"));
    for n in 0..100_u8 {
        assert_eq!(b.packet().await, vec![n; 10_000]);
    }
    assert!(matches!(b.news().await, NetEvent::LinkDown { link } if link == at_b));
    assert!(a.is_quiet().await);
}

#[tokio::test]
async fn events_that_wait_while_their_link_is_closed_do_not_hold() {
    let (mut a, at_a, b, at_b) = linked().await;
    b.net.send(at_b, Bytes::from_static(b"one"));
    b.net.close(at_b);
    let first = timeout(PATIENCE, a.events.recv()).await.unwrap().unwrap();
    let second = timeout(PATIENCE, a.events.recv()).await.unwrap().unwrap();
    assert!(matches!(first, NetEvent::Packet { .. }) && a.net.admits(&first));
    assert!(matches!(second, NetEvent::LinkDown { .. }));
    a.net.close(at_a);
    assert!(!a.net.admits(&first) && !a.net.admits(&second));
}

#[tokio::test]
async fn whatever_credentials_differ_both_ends_say_the_same_and_later_dials_succeed() {
    let mut b = Peer::start(config(), 2);
    for (what, other) in wrong() {
        let mut a = Peer::start(NetConfig { credentials: other.clone(), ..config() }, 1);
        a.net.dial(b.addr());
        let refused = a.news().await;
        let expected = b.addr();
        assert!(
            matches!(refused, NetEvent::DialFailed { addr, error: DialError::Refused } if addr == expected),
            "{what}: {refused:?}"
        );
        assert!(matches!(b.news().await, NetEvent::PeerRefused { .. }), "{what}");
        assert!(a.is_quiet().await && b.is_quiet().await, "{what}: nothing more is said");
    }
    let mut a = Peer::start(config(), 1);
    a.net.dial(b.addr());
    assert_eq!(a.link_up().await.1, NodeId(2));
    assert_eq!(b.link_up().await.1, NodeId(1));
}

/// Passes one connection on and counts the bytes of each direction.
async fn tap(listener: TcpListener, to: SocketAddr) -> (u64, u64) {
    let (mut near, _) = listener.accept().await.unwrap();
    let mut far = TcpStream::connect(to).await.unwrap();
    tokio::io::copy_bidirectional(&mut near, &mut far).await.unwrap_or_default()
}

#[tokio::test]
async fn on_the_wire_a_refusal_has_the_length_of_a_success() {
    let mut seen = Vec::new();
    let all = std::iter::once(credentials()).chain(wrong().iter().map(|(_, c)| c.clone()));
    for credentials in all {
        let mut b = Peer::start(config(), 2);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tapped = listener.local_addr().unwrap();
        let tap = tokio::spawn(tap(listener, b.addr()));
        let mut a = Peer::start(NetConfig { credentials, ..config() }, 1);
        a.net.dial(tapped);
        if let NetEvent::LinkUp { link, .. } = a.news().await {
            b.link_up().await;
            a.net.close(link);
        }
        seen.push(timeout(PATIENCE, tap).await.unwrap().unwrap());
    }
    assert!(seen[0].0 > 0 && seen.iter().all(|s| *s == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn a_node_of_another_version_is_named_on_both_sides() {
    let mut b = Peer::start(config(), 2);
    let mut stream = TcpStream::connect(b.addr()).await.unwrap();
    let mut hello = Initiator::new(&credentials(), NodeId(1)).1;
    hello[5] += 1;
    stream.write_all(&hello).await.unwrap();
    let told = b.event().await;
    let theirs = PROTOCOL_VERSION + 1;
    assert!(
        matches!(told, NetEvent::Trouble(Trouble::VersionMismatch { theirs: t, ours, .. }) if t == theirs && ours == PROTOCOL_VERSION),
        "{told:?}"
    );
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer[4..], PROTOCOL_VERSION.to_be_bytes());

    let newer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    b.net.dial(newer.local_addr().unwrap());
    let (mut stream, _) = newer.accept().await.unwrap();
    stream.write_all(&hello[..6]).await.unwrap();
    // Once a minute for one address: it has been said. The dial comes to nothing all the same.
    let failed = b.news().await;
    assert!(matches!(failed, NetEvent::DialFailed { error: DialError::Unreachable, .. }));
}

#[tokio::test]
async fn a_closed_port_is_unreachable_at_once_and_can_be_dialled_again() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let mut a = Peer::start(config(), 1);
    for _ in 0..3 {
        a.net.dial(closed);
        let before = Instant::now();
        let failed = a.news().await;
        assert!(
            matches!(failed, NetEvent::DialFailed { addr, error: DialError::Unreachable } if addr == closed)
        );
        assert!(
            before.elapsed() < NetLimits::default().connect_timeout,
            "no time-out is waited for"
        );
    }
}

#[tokio::test]
async fn a_silent_peer_is_unreachable_after_the_handshakes_deadline() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let limits = NetLimits { handshake_timeout: Duration::from_millis(100), ..Default::default() };
    let mut a = Peer::start(NetConfig { limits, ..config() }, 1);
    a.net.dial(silent.local_addr().unwrap());
    assert!(matches!(a.news().await, NetEvent::DialFailed { error: DialError::Unreachable, .. }));
}

#[tokio::test]
async fn a_node_that_dials_itself_finds_out() {
    let mut a = Peer::start(config(), 1);
    let me = a.addr();
    a.net.dial(me);
    let failed = a.news().await;
    assert!(
        matches!(failed, NetEvent::DialFailed { addr, error: DialError::Myself } if addr == me)
    );
    assert!(a.is_quiet().await, "the dialled end says nothing");
}

#[tokio::test]
async fn a_copy_of_a_node_in_another_process_is_named_on_both_sides() {
    let (mut a, mut b) = (Peer::start(config(), 1), Peer::start(config(), 1));
    b.net.dial(a.addr());
    let same_process = b.event().await;
    assert!(matches!(same_process, NetEvent::DialFailed { error: DialError::Myself, .. }));
    // Deriving anew is what another process does.
    let credentials = Credentials::derive("group", "password", None);
    let mut copy = Peer::start(NetConfig { credentials, ..config() }, 1);
    copy.net.dial(a.addr());
    for peer in [&mut a, &mut copy] {
        let told = peer.event().await;
        assert!(matches!(told, NetEvent::Trouble(Trouble::SameNodeId { .. })), "{told:?}");
        assert_eq!(
            peer.link_up().await.1,
            NodeId(1),
            "which of them is the old one is not for here"
        );
    }
}

#[tokio::test]
async fn dials_to_one_address_at_one_time_are_answered_together() {
    let mut b = Peer::start(config(), 2);
    let mut a = Peer::start(config(), 1);
    for _ in 0..10 {
        a.net.dial(b.addr());
    }
    a.link_up().await;
    b.link_up().await;
    assert!(a.is_quiet().await && b.is_quiet().await);
    a.net.dial(b.addr());
    assert_eq!(a.link_up().await.0.0, 2, "an answered dial may be repeated; ids are not reused");
}

#[test]
fn a_preferred_port_is_tried_first_where_it_may_be_taken() {
    let order = |preferred, auto| {
        let config = NetConfig {
            port: 2434,
            port_count: 3,
            port_auto_increment: auto,
            port_preferred: preferred,
            ..config()
        };
        config.ports_in_order().collect::<Vec<u16>>()
    };
    assert_eq!(order(None, true), [2434, 2435, 2436]);
    assert_eq!(order(Some(2436), true), [2436, 2434, 2435]);
    assert_eq!(order(Some(2437), true), [2434, 2435, 2436], "of another configuration");
    assert_eq!(order(Some(2436), false), [2434], "the one that was asked for");
}

#[tokio::test]
async fn the_next_port_is_taken_when_one_is_taken_and_an_error_names_the_range() {
    // Some run of three free ports; another test may take one in between, so try several times.
    for _ in 0..50 {
        let first = Peer::start(config(), 1);
        let port = first.addr().port();
        let Some(last) = port.checked_add(2) else { continue };
        let next =
            |count| NetConfig { port, port_count: count, port_auto_increment: true, ..config() };
        let (sender, _events) = tokio::sync::mpsc::channel(16);
        let start = |config| Transport::start(config, NodeId(9), sender.clone());
        let (Ok(second), Ok(third)) = (start(next(3)), start(next(3))) else { continue };
        if (second.local_addr().port(), third.local_addr().port()) != (port + 1, last) {
            continue;
        }
        let full = start(next(3)).err().unwrap();
        assert!(
            matches!(full, StartError::NoFreePort { first, last: l, .. } if first == port && l == last),
            "{full}"
        );
        assert!(full.to_string().contains(&format!("{port} to {last}")));
        let fixed = NetConfig { port_auto_increment: false, ..next(3) };
        let taken = start(fixed).err().unwrap();
        assert!(matches!(taken, StartError::PortTaken { port: p, .. } if p == port), "{taken}");
        return;
    }
    panic!("no three free ports in a row in fifty attempts");
}

#[tokio::test]
async fn a_port_is_free_again_as_soon_as_a_transport_with_links_has_shut_down() {
    let (a, _, b, _) = linked().await;
    let addr = b.addr();
    b.net.shutdown().await;
    let again = NetConfig { port: addr.port(), port_auto_increment: false, ..config() };
    let mut again = Peer::start(again, 2);
    assert_eq!(again.addr(), addr);
    a.net.dial(addr);
    again.link_up().await;
}

#[tokio::test]
async fn dialled_connections_come_from_the_allowed_ports() {
    let first = config();
    let free = Peer::start(first, 9).addr().port();
    let ports = free..=free.saturating_add(20);
    let mut a = Peer::start(NetConfig { outbound_ports: vec![ports.clone()], ..config() }, 1);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    a.net.dial(listener.local_addr().unwrap());
    let (stream, from) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert!(ports.contains(&from.port()), "{from} not in {ports:?}");
    drop(stream);
    assert!(matches!(a.news().await, NetEvent::DialFailed { .. }));
}

#[tokio::test]
async fn an_address_of_no_interface_cannot_be_bound_and_the_error_says_so() {
    let (sender, _events) = tokio::sync::mpsc::channel(16);
    let config = NetConfig { bind: "192.0.2.1".parse().unwrap(), ..config() };
    let error = Transport::start(config, NodeId(1), sender).err().unwrap();
    assert!(matches!(error, StartError::NoSuchAddress { .. }), "{error}");
}

#[tokio::test]
async fn the_public_address_is_advertised_with_the_bound_port_unless_it_has_its_own() {
    let public = |port| crate::net::PublicAddress { ip: "198.51.100.7".parse().unwrap(), port };
    let a = Peer::start(NetConfig { public_address: Some(public(None)), ..config() }, 1);
    assert_eq!(a.net.advertised_addr().to_string(), format!("198.51.100.7:{}", a.addr().port()));
    let b = Peer::start(NetConfig { public_address: Some(public(Some(7))), ..config() }, 1);
    assert_eq!(b.net.advertised_addr().to_string(), "198.51.100.7:7");
    let c = Peer::start(config(), 1);
    assert_eq!(c.net.advertised_addr(), c.addr());
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_link_and_holds_bounded_memory() {
    let (mut a, link, _unread) = unread().await;
    let packet = Bytes::from(vec![7; 1024 * 1024]);
    let mut sent = 0;
    let trouble = loop {
        a.net.send(link, packet.clone());
        sent += packet.len();
        assert!(sent < 1 << 30, "the queue grows without bound");
        if let Ok(event) = timeout(Duration::from_millis(1), a.event()).await {
            break event;
        }
    };
    let NetEvent::Trouble(Trouble::SlowPeer { queued_bytes, .. }) = trouble else {
        panic!("expected SlowPeer, got {trouble:?}");
    };
    assert!(queued_bytes <= 2 * PACKET_BYTES_MAX + 2 * packet.len(), "{queued_bytes}");
    assert!(matches!(a.news().await, NetEvent::LinkDown { link: l } if l == link));
    assert_eq!(a.net.counters().links_slow, 1);
}

#[tokio::test]
async fn a_packet_above_the_bound_ends_the_link_instead_of_being_skipped() {
    let (mut a, at_a, mut b, _) = linked().await;
    a.net.send(at_a, vec![0; PACKET_BYTES_MAX + 1].into());
    assert!(matches!(a.news().await, NetEvent::LinkDown { .. }));
    assert!(matches!(b.news().await, NetEvent::LinkDown { .. }));
}

/// A raw connection to `peer` with a completed handshake.
async fn raw_link(peer: &mut Peer) -> (TcpStream, Established) {
    let mut stream = TcpStream::connect(peer.addr()).await.unwrap();
    let established = initiate(&mut stream, &credentials(), NodeId(7)).await.unwrap();
    peer.link_up().await;
    (stream, established)
}

#[tokio::test]
async fn garbage_forged_replayed_and_truncated_records_cost_the_link_and_nothing_else() {
    let mut b = Peer::start(config(), 2);
    let (mut steady, mut good) = raw_link(&mut b).await;
    for attack in 0..4 {
        let (mut stream, mut established) = raw_link(&mut b).await;
        let mut record = vec![0, 4 + 1 + 16];
        established.session.sealer.seal(&[0, 0, 0, 1, 9], &mut record).unwrap();
        let mut bytes = record.clone();
        match attack {
            0 => bytes = vec![0xee; 70_000],
            1 => bytes[7] ^= 1,
            2 => bytes.extend_from_slice(&record),
            _ => bytes.truncate(9),
        }
        stream.write_all(&bytes).await.unwrap();
        if attack == 3 {
            stream.shutdown().await.unwrap();
        }
        if attack == 2 {
            assert_eq!(b.packet().await, [9][..], "the first of the two is genuine");
        }
        assert!(matches!(b.news().await, NetEvent::LinkDown { .. }), "attack {attack}");
    }
    assert_eq!(b.net.counters().links_bad, 3, "a truncated record is only a lost connection");
    let mut record = vec![0, 4 + 1 + 16];
    good.session.sealer.seal(&[0, 0, 0, 1, 5], &mut record).unwrap();
    steady.write_all(&record).await.unwrap();
    assert_eq!(b.packet().await, [5][..], "another link goes on");
}

#[tokio::test]
async fn half_open_connections_are_bounded_and_end_at_their_deadline() {
    let limits = NetLimits {
        half_open_max: 8,
        half_open_per_source_max: 8,
        handshake_timeout: Duration::from_millis(500),
        ..Default::default()
    };
    let mut b = Peer::start(NetConfig { limits, ..config() }, 2);
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(b.addr()).await.unwrap());
    }
    let mut turned_away = 0;
    let mut most = 0;
    while turned_away < 42 {
        turned_away = b.net.counters().handshakes_turned_away;
        most = most.max(b.net.open().1);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(most <= 8);
    // Those inside are thrown out in the end, and others get in.
    let mut left = vec![0; 1];
    for stream in &mut idle {
        let end = timeout(PATIENCE, stream.read(&mut left)).await.expect("closed in time");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    let mut a = Peer::start(config(), 1);
    a.net.dial(b.addr());
    a.link_up().await;
    b.link_up().await;
}

#[tokio::test]
async fn a_guesser_is_slowed_down_and_a_member_at_its_address_is_not() {
    let limits = NetLimits {
        penalty_first: Duration::from_secs(30),
        penalty_max: Duration::from_secs(30),
        half_open_per_source_max: 3,
        ..Default::default()
    };
    let mut b = Peer::start(NetConfig { limits, ..config() }, 2);
    let guess = async |b: &mut Peer| {
        let mut stream = TcpStream::connect(b.addr()).await.unwrap();
        let (initiator, hello) = Initiator::new(&wrong()[1].1, NodeId(1));
        stream.write_all(&hello).await.unwrap();
        let mut challenge = [0; HELLO_BYTES + 32];
        stream.read_exact(&mut challenge).await.unwrap();
        stream.write_all(&initiator.prove(&challenge).unwrap().1).await.unwrap();
        assert!(matches!(b.news().await, NetEvent::PeerRefused { .. }));
        // Hangs up without waiting for the answer: the place is not free again for that.
    };
    guess(&mut b).await;
    guess(&mut b).await;
    let mut a = Peer::start(config(), 1);
    a.net.dial(b.addr());
    a.link_up().await;
    b.link_up().await;
    guess(&mut b).await;
    assert_eq!(b.net.open().1, 3);
    let mut stream = TcpStream::connect(b.addr()).await.unwrap();
    let mut end = [0; 1];
    let read = timeout(PATIENCE, stream.read(&mut end)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "a fourth guess is not heard");
}

#[tokio::test]
async fn garbage_on_the_port_is_named_once_and_refuses_nobody() {
    let mut b = Peer::start(config(), 2);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(b.addr()).await.unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut end = [0; 1];
        let _ = timeout(PATIENCE, stream.read(&mut end)).await.expect("closed in time");
    }
    let told = b.event().await;
    assert!(matches!(told, NetEvent::Trouble(Trouble::NotQuorate { .. })), "{told:?}");
    assert!(timeout(Duration::from_millis(100), b.event()).await.is_err(), "said once");
    assert_eq!(b.net.counters().handshakes_broken, 3);
    assert_eq!(b.net.counters().peers_refused, 0);
}

#[tokio::test]
async fn links_beyond_the_bound_are_turned_away() {
    let limits = NetLimits { links_max: 2, ..Default::default() };
    let mut b = Peer::start(NetConfig { limits, ..config() }, 2);
    let _one = raw_link(&mut b).await;
    let _two = raw_link(&mut b).await;
    let mut stream = TcpStream::connect(b.addr()).await.unwrap();
    let _three = initiate(&mut stream, &credentials(), NodeId(7)).await.unwrap();
    let mut end = [0; 1];
    let read = timeout(PATIENCE, stream.read(&mut end)).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    assert_eq!(b.net.open().0, 2);
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_neither_a_close_nor_a_shutdown() {
    let limits = NetLimits { flush_timeout: Duration::from_millis(100), ..Default::default() };
    let mut b = Peer::start(NetConfig { limits, ..config() }, 2);
    let (mut closed, _one) = raw_link(&mut b).await;
    let (mut stopped, _two) = raw_link(&mut b).await;
    for link in [1, 2] {
        for _ in 0..8 {
            b.net.send(quorate_core::LinkId(link), vec![0; 4 * 1024 * 1024].into());
        }
    }
    b.net.close(quorate_core::LinkId(1));
    timeout(PATIENCE, b.net.shutdown()).await.expect("a shutdown ends");
    for stream in [&mut closed, &mut stopped] {
        // Nothing was read up to now: what is still in the system's buffers, then the end.
        let rest = timeout(PATIENCE, tokio::io::copy(stream, &mut tokio::io::sink())).await;
        let rest = rest.expect("the connection has ended");
        assert!(rest.is_err() || rest.is_ok_and(|bytes| bytes < 32 * 1024 * 1024));
    }
}
