//! What every engine promises of interactive transactions.

use super::{
    Bench, Case, add, all, at, content, create, done, execute, filled, insert, misused, one, rows,
    write,
};
use crate::engine::{
    Effect, Engine, Executed, Rights, SqlError, SqlErrorKind, SqlLimits, Stepped, Transaction,
    Value,
};

pub(super) fn cases<B: Bench>() -> Vec<Case<B>> {
    vec![
        ("a step sees those before it, and nobody else does", steps::<B>),
        ("of an interactive transaction only the failing statement is undone", one_undone::<B>),
        ("who applies an interactive transaction ends in the same content", applied::<B>),
        ("an interactive transaction that is rolled back leaves nothing", rolled_back::<B>),
        ("one that changes nothing leaves nothing open", nothing_open::<B>),
        ("a statement can undo an interactive transaction as a whole", lost::<B>),
        ("no other call comes into an interactive transaction", alone::<B>),
        ("what an interactive transaction may take is for all of it", bounded::<B>),
        ("a caretaker inserts nothing in steps either", caretaker::<B>),
        ("a restart forgets an interactive transaction", restarted::<B>),
        ("tables come and go within an interactive transaction", tables::<B>),
    ]
}

fn begin(copy: &mut impl Engine) {
    done(copy.begin(&SqlLimits::default()));
}

/// A step that works.
#[track_caller]
fn step(copy: &mut impl Engine, statements: &Transaction) -> Stepped {
    let stepped = done(copy.step(statements));
    assert_eq!((&stepped.error, stepped.lost), (&None, false));
    stepped
}

/// A step of which `ran` statements ran.
#[track_caller]
fn failing(copy: &mut impl Engine, statements: &Transaction, ran: usize) -> (SqlError, bool) {
    let stepped = done(copy.step(statements));
    assert_eq!(stepped.rows.len(), ran);
    match stepped.error {
        Some(error) => {
            assert_eq!(error.statement, ran);
            (error, stepped.lost)
        }
        None => panic!("it worked: {stepped:?}"),
    }
}

/// The end of an interactive transaction that has changed something, as the entry at `index`.
fn finish(copy: &mut impl Engine, index: u64) -> Effect {
    let Executed { outcomes, effects } = done(copy.finish());
    assert_eq!(outcomes, [Ok(Vec::new())]);
    done(copy.commit(at(index), &[]));
    Effect { at: at(index), effects }
}

fn seen(stepped: &Stepped) -> Vec<Value> {
    stepped.rows.iter().flat_map(|rows| &rows.rows).map(|row| row[1].clone()).collect()
}

fn steps<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    begin(&mut copy);
    let mut several = insert(3, 30);
    several.statements.extend(add(3, 1).statements);
    let stepped = step(&mut copy, &several);
    assert_eq!(stepped.rows.len(), 2);
    assert_eq!(stepped.rows[0].last_insert_rowid, Some(3));
    assert_eq!((stepped.rows[1].affected, stepped.rows[1].last_insert_rowid), (1, None));
    let stepped = step(&mut copy, &all());
    assert_eq!(seen(&stepped), [10, 20, 31].map(Value::Integer));
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20)]);
    assert_eq!(done(copy.content_hash()), hash);
    // What is committed may become durable meanwhile.
    assert_eq!(done(copy.sync()), at(3));
    step(&mut copy, &Transaction::default());
    finish(&mut copy, 4);
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20), (3, 31)]);
    write(&mut copy, 5, add(1, 1));
}

fn one_undone<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    begin(&mut copy);
    let mut clash = insert(3, 30);
    clash.statements.extend(insert(1, 0).statements);
    clash.statements.extend(insert(9, 0).statements);
    let (error, lost) = failing(&mut copy, &clash, 1);
    assert_eq!((error.kind, lost), (SqlErrorKind::Constraint, false));
    let (error, lost) = failing(&mut copy, &one("SELECT v FROM nowhere", &[]), 0);
    assert_eq!((error.kind, lost), (SqlErrorKind::Statement, false));
    let changed = step(&mut copy, &add(1, 5));
    assert_eq!(changed.rows[0].last_insert_rowid, None, "what failed has inserted nothing");
    let effect = finish(&mut copy, 4);
    assert_eq!(content(bench, &mut copy), [(1, 15), (2, 20), (3, 30)]);
    let (mut other, _) = filled(bench);
    done(other.apply(&[effect], &[]));
    assert_eq!(done(other.content_hash()), done(copy.content_hash()));
}

fn applied<B: Bench>(bench: &mut B) {
    let (mut copy, mut log) = filled(bench);
    begin(&mut copy);
    step(&mut copy, &insert(3, 30));
    step(&mut copy, &add(1, 5));
    failing(&mut copy, &insert(2, 0), 0);
    step(&mut copy, &one("DELETE FROM t WHERE k = ?", &[Value::Integer(2)]));
    step(&mut copy, &insert(2, 22));
    log.push(finish(&mut copy, 4));
    log.push(write(&mut copy, 5, add(2, 2)));
    let mut other = bench.fresh();
    done(other.apply(&log, &[]));
    assert_eq!(done(other.content_hash()), done(copy.content_hash()));
    assert_eq!(content(bench, &mut other), [(1, 15), (2, 24), (3, 30)]);
}

fn rolled_back<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    begin(&mut copy);
    step(&mut copy, &add(1, 5));
    step(&mut copy, &one("DROP TABLE t", &[]));
    done(copy.rollback());
    assert_eq!(done(copy.content_hash()), hash);
    misused(copy.step(&all()));
    misused(copy.finish());
    misused(copy.commit(at(4), &[]));
    // One that is finished and not committed, too.
    begin(&mut copy);
    step(&mut copy, &add(1, 5));
    assert!(!done(copy.finish()).effects.is_empty());
    done(copy.rollback());
    assert_eq!(done(copy.content_hash()), hash);
    write(&mut copy, 4, add(1, 1));
    assert_eq!(content(bench, &mut copy), [(1, 11), (2, 20)]);
}

