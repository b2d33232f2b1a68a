//! What a log keeps in memory and on disk, and for whom.

use std::time::Duration;

use super::super::*;
use super::world::*;
use crate::marks::reaches;
use crate::raft::{Snapshot, Unreadable};
use crate::storage::Window;

/// A world whose logs keep three entries in memory, and let go of nothing on disk.
fn narrow() -> (World, NodeId) {
    let (mut world, _) = World::led(&[A, B, C]);
    world.window = Window { entries_max: 3, bytes_max: usize::MAX };
    restart(&mut world);
    world.run(3000);
    let owner = world.owner().expect("somebody leads");
    (world, owner)
}

/// A world whose logs let go of whatever they may.
fn sparing(change: impl FnOnce(&mut ShardLimits)) -> (World, NodeId) {
    let (mut world, _) = World::led(&[A, B, C]);
    world.window = Window { entries_max: 3, bytes_max: usize::MAX };
    world.limits.sync_after = 1;
    world.limits.retain_bytes = 1;
    world.limits.retain_age = Duration::ZERO;
    change(&mut world.limits);
    restart(&mut world);
    world.run(3000);
    let owner = world.owner().expect("somebody leads");
    (world, owner)
}

fn restart(world: &mut World) {
    for node in [A, B, C] {
        world.kill(node, usize::MAX, false);
        world.start(node);
    }
}

fn write(world: &mut World, owner: NodeId, keys: std::ops::Range<i64>) {
    for key in keys {
        world.write(owner, insert(key));
        world.settle();
    }
}

fn base(world: &World, node: NodeId) -> Index {
    world.at(node).log().snapshot().index
}

#[test]
fn a_copy_that_is_far_behind_its_log_when_it_is_opened_reads_it_back_from_the_disk() {
    let (mut world, owner) = narrow();
    let other = world.other_than(owner);
    write(&mut world, owner, 0..40);
    // Nothing of it was durable in the copy; all of it is in the log.
    world.kill(other, usize::MAX, true);
    assert_eq!(world.keys(other).len(), 0);
    world.start(other);
    let reads = world.reads;
    world.run(500);
    assert_eq!(world.keys(other).len(), 40);
    assert!(world.reads > reads + 10, "three entries at a time");
    assert_eq!(world.at(other).applied(), world.at(other).log().commit());
}

#[test]
fn a_copy_that_fails_while_entries_are_read_for_it_goes_on_from_where_it_is() {
    let (mut world, owner) = narrow();
    let other = world.other_than(owner);
    write(&mut world, owner, 0..20);
    world.kill(other, usize::MAX, true);
    world.start(other);
    for _ in 0..5 {
        world.step_engine(other);
        let fault = crate::engine::Fault::Io("as told".to_owned());
        world.hosts.get_mut(&other).unwrap().engine.fail = Some(fault);
        world.run(60);
        world.hosts.get_mut(&other).unwrap().engine.fail = None;
        world.answer_read(other);
    }
    world.run(2000);
    assert_eq!(world.keys(other).len(), 20);
}

#[test]
fn a_copy_whose_log_cannot_be_read_back_stops_and_says_so() {
    let (mut world, owner) = narrow();
    let other = world.other_than(owner);
    write(&mut world, owner, 0..20);
    world.kill(other, usize::MAX, true);
    world.start(other);
    world.step_engine(other);
    let read = world.hosts.get_mut(&other).unwrap().wanted.pop_front().expect("it reads");
    let index = read.from.next();
    world.with(other, |shard, now| shard.log_read(now, read.id, Err(Unreadable { index })));
    assert!(world.at(other).broken().is_some());
    assert_eq!(world.with(other, |shard, _| shard.take_unreadable()), Some(index));
    assert_eq!(world.with(other, |shard, _| shard.take_unreadable()), None, "told once");
    // Its log goes on.
    world.run(500);
    assert_eq!(world.at(other).log().commit(), world.at(owner).log().commit());
}

