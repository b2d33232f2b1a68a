//! What every engine promises, as a suite to be run against each: the one in memory, on which the
//! simulator and the tests of the shard rest, and the one on SQLite.
//!
//! [`cases`] are about one promise each. [`transcript`] is a random walk, told call by call: two
//! engines that keep the promises tell the same.

mod interactive;

use std::fmt::Write as _;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::memory::Memory;
use super::{
    Effect, Engine, Executed, Fault, Note, Outcome, Position, Reader as _, Rights, Rows,
    SqlErrorKind, SqlLimits, Statement, Transaction, Value,
};
use crate::ids::{Index, Term};

/// Where engines of one kind come from.
pub trait Bench {
    /// The writer of a copy.
    type Copy: Engine;

    /// A new, empty copy.
    fn fresh(&mut self) -> Self::Copy;

    /// The same copy after the process has ended, and no power was lost.
    fn restart(&mut self, copy: Self::Copy) -> Self::Copy;

    /// What a reader of the copy gets.
    fn query(&mut self, copy: &mut Self::Copy, transaction: &Transaction) -> (Position, Outcome);
}

/// Copies in memory.
#[derive(Debug)]
pub struct InMemory;

impl Bench for InMemory {
    type Copy = Memory;

    fn fresh(&mut self) -> Memory {
        Memory::default()
    }

    fn restart(&mut self, mut copy: Memory) -> Memory {
        copy.kill();
        copy
    }

    fn query(&mut self, copy: &mut Memory, transaction: &Transaction) -> (Position, Outcome) {
        done(copy.query(transaction, &SqlLimits::default()))
    }
}

/// A promise, by its name; it panics if it is not kept.
pub type Case<B> = (&'static str, fn(&mut B));

/// All of them.
#[must_use]
pub fn cases<B: Bench>() -> Vec<Case<B>> {
    let mut cases: Vec<Case<B>> = vec![
        ("a failing transaction is undone alone", undone_alone::<B>),
        ("nobody outside sees what is open", open_is_unseen::<B>),
        ("what is rolled back leaves nothing", rolled_back::<B>),
        ("what changes nothing leaves nothing open", nothing_open::<B>),
        ("a commit goes on, and only what is open is committed", commits_go_on::<B>),
        ("no call comes between execution and commit", nothing_between::<B>),
        ("who applies ends in the content of who executed", applied_is_executed::<B>),
        ("entries at or before the position are passed over", passed_over::<B>),
        ("of entries that do not fit none is applied", none_of_misfits::<B>),
        ("effects that cannot be read are named", unreadable::<B>),
        ("a restart forgets what is open and keeps what is committed", restarted::<B>),
        ("what does not fit an entry waits for the next or is refused", bounded::<B>),
        ("a caretaker changes and inserts nothing", caretaker::<B>),
        ("a reader writes nothing and names its state", readers::<B>),
        ("the hash is of the content and of nothing else", hashes::<B>),
        ("notes come and go with the entries that they came with", noted::<B>),
        ("a transaction of nothing does nothing, and works", empty::<B>),
    ];
    cases.extend(interactive::cases());
    cases
}

fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(1) }
}

fn one(sql: &str, args: &[Value]) -> Transaction {
    Transaction { statements: vec![Statement::with(sql, args)] }
}

fn create() -> Transaction {
    one("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", &[])
}

fn insert(key: i64, value: i64) -> Transaction {
    one("INSERT INTO t (k, v) VALUES (?, ?)", &[Value::Integer(key), Value::Integer(value)])
}

fn add(key: i64, more: i64) -> Transaction {
    one("UPDATE t SET v = v + ? WHERE k = ?", &[Value::Integer(more), Value::Integer(key)])
}

fn all() -> Transaction {
    one("SELECT k, v FROM t ORDER BY k", &[])
}

fn done<T>(result: Result<T, Fault>) -> T {
    match result {
        Ok(value) => value,
        Err(fault) => panic!("the engine failed: {fault}"),
    }
}

fn rows(outcome: &Outcome) -> &[Rows] {
    match outcome {
        Ok(rows) => rows,
        Err(error) => panic!("the transaction failed: {error}"),
    }
}

#[track_caller]
fn misused<T: std::fmt::Debug>(result: Result<T, Fault>) {
    assert!(matches!(result, Err(Fault::Misuse { .. })), "{result:?}");
}

