//! A log begins once, on the disks of its first voters.

use std::collections::BTreeSet;

use super::super::{ConfigCommand, Configuration, DatabaseRules, RemoveReason, apply};
use super::{
    add_shard, after, away, born, cluster, configure, create, join, node, nodes, on, remove, role,
    rules, shard,
};
use crate::ids::{ClusterId, ConfigVersion, Index, LogId, NodeId, Term};
use crate::raft::Quorum;

/// A store that has begun nothing.
const NONE: ConfigVersion = ConfigVersion::ZERO;

/// Who may write the first entry of a shard's log.
fn unborn(document: &Configuration, name: &str) -> BTreeSet<NodeId> {
    let shard = shard(document, name).shard;
    (1..20).map(NodeId).filter(|id| shard.first_entry(*id, NONE).is_some()).collect()
}

fn founded(names: &[&str]) -> Configuration {
    after(&cluster(names), &create(&rules(&[("notes", "a +")])))
}

#[test]
fn the_first_voters_are_the_masters_that_are_there_with_the_owner_as_tie_breaker() {
    let document = after(&cluster(&["a", "b", "c", "r"]), &away(2));
    let document = after(&document, &role(4, super::Role::Replica));
    let document = after(&document, &create(&rules(&[("notes", "c a b r")])));
    let founding = shard(&document, "notes").shard.founding.clone().unwrap();
    assert_eq!(founding.first.incoming.voters, nodes(&[1, 3]));
    assert_eq!(founding.first.incoming.tie_breaker, Some(node(3)), "its owner");
    assert_eq!((founding.first.version, founding.first.outgoing), (document.version, None));
    assert_eq!(unborn(&document, "notes"), nodes(&[1, 3]));
    assert_eq!(shard(&document, "notes").shard.first_entry(node(2), NONE), None);
}

#[test]
fn every_voter_writes_the_same_first_entry_however_late() {
    let document = founded(&["a", "b", "c"]);
    let entry = shard(&document, "notes").shard.first_entry(node(1), NONE).unwrap();
    let later = after(&after(&document, &join(4, "d")), &away(1));
    let later = after(&later, &born(&later, "notes", &[1, 2]));
    assert_eq!(shard(&later, "notes").shard.first_entry(node(3), NONE), Some(entry.clone()));
    assert_eq!((entry.index, entry.term), (Index(1), Term(1)));
    assert_eq!(unborn(&later, "notes"), nodes(&[3]));
    assert_eq!(unborn(&after(&later, &born(&later, "notes", &[3])), "notes"), nodes(&[]));
}

/// The counter-example: `{a, b, c}` found the log, it goes on as `{a, d, e}`, and b and c come to be
/// placed there again. Could they write the first entry anew, they would be two of its three voters
/// and elect a leader of their own.
#[test]
fn two_that_were_moved_away_and_placed_again_do_not_make_a_second_set_of_voters() {
    let there = after(&cluster(&["a", "b", "c", "d", "e"]), &create(&rules(&[("notes", "a b c")])));
    let first = shard(&there, "notes").shard.founding.clone().unwrap().first;
    // The leader had not heard of b and c when it told of itself; they hold the log all the same.
    let there = after(&there, &born(&there, "notes", &[1]));
    let moved = after(&there, &configure(&rules(&[("notes", "a d e")])));
    let placed_again = after(&moved, &configure(&rules(&[("notes", "a b c")])));
    let able = unborn(&placed_again, "notes");
    assert!(!Quorum::of(&first).is_met(|id| able.contains(&id)), "{able:?} could elect a leader");
    assert_eq!(able, nodes(&[]));
}

#[test]
fn one_that_lost_its_place_or_was_removed_never_begins_a_log_again() {
    let document = founded(&["a", "b", "c"]);
    let gone = after(&document, &remove(2, RemoveReason::Unreachable));
    let again = after(&gone, &join(2, "b"));
    assert_eq!(unborn(&again, "notes"), nodes(&[1, 3]));
    let by_wipe = after(&after(&document, &away(3)), &join(9, "c"));
    assert_eq!(unborn(&by_wipe, "notes"), nodes(&[1, 2]));
}

