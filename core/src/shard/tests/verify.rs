use super::super::*;
use super::world::*;
use crate::ids::Index;

#[test]
fn copies_are_hashed_at_one_entry_while_writes_go_on() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let late = world.other_than(owner);
    (0..10).for_each(|key| {
        world.write(owner, insert(key));
    });
    let mark = world.mark(owner);
    let behind: Vec<RequestId> = (10..20).map(|key| world.write(owner, insert(key))).collect();
    // One copy lags far behind the mark, and all are told of what comes after it.
    world.settle_but(&[late]);
    world.run_but(10, &[late]);
    assert_eq!(world.hashes[&mark].len(), 2);
    assert!(behind.iter().all(|id| matches!(world.replies[id], Reply::Done { .. })));
    world.settle();
    let told = &world.hashes[&mark];
    assert_eq!(told.len(), 3);
    let at = told[&late].clone().unwrap().at;
    assert!(at < world.at(late).position(), "not what it is now");
    assert!(told.values().all(|hashed| hashed.as_ref().is_ok_and(|hash| hash.at == at)));
    let next = world.mark(owner);
    world.settle();
    world.run(20);
    assert!(world.hashes[&next][&late].clone().unwrap().at > at);
}

#[test]
fn a_mark_between_a_batch_that_runs_and_its_entry_undoes_nothing() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let id = world.write(owner, insert(1));
    // The batch is with the engine; the mark gets the entry before it.
    let mark = world.mark(owner);
    world.settle();
    world.run(10);
    let Reply::Done { at, .. } = world.replies[&id] else { panic!("{:?}", world.replies[&id]) };
    let hashed = world.hashes[&mark][&owner].clone().unwrap();
    assert!(hashed.at < at);
    assert_eq!(world.hashes[&mark].len(), 3);
    assert_eq!(world.keys(owner), [1].into());
}

#[test]
fn a_copy_that_differs_is_seen_and_one_that_cannot_tell_says_why() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.write(owner, insert(1));
    world.settle();
    world.run(10);
    let bad = world.other_than(owner);
    world.spoiled = true;
    world.hosts.get_mut(&bad).unwrap().engine.spoil("t", 1);
    let mark = world.mark(owner);
    world.settle();
    world.run(10);
    let told = world.hashes[&mark].clone();
    let hash = |node: NodeId| told[&node].clone().unwrap().hash;
    let third = [A, B, C].into_iter().find(|n| ![owner, bad].contains(n)).unwrap();
    assert_eq!(hash(owner), hash(third));
    assert_ne!(hash(owner), hash(bad));

    // It does not fit what comes next, and is broken from then on.
    world.write(owner, add(1, 1));
    world.settle();
    world.run(10);
    assert!(world.at(bad).broken().is_some());
    let mark = world.mark(owner);
    assert!(matches!(&world.hashes[&mark][&bad], Err(NoHash::Failed(why)) if why.contains("fit")));
}

#[test]
fn a_mark_that_does_not_come_in_time_is_told_so_and_forgotten() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let away = world.other_than(owner);
    world.cut(owner, away);
    let mark = world.mark(owner);
    world.run(4000);
    assert!(!world.hashes[&mark].contains_key(&away), "it still may");
    world.run(2000);
    assert_eq!(world.hashes[&mark][&away], Err(NoHash::TooLate));
    world.cut.clear();
    world.run(5000);
    assert_eq!(world.at(away).applied(), world.at(away).log().commit(), "it is passed over");
}

#[test]
fn marks_that_nobody_waits_for_any_more_are_passed_over_by_a_copy_that_begins_anew() {
    let (mut world, owner) = World::led(&[A, B, C]);
    for key in 0..5 {
        world.write(owner, insert(key));
        world.mark(owner);
        world.settle();
    }
    let other = world.other_than(owner);
    world.kill(other, 0, false);
    let host = world.hosts.get_mut(&other).unwrap();
    host.engine = crate::engine::memory::Memory::default();
    world.start(other);
    let mut hashes = 0;
    for _ in 0..500 {
        world.now = world.now + Duration::from_millis(10);
        world.tick_all();
        world.settle_but(&[other]);
        let calls = &world.hosts[&other].calls;
        hashes += calls.iter().filter(|call| matches!(call.what, CallKind::Hash(_))).count();
        world.step_engine(other);
    }
    assert_eq!(hashes, 0);
    assert_eq!(world.keys(other).len(), 5);
    assert!(world.at(other).position().index > Index(5));
}