fn execute(copy: &mut impl Engine, batch: &[Transaction]) -> Executed {
    done(copy.execute(batch, &SqlLimits::default()))
}

/// One transaction as one entry.
fn write(copy: &mut impl Engine, index: u64, transaction: Transaction) -> Effect {
    let executed = execute(copy, &[transaction]);
    rows(&executed.outcomes[0]);
    done(copy.commit(at(index), &[]));
    Effect { at: at(index), effects: executed.effects }
}

/// A copy with a table, of two rows.
fn filled<B: Bench>(bench: &mut B) -> (B::Copy, Vec<Effect>) {
    let mut copy = bench.fresh();
    let transactions = [create(), insert(1, 10), insert(2, 20)];
    let log = (1..).zip(transactions).map(|(index, t)| write(&mut copy, index, t)).collect();
    (copy, log)
}

fn content<B: Bench>(bench: &mut B, copy: &mut B::Copy) -> Vec<(i64, i64)> {
    let (_, outcome) = bench.query(copy, &all());
    let pairs = rows(&outcome)[0].rows.iter().map(|row| match row.as_slice() {
        [Value::Integer(key), Value::Integer(value)] => (*key, *value),
        other => panic!("{other:?}"),
    });
    pairs.collect()
}

fn undone_alone<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let mut twice = insert(4, 40);
    twice.statements.extend(insert(1, 0).statements);
    let Executed { outcomes, .. } = execute(&mut copy, &[insert(3, 30), twice, add(3, 1)]);
    rows(&outcomes[0]);
    let error = outcomes[1].as_ref().err();
    assert_eq!(error.map(|e| (e.kind, e.statement)), Some((SqlErrorKind::Constraint, 1)));
    assert_eq!(rows(&outcomes[2])[0].affected, 1, "it sees those before it");
    done(copy.commit(at(4), &[]));
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20), (3, 31)]);
}

fn open_is_unseen<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    execute(&mut copy, &[insert(3, 30), add(1, 5)]);
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20)]);
    assert_eq!(done(copy.content_hash()), hash);
    assert_eq!(copy.position(), at(3));
    done(copy.commit(at(4), &[]));
    assert_eq!(content(bench, &mut copy), [(1, 15), (2, 20), (3, 30)]);
    assert_ne!(done(copy.content_hash()).hash, hash.hash);
    assert_eq!(copy.position(), at(4));
}

fn rolled_back<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    execute(&mut copy, &[add(1, 5), one("DROP TABLE t", &[])]);
    done(copy.rollback());
    assert_eq!(done(copy.content_hash()), hash);
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20)]);
    done(copy.rollback());
    misused(copy.commit(at(4), &[]));
    write(&mut copy, 4, add(1, 1));
    assert_eq!(content(bench, &mut copy), [(1, 11), (2, 20)]);
}

fn nothing_open<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let nothing = [all(), add(7, 1), insert(1, 1)];
    let executed = execute(&mut copy, &nothing);
    assert_eq!(executed.outcomes.len(), 3);
    assert!(executed.effects.is_empty());
    misused(copy.commit(at(4), &[]));
    done(copy.apply(&[], &[]));
    assert_eq!(copy.position(), at(3));
}

fn commits_go_on<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    misused(copy.commit(at(4), &[]));
    execute(&mut copy, &[insert(3, 30)]);
    for index in [0, 2, 3] {
        misused(copy.commit(at(index), &[]));
    }
    // Entries without content lie in between.
    done(copy.commit(at(9), &[]));
    assert_eq!(copy.position(), at(9));
    assert_eq!(done(copy.sync()), at(9));
}

fn nothing_between<B: Bench>(bench: &mut B) {
    let (mut copy, log) = filled(bench);
    execute(&mut copy, &[insert(3, 30)]);
    misused(copy.execute(&[insert(4, 40)], &SqlLimits::default()));
    misused(copy.apply(&log, &[]));
    done(copy.commit(at(4), &[]));
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20), (3, 30)]);
}