#[test]
fn whoever_lacks_an_unreadable_entry_that_changes_no_copy_gets_one_all_the_same() {
    reaches!(UnreadableSteppedOver);
    let (mut world, owner) = narrow();
    let other = world.other_than(owner);
    write(&mut world, owner, 0..5);
    let stands = world.at(owner).log().commit();
    let voters = [A, B, C].into_iter().filter(|node| *node != other);
    voters.for_each(|node| world.cut(other, node));
    // Entries that change no copy, more of them than are in memory.
    for _ in 0..6 {
        world.mark(owner);
        world.settle();
    }
    let last = world.at(owner).log().commit();
    let lost = stands.next().next();
    world.hosts.get_mut(&owner).expect("a host").unreadable = Some(lost);
    world.cut.clear();
    world.run(1000);
    assert_eq!(world.at(other).log().wanted(), Some(lost));
    assert!(!world.copy_to(other), "no copy stands there");
    for _ in 0..3 {
        world.with(owner, |shard, now| shard.bring_copies_to(now, lost));
        world.settle();
    }
    assert_eq!(world.at(owner).log().commit(), last.next(), "one entry, and no more");
    assert!(world.copy_to(other), "now there is one");
    world.run(1000);
    assert_eq!(world.at(other).applied(), last.next());
    assert_eq!(world.keys(other).len(), 5);
}

#[test]
fn a_copy_that_cannot_read_an_entry_back_does_not_take_one_that_has_to_read_it_too() {
    let (mut world, owner) = narrow();
    let other = world.other_than(owner);
    for _ in 0..6 {
        world.mark(owner);
        world.settle();
    }
    let lost = Index(world.at(other).log().commit().0 - 4);
    world.kill(other, usize::MAX, true);
    world.start(other);
    world.hosts.get_mut(&other).expect("a host").unreadable = Some(lost);
    world.run(1000);
    assert!(world.at(other).broken().is_some());
    assert_eq!(world.at(other).needs_copy(), Some(lost));
}

#[test]
fn a_log_never_begins_behind_what_is_durable_in_its_copy() {
    // The world checks it at every step. Here the copies are made durable only on demand.
    let (mut world, owner) = sparing(|limits| limits.sync_after = 10);
    for key in 0..60 {
        world.write(owner, insert(key));
        world.settle();
        for node in [A, B, C] {
            assert!(base(&world, node) <= world.at(node).synced().index);
        }
    }
    assert!(base(&world, owner) > Index(30), "it is compacted nevertheless");
    // Killed, a copy holds more than what is durable in it. It does not take the one for the other.
    let other = world.other_than(owner);
    world.kill(other, usize::MAX, false);
    world.start(other);
    world.run(100);
    world.kill(other, usize::MAX, true);
    world.start(other);
    world.run(1000);
    assert_eq!(world.at(other).broken(), None);
    assert_eq!(world.keys(other).len(), 60);
}

#[test]
fn what_is_held_for_a_peer_stays_until_it_is_let_go_of_or_the_time_is_up() {
    let (mut world, owner) = sparing(|_| {});
    write(&mut world, owner, 0..10);
    let peer = NodeId(9);
    let from = base(&world, owner);
    assert!(from > Index(5));
    let until = world.now + Duration::from_secs(2);
    assert!(world.with(owner, |shard, now| shard.hold(now, peer, from, until)));
    write(&mut world, owner, 10..30);
    assert_eq!(base(&world, owner), from);
    world.with(owner, |shard, _| shard.release(peer));
    write(&mut world, owner, 30..31);
    let next = base(&world, owner);
    assert!(next > Index(from.0 + 15));
    let gone = world.with(owner, |shard, now| shard.hold(now, peer, from, until));
    assert!(!gone, "what is gone cannot be held");
    assert!(world.with(owner, |shard, now| shard.hold(now, peer, next, until)));
    world.run(1000);
    write(&mut world, owner, 31..40);
    assert_eq!(base(&world, owner), next);
    world.run(1500);
    write(&mut world, owner, 40..41);
    assert!(base(&world, owner) > Index(next.0 + 5), "the time is up");
}

