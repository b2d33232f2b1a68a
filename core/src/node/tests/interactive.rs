//! Interactive transactions through whole nodes: asked for at any of them, open at the owner.

use super::databases::{answer, done, insert, keys, log, owner, sql, with_database, write};
use super::lifecycle::SECOND;
use super::world::World;
use crate::configuration::{ConfigCommand, Defaults, Settings};
use crate::engine::{Transaction, Value};
use crate::ids::LogId;
use crate::shard::{Once, Reply, ShardError, SqlKind, TransactionId};
use crate::{Command, CommandId};

/// Three servers, the number of the owner, and of another one.
fn three() -> (World, LogId, usize, usize) {
    let world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    (world, log, owner, (owner + 1) % 3)
}

fn ask(world: &mut World, at: usize, kind: SqlKind) -> CommandId {
    world.sql(at, "demo", kind, Transaction::default())
}

fn begin(world: &mut World, at: usize) -> TransactionId {
    let id = ask(world, at, SqlKind::Begin);
    match answer(world, at, id) {
        Reply::Began { transaction } => transaction,
        other => panic!("{other:?}"),
    }
}

fn step(world: &mut World, at: usize, of: TransactionId, statements: Transaction) -> Reply {
    let id = world.sql(at, "demo", SqlKind::Step(of), statements);
    answer(world, at, id)
}

fn finish(world: &mut World, at: usize, of: TransactionId, once: Option<Once>) -> Reply {
    let id = ask(world, at, SqlKind::Finish(of, once));
    answer(world, at, id)
}

#[track_caller]
fn lost(reply: &Reply, says: &str) {
    match reply {
        Reply::Failed(ShardError::TransactionLost { reason }) if reason.contains(says) => {}
        other => panic!("{other:?} does not say {says:?}"),
    }
}

fn session(world: &mut World, at: usize, log: LogId) -> Once {
    let id = ask(world, at, SqlKind::OpenSession);
    let Reply::Session { session } = answer(world, at, id) else { panic!("it is not open") };
    let cluster = world.node(at).cluster().unwrap();
    Once { cluster, log, session, sequence: 1, acknowledged: 0 }
}

#[test]
fn any_node_takes_each_call_and_passes_it_on_to_the_owner() {
    let (mut world, log, owner, other) = three();
    let third = (owner + 2) % 3;
    let of = begin(&mut world, other);
    let first = step(&mut world, other, of, insert(1));
    assert!(matches!(first, Reply::Stepped { error: None, .. }), "{first:?}");
    let all = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let Reply::Stepped { rows, error: None } = step(&mut world, third, of, all) else {
        panic!("it failed");
    };
    assert_eq!(rows[0].rows, [[Value::Integer(1), Value::Integer(1)]]);
    assert!(done(&finish(&mut world, owner, of, None)));
    world.run(SECOND / 10);
    (0..3).for_each(|at| assert_eq!(keys(&world, at, log), [1]));
    let of = begin(&mut world, third);
    step(&mut world, third, of, insert(2));
    let id = ask(&mut world, other, SqlKind::Abandon(of));
    assert!(done(&answer(&mut world, other, id)));
    lost(&finish(&mut world, owner, of, None), "abandoned");
    assert!(done(&write(&mut world, other, insert(3))));
    world.run(SECOND / 10);
    (0..3).for_each(|at| assert_eq!(keys(&world, at, log), [1, 3]));
}

#[test]
fn a_killed_owner_takes_it_along_and_what_follows_is_told_so() {
    let (mut world, log, owner, other) = three();
    let of = begin(&mut world, other);
    step(&mut world, other, of, insert(1));
    world.kill(owner);
    lost(&step(&mut world, other, of, insert(2)), "");
    lost(&finish(&mut world, other, of, None), "changed");
    let id = ask(&mut world, other, SqlKind::Abandon(of));
    assert!(done(&answer(&mut world, other, id)));
    assert!(done(&write(&mut world, other, insert(3))));
    world.run(SECOND / 10);
    assert_eq!(keys(&world, other, log), [3]);
}

#[test]
fn a_step_that_is_under_way_over_a_link_that_breaks_is_lost() {
    let (mut world, log, owner, other) = three();
    let of = begin(&mut world, other);
    let id = world.sql(other, "demo", SqlKind::Step(of), insert(1));
    world.cut(owner, other);
    lost(&answer(&mut world, other, id), "");
    // The owner undoes it when nothing has been asked for a while, and others go on.
    let third = (owner + 2) % 3;
    assert!(done(&write(&mut world, third, insert(2))));
    assert_eq!(keys(&world, owner, log), [2]);
}

#[test]
fn a_finish_in_a_session_is_sent_again_when_its_owner_is_lost_and_done_once() {
    let (mut world, log, owner, other) = three();
    let once = session(&mut world, other, log);
    let of = begin(&mut world, other);
    step(&mut world, other, of, insert(1));
    let id = ask(&mut world, other, SqlKind::Finish(of, Some(once)));
    world.run(SECOND / 500);
    world.kill(owner);
    let told = answer(&mut world, other, id);
    world.run(SECOND / 10);
    match &told {
        Reply::Done { .. } => assert_eq!(keys(&world, other, log), [1]),
        _ => {
            assert!(
                matches!(
                    &told,
                    Reply::Failed(ShardError::TransactionLost { .. } | ShardError::OutcomeUnknown)
                ),
                "{told:?}"
            );
        }
    }
    let again = finish(&mut world, other, of, Some(once));
    match keys(&world, other, log).as_slice() {
        [1] => assert!(done(&again), "{again:?}"),
        [] => lost(&again, "changed"),
        other => panic!("{other:?}"),
    }
    let elsewhere = Once { cluster: crate::ClusterId(once.cluster.0 ^ 1), ..once };
    let elsewhere = finish(&mut world, other, of, Some(elsewhere));
    assert_eq!(elsewhere, Reply::Failed(ShardError::SessionExpired));
}

#[test]
fn a_dropped_database_takes_it_along_and_everybody_is_answered() {
    let mut world = with_database(1, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let of = begin(&mut world, 0);
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    world.command(0, Command::Change(drop));
    let step = world.sql(0, "demo", SqlKind::Step(of), insert(1));
    let begin = ask(&mut world, 0, SqlKind::Begin);
    assert!(world.until(SECOND, |w| w.node(0).shard(log).is_none()));
    let told = |id| world.machines[0].answers.get(&id).cloned();
    match told(step) {
        Some(Reply::Stepped { .. }) => {}
        Some(reply) => lost(&reply, "dropped"),
        None => panic!("nobody answers"),
    }
    let begin = told(begin);
    assert!(matches!(begin, Some(Reply::Failed(ShardError::Unavailable(_)))), "{begin:?}");
    let id = ask(&mut world, 0, SqlKind::Step(of));
    let reply = answer(&mut world, 0, id);
    assert!(matches!(reply, Reply::Failed(ShardError::UnknownDatabase { .. })), "{reply:?}");
}