fn applied_is_executed<B: Bench>(bench: &mut B) {
    let (mut copy, mut log) = filled(bench);
    let more = [
        add(1, 7),
        one("DELETE FROM t WHERE k = ?", &[Value::Integer(2)]),
        one(
            "INSERT OR REPLACE INTO t (k, v) VALUES (?, ?)",
            &[Value::Integer(1), Value::Text("one".to_owned())],
        ),
        one("INSERT INTO t (k, v) VALUES (?, ?)", &[Value::Integer(5), Value::Blob(vec![0, 255])]),
        one("INSERT INTO t (k, v) VALUES (?, ?)", &[Value::Integer(6), Value::Null]),
        one("INSERT INTO t (k, v) VALUES (?, ?)", &[Value::Integer(7), Value::Real(0.5)]),
        one("CREATE TABLE u (k INTEGER PRIMARY KEY, v)", &[]),
        one("DROP TABLE t", &[]),
        create(),
        insert(1, 1),
    ];
    let mut each = bench.fresh();
    done(each.apply(&log, &[]));
    for (index, transaction) in (4..).zip(more) {
        let effect = write(&mut copy, index, transaction);
        done(each.apply(std::slice::from_ref(&effect), &[]));
        assert_eq!(done(each.content_hash()), done(copy.content_hash()), "entry {index}");
        log.push(effect);
    }
    let mut together = bench.fresh();
    done(together.apply(&log, &[]));
    assert_eq!(done(together.content_hash()), done(copy.content_hash()));
    assert_eq!(together.position(), copy.position());
    // Whoever applied goes on as the owner, and the other way round.
    let effect = write(&mut together, 30, insert(2, 2));
    done(copy.apply(&[effect], &[]));
    assert_eq!(done(together.content_hash()), done(copy.content_hash()));
}

fn passed_over<B: Bench>(bench: &mut B) {
    let (mut copy, log) = filled(bench);
    let hash = done(copy.content_hash());
    done(copy.apply(&log, &[]));
    done(copy.apply(&log[1..2], &[]));
    assert_eq!(done(copy.content_hash()), hash);
}

fn none_of_misfits<B: Bench>(bench: &mut B) {
    let (mut copy, log) = filled(bench);
    let mut other = bench.fresh();
    done(other.apply(&log, &[]));
    let first = write(&mut copy, 4, insert(3, 30));
    let second = write(&mut copy, 5, add(1, 1));
    // The other has gone another way, under the same index.
    write(&mut other, 4, add(1, 2));
    let mut fits = first;
    fits.at = at(5);
    let misfit = Effect { at: at(6), effects: second.effects };
    let hash = done(other.content_hash());
    let result = other.apply(&[fits, misfit], &[]);
    assert!(matches!(result, Err(Fault::Conflict { .. })), "{result:?}");
    let mut other = bench.restart(other);
    assert_eq!(done(other.content_hash()), hash);
    assert_eq!(other.position(), at(4));
}

fn unreadable<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    let effects = bytes::Bytes::from_static(&[0xff; 9]);
    let result = copy.apply(&[Effect { at: at(4), effects }], &[]);
    assert!(matches!(&result, Err(Fault::Unreadable { at: a, .. }) if *a == at(4)), "{result:?}");
    let mut copy = bench.restart(copy);
    assert_eq!(done(copy.content_hash()), hash);
}

fn restarted<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    execute(&mut copy, &[insert(3, 30)]);
    let mut copy = bench.restart(copy);
    assert_eq!(copy.position(), at(3));
    assert_eq!(done(copy.content_hash()), hash);
    misused(copy.commit(at(4), &[]));
    write(&mut copy, 4, insert(3, 31));
    let mut copy = bench.restart(copy);
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20), (3, 31)]);
    assert_eq!(copy.position(), at(4));
}

fn bounded<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let large = |key| {
        let args = [Value::Integer(key), Value::Blob(vec![7; 10_000])];
        one("INSERT INTO t (k, v) VALUES (?, ?)", &args)
    };
    let limits = SqlLimits { effect_bytes: 15_000, ..SqlLimits::default() };
    let executed = done(copy.execute(&[large(3), large(4), large(5)], &limits));
    assert_eq!(executed.outcomes.len(), 1, "the others are for the next call");
    done(copy.commit(at(4), &[]));
    let limits = SqlLimits { effect_bytes: 5_000, ..SqlLimits::default() };
    let executed = done(copy.execute(&[large(4), insert(5, 5)], &limits));
    let kind = executed.outcomes[0].as_ref().err().map(|error| error.kind);
    assert_eq!(kind, Some(SqlErrorKind::TooLarge));
    rows(&executed.outcomes[1]);
    done(copy.commit(at(5), &[]));
    let (_, keys) = bench.query(&mut copy, &all());
    let keys = rows(&keys)[0].rows.iter().map(|row| row[0].clone());
    assert!(keys.eq([1, 2, 3, 5].map(Value::Integer)));
}