#[test]
fn holds_are_bounded_and_a_peer_has_one() {
    reaches!(HoldRefused);
    let (mut world, owner) = sparing(|limits| limits.holds_max = 2);
    let until = world.now + Duration::from_secs(60);
    let last = world.at(owner).log().last_index();
    let mut hold = |peer: u128, index| {
        world.with(owner, |shard, now| shard.hold(now, NodeId(peer), index, until))
    };
    assert!(hold(10, last) && hold(11, last) && !hold(12, last));
    assert!(hold(10, last.next()), "in place of its own");
}

#[test]
fn a_log_keeps_so_many_bytes_and_what_is_young() {
    // Each entry takes some fifty bytes.
    let (mut world, owner) = sparing(|limits| limits.retain_bytes = 1000);
    write(&mut world, owner, 0..100);
    let kept = world.at(owner).log().last_index().0 - base(&world, owner).0;
    assert!((8..40).contains(&kept), "{kept} entries kept");
    let (mut world, owner) = sparing(|limits| limits.retain_age = Duration::from_secs(10));
    write(&mut world, owner, 0..100);
    assert_eq!(base(&world, owner), Index::ZERO);
    world.run(12_000);
    write(&mut world, owner, 100..101);
    assert!(base(&world, owner) > Index(80), "grown old");
    let (mut world, owner) = sparing(|limits| {
        limits.retain_age = Duration::from_secs(1000);
        limits.retain_bytes_max = 2000;
    });
    write(&mut world, owner, 0..200);
    let kept = world.at(owner).log().last_index().0 - base(&world, owner).0;
    assert!((10..80).contains(&kept), "{kept} entries kept: young, and too many");
}

#[test]
fn a_leader_keeps_what_a_member_in_reach_lacks_but_not_without_bound() {
    let (mut world, owner) = sparing(|limits| limits.retain_bytes_max = 4000);
    let slow = world.other_than(owner);
    let third = [A, B, C].into_iter().find(|n| *n != owner && *n != slow).unwrap();
    write(&mut world, owner, 0..5);
    // It answers heartbeats, and nothing else comes through.
    let keep_slow = |world: &mut World, keys: std::ops::Range<i64>| {
        for key in keys {
            world.write(owner, insert(key));
            for _ in 0..30 {
                for node in [owner, third] {
                    while world.persist(node) {}
                    while world.step_engine(node) {}
                    while world.answer_read(node) {}
                }
                for (from, to) in [(owner, third), (third, owner), (slow, owner)] {
                    while world.deliver(from, to) {}
                }
                let wire = world.wires.entry((owner, slow)).or_default();
                wire.retain(|m| matches!(m.body, crate::raft::Body::Heartbeat { .. }));
                while world.deliver(owner, slow) {}
            }
            world.now = world.now + Duration::from_millis(20);
            world.tick_all();
        }
    };
    keep_slow(&mut world, 5..30);
    let held = world.at(slow).log().last_index();
    assert!(world.at(owner).log().commit() > Index(held.0 + 20));
    assert!(base(&world, owner) <= held, "{} is kept for it", held);
    assert!(base(&world, third) > held, "only the leader knows of it");
    keep_slow(&mut world, 30..200);
    assert!(base(&world, owner) > held, "too far behind");
}

#[test]
fn a_copy_is_made_durable_when_many_bytes_were_given_to_it() {
    let (mut world, _) = World::led(&[A, B, C]);
    world.limits.sync_after = 1_000_000;
    world.limits.sync_after_bytes = 100;
    restart(&mut world);
    world.run(3000);
    let owner = world.owner().expect("somebody leads");
    write(&mut world, owner, 0..50);
    world.run(30);
    for node in [A, B, C] {
        let (held, durable) = (world.at(node).position().index.0, world.at(node).synced().index.0);
        assert!(durable > 0 && held - durable < 30, "{node:?}: {durable} of {held}");
    }
}

