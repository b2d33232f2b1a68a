use std::time::Duration;

use super::super::*;
use super::world::*;
use crate::engine::{Position, SqlError, SqlErrorKind};
use crate::ids::{ConfigVersion, Index, LogId, NodeId};
use crate::marks::reaches;
use crate::shard::{ShardError, Token};

fn is_done(world: &World, ticket: TicketId) -> bool {
    matches!(world.answers.get(&ticket), Some(Ok(_)))
}

#[test]
fn a_write_goes_to_a_server_and_is_answered() {
    let mut world = World::of(3);
    let ticket = world.write(1, 1000);
    world.settle();
    assert!(is_done(&world, ticket), "{:?}", world.answers);
    assert_eq!(world.keys[&1], 1);
    assert_eq!(world.conns.len(), 1, "one server is enough");
}

#[test]
fn a_server_that_dies_with_an_answer_on_its_way_is_replaced_and_nothing_is_done_twice() {
    let mut world = World::of(3);
    let first = world.using().expect("one is in use");
    world.mood(u8::try_from(first.0).unwrap(), Mood::DoesAndDrops);
    let tickets: Vec<TicketId> = (1..=5).map(|key| world.write(key, 2000)).collect();
    world.settle();
    world.pass(1000);
    assert!(tickets.iter().all(|ticket| is_done(&world, *ticket)), "{:?}", world.answers);
    assert!(world.keys.values().all(|times| *times == 1), "{:?}", world.keys);
    assert_ne!(world.using(), Some(first));
}

#[test]
fn a_server_that_is_silent_is_left_within_the_time_that_it_is_given() {
    let mut world = World::of(3);
    let first = world.using().expect("one is in use");
    world.mood(u8::try_from(first.0).unwrap(), Mood::Frozen);
    let ticket = world.write(1, 10_000);
    world.settle();
    world.pass(1400);
    assert!(!is_done(&world, ticket));
    world.pass(300);
    assert!(is_done(&world, ticket), "{:?}", world.answers);
    assert_ne!(world.using(), Some(first));
}

#[test]
fn one_that_is_cut_off_from_the_others_is_left_before_its_error_is_told() {
    let missing = vec![NodeId(2)];
    for error in [
        ShardError::NoQuorum { missing, needed: 2, voters: 3 },
        ShardError::NotOwner { owner: None },
        ShardError::Unavailable("its disk is full".to_owned()),
        ShardError::TimedOut,
    ] {
        let mut world = World::of(3);
        let ready = world.write(0, 1000);
        world.settle();
        assert!(is_done(&world, ready));
        let first = world.using().expect("one is in use");
        world.mood(u8::try_from(first.0).unwrap(), Mood::Says(error.clone()));
        let ticket = world.write(1, 5000);
        world.settle();
        world.pass(500);
        assert!(is_done(&world, ticket), "{error}: {:?}", world.answers);
        assert_ne!(world.using(), Some(first), "{error}");
    }
}

#[test]
fn what_all_servers_say_is_told() {
    let mut world = World::of(3);
    let missing = vec![NodeId(2)];
    let error = ShardError::NoQuorum { missing, needed: 2, voters: 3 };
    for server in 1..=3 {
        world.mood(server, Mood::Says(error.clone()));
    }
    let ticket = world.write(1, 60_000);
    world.settle();
    world.pass(3000);
    assert_eq!(world.answers[&ticket], Err(ClientError::Shard(error)));
}

#[test]
fn an_error_of_the_statement_is_told_at_once() {
    let mut world = World::of(3);
    let sql = SqlError {
        kind: SqlErrorKind::Constraint,
        code: 19,
        message: "no".to_owned(),
        statement: 0,
    };
    let ready = world.write(0, 1000);
    world.settle();
    assert!(is_done(&world, ready));
    for server in 1..=3 {
        world.mood(server, Mood::Says(ShardError::Sql(sql.clone())));
    }
    let ticket = world.write(1, 1000);
    world.settle();
    assert_eq!(world.answers[&ticket], Err(ClientError::Shard(ShardError::Sql(sql))));
}

