use super::super::*;
use super::world::World;
use crate::engine::Transaction;
use crate::ids::{ClusterId, NodeId};
use crate::shard::{Consistency, Once, Reply, SessionId, ShardError, SqlKind, Upload};

fn sql(id: u64, kind: SqlKind) -> ToServer {
    let (database, shard, timeout_ms) = ("demo".to_owned(), None, u32::MAX);
    ToServer::Sql { id, database, shard, transaction: Transaction::default(), kind, timeout_ms }
}

fn once() -> Once {
    let session = SessionId::default();
    Once { cluster: ClusterId(1), log: super::world::LOG, session, sequence: 1, acknowledged: 0 }
}

const READ: SqlKind = SqlKind::Read(Consistency::AsConfigured);

#[test]
fn each_may_do_what_his_rights_say_and_nobody_more() {
    let restore = SqlKind::Restore(Upload { node: NodeId(1), number: 1 });
    let cases = [
        (READ, Some(Rights::Read)),
        (SqlKind::Write, Some(Rights::Write)),
        (SqlKind::Once(once()), Some(Rights::Write)),
        (SqlKind::OpenSession, Some(Rights::Write)),
        (SqlKind::Compare, None),
        (restore, None),
    ];
    for (kind, needed) in cases {
        for rights in [Rights::Look, Rights::Read, Rights::Write] {
            let mut service = Service::default();
            let served = service.received(sql(1, kind), rights);
            let may = needed.is_some_and(|needed| rights >= needed);
            match served {
                Ok(Served::Ask(1, request)) => {
                    assert!(may, "{kind:?} {rights:?}");
                    assert_eq!(request.timeout, TIMEOUT_MAX, "however long it asks for");
                    assert_eq!(service.under_way(), 1);
                }
                Ok(Served::Send(ToClient::Denied { id: 1, .. })) => {
                    assert!(!may, "{kind:?} {rights:?}");
                    assert_eq!(service.under_way(), 0);
                }
                other => panic!("{kind:?} {rights:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn each_request_is_answered_once_under_its_number_and_the_number_is_free_then() {
    let mut service = Service::default();
    assert!(matches!(service.received(sql(7, READ), Rights::Read), Ok(Served::Ask(7, _))));
    assert_eq!(service.received(sql(7, READ), Rights::Read), Err(NumberInUse(7)));
    let reply = || Reply::Failed(ShardError::TimedOut);
    let told = service.replied(7, reply(), None);
    assert_eq!(told, Some(ToClient::Reply { id: 7, reply: reply(), of: None }));
    assert_eq!(service.replied(7, reply(), None), None);
    assert!(matches!(service.received(sql(7, READ), Rights::Read), Ok(Served::Ask(7, _))));
    let pong = service.received(ToServer::Ping(9), Rights::Look);
    assert_eq!(pong, Ok(Served::Send(ToClient::Pong(9))));
}

#[test]
fn no_more_is_under_way_than_may_be() {
    let mut service = Service::default();
    for id in 0..FLIGHTS_MAX as u64 {
        assert!(matches!(service.received(sql(id, READ), Rights::Read), Ok(Served::Ask(..))));
    }
    let busy = service.received(sql(u64::MAX, READ), Rights::Read);
    let Ok(Served::Send(ToClient::Reply { reply, .. })) = busy else { panic!("{busy:?}") };
    assert_eq!(reply, Reply::Failed(ShardError::Busy));
    assert_eq!(service.under_way(), FLIGHTS_MAX);
}

#[test]
fn what_a_client_may_not_do_it_is_told_at_once_and_not_asked_of_others() {
    let mut world = World::of(3);
    world.read_only = true;
    let write = world.write(1, 5000);
    world.settle();
    let told = &world.answers[&write];
    assert!(
        matches!(told, Err(ClientError::Denied(reason)) if reason.contains("writer")),
        "{told:?}"
    );
    assert!(world.keys.is_empty());
    // The next is asked anew: a role may have been given meanwhile.
    world.read_only = false;
    let write = world.write(2, 5000);
    world.pass(2_000);
    assert!(world.answers[&write].is_ok(), "{:?}", world.answers);
}