#[test]
fn what_is_in_a_copy_is_known_to_be_committed_when_nobody_else_can_tell() {
    let (mut world, _) = World::led(&[A, B, C]);
    let owner = world.owner().expect("somebody leads");
    write(&mut world, owner, 0..5);
    world.run(500);
    let held = world.at(owner).applied();
    for node in [A, B, C] {
        world.kill(node, usize::MAX, false);
        // The commit index is written along with what comes next: nothing came.
        world.hosts.get_mut(&node).unwrap().disk.hard_state.commit = Index(1);
    }
    world.start(owner);
    world.settle();
    assert_eq!(world.at(owner).log().commit(), held);
    assert_eq!(world.at(owner).serves_copies_of(), Some(world.at(owner).position().index));
}

#[test]
fn a_copy_that_the_log_begins_behind_by_now_does_not_take_the_live_ones_place() {
    reaches!(InstallRefused);
    let (mut world, owner) = sparing(|limits| limits.sync_after = 10);
    let fetched = world.at(owner).base_at(Position::default());
    let fetched = fetched.expect("the log reaches back to the beginning");
    for key in 0..60 {
        world.write(owner, insert(key));
        world.settle();
    }
    assert!(base(&world, owner) > fetched.index);
    let generation = world.at(owner).next_generation();
    assert!(!world.with(owner, |shard, now| shard.install(now, generation, fetched.clone())));
    assert!(world.at(owner).is_open(), "it goes on with what it has");
    world.settle();
    assert_eq!(world.keys(owner).len(), 60);
}

/// It takes the place of the live one.
fn takes_its_place(world: &mut World, node: NodeId, base: Snapshot) -> bool {
    let generation = world.at(node).next_generation();
    world.with(node, |shard, now| shard.install(now, generation, base))
}

#[test]
fn a_log_is_kept_for_a_copy_that_takes_the_place_of_one_that_held_more() {
    let (mut world, owner) = sparing(|_| {});
    write(&mut world, owner, 0..10);
    let (fetched, engine) = sent(&world.hosts[&owner]);
    let (peer, until) = (NodeId(9), world.now + Duration::from_secs(60));
    assert!(world.with(owner, |shard, now| shard.hold(now, peer, fetched.index, until)));
    write(&mut world, owner, 10..30);
    assert!(world.at(owner).synced().index > fetched.index);
    world.hosts.get_mut(&owner).unwrap().engine = engine;
    assert!(takes_its_place(&mut world, owner, fetched.clone()));
    // Nobody else needs them any more, and the log is looked at before the copy is opened.
    world.with(owner, |shard, now| {
        shard.release(peer);
        shard.tick(now);
    });
    assert!(base(&world, owner) <= fetched.index);
    world.run(1000);
    assert_eq!(world.at(owner).broken(), None);
    assert_eq!(world.keys(owner).len(), 30);
}

#[test]
fn a_copy_from_before_a_file_became_the_content_does_not_take_the_live_ones_place() {
    reaches!(InstallRefused);
    let (mut world, owner) = narrow();
    write(&mut world, owner, 0..5);
    let (fetched, _) = sent(&world.hosts[&owner]);
    let placed = Index(fetched.index.0 + 1);
    world.with(owner, |shard, _| {
        shard.restore.placed = Some((StageId::default(), placed));
        shard.restore_is_recorded();
    });
    assert!(!takes_its_place(&mut world, owner, fetched), "the file is gone");
    assert!(world.at(owner).is_open(), "it goes on with what it has");
    write(&mut world, owner, 5..8);
    let (fetched, engine) = sent(&world.hosts[&owner]);
    world.hosts.get_mut(&owner).unwrap().engine = engine;
    assert!(takes_its_place(&mut world, owner, fetched));
    world.run(1000);
    assert_eq!(world.keys(owner).len(), 8);
}

#[test]
fn what_is_durable_in_a_copy_in_order_is_the_least_that_takes_its_place() {
    let (mut world, owner) = sparing(|limits| limits.sync_after = 10);
    write(&mut world, owner, 0..35);
    let (synced, held) = (world.at(owner).synced().index, world.at(owner).position().index);
    assert!(synced < held);
    assert_eq!(world.at(owner).least_successor(), synced);
    // Of what it finds at its start it does not know how much of it was synced.
    restart(&mut world);
    world.run(3000);
    assert!(world.at(owner).least_successor() >= held);
}