fn caretaker<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let limits = SqlLimits { rights: Rights::Caretaker, ..SqlLimits::default() };
    let executed = done(copy.execute(&[insert(3, 30), add(1, 1)], &limits));
    let kind = executed.outcomes[0].as_ref().err().map(|error| error.kind);
    assert_eq!(kind, Some(SqlErrorKind::OwnerOnly));
    rows(&executed.outcomes[1]);
    done(copy.commit(at(4), &[]));
    assert_eq!(content(bench, &mut copy), [(1, 11), (2, 20)]);
}

fn readers<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    for write in [insert(3, 30), add(1, 1), one("DROP TABLE t", &[])] {
        let (_, outcome) = bench.query(&mut copy, &write);
        let kind = outcome.as_ref().err().map(|error| error.kind);
        assert_eq!(kind, Some(SqlErrorKind::ReadOnly), "{write:?}: {outcome:?}");
    }
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20)]);
    let (position, outcome) = bench.query(&mut copy, &one("SELECT v FROM nowhere", &[]));
    assert_eq!(position, at(3));
    assert_eq!(outcome.err().map(|error| error.kind), Some(SqlErrorKind::Statement));
}

fn note(key: u64, value: &'static [u8]) -> Note {
    Note { key, value: Bytes::from_static(value) }
}

fn noted<B: Bench>(bench: &mut B) {
    let mut copy = bench.fresh();
    assert_eq!(done(copy.notes()), []);
    write(&mut copy, 1, create());
    let hash = done(copy.content_hash());
    let largest = u64::MAX >> 1;
    // With an entry that changes nothing.
    let nothing = |index| Effect { at: at(index), effects: Bytes::new() };
    done(copy.apply(&[nothing(2)], &[note(7, b"a"), note(largest, b"b"), note(8, b"c")]));
    assert_eq!(done(copy.notes()), [note(7, b"a"), note(8, b"c"), note(largest, b"b")]);
    assert_eq!(done(copy.content_hash()).hash, hash.hash, "no statement sees them");
    // With what was executed, and not with what was rolled back or passed over.
    execute(&mut copy, &[insert(1, 1)]);
    done(copy.rollback());
    execute(&mut copy, &[insert(1, 1)]);
    done(copy.commit(at(3), &[note(7, b"d"), note(8, b"")]));
    done(copy.apply(&[nothing(2), nothing(3)], &[note(7, b"e")]));
    let held = [note(7, b"d"), note(largest, b"b")];
    assert_eq!(done(copy.notes()), held);
    let misfit = Effect { at: at(4), effects: Bytes::from_static(&[0xff; 9]) };
    assert!(copy.apply(&[misfit], &[note(7, b"f")]).is_err());
    let mut copy = bench.restart(copy);
    assert_eq!(done(copy.notes()), held);
    // What is not there may be taken away.
    done(copy.apply(&[nothing(4)], &[note(99, b""), note(7, b"")]));
    assert_eq!(done(copy.notes()), [note(largest, b"b")]);
}

fn empty<B: Bench>(bench: &mut B) {
    let mut copy = bench.fresh();
    let executed = execute(&mut copy, &[Transaction::default()]);
    assert_eq!(executed.outcomes, [Ok(Vec::new())]);
    assert!(executed.effects.is_empty());
    write(&mut copy, 1, create());
}

fn hashes<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let before = done(copy.content_hash());
    assert_eq!(before.at, at(3));
    write(&mut copy, 4, add(1, 5));
    let changed = done(copy.content_hash());
    write(&mut copy, 5, add(1, -5));
    let back = done(copy.content_hash());
    assert_ne!(changed.hash, before.hash);
    assert_eq!(back.hash, before.hash);
    // However it came about.
    let mut other = bench.fresh();
    write(&mut other, 1, create());
    write(&mut other, 2, insert(2, 20));
    write(&mut other, 7, insert(1, 10));
    assert_eq!(done(other.content_hash()).hash, before.hash);
}

