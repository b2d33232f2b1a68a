//! The checks of copies and clients, each with a history that is wrong.

use std::collections::BTreeSet;

use quorate_core::configuration::QuorumRule;
use quorate_core::engine::memory::Memory;
use quorate_core::engine::{Engine as _, Position, SqlLimits, Statement, Transaction};
use quorate_core::raft::{Entry, Half, Membership, Payload, Snapshot};
use quorate_core::shard::{Consistency, Reply, SessionId, ShardError, StageId};
use quorate_core::{
    ClusterId, ConfigVersion, Index, LogId, NodeId, PersistId, Recovered, StorageOp, Term,
};

use super::copies::Promise;
use super::workloads::{APPENDS, Asked, Before, Operation};
use super::{Checks, Content, Ledger, Stages};
use crate::disk::{Batch, DirId, Directory, Disks, Shadow};
use crate::outcome::Verdict;

const LOG: LogId = LogId(3);
const CLUSTER: ClusterId = ClusterId(77);

fn broken(verdict: Verdict) -> String {
    verdict.expect_err("the history is wrong").invariant
}

fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(2) }
}

/// The entries of a table and of the keys given, from index 2 on, and the copy that ran them.
fn history(keys: &[i64]) -> (Vec<Entry>, Memory) {
    let mut copy = Memory::default();
    let table = Statement::new(format!("CREATE TABLE {APPENDS} (k INTEGER PRIMARY KEY, v)"));
    let insert = |key: &i64| {
        let sql = format!("INSERT INTO {APPENDS} (k, v) VALUES (?, ?)");
        let args = [*key, 1].map(quorate_core::engine::Value::Integer);
        Statement::with(sql, args)
    };
    let statements = std::iter::once(table).chain(keys.iter().map(insert));
    let mut entries = Vec::new();
    for (index, statement) in (2..).zip(statements) {
        let batch = [Transaction { statements: vec![statement] }];
        let done = copy.execute(&batch, &SqlLimits::default()).expect("it runs");
        copy.commit(at(index), &[]).expect("it commits");
        let data = [&[1], done.effects.as_ref()].concat().into();
        let payload = Payload::Data(data);
        entries.push(Entry { index: Index(index), term: Term(2), payload });
    }
    (entries, copy)
}

fn founding() -> Entry {
    let voters: BTreeSet<NodeId> = [1, 2].map(NodeId).into();
    let incoming = Half { voters, tie_breaker: Some(NodeId(1)) };
    let membership = Membership { incoming, version: ConfigVersion(1), ..Membership::default() };
    Entry { index: Index(1), term: Term(1), payload: Payload::Membership(membership) }
}

/// Two directories, of which `holding` hold the log, whose entries are all committed.
fn scene(keys: &[i64], holding: usize) -> (Checks, Disks) {
    let (mut checks, mut disks) = (Checks::default(), Disks::default());
    let entries: Vec<Entry> = [vec![founding()], history(keys).0].concat();
    for node in 1..=2 {
        let mut recovered = Recovered::fresh(NodeId(node));
        recovered.identity.cluster = Some(CLUSTER);
        let dir = disks.add(Directory::new(recovered));
        if dir.0 < holding {
            let op = StorageOp::Append { log: LOG, entries: entries.clone() };
            disks.get_mut(dir).write(&op);
            disks.get_mut(dir).enqueue(Batch { id: PersistId(1), ops: vec![op] });
            disks.get_mut(dir).sync();
            checks.holds_now(disks.get(dir));
        }
    }
    let ledger = checks.ledger_of(CLUSTER, LOG);
    let mut previous = Term::ZERO;
    for entry in &entries {
        ledger.write(previous, entry).expect("one history");
        ledger.extend(entry.term, entry.term, 0).expect("in order");
        previous = entry.term;
    }
    (checks, disks)
}

fn asked(operation: Operation, floor: u64) -> Asked {
    let before = Before { answered: Index(floor), committed: Index(floor) };
    Asked { cluster: CLUSTER, log: LOG, operation, before }
}

fn done(index: u64) -> Reply {
    let rows = quorate_core::engine::Rows { affected: 1, ..Default::default() };
    Reply::Done { at: at(index), rows: vec![rows] }
}

#[test]
fn a_copy_with_other_content_at_a_position_is_found() {
    let (entries, mut copy) = history(&[5, 6]);
    let mut content = Content::default();
    entries.iter().for_each(|entry| content.take(entry, &Stages::new()).expect("sound"));
    let held = copy.content_hash().expect("a hash");
    content.agrees("it", &held).expect("equal");
    copy.spoil(APPENDS, 5);
    let spoiled = copy.content_hash().expect("a hash");
    assert_eq!(broken(content.agrees("it", &spoiled)), "copies-differ");
    let mut ahead = held;
    ahead.at = at(9);
    assert_eq!(broken(content.agrees("it", &ahead)), "copy-ahead");
}