fn nothing_open<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    begin(&mut copy);
    step(&mut copy, &all());
    step(&mut copy, &add(7, 1));
    failing(&mut copy, &insert(1, 1), 0);
    let executed = done(copy.finish());
    assert_eq!(executed.outcomes, [Ok(Vec::new())]);
    assert!(executed.effects.is_empty());
    misused(copy.commit(at(4), &[]));
    write(&mut copy, 4, insert(3, 30));
}

fn lost<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    begin(&mut copy);
    step(&mut copy, &insert(3, 30));
    let row = [Value::Integer(1), Value::Integer(0)];
    let mut all_or_nothing = add(1, 1);
    let clash = one("INSERT OR ROLLBACK INTO t (k, v) VALUES (?, ?)", &row);
    all_or_nothing.statements.extend(clash.statements);
    let (error, lost) = failing(&mut copy, &all_or_nothing, 1);
    assert_eq!((error.kind, lost), (SqlErrorKind::Constraint, true));
    assert_eq!(done(copy.content_hash()), hash);
    misused(copy.step(&all()));
    misused(copy.finish());
    done(copy.rollback());
    begin(&mut copy);
    step(&mut copy, &insert(3, 31));
    finish(&mut copy, 4);
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20), (3, 31)]);
}

fn alone<B: Bench>(bench: &mut B) {
    let (mut copy, log) = filled(bench);
    misused(copy.step(&all()));
    misused(copy.finish());
    begin(&mut copy);
    step(&mut copy, &insert(3, 30));
    misused(copy.begin(&SqlLimits::default()));
    misused(copy.execute(&[insert(4, 40)], &SqlLimits::default()));
    misused(copy.apply(&log, &[]));
    misused(copy.commit(at(4), &[]));
    step(&mut copy, &insert(5, 50));
    finish(&mut copy, 4);
    execute(&mut copy, &[insert(6, 60)]);
    misused(copy.begin(&SqlLimits::default()));
    misused(copy.step(&all()));
    done(copy.commit(at(5), &[]));
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20), (3, 30), (5, 50), (6, 60)]);
}

fn bounded<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let large = |key| {
        let args = [Value::Integer(key), Value::Blob(vec![7; 10_000])];
        one("INSERT INTO t (k, v) VALUES (?, ?)", &args)
    };
    let limits = SqlLimits { effect_bytes: 25_000, result_bytes: 50_000, ..SqlLimits::default() };
    done(copy.begin(&limits));
    step(&mut copy, &large(3));
    step(&mut copy, &large(4));
    let (error, lost) = failing(&mut copy, &large(5), 0);
    assert_eq!((error.kind, lost), (SqlErrorKind::TooLarge, false));
    step(&mut copy, &all());
    step(&mut copy, &all());
    let (error, lost) = failing(&mut copy, &all(), 0);
    assert_eq!((error.kind, lost), (SqlErrorKind::TooLarge, false));
    step(&mut copy, &add(1, 1));
    finish(&mut copy, 4);
    let (_, keys) = bench.query(&mut copy, &all());
    let keys = rows(&keys)[0].rows.iter().map(|row| row[0].clone());
    assert!(keys.eq([1, 2, 3, 4].map(Value::Integer)));
}

fn caretaker<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    done(copy.begin(&SqlLimits { rights: Rights::Caretaker, ..SqlLimits::default() }));
    let (error, lost) = failing(&mut copy, &insert(3, 30), 0);
    assert_eq!((error.kind, lost), (SqlErrorKind::OwnerOnly, false));
    step(&mut copy, &add(1, 1));
    finish(&mut copy, 4);
    assert_eq!(content(bench, &mut copy), [(1, 11), (2, 20)]);
}

fn restarted<B: Bench>(bench: &mut B) {
    let (mut copy, _) = filled(bench);
    let hash = done(copy.content_hash());
    begin(&mut copy);
    step(&mut copy, &insert(3, 30));
    let mut copy = bench.restart(copy);
    assert_eq!(done(copy.content_hash()), hash);
    misused(copy.step(&all()));
    begin(&mut copy);
    step(&mut copy, &insert(3, 31));
    finish(&mut copy, 4);
    let mut copy = bench.restart(copy);
    assert_eq!(content(bench, &mut copy), [(1, 10), (2, 20), (3, 31)]);
}

fn tables<B: Bench>(bench: &mut B) {
    let (mut copy, mut log) = filled(bench);
    begin(&mut copy);
    step(&mut copy, &insert(3, 30));
    step(&mut copy, &one("DROP TABLE t", &[]));
    failing(&mut copy, &insert(3, 30), 0);
    step(&mut copy, &create());
    failing(&mut copy, &create(), 0);
    step(&mut copy, &insert(1, 1));
    step(&mut copy, &one("CREATE TABLE u (k INTEGER PRIMARY KEY, v)", &[]));
    log.push(finish(&mut copy, 4));
    assert_eq!(content(bench, &mut copy), [(1, 1)]);
    let mut other = bench.fresh();
    done(other.apply(&log, &[]));
    assert_eq!(done(other.content_hash()), done(copy.content_hash()));
    let effect = write(&mut other, 5, insert(2, 2));
    done(copy.apply(&[effect], &[]));
    assert_eq!(done(other.content_hash()), done(copy.content_hash()));
}
