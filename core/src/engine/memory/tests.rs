use super::*;
use crate::engine::{Statement, conformance};
use crate::ids::{Index, Term};
use conformance::InMemory;

fn sql(text: &str, args: &[i64]) -> Transaction {
    let args: Vec<Value> = args.iter().map(|arg| Value::Integer(*arg)).collect();
    Transaction { statements: vec![Statement::with(text, args)] }
}

fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(1) }
}

fn write(copy: &mut Memory, index: u64, transaction: Transaction) -> Bytes {
    let done = copy.execute(&[transaction], &SqlLimits::default()).unwrap();
    assert!(done.outcomes[0].is_ok(), "{done:?}");
    copy.commit(at(index), &[]).unwrap();
    done.effects
}

fn insert(key: i64) -> Transaction {
    sql("INSERT INTO t (k, v) VALUES (?, ?)", &[key, 1])
}

fn with_table() -> Memory {
    let mut copy = Memory::default();
    write(&mut copy, 1, sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", &[]));
    copy
}

#[test]
fn a_power_failure_leaves_what_was_synced_and_a_prefix_of_the_commits_since() {
    let mut copy = with_table();
    copy.sync().unwrap();
    let mut hashes = vec![copy.content_hash().unwrap()];
    for key in 2..6 {
        write(&mut copy, u64::try_from(key).unwrap(), insert(key));
        hashes.push(copy.content_hash().unwrap());
    }
    for (kept, hash) in hashes.iter().enumerate() {
        let mut failed = copy.clone();
        failed.lose_power_after(kept);
        assert_eq!(failed.content_hash().as_ref(), Ok(hash));
        assert_eq!(failed.table("t").len(), kept);
    }
    copy.kill();
    assert_eq!(copy.table("t").len(), 4, "the system's memory outlives the process");
}

#[test]
fn who_reads_does_not_see_what_is_open_and_what_failed_leaves_nothing() {
    let mut copy = with_table();
    let hash = copy.content_hash().unwrap();
    let twice = Transaction { statements: [insert(1).statements, insert(1).statements].concat() };
    let done = copy.execute(&[insert(7), twice, insert(8)], &SqlLimits::default()).unwrap();
    assert_eq!(done.outcomes.iter().filter(|o| o.is_ok()).count(), 2);
    let all = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let (_, rows) = copy.query(&all, &SqlLimits::default()).unwrap();
    assert_eq!(rows.unwrap()[0].rows.len(), 0);
    assert_eq!(copy.content_hash().unwrap(), hash);
    copy.commit(at(2), &[]).unwrap();
    assert_eq!(copy.table("t").into_keys().collect::<Vec<_>>(), [7, 8]);
    assert_ne!(copy.content_hash().unwrap().hash, hash.hash);
}

#[test]
fn copies_that_execute_and_copies_that_apply_end_in_the_same_content() {
    let (mut one, mut other) = (with_table(), with_table());
    let statements = [
        insert(1),
        sql("UPDATE t SET v = v + ? WHERE k = ?", &[5, 1]),
        sql("UPDATE t SET v = ? WHERE k = ? AND v = ?", &[9, 1, 6]),
        insert(2),
        sql("DELETE FROM t WHERE k = ?", &[2]),
        sql("DROP TABLE t", &[]),
    ];
    for (index, statement) in (2..).zip(statements) {
        let effects = write(&mut one, index, statement);
        assert_eq!(other.apply(&[Effect { at: at(index), effects }], &[]), Ok(()));
        assert_eq!(one.content_hash(), other.content_hash());
    }
    assert_eq!(one.content_hash().unwrap().hash, Memory::default().content_hash().unwrap().hash);
}

#[test]
fn effects_that_do_not_fit_leave_the_copy_as_it_was() {
    let (mut one, mut other) = (with_table(), with_table());
    let first = write(&mut one, 2, insert(1));
    write(&mut other, 2, insert(3));
    let effects = write(&mut one, 3, sql("UPDATE t SET v = ? WHERE k = ?", &[4, 1]));
    let hash = other.content_hash();
    let both = [Effect { at: at(3), effects: first }, Effect { at: at(4), effects }];
    assert_eq!(other.apply(&both[..1], &[]), Ok(()));
    let clash = other.clone().apply(&both[..1], &[]);
    assert_eq!(clash, Ok(()), "what is behind the position is passed over");
    let mut third = with_table();
    assert!(matches!(third.apply(&both[1..], &[]), Err(Fault::Conflict { .. })));
    assert_ne!(other.content_hash(), hash);
}

#[test]
fn a_comparison_that_does_not_hold_changes_nothing() {
    let mut copy = with_table();
    write(&mut copy, 2, insert(1));
    let swap = sql("UPDATE t SET v = ? WHERE k = ? AND v = ?", &[3, 1, 2]);
    let done = copy.execute(&[swap], &SqlLimits::default()).unwrap();
    assert_eq!(done.outcomes[0].as_ref().unwrap()[0].affected, 0);
    assert!(done.effects.is_empty() && !copy.is_open());
}

#[test]
fn a_file_holds_what_is_committed_and_a_copy_made_from_it_is_equal() {
    let mut copy = with_table();
    write(&mut copy, 2, insert(1));
    let hash = copy.content_hash();
    copy.execute(&[insert(2)], &SqlLimits::default()).unwrap();
    let mut made = Memory::from_file(&copy.to_file()).expect("its own file");
    assert_eq!(made.content_hash(), hash);
    made.lose_power();
    assert_eq!(made.content_hash(), hash, "it is durable");
    let mut file = copy.to_file();
    file.push(0);
    assert!(Memory::from_file(&file).is_none());
}

#[test]
fn it_keeps_what_every_engine_promises() {
    for (promise, case) in conformance::cases() {
        println!("{promise}");
        case(&mut InMemory);
    }
    for seed in 0..200 {
        conformance::transcript(&mut InMemory, seed, 40);
    }
}