#[test]
fn with_all_servers_away_a_long_call_succeeds_and_a_short_one_fails_and_none_is_done_twice() {
    let mut world = World::of(3);
    let before = world.write(1, 1000);
    world.settle();
    assert!(is_done(&world, before));
    let first = u8::try_from(world.using().expect("one is in use").0).unwrap();
    let others: Vec<u8> = (1..=3).filter(|server| *server != first).collect();
    others.iter().for_each(|server| world.crash(*server));
    // The last one does it and dies.
    world.mood(first, Mood::DoesAndDrops);
    let sent = world.write(2, 30_000);
    world.there.retain(|(_, message)| matches!(message, ToServer::Sql { .. }));
    while world.step_there() {}
    world.crash(first);
    let (short, long) = (world.write(3, 3000), world.write(4, 30_000));
    world.pass(10_000);
    assert!(
        matches!(world.answers[&short], Err(ClientError::TimedOut { .. })),
        "{:?}",
        world.answers[&short]
    );
    assert!(!world.answers.contains_key(&sent) && !world.answers.contains_key(&long));
    for server in 1..=3 {
        world.mood(server, Mood::Well);
        world.start(server);
    }
    world.pass(3000);
    assert!(is_done(&world, sent) && is_done(&world, long), "{:?}", world.answers);
    assert_eq!(world.keys.get(&3), None);
    assert!([2, 4].iter().all(|key| world.keys[key] == 1), "{:?}", world.keys);
}

#[test]
fn what_was_sent_and_never_answered_is_told_as_unknown() {
    reaches!(WriteInDoubt);
    let mut world = World::of(1);
    let ready = world.write(0, 1000);
    world.settle();
    assert!(is_done(&world, ready));
    world.mood(1, Mood::DoesAndDrops);
    let ticket = world.write(1, 2000);
    world.step_there();
    world.crash(1);
    world.pass(3000);
    let answer = &world.answers[&ticket];
    assert!(matches!(answer, Err(ClientError::OutcomeUnknown { .. })), "{answer:?}");
}

#[test]
fn a_session_that_ended_is_replaced_and_what_may_have_run_in_it_is_not_sent_in_another() {
    let mut world = World::of(3);
    let first = world.write(1, 1000);
    world.settle();
    assert!(is_done(&world, first));
    world.sessions.clear();
    let second = world.write(2, 1000);
    world.settle();
    assert!(is_done(&world, second), "{:?}", world.answers);
    // This one runs, and before it is asked for again its session ends.
    let using = u8::try_from(world.using().expect("one is in use").0).unwrap();
    world.mood(using, Mood::DoesAndDrops);
    let third = world.write(3, 5000);
    world.step_there();
    world.sessions.clear();
    world.settle();
    world.pass(1000);
    let answer = &world.answers[&third];
    assert!(matches!(answer, Err(ClientError::OutcomeUnknown { .. })), "{answer:?}");
    assert_eq!(world.keys[&3], 1);
}

#[test]
fn who_reads_sees_what_it_wrote_and_read_before_on_whatever_server() {
    let mut world = World::of(3);
    let ticket = world.write(1, 1000);
    world.settle();
    let Ok(Done { at, .. }) = &world.answers[&ticket] else { panic!("it is done") };
    let wrote = at.index;
    // The other copies are behind; the one in use dies.
    let first = u8::try_from(world.using().expect("one is in use").0).unwrap();
    world.crash(first);
    let read = world.request(Kind::Read(Reading::Session), 0, 5000);
    world.pass(500);
    assert!(!world.answers.contains_key(&read), "no copy has it yet");
    for server in world.servers.values_mut() {
        server.applied = wrote.0;
    }
    world.pass(2000);
    match &world.answers[&read] {
        Ok(Done { at, .. }) => assert!(at.index >= wrote),
        other => panic!("{other:?}"),
    }
    // One that asks for less gets what there is.
    let last = world.servers.values_mut().filter(|s| s.up);
    last.for_each(|server| server.applied = 0);
    let read = world.request(Kind::Read(Reading::Local), 0, 1000);
    world.settle();
    assert!(matches!(&world.answers[&read], Ok(Done { at, .. }) if at.index.0 == 0));
}

