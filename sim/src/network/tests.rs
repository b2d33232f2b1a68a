//! What the simulated network promises and what it does not.

use bytes::Bytes;
use quorate_core::NodeId;

use super::{Arrival, Cut, Ended, LinkRef, MS, Network, Parcel, address};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::world::{RunRef, What};

/// A network between two hosts with an open link, and what is to come.
fn linked() -> (Network, Queue<What>, LinkRef) {
    let mut plan = Plan::calm(1, 2, 1).network;
    plan.jitter_percent = 300;
    let mut network = Network::new(1, plan);
    let mut queue = Queue::default();
    let ends = [RunRef { host: 0, run: 1 }, RunRef { host: 1, run: 1 }];
    network.open(&mut queue, 0, ends, [NodeId(1), NodeId(2)], address(1));
    let mut opened = None;
    while let Some((_, what)) = queue.pop() {
        if let What::LinkUp { link, side } = what {
            assert_eq!(network.is_up(link, side), Some(ends[side]));
            opened = Some(link);
        }
    }
    (network, queue, opened.expect("both ends learn of it"))
}

fn send(network: &mut Network, queue: &mut Queue<What>, now: u64, link: LinkRef, number: u8) {
    let parcel = Parcel { pre_vote: false, mark: None, bytes: Bytes::from(vec![number]) };
    network.send(queue, now, link.id(0), parcel);
}

/// Everything that arrives at the end that was dialled, in order.
fn received(network: &mut Network, queue: &mut Queue<What>) -> Vec<u8> {
    let mut got = Vec::new();
    while let Some((now, what)) = queue.pop() {
        match what {
            What::Packet { link, side: 1, parcel: Parcel { bytes, .. } } => {
                if let Arrival::Here(_) = network.arrives(link, 1) {
                    got.push(bytes[0]);
                }
            }
            What::Retransmit { link, side } => network.retransmit(queue, now, link, side),
            What::LinkDown { link, side } => {
                network.goes_down(link, side);
            }
            _ => {}
        }
    }
    got
}

#[test]
fn a_stream_keeps_its_order_whatever_the_delays() {
    let (mut network, mut queue, link) = linked();
    for number in 0..100 {
        send(&mut network, &mut queue, 10 * MS + u64::from(number), link, number);
    }
    assert_eq!(received(&mut network, &mut queue), (0..100).collect::<Vec<u8>>());
}

#[test]
fn what_a_partition_holds_up_arrives_in_order_after_it() {
    let (mut network, mut queue, link) = linked();
    network.cuts.begin(Cut::one_way(1, 0b01, 0b10, true, true));
    for number in 0..5 {
        send(&mut network, &mut queue, 10 * MS, link, number);
    }
    network.cuts.heal(1);
    send(&mut network, &mut queue, 11 * MS, link, 5);
    assert_eq!(received(&mut network, &mut queue), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_stream_that_gets_nothing_through_is_given_up_at_both_ends() {
    let (mut network, mut queue, link) = linked();
    network.cuts.begin(Cut::one_way(1, 0b01, 0b10, true, true));
    send(&mut network, &mut queue, 10 * MS, link, 0);
    assert_eq!(received(&mut network, &mut queue), [0_u8; 0]);
    assert!(network.links.get(link).is_none(), "both ends have learnt of it");
}

#[test]
fn a_reset_loses_what_is_on_its_way_and_both_ends_learn_of_it() {
    let (mut network, mut queue, link) = linked();
    send(&mut network, &mut queue, 10 * MS, link, 7);
    network.reset(&mut queue, 10 * MS, link);
    let mut told = [0; 2];
    while let Some((_, what)) = queue.pop() {
        match what {
            What::Packet { link, side, .. } => {
                assert_eq!(network.arrives(link, side), Arrival::Lost);
            }
            What::LinkDown { link, side } => {
                assert!(matches!(network.goes_down(link, side), Ended::Down(_)));
                told[side] += 1;
            }
            _ => {}
        }
    }
    assert_eq!(told, [1, 1]);
}

#[test]
fn a_link_that_has_ended_is_never_taken_for_the_next_one_in_its_place() {
    let (mut network, mut queue, old) = linked();
    network.reset(&mut queue, 0, old);
    received(&mut network, &mut queue);
    let ends = [RunRef { host: 0, run: 2 }, RunRef { host: 1, run: 2 }];
    network.open(&mut queue, 0, ends, [NodeId(1), NodeId(2)], address(1));
    let new = std::iter::from_fn(|| queue.pop()).find_map(|(_, what)| match what {
        What::LinkUp { link, .. } => Some(link),
        _ => None,
    });
    let new = new.expect("opened");
    assert_ne!(new.id(0), old.id(0));
    assert_eq!(LinkRef::of(new.id(1)), (new, 1));
    assert!(network.links.get(old).is_none());
}

#[test]
fn a_multicast_reaches_everyone_but_those_who_are_cut_off() {
    let (mut network, mut queue, _) = linked();
    network.cuts.begin(Cut::one_way(1, 0b001, 0b100, true, false));
    network.multicast(&mut queue, 0, 0, 4, (None, &Bytes::from_static(b"hello")));
    let mut reached: Vec<usize> = Vec::new();
    while let Some((_, what)) = queue.pop() {
        if let What::Datagram { to, .. } = what {
            reached.push(to);
        }
    }
    reached.sort_unstable();
    assert_eq!(reached, [0, 1, 3]);
}