#[test]
fn effects_that_do_not_follow_from_those_before_are_found() {
    let (entries, _) = history(&[5, 6]);
    let mut content = Content::default();
    content.take(&entries[0], &Stages::new()).expect("the table");
    content.take(&entries[1], &Stages::new()).expect("a key");
    let mut again = entries[1].clone();
    again.index = Index(9);
    assert_eq!(broken(content.take(&again, &Stages::new())), "committed-effects-unfit");
}

#[test]
fn a_write_that_fewer_disks_hold_than_the_write_quorum_asks_for_is_found() {
    let promise = |rule, asynchronous| Promise {
        log: LOG,
        at: at(3),
        known_from: Index::ZERO,
        rule,
        asynchronous,
    };
    for (holding, enough) in [(1, false), (2, true)] {
        let (checks, disks) = scene(&[5], holding);
        let owner = disks.get(DirId(0));
        let judged = checks.promises(&disks, owner, promise(QuorumRule::Majority, false));
        assert_eq!(judged.is_ok(), enough, "{holding} disks");
        checks.promises(&disks, owner, promise(QuorumRule::Majority, true)).expect("committed");
        checks.promises(&disks, owner, promise(QuorumRule::Count(1), false)).expect("one");
    }
    let (checks, disks) = scene(&[5], 2);
    let later = Promise { at: at(4), ..promise(QuorumRule::Count(1), true) };
    let judged = checks.promises(&disks, disks.get(DirId(0)), later);
    assert_eq!(broken(judged), "answered-before-commit");
}