#[test]
fn a_read_since_a_token_from_elsewhere_has_seen_that_and_what_was_seen_here() {
    let mut world = World::of(1);
    let ticket = world.write(1, 1000);
    world.settle();
    let Ok(Done { at, of: Some(of), .. }) = world.answers[&ticket].clone() else {
        panic!("it is done, and says where")
    };
    let token = |index: u64| Token {
        database: of.database,
        log: of.log,
        at: Position { index: Index(index), ..at },
    };
    // Somebody else has seen more than this client: nothing is answered before the copy has that.
    let ahead = at.index.0 + 5;
    let read = world.request(Kind::Read(Reading::Since(token(ahead))), 0, 5000);
    world.pass(500);
    assert!(!world.answers.contains_key(&read), "the copy has not what the token stands for");
    world.servers.values_mut().for_each(|server| server.applied = ahead);
    world.pass(2000);
    assert!(matches!(&world.answers[&read], Ok(Done { at, .. }) if at.index.0 >= ahead));
    // Somebody else has seen less: what this client has seen itself is not taken back.
    world.servers.values_mut().for_each(|server| server.applied = at.index.0);
    let read = world.request(Kind::Read(Reading::Since(token(1))), 0, 5000);
    world.pass(500);
    assert!(!world.answers.contains_key(&read), "this client has seen more");
}

#[test]
fn requests_are_bounded_and_one_more_is_refused() {
    let mut world = World::with(1, |config| config.requests_max = 3);
    let all: Vec<TicketId> = (0..4).map(|key| world.write(key, 1000)).collect();
    assert_eq!(world.answers[&all[3]], Err(ClientError::Busy));
    world.settle();
    assert!(all[..3].iter().all(|ticket| is_done(&world, *ticket)));
}

