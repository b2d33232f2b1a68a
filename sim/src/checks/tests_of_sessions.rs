//! The checks of sessions, each with a history that is wrong.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_core::engine::{Outcome, Position, Rows, SqlError, SqlErrorKind, Value};
use quorate_core::shard::{Kept, Ran, Records, Reply, Session, SessionId, ShardError};
use quorate_core::{Index, Term};

use super::Meant;
use super::sessions::Sessions;
use crate::outcome::Verdict;

const OPENED: Position = Position { index: Index(4), term: Term(2) };
const ID: SessionId = SessionId { at: OPENED, number: 0 };

fn broken(verdict: Verdict) -> String {
    verdict.expect_err("the history is wrong").invariant
}

fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(2) }
}

fn rows() -> Vec<Rows> {
    vec![Rows { affected: 1, ..Rows::default() }]
}

fn ran(sequence: u64, acknowledged: u64, outcome: &Outcome) -> Records {
    let answer = postcard::to_allocvec(outcome).expect("encodes").into();
    let ran = vec![Ran { key: ID.key(), sequence, acknowledged, answer }];
    Records { time: 10 * sequence, opened: Vec::new(), ran }
}

fn meant(operation: u64) -> Meant {
    Meant { operation, adds: Some(7) }
}

/// A session that lives for a second, in which requests 1 to 3 are known to be sent.
fn opened() -> Sessions {
    let mut sessions = Sessions::default();
    let records = Records { time: 0, opened: vec![1_000], ran: Vec::new() };
    sessions.take(OPENED, &records).expect("it opens one");
    (1..=3).for_each(|sequence| sessions.sends((ID.key(), sequence), meant(100 + sequence), 0));
    sessions
}

#[test]
fn a_request_that_runs_twice_is_found() {
    let mut sessions = opened();
    sessions.take(at(5), &ran(1, 0, &Ok(rows()))).expect("once");
    sessions.take(at(6), &ran(2, 1, &Ok(rows()))).expect("another");
    assert_eq!([1, 3].map(|n| sessions.ran_at((ID.key(), n))), [Some(at(5)), None]);
    let twice = sessions.take(at(7), &ran(1, 0, &Ok(rows())));
    assert_eq!(broken(twice), "ran-twice");
}

#[test]
fn an_operation_that_runs_as_two_requests_is_found_and_one_that_nobody_sent() {
    let mut sessions = opened();
    sessions.sends((ID.key(), 9), meant(101), 0);
    sessions.take(at(5), &ran(1, 0, &Ok(rows()))).expect("once");
    assert_eq!(broken(sessions.take(at(6), &ran(9, 0, &Ok(rows())))), "done-twice");
    assert_eq!(broken(sessions.take(at(7), &ran(8, 0, &Ok(rows())))), "ran-unasked");
}

#[test]
fn what_runs_in_a_session_that_is_over_is_found() {
    let mut sessions = opened();
    assert!(sessions.knows(ID));
    let late = Records { time: 1_000, ..ran(1, 0, &Ok(rows())) };
    assert_eq!(broken(sessions.clone().take(at(5), &late)), "ran-in-no-session");
    sessions.take(at(5), &Records { time: 999, ..late }).expect("it is not over yet");
    sessions.begin_anew(at(6), None);
    assert!(!sessions.knows(ID));
    assert_eq!(broken(sessions.take(at(7), &ran(2, 0, &Ok(rows())))), "ran-in-no-session");
}