/// What `steps` calls drawn from `seed` answer, a line each. A second copy applies all that is
/// committed, and must hold the same.
pub fn transcript<B: Bench>(bench: &mut B, seed: u64, steps: u64) -> Vec<String> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let (mut copy, log) = filled(bench);
    let mut other = bench.fresh();
    done(other.apply(&log, &[]));
    let (mut told, mut behind) = (Vec::new(), Vec::new());
    for index in 4..4 + steps {
        let mut line = String::new();
        let tell = |line: &mut String, what: &dyn std::fmt::Debug| {
            if write!(line, "{what:?} ").is_err() {
                unreachable!("memory is written");
            }
        };
        let count = usize::try_from(dice.next_u32() % 4 + 1).unwrap_or(1);
        let batch: Vec<Transaction> = (0..count).map(|_| drawn(&mut dice)).collect();
        let executed = if dice.next_u32() % 4 == 0 {
            done(copy.begin(&SqlLimits::default()));
            for statements in &batch {
                let stepped = done(copy.step(statements));
                let error = stepped.error.map(|error| (error.kind, error.statement));
                let rows: Vec<_> = stepped.rows.iter().map(brief_of).collect();
                tell(&mut line, &(rows, error, stepped.lost));
            }
            done(copy.finish())
        } else {
            execute(&mut copy, &batch)
        };
        for outcome in &executed.outcomes {
            let brief = outcome.as_ref().map_err(|error| (error.kind, error.statement));
            tell(&mut line, &brief.map(|rows| rows.iter().map(brief_of).collect::<Vec<_>>()));
        }
        match (executed.effects.is_empty(), dice.next_u32() % 8) {
            (true, _) => line.push_str("nothing changed"),
            (false, 0) => done(copy.rollback()),
            (false, 1) => copy = bench.restart(copy),
            (false, _) => {
                done(copy.commit(at(index), &[]));
                behind.push(Effect { at: at(index), effects: executed.effects });
            }
        }
        if dice.next_u32() % 4 == 0 {
            done(other.apply(&std::mem::take(&mut behind), &[]));
            assert_eq!(done(other.content_hash()), done(copy.content_hash()), "seed {seed}");
        }
        if dice.next_u32() % 16 == 0 && behind.is_empty() {
            std::mem::swap(&mut copy, &mut other);
        }
        let (position, outcome) = bench.query(&mut copy, &all());
        tell(&mut line, &position);
        let brief = outcome.map_err(|error| error.kind);
        tell(&mut line, &brief.map(|rows| rows.iter().map(brief_of).collect::<Vec<_>>()));
        told.push(line);
    }
    told
}

/// What a transaction answers; types of columns are SQLite's alone.
fn brief_of(rows: &Rows) -> (Vec<Vec<Value>>, u64, Option<i64>) {
    (rows.rows.clone(), rows.affected, rows.last_insert_rowid)
}

/// Some statements over a few keys.
fn drawn(dice: &mut ChaCha8Rng) -> Transaction {
    let count = dice.next_u32() % 3 + 1;
    let statements = (0..count).flat_map(|_| {
        let key = Value::Integer(i64::from(dice.next_u32() % 6));
        let value = match dice.next_u32() % 5 {
            0 => Value::Null,
            1 => Value::Text(format!("text {}", dice.next_u32() % 9)),
            2 => Value::Blob(vec![u8::try_from(dice.next_u32() % 256).unwrap_or(0); 3]),
            _ => Value::Integer(i64::from(dice.next_u32() % 100)),
        };
        let transaction = match dice.next_u32() % 16 {
            0..=4 => one("INSERT INTO t (k, v) VALUES (?, ?)", &[key, value]),
            5 | 6 => one("INSERT OR REPLACE INTO t (k, v) VALUES (?, ?)", &[key, value]),
            7..=9 => one("UPDATE t SET v = ? WHERE k = ?", &[value, key]),
            10 => one("UPDATE t SET v = ? WHERE k = ? AND v = ?", &[value, key, Value::Integer(7)]),
            11 | 12 => one("DELETE FROM t WHERE k = ?", &[key]),
            13 => one("SELECT v FROM t WHERE k = ?", &[key]),
            14 => one("DROP TABLE t", &[]),
            _ => create(),
        };
        transaction.statements
    });
    Transaction { statements: statements.collect() }
}