#[test]
fn more_writes_than_a_session_takes_wait_for_their_turn() {
    let mut world = World::of(1);
    let all: Vec<TicketId> = (0..1000).map(|key| world.write(key, 5000)).collect();
    world.settle();
    assert!(all.iter().all(|ticket| is_done(&world, *ticket)));
    assert!(world.keys.values().all(|times| *times == 1));
    assert_eq!(world.sessions.len(), 1);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_answered_and_does_not_hold_up_the_others() {
    let mut world = World::of(3);
    let ready = world.write(0, 1000);
    world.settle();
    assert!(is_done(&world, ready));
    let first = world.write(1, 1000);
    world.forget(first);
    world.settle();
    for key in 2..600 {
        world.write(key, 1000);
        world.settle();
    }
    assert!(!world.answers.contains_key(&first));
    assert_eq!(world.answers.len(), 599);
    // All that is answered is acknowledged: the forgotten one too.
    let last = world.ran.keys().last().expect("some ran").1;
    assert!(last >= 598);
}

#[test]
fn a_client_with_dead_seeds_and_one_that_lives_finds_all_servers() {
    let mut world = World::with(3, |config| config.seeds = (1..=3).map(address).collect());
    world.crash(1);
    world.crash(2);
    let ticket = world.write(1, 5000);
    world.pass(2000);
    assert!(is_done(&world, ticket), "{:?}", world.answers);
    assert_eq!(world.using(), Some(NodeId(3)));
    // The seed dies: the others are known by the layout alone.
    let mut world = World::with(3, |config| config.seeds = vec![address(2)]);
    world.settle();
    world.crash(2);
    let ticket = world.write(1, 5000);
    world.pass(2000);
    assert!(is_done(&world, ticket), "{:?}", world.answers);
}

#[test]
fn servers_of_the_own_data_center_come_first_and_others_if_there_is_none() {
    let near = |config: &mut ClientConfig| {
        config.data_center = Some("even".to_owned());
        config.strategy = Strategy::RoundRobinRequest;
    };
    let mut world = World::with(4, near);
    world.settle();
    world.pass(2000);
    for server in world.servers.values_mut() {
        server.asked = 0;
    }
    for key in 0..100 {
        world.write(key, 1000);
        world.settle();
    }
    let asked: Vec<u64> = world.servers.values().map(|server| server.asked).collect();
    assert_eq!((asked[0], asked[2]), (0, 0), "{asked:?}");
    assert!(asked[1] >= 50 && asked[3] >= 50, "{asked:?}");
    world.crash(2);
    world.crash(4);
    let ticket = world.write(1000, 5000);
    world.pass(3000);
    assert!(is_done(&world, ticket), "{:?}", world.answers);
}

#[test]
fn each_strategy_spreads_as_it_says() {
    // By request: evenly. Those that stick: all at one.
    let counts = |strategy| {
        let mut world = World::with(3, |config| config.strategy = strategy);
        world.settle();
        world.pass(2000);
        for server in world.servers.values_mut() {
            server.asked = 0;
        }
        for key in 0..300 {
            world.write(key, 1000);
            world.settle();
        }
        let mut counts: Vec<u64> = world.servers.values().map(|server| server.asked).collect();
        counts.sort_unstable();
        counts
    };
    let spread = counts(Strategy::RoundRobinRequest);
    assert!(spread.iter().all(|count| (99..=102).contains(count)), "{spread:?}");
    for strategy in [Strategy::Sticky, Strategy::RoundRobinConnect] {
        let spread = counts(strategy);
        assert_eq!(spread[..2], [0, 0], "{strategy:?}: {spread:?}");
    }
}

#[test]
fn each_connection_goes_to_the_next_server_in_turn() {
    let mut world = World::with(3, |config| config.strategy = Strategy::RoundRobinConnect);
    world.settle();
    for _ in 0..8 {
        let using = u8::try_from(world.using().expect("one is in use").0).unwrap();
        world.crash(using);
        world.start(using);
        world.pass(3000);
    }
    let mut last = world.dialed[world.dialed.len() - 6..].to_vec();
    let turns = last.clone();
    last.sort_unstable();
    last.dedup();
    assert_eq!(last.len(), 3, "{turns:?}");
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
}

#[test]
fn a_client_that_no_server_wants_says_so_at_once_and_asks_nobody_any_more() {
    reaches!(RefusedByAll);
    let reason = "the token is wrong".to_owned();
    let mut world = World::with(3, |_| {});
    for server in 1..=3 {
        world.refuse(server, Some((&reason, true)));
    }
    let ticket = world.write(1, 5000);
    world.back.clear();
    let dialing: Vec<_> = world.conns.keys().copied().collect();
    dialing.into_iter().for_each(|id| world.close(id));
    world.pass(200);
    assert_eq!(world.answers[&ticket], Err(ClientError::Refused(reason.clone())));
    let dialed = world.dialed.len();
    world.pass(10_000);
    assert_eq!(world.dialed.len(), dialed);
    let again = world.write(2, 5000);
    assert_eq!(world.answers[&again], Err(ClientError::Refused(reason)));
}

#[test]
fn a_database_made_anew_gives_the_same_numbers_and_no_request_takes_the_name_of_another() {
    let mut world = World::of(1);
    let first = world.write(1, 1000);
    world.settle();
    assert!(is_done(&world, first));
    // Its server is silent while the database is dropped and made anew; entries count from the start.
    world.mood(1, Mood::Frozen);
    let left: Vec<TicketId> = (2..=5).map(|key| world.write(key, 60_000)).collect();
    world.pass(10);
    world.log = LogId(8);
    (world.index, world.sessions, world.ran) = (0, Default::default(), Default::default());
    world.mood(1, Mood::Well);
    let later: Vec<TicketId> = (6..=9).map(|key| world.write(key, 60_000)).collect();
    world.pass(70_000);
    // What was sent to the former one may have been done there.
    for ticket in left {
        let told = &world.answers[&ticket];
        assert!(matches!(told, Err(ClientError::OutcomeUnknown { .. })), "{told:?}");
    }
    for (key, ticket) in (6..).zip(later) {
        assert!(is_done(&world, ticket), "{:?}", world.answers[&ticket]);
        assert_eq!(world.keys.get(&key), Some(&1), "each is done itself");
    }
}

#[test]
fn two_servers_that_can_do_nothing_do_not_keep_a_client_from_one_that_was_down() {
    let mut world = World::with(3, |_| {});
    world.crash(3);
    for server in [1, 2] {
        world.mood(server, Mood::Says(ShardError::Unavailable("in no cluster".to_owned())));
    }
    let ticket = world.write(1, 60_000);
    world.pass(5_000);
    world.start(3);
    world.pass(10_000);
    assert!(is_done(&world, ticket), "{:?} {:?}", world.answers, world.dialed);
}

#[test]
fn two_servers_that_can_do_nothing_do_not_keep_a_client_from_one_that_is_slow() {
    let mut world = World::with(3, |_| {});
    world.crash(3);
    for server in [1, 2] {
        world.mood(server, Mood::Says(ShardError::Unavailable("in no cluster".to_owned())));
    }
    let ticket = world.write(1, 60_000);
    world.pass(5_000);
    // The others answer as soon as they are dialled.
    world.start(3);
    world.slow(3, 400);
    world.pass(10_000);
    assert!(is_done(&world, ticket), "{:?} {:?}", world.answers, world.dialed);
    assert_eq!(world.conns.len(), 1, "the others are not needed any more");
}

#[test]
fn servers_that_could_do_nothing_are_all_asked_again() {
    let mut world = World::of(4);
    let nothing = || Mood::Says(ShardError::Unavailable("no quorum".to_owned()));
    (1..=4).for_each(|server| world.mood(server, nothing()));
    let first = world.write(1, 3_000);
    world.pass(5_000);
    assert!(world.answers[&first].is_err());
    for server in 1..=4 {
        world.mood(server, Mood::Well);
        let ticket = world.write(i64::from(server) + 1, 10_000);
        world.pass(10_000);
        assert!(is_done(&world, ticket), "{server}: {:?}", world.answers);
        world.mood(server, nothing());
        let ticket = world.write(i64::from(server) + 10, 2_000);
        world.pass(3_000);
        assert!(world.answers[&ticket].is_err());
    }
}

#[test]
fn servers_that_do_not_know_a_client_for_a_moment_do_not_end_it() {
    let mut world = World::of(3);
    let first = world.write(1, 1000);
    world.settle();
    assert!(is_done(&world, first));
    // All start again, and have not heard of its user yet.
    for server in 1..=3 {
        world.refuse(server, Some(("nobody of that name", true)));
        world.crash(server);
        world.start(server);
    }
    let ticket = world.write(2, 20_000);
    world.pass(1000);
    assert!(!world.answers.contains_key(&ticket), "{:?}", world.answers);
    world.refuse(2, None);
    world.pass(5000);
    assert!(is_done(&world, ticket), "{:?}", world.answers);
    // One of them goes on refusing: it is left alone.
    let last = world.write(3, 1000);
    world.settle();
    assert!(is_done(&world, last));
    // And if all do, that is the end.
    world.refuse(2, Some(("nobody of that name", true)));
    world.crash(2);
    world.start(2);
    let ticket = world.write(4, 60_000);
    world.pass(20_000);
    assert!(matches!(world.answers[&ticket], Err(ClientError::Refused(_))), "{:?}", world.answers);
}

#[test]
fn a_server_that_is_gone_is_tried_ever_more_slowly() {
    let mut world = World::with(1, |_| {});
    world.crash(1);
    world.pass(60_000);
    let dialed = world.dialed.len();
    assert!((60..200).contains(&dialed), "{dialed} in a minute");
}

#[test]
fn a_change_of_the_layout_is_told_and_a_server_that_it_names_is_used() {
    let mut world = World::with(3, |config| config.seeds = vec![address(1)]);
    let mut first = world.layout.clone();
    first.servers.truncate(1);
    for (_, message) in &mut world.back {
        if let ToClient::Layout(layout) = message {
            *layout = first.clone();
        }
    }
    world.settle();
    assert_eq!(world.client.layout().servers.len(), 1);
    let mut next = World::of(3).layout;
    next.version = ConfigVersion(2);
    let id = *world.conns.keys().next().expect("it is connected");
    world.back.push_back((id, ToClient::Layout(next.clone())));
    world.settle();
    assert_eq!(world.events.last(), Some(&Event::Layout(next)));
    world.crash(1);
    world.pass(Duration::from_secs(2).as_millis().try_into().unwrap());
    assert!(world.using().is_some_and(|node| node != NodeId(1)));
}

#[test]
fn one_that_is_refused_for_good_hears_so_though_it_is_told_to_ask_less_often() {
    let mut world = World::of(3);
    let first = world.write(1, 1000);
    world.settle();
    assert!(is_done(&world, first));
    let gone = "the token is not there any more";
    for server in 1..=3 {
        world.refuse(server, Some((gone, true)));
    }
    let open: Vec<ConnectionId> = world.conns.keys().copied().collect();
    open.into_iter().for_each(|id| world.close(id));
    world.settle();
    let ticket = world.write(2, 60_000);
    world.pass(500);
    for server in 1..=3 {
        world.refuse(server, Some(("too many attempts", false)));
    }
    world.pass(10_000);
    assert_eq!(world.answers.get(&ticket), Some(&Err(ClientError::Refused(gone.to_owned()))));
}