#[test]
fn a_counter_to_which_more_or_less_was_added_than_was_asked_for_is_found() {
    let mut sessions = opened();
    let holds = |value| BTreeMap::from([(7, Value::Integer(value)), (8, Value::Integer(0))]);
    sessions.take(at(5), &ran(1, 0, &Ok(rows()))).expect("one more");
    sessions.counts(at(5), Some(&holds(1))).expect("as it was asked for");
    for wrong in [0, 2] {
        assert_eq!(broken(sessions.counts(at(5), Some(&holds(wrong)))), "counted-otherwise");
    }
    let (message, kind) = ("no".to_owned(), SqlErrorKind::Statement);
    let failed = Err(SqlError { kind, code: 1, message, statement: 0 });
    sessions.take(at(6), &ran(2, 0, &failed)).expect("it failed");
    sessions.counts(at(6), Some(&holds(1))).expect("nothing was added");
    sessions.begin_anew(at(7), Some(&holds(5)));
    sessions.counts(at(7), Some(&holds(5))).expect("a file holds what it holds");
}

#[test]
fn a_copy_that_notes_something_else_than_the_entries_say_is_found() {
    let mut sessions = opened();
    let outcome = Ok(rows());
    sessions.take(at(5), &ran(1, 0, &outcome)).expect("once");
    sessions.take(at(6), &ran(2, 1, &outcome)).expect("once");
    let answer: Bytes = postcard::to_allocvec(&outcome).expect("encodes").into();
    let session = |sequences: &[u64], used, acknowledged| Session {
        term: Term(2),
        time_to_live: 1_000,
        used,
        acknowledged,
        kept: sequences
            .iter()
            .map(|sequence| (*sequence, Kept { at: at(4 + sequence), answer: answer.clone() }))
            .collect(),
    };
    let notes = |session: Session| BTreeMap::from([(ID.key(), session.encode())]);
    sessions.agrees("it", at(4), &notes(session(&[], 0, 0))).expect("as it was opened");
    sessions.agrees("it", at(5), &notes(session(&[1], 10, 0))).expect("with one answer");
    sessions.agrees("it", at(6), &notes(session(&[2], 20, 1))).expect("the first is let go of");
    for wrong in [session(&[1, 2], 20, 1), session(&[], 20, 1), session(&[2], 10, 1)] {
        assert_eq!(broken(sessions.agrees("it", at(6), &notes(wrong))), "sessions-differ");
    }
    assert_eq!(broken(sessions.agrees("it", at(6), &BTreeMap::new())), "sessions-differ");
}

#[test]
fn an_answer_that_is_not_the_one_that_was_committed_is_found() {
    let mut sessions = opened();
    sessions.take(at(5), &ran(1, 0, &Ok(rows()))).expect("once");
    let sent = (ID.key(), 1);
    let done = |index, rows| Reply::Done { at: at(index), rows };
    sessions.answered(sent, &done(5, rows())).expect("as it was");
    for right in [
        ShardError::AlreadyDone { at: at(5) },
        ShardError::CommittedBelowQuorum { at: at(5) },
        ShardError::NotOwner { owner: None },
    ] {
        sessions.answered(sent, &Reply::Failed(right)).expect("it says the same");
    }
    let (message, kind) = ("no".to_owned(), SqlErrorKind::Statement);
    let failed = ShardError::Sql(SqlError { kind, code: 1, message, statement: 0 });
    for wrong in [
        done(5, Vec::new()),
        done(6, rows()),
        Reply::Failed(ShardError::AlreadyDone { at: at(4) }),
        Reply::Failed(failed),
    ] {
        assert_eq!(broken(sessions.answered(sent, &wrong)), "answered-otherwise-again");
    }
    let never = sessions.answered((ID.key(), 2), &done(5, rows()));
    assert_eq!(broken(never), "answered-otherwise-again");
    let superseded = Reply::Failed(ShardError::Superseded);
    assert_eq!(broken(sessions.answered(sent, &superseded)), "superseded-unanswered");
    sessions.sends((ID.key(), 3), meant(103), 1);
    sessions.answered(sent, &superseded).expect("its client has the answer");
}

#[test]
fn a_session_that_two_are_given_is_found() {
    let mut sessions = opened();
    sessions.opened(ID).expect("the first");
    assert_eq!(broken(sessions.opened(ID)), "session-given-twice");
}