#[test]
fn a_node_that_goes_through_old_versions_again_begins_nothing_twice() {
    let document = founded(&["a", "b", "c"]);
    let begun = document.logs_to_begin(node(2), NONE);
    assert_eq!(begun.iter().map(|(log, _)| *log).collect::<Vec<_>>(), [LogId(1), LogId(2)]);
    // It has moved away and dropped its copies, and restarts with the version that made them.
    assert_eq!(document.logs_to_begin(node(2), document.version), []);
    // What was made since it last looked is begun, however late.
    let later = after(&document, &add_shard("late", &on("+")));
    let later = after(&later, &away(1));
    let begun = later.logs_to_begin(node(2), document.version);
    assert_eq!(begun.iter().map(|(log, _)| *log).collect::<Vec<_>>(), [LogId(3)]);
    assert_eq!(later.logs_to_begin(node(9), NONE), [], "no voter of any");
}

#[test]
fn those_without_whom_a_log_could_never_begin_may_still_begin_it_when_they_come_back() {
    // a is the tie-breaker of {a, b}: it crashes before it has written anything, and is removed.
    let document = founded(&["a", "b"]);
    let gone = after(&document, &remove(1, RemoveReason::Unreachable));
    assert_eq!(unborn(&gone, "notes"), nodes(&[1, 2]), "b alone could not decide");
    let back = after(&gone, &join(1, "a"));
    assert_eq!(unborn(&back, "notes"), nodes(&[1, 2]));
    // Once there was a leader the log exists without it.
    let led = after(&gone, &born(&gone, "notes", &[2]));
    assert_eq!(unborn(&led, "notes"), nodes(&[]));
}

#[test]
fn before_there_was_a_leader_those_that_may_begin_the_log_can_always_decide() {
    // Whatever is removed of one to five voters, in whatever order and with returns in between.
    for count in 1..=5_u128 {
        let names = ["a", "b", "c", "d", "e", "f"];
        let document = founded(&names[..count as usize]);
        let document = after(&document, &join(6, "f"));
        let first = shard(&document, "notes").shard.founding.clone().unwrap().first;
        for seed in 0..200_u64 {
            let mut held = Some(document.clone());
            let mut random = seed;
            for _ in 0..8 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let who = u128::from((random >> 33) % 5 + 1);
                let name = names[usize::try_from(who).unwrap() - 1];
                let command = match (random >> 40) % 3 {
                    0 if who <= count => join(who, name),
                    _ => remove(who, RemoveReason::Unreachable),
                };
                let _ = apply(&mut held, &command);
                let able = unborn(held.as_ref().unwrap(), "notes");
                assert!(Quorum::of(&first).is_met(|id| able.contains(&id)), "{able:?} {first:?}");
            }
        }
    }
}

#[test]
fn a_shard_that_is_added_later_is_founded_by_those_that_are_there_then() {
    let document = after(&cluster(&["a", "b"]), &create(&DatabaseRules::default()));
    let document = after(&after(&document, &join(3, "c")), &add_shard("notes", &on("+")));
    assert_eq!(unborn(&document, "notes"), nodes(&[1, 2, 3]));
    assert_eq!(unborn(&document, "main"), nodes(&[1, 2]));
}

#[test]
fn what_was_founded_is_never_founded_again_whatever_becomes_of_its_holders() {
    let document = founded(&["a", "b"]);
    let document = after(&document, &born(&document, "notes", &[1, 2]));
    let document = after(&document, &join(3, "c"));
    let document = after(&document, &remove(1, RemoveReason::Unreachable));
    // The last one comes back with an empty disk.
    let document = after(&after(&document, &away(2)), &join(9, "b"));
    assert_eq!(unborn(&document, "notes"), nodes(&[]));
    assert_eq!(shard(&document, "notes").preferred_leader(), None);
}

#[test]
fn a_recovery_lets_the_survivor_alone_begin_what_nobody_was_seen_to_hold() {
    let document = after(
        &cluster(&["a", "b", "c"]),
        &create(&rules(&[("both", "a b"), ("held", "a b"), ("other", "a c")])),
    );
    let document = after(&document, &born(&document, "held", &[2]));
    let command = ConfigCommand::Recover { cluster: ClusterId(7), survivor: node(2) };
    let recovered = after(&document, &command);
    let both = shard(&recovered, "both").shard.founding.clone().unwrap();
    assert_eq!((both.first.incoming.voters, both.unborn), (nodes(&[2]), nodes(&[2])));
    assert_eq!((both.first.version, both.led), (recovered.version, false));
    assert_eq!(shard(&recovered, "held").shard.founding, None, "it has the log");
    let other = shard(&recovered, "other").shard;
    assert_eq!((&other.founding, other.copies.len()), (&None, 0), "never founded by another");
    assert_eq!(recovered.turns, [node(2)]);
    assert!(logs_are_kept(&document, &recovered));
}

fn logs_are_kept(before: &Configuration, after: &Configuration) -> bool {
    super::logs(before) == super::logs(after) && before.last_log == after.last_log
}
