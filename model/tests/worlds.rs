//! Small worlds to their end, and that a search would say so if something were wrong.

use quorate_model::{Cluster, Law, Search, World, search};

fn check(name: &str) {
    let world = World::named(name).expect("there is such a world");
    let outcome = search(Cluster::new(world), Search::default(), |_, _| {});
    println!("{}", outcome.line(world));
    assert!(outcome.is_good() && outcome.complete, "{}", outcome.trouble());
    assert!(outcome.unique > 10, "hardly anything can happen in {name}");
}

#[test]
fn two_campaigns_for_one_term_elect_at_most_one() {
    check("contention");
}

#[test]
fn a_leader_of_two_that_removes_itself_loses_nothing() {
    check("two-removal");
}

#[test]
fn of_two_one_crashes_between_write_and_sync_and_nothing_committed_is_lost() {
    check("two-crash");
}

#[test]
fn a_voter_that_crashes_votes_once_a_term() {
    check("vote");
}

#[test]
fn a_learner_is_never_counted() {
    check("learner");
}

#[test]
fn three_logs_that_differ_become_one() {
    check("diverged");
}

#[test]
fn an_entry_survives_a_change_of_leader() {
    check("replication-1");
}

/// An adapter that says that a write is durable when it is not: no log survives that.
#[test]
fn disks_that_lie_are_found_out() {
    let world = World::named("two-crash").unwrap();
    let outcome = search(Cluster::with_lying_disks(world), Search::default(), |_, _| {});
    let (broken, steps) = outcome.broken.expect("what was committed is lost");
    assert_eq!(broken.law, Law::CommittedStays, "{}", broken.what);
    assert!(!outcome.complete && steps.len() < 20, "{} steps", steps.len());
}

/// What is expected and not reached makes a search fail.
#[test]
fn a_mark_that_is_not_reached_is_told() {
    let mut world = World::named("contention").unwrap().clone();
    world.expected = &[quorate_model::Mark::ChangeDone];
    let outcome = search(Cluster::new(&world), Search::default(), |_, _| {});
    assert!(outcome.complete && !outcome.is_good());
    assert!(outcome.trouble().contains("NOT REACHED: a change of membership done"));
}