#[test]
fn a_write_that_is_answered_again_when_one_of_its_holders_has_gone_is_fine() {
    let (mut checks, disks) = scene(&[5], 1);
    let owner = disks.get(DirId(0));
    let at = at(3);
    let rule = QuorumRule::Majority;
    let again = Promise { log: LOG, at, known_from: Index::ZERO, rule, asynchronous: false };
    let ledger = checks.ledger_of(CLUSTER, LOG);
    ledger.held_by(Index(2), [NodeId(1), NodeId(2)].into());
    ledger.held_by(Index(3), [NodeId(1)].into());
    let judged = checks.promises(&disks, owner, again);
    assert_eq!(broken(judged), "acknowledged-below-quorum");
    checks.ledger_of(CLUSTER, LOG).held_by(Index(3), [NodeId(1), NodeId(2)].into());
    checks.promises(&disks, owner, again).expect("both held it");
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_found_and_what_was_refused_and_is() {
    let (mut checks, _) = scene(&[5], 2);
    checks.answered(&asked(Operation::Append(5), 0), &done(3)).expect("it is there");
    let lost = checks.answered(&asked(Operation::Append(6), 0), &done(3));
    assert_eq!(broken(lost), "acknowledged-lost");
    let early = checks.answered(&asked(Operation::Append(5), 0), &done(4));
    assert_eq!(broken(early), "answered-before-commit");
    let behind = checks.answered(&asked(Operation::Append(5), 9), &done(3));
    assert_eq!(broken(behind), "answered-behind");
    let refused = Reply::Failed(ShardError::Busy);
    let ghost = checks.answered(&asked(Operation::Append(5), 0), &refused);
    assert_eq!(broken(ghost), "refused-and-done");
}

#[test]
fn a_log_that_was_held_once_and_is_begun_anew_is_found() {
    let (checks, disks) = scene(&[], 1);
    let empty = Shadow::empty(LOG, Some(CLUSTER));
    let anew = checks.not_begun_anew(disks.get(DirId(0)), &empty);
    assert_eq!(broken(anew), "log-begun-anew");
    checks.not_begun_anew(disks.get(DirId(1)), &empty).expect("it never held it");
}

#[test]
fn a_survivor_goes_on_with_what_was_brought_only_if_its_log_has_come_to_that() {
    let (mut checks, _) = scene(&[5], 2);
    let Payload::Membership(membership) = founding().payload else { unreachable!() };
    let base = Snapshot { index: Index(1), term: Term(1), membership, data: bytes::Bytes::new() };
    let brought = checks.ledger_of(CLUSTER, LOG).brought(ClusterId(78), LOG, &base);
    let carried = |end: (u64, u64)| {
        let end = (Index(end.0), Term(end.1));
        let log = Shadow::empty(LOG, Some(ClusterId(78)));
        Ledger::carried_over(&log, Some((&brought, end)), ClusterId(79)).expect("known entries")
    };
    let whole = carried((1, 1)).content;
    assert!(whole.had(5) && whole.position() == Position { index: Index(1), term: Term(1) });
    let blank = carried((0, 0)).content;
    assert!(!blank.had(5) && blank.position() == Position::default());
}

#[test]
fn two_swaps_of_one_value_are_found() {
    let (mut checks, _) = scene(&[5], 2);
    let swap = |new| asked(Operation::Swap { key: 0, old: 7, new }, 0);
    checks.answered(&swap(8), &done(3)).expect("the first");
    assert_eq!(broken(checks.answered(&swap(9), &done(3))), "done-otherwise");
}

/// Seed 8052037: another cluster's entry may have the name of one that is committed only while the answer
/// is on its way.
#[test]
fn a_token_is_ones_own_only_if_its_entry_was_committed_when_it_was_shown() {
    let (mut checks, _) = scene(&[5], 2);
    let read = Operation::Read(5, Consistency::AtLeast(at(3)));
    let refused = Reply::Failed(ShardError::TokenOfAnotherHistory { at: at(3) });
    assert_eq!(broken(checks.answered(&asked(read.clone(), 3), &refused)), "own-token-refused");
    checks.answered(&asked(read, 2), &refused).expect("it came meanwhile");
}

#[test]
fn what_a_session_says_of_an_operation_is_what_counts_as_its_answer() {
    let (mut checks, _) = scene(&[5], 2);
    let append = |key| asked(Operation::Append(key), 0);
    let before = |index| Reply::Failed(ShardError::AlreadyDone { at: at(index) });
    checks.answered(&append(5), &before(3)).expect("it is there");
    assert_eq!(broken(checks.answered(&append(5), &before(4))), "answered-before-commit");
    let id = SessionId { at: at(3), number: 0 };
    let open = asked(Operation::Open, 0);
    let session = |id| Reply::Session { session: id };
    checks.answered(&open, &session(id)).expect("its entry is committed");
    assert_eq!(broken(checks.answered(&open, &session(id))), "session-given-twice");
    let early = SessionId { at: at(4), number: 0 };
    assert_eq!(broken(checks.answered(&open, &session(early))), "answered-before-commit");
    let otherwise = checks.answered(&append(5), &session(id));
    assert_eq!(broken(otherwise), "answered-otherwise");
    checks.expired((CLUSTER, LOG), id).expect("no copy knows it");
}

const STAGE: StageId = StageId { term: Term(2), number: 7 };

/// An entry by which [`STAGE`] becomes the content.
fn replacing(index: u64) -> Entry {
    let data = [&[3], STAGE.term.0.to_le_bytes().as_slice(), &STAGE.number.to_le_bytes()].concat();
    Entry { index: Index(index), term: Term(2), payload: Payload::Data(data.into()) }
}

/// A log in which 5 was added as entry 3, and a file that holds 9 became the content as entry 4.
fn restored() -> Checks {
    let (mut checks, _) = scene(&[5], 2);
    let (_, file) = history(&[9]);
    checks.gives_file((CLUSTER, LOG), 70, &file);
    checks.stages((CLUSTER, LOG), STAGE, &file).expect("somebody gave it");
    let ledger = checks.ledger_of(CLUSTER, LOG);
    ledger.write(Term(2), &replacing(4)).expect("it is new");
    ledger.extend(Term(2), Term(2), 0).expect("it was staged");
    checks
}

#[test]
fn an_entry_that_names_a_file_which_was_never_staged_is_found() {
    let judged = Content::default().take(&replacing(4), &Stages::new());
    assert_eq!(broken(judged), "restored-unstaged");
}

#[test]
fn a_staged_file_that_nobody_gave_or_that_is_another_one_elsewhere_is_found() {
    let (mut checks, _) = scene(&[5], 2);
    let [(_, nine), (_, eight)] = [9, 8].map(|key| history(&[key]));
    assert_eq!(broken(checks.stages((CLUSTER, LOG), STAGE, &nine)), "staged-otherwise");
    let mut checks = restored();
    checks.gives_file((CLUSTER, LOG), 71, &eight);
    assert_eq!(broken(checks.stages((CLUSTER, LOG), STAGE, &eight)), "staged-otherwise");
}

#[test]
fn what_was_acknowledged_is_judged_up_to_the_restore_or_from_it_on() {
    let mut checks = restored();
    let append = |key| asked(Operation::Append(key), 0);
    checks.answered(&append(5), &done(3)).expect("it was there until the file came");
    let lost = checks.answered(&append(6), &done(3));
    assert_eq!(broken(lost), "acknowledged-lost");
    let gone = checks.answered(&append(5), &done(4));
    assert_eq!(broken(gone), "acknowledged-lost");
    checks.answered(&append(9), &done(4)).expect("the file holds it");
    let refused = Reply::Failed(ShardError::Busy);
    let ghost = checks.answered(&append(5), &refused);
    assert_eq!(broken(ghost), "refused-and-done");
}

#[test]
fn a_restore_that_is_told_otherwise_than_it_was_is_found() {
    let mut checks = restored();
    let restore = |file| asked(Operation::Restore(file), 0);
    checks.answered(&restore(70), &done(4)).expect("it became the content");
    let another = checks.answered(&restore(71), &done(4));
    assert_eq!(broken(another), "restored-otherwise");
    let elsewhere = checks.answered(&restore(70), &done(3));
    assert_eq!(broken(elsewhere), "restored-otherwise");
    let refused = checks.answered(&restore(70), &Reply::Failed(ShardError::Busy));
    assert_eq!(broken(refused), "refused-and-done");
}
