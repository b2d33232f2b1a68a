//! Batches: steps with conditions, and the shape in which drivers send what is to be done together.
//!
//! `BEGIN`, statements that each ask for the success of the one before, `COMMIT`, and `ROLLBACK` for when
//! that has not succeeded: what this means is one transaction, and it is done as one, all or nothing and in
//! one round. Any other batch is gone through step by step.

use std::ops::Range;

use quorate_core::engine::{Rows, Statement};
use quorate_core::shard::ShardError;

use super::super::backend::Undone;
use super::super::sql::SQL_BYTES_MAX;
use super::proto::{Batch, BatchResult, Condition, Error, StmtResult};
use super::stream::{Run, is_read_only, read_only};
use super::text::{self, Kind, Mode};

/// Steps of one batch.
const STEPS_MAX: usize = 16 * 1024;

/// What came of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// Its condition was false.
    Skipped,
    Done(StmtResult),
    Failed(Error),
}

/// A step that is ready to be run.
struct Ready {
    condition: Option<Condition>,
    statement: Statement,
    kind: Kind,
    without_rows: bool,
}

/// Runs a batch.
///
/// # Errors
/// It is malformed, and nothing of it was done; or nobody can say more of single steps than the error
/// says of all.
pub(super) async fn run(run: &mut Run<'_>, batch: Batch) -> Result<Vec<Step>, Error> {
    let steps = ready(run, batch)?;
    match Together::of(&steps).filter(|_| !run.stream.is_inside()) {
        Some(shape) => together(run, steps, &shape).await,
        None => Ok(one_by_one(run, steps).await),
    }
}

/// As a pipeline answers it.
pub(super) fn result(steps: Vec<Step>) -> BatchResult {
    let mut result = BatchResult::default();
    for step in steps {
        let (done, failed) = match step {
            Step::Skipped => (None, None),
            Step::Done(done) => (Some(done), None),
            Step::Failed(error) => (None, Some(error)),
        };
        result.step_results.push(done);
        result.step_errors.push(failed);
    }
    result
}

fn ready(run: &Run<'_>, batch: Batch) -> Result<Vec<Ready>, Error> {
    let malformed = |message: String| Err(Error::new("HRANA_PROTO_ERROR", message));
    if batch.steps.len() > STEPS_MAX {
        return malformed(format!(
            "the batch has {} steps; {STEPS_MAX} are allowed. Nothing of it was done",
            batch.steps.len()
        ));
    }
    let mut steps = Vec::with_capacity(batch.steps.len());
    for (number, step) in batch.steps.into_iter().enumerate() {
        if let Some(wrong) = step.condition.as_ref().and_then(|cond| cond.names_beyond(number)) {
            return malformed(format!(
                "the condition of step {number} names step {wrong}, which does not come before it. \
                 Nothing of the batch was done"
            ));
        }
        let without_rows = step.stmt.want_rows == Some(false);
        let statement = run.stream.statement(step.stmt)?;
        let kind = text::kind(&statement.sql);
        steps.push(Ready { condition: step.condition, statement, kind, without_rows });
    }
    Ok(steps)
}

async fn one_by_one(run: &mut Run<'_>, steps: Vec<Ready>) -> Vec<Step> {
    let mut done: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        let autocommit = !run.stream.is_inside();
        let holds = step.condition.as_ref().is_none_or(|cond| cond.holds(&done, autocommit));
        done.push(match holds {
            false => Step::Skipped,
            true => match run.statement(step.statement).await {
                Ok(rows) => Step::Done(StmtResult { rows, without_rows: step.without_rows }),
                Err(error) => Step::Failed(error),
            },
        });
    }
    done
}

impl Condition {
    /// A step that it names and that is not before `limit`.
    fn names_beyond(&self, limit: usize) -> Option<usize> {
        match self {
            Self::Ok { step } | Self::Error { step } => Some(*step).filter(|step| *step >= limit),
            Self::Not { cond } => cond.names_beyond(limit),
            Self::And { conds } | Self::Or { conds } => {
                conds.iter().find_map(|cond| cond.names_beyond(limit))
            }
            Self::IsAutocommit => None,
        }
    }

    fn holds(&self, done: &[Step], autocommit: bool) -> bool {
        match self {
            Self::Ok { step } => matches!(done.get(*step), Some(Step::Done(_))),
            Self::Error { step } => matches!(done.get(*step), Some(Step::Failed(_))),
            Self::Not { cond } => !cond.holds(done, autocommit),
            Self::And { conds } => conds.iter().all(|cond| cond.holds(done, autocommit)),
            Self::Or { conds } => conds.iter().any(|cond| cond.holds(done, autocommit)),
            Self::IsAutocommit => autocommit,
        }
    }

    /// Whether it asks for the success of `step`, and for no more than that the transaction is open.
    fn follows(&self, step: usize) -> bool {
        let inside = |cond: &Self| match cond {
            Self::Not { cond } => **cond == Self::IsAutocommit,
            _ => false,
        };
        match self {
            Self::Ok { step: named } => *named == step,
            Self::And { conds } => {
                conds.iter().any(|cond| cond.follows(step))
                    && conds.iter().all(|cond| cond.follows(step) || inside(cond))
            }
            _ => false,
        }
    }

    /// Whether it asks that `step` has not succeeded.
    fn is_unless(&self, step: usize) -> bool {
        matches!(self, Self::Not { cond } if cond.follows(step))
    }
}

/// The shape of what is to be done together. Around it the JavaScript driver's `migrate` turns foreign
/// keys off and on.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Together {
    begin: usize,
    mode: Mode,
    body: Range<usize>,
    /// The last steps are `COMMIT`, `ROLLBACK`, and perhaps what sets foreign keys again.
    commit: usize,
}

impl Together {
    fn of(steps: &[Ready]) -> Option<Self> {
        let always = |at: usize| steps.get(at).filter(|step| step.condition.is_none());
        let sets = |at: usize| matches!(always(at)?.kind, Kind::ForeignKeys(Some(_))).then_some(());
        let follows = |at: usize| {
            steps.get(at).filter(|step| {
                step.condition.as_ref().is_some_and(|cond| cond.follows(at.wrapping_sub(1)))
            })
        };
        let begin = usize::from(sets(0).is_some());
        let Kind::Begin(mode) = always(begin)?.kind else { return None };
        let first = begin + 1;
        let plain = |kind: Kind| matches!(kind, Kind::Read { .. } | Kind::Write);
        let count = steps[first..].iter().take_while(|step| plain(step.kind)).count();
        let body = first..first + count;
        if !body.clone().all(|at| follows(at).is_some()) {
            return None;
        }
        let commit = body.end;
        let commits = follows(commit)?.kind == Kind::Commit;
        let rollback = steps.get(commit + 1)?;
        let rolls_back = rollback.kind == Kind::Rollback
            && rollback.condition.as_ref().is_some_and(|cond| cond.is_unless(commit));
        let ends = match steps.len() - (commit + 2) {
            0 => true,
            1 => sets(commit + 2).is_some(),
            _ => false,
        };
        (commits && rolls_back && ends).then_some(Self { begin, mode, body, commit })
    }
}

async fn together(
    run: &mut Run<'_>,
    steps: Vec<Ready>,
    shape: &Together,
) -> Result<Vec<Step>, Error> {
    let count = steps.len();
    if let Kind::ForeignKeys(Some(on)) = steps[0].kind {
        run.stream.foreign_keys = Some(on);
    }
    let after = match steps.last().map(|step| step.kind) {
        Some(Kind::ForeignKeys(Some(on))) if count > shape.commit + 2 => Some(on),
        _ => None,
    };
    let body: Vec<Ready> =
        steps.into_iter().skip(shape.body.start).take(shape.body.len()).collect();
    let wants: Vec<bool> = body.iter().map(|step| step.without_rows).collect();
    let done = transaction(run, body, shape.mode).await;
    if let Some(on) = after {
        run.stream.foreign_keys = Some(on);
    }
    let mut told: Vec<Step> = Vec::with_capacity(count);
    told.extend((0..=shape.begin).map(|_| nothing()));
    match done? {
        Ended::Done(rows) => {
            rows.iter().for_each(|rows| run.spend(rows));
            let result = |(rows, without_rows)| Step::Done(StmtResult { rows, without_rows });
            told.extend(rows.into_iter().zip(wants).map(result));
            told.extend([nothing(), Step::Skipped]);
        }
        Ended::Failed(at, error) => {
            // What ran before the failure is undone, and has changed nothing.
            told.extend((0..at).map(|_| nothing()));
            told.push(Step::Failed(error));
            told.extend((at..shape.body.len()).map(|_| Step::Skipped));
            told.push(nothing());
        }
    }
    told.extend((told.len()..count).map(|_| nothing()));
    Ok(told)
}

/// How a transaction has ended.
enum Ended {
    Done(Vec<Rows>),
    /// At which of its statements; at their number: at its end. Nothing of it is left.
    Failed(usize, Error),
}

fn nothing() -> Step {
    Step::Done(StmtResult::default())
}

async fn transaction(run: &mut Run<'_>, body: Vec<Ready>, mode: Mode) -> Result<Ended, Error> {
    run.has_room()?;
    let reads = mode == Mode::ReadOnly || !run.may_write;
    let write = body.iter().position(|step| step.kind == Kind::Write);
    if let Some(at) = write.filter(|_| reads) {
        return Ok(Ended::Failed(at, no_write(run, mode)));
    }
    let may_write = body.iter().any(|step| !matches!(step.kind, Kind::Read { may_write: false }));
    let statements: Vec<Statement> = body.into_iter().map(|step| step.statement).collect();
    if statements.is_empty() {
        return Ok(Ended::Done(Vec::new()));
    }
    let bytes: usize = statements.iter().map(super::stream::size).sum();
    if bytes > SQL_BYTES_MAX {
        return Err(super::stream::too_big(bytes));
    }
    if let Some(at) = write {
        let done = run.done(statements, true).await;
        return ended(run, done, at);
    }
    let again = may_write.then(|| statements.clone());
    match (run.done(statements, false).await, again) {
        (Err(Undone::Shard(ShardError::Sql(error))), Some(again))
            if is_read_only(&ShardError::Sql(error.clone()).into()) =>
        {
            if reads {
                return Ok(Ended::Failed(error.statement, no_write(run, mode)));
            }
            let done = run.done(again, true).await;
            ended(run, done, error.statement)
        }
        (done, _) => ended(run, done, 0),
    }
}

fn no_write(run: &Run<'_>, mode: Mode) -> Error {
    match mode {
        Mode::ReadOnly => read_only(),
        _ => Error::may_not_write(run.stream.who.name()),
    }
}

/// A failing statement is told at its step; the first that writes, of somebody who may not, at `write`. That the outcome is not known, or that nobody could run it,
/// is told of the whole batch: of no single step it would be true.
fn ended(run: &Run<'_>, done: Result<Vec<Rows>, Undone>, write: usize) -> Result<Ended, Error> {
    match done {
        Ok(rows) => Ok(Ended::Done(rows)),
        Err(Undone::Shard(ShardError::Sql(error))) => {
            Ok(Ended::Failed(error.statement, Error::of_sql(&error)))
        }
        Err(error @ Undone::Denied(_)) => Ok(Ended::Failed(write, run.told(&error))),
        Err(error) => Err(run.told(&error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn steps(steps: &[(Value, &str)]) -> Vec<Ready> {
        let ready = |(condition, sql): &(Value, &str)| Ready {
            condition: serde_json::from_value(condition.clone()).unwrap(),
            statement: Statement::new(*sql),
            kind: text::kind(sql),
            without_rows: false,
        };
        steps.iter().map(ready).collect()
    }

    fn ok(step: usize) -> Value {
        json!({ "type": "ok", "step": step })
    }

    fn not(cond: Value) -> Value {
        json!({ "type": "not", "cond": cond })
    }

    fn inside(step: usize) -> Value {
        json!({ "type": "and", "conds": [ok(step), not(json!({ "type": "is_autocommit" }))] })
    }

    #[test]
    fn what_drivers_send_to_be_done_together_is_known_by_its_shape() {
        let none = Value::Null;
        let python = steps(&[
            (none.clone(), "BEGIN"),
            (ok(0), "INSERT INTO t VALUES (1)"),
            (ok(1), "SELECT 1"),
            (ok(2), "COMMIT"),
            (not(ok(3)), "ROLLBACK"),
        ]);
        let expected = Together { begin: 0, mode: Mode::Deferred, body: 1..3, commit: 3 };
        assert_eq!(Together::of(&python), Some(expected));
        let migrate = steps(&[
            (none.clone(), "PRAGMA foreign_keys=off"),
            (none.clone(), "BEGIN IMMEDIATE"),
            (inside(1), "DROP TABLE t"),
            (inside(2), "COMMIT"),
            (not(ok(3)), "ROLLBACK"),
            (none.clone(), "PRAGMA foreign_keys=on"),
        ]);
        let expected = Together { begin: 1, mode: Mode::Immediate, body: 2..3, commit: 3 };
        assert_eq!(Together::of(&migrate), Some(expected));
        let empty = steps(&[
            (none, "BEGIN TRANSACTION READONLY"),
            (ok(0), "COMMIT"),
            (not(ok(1)), "ROLLBACK"),
        ]);
        let expected = Together { begin: 0, mode: Mode::ReadOnly, body: 1..1, commit: 1 };
        assert_eq!(Together::of(&empty), Some(expected));
    }

    #[test]
    fn a_batch_that_means_anything_else_is_not_taken_for_one_transaction() {
        let none = Value::Null;
        let error = json!({ "type": "error", "step": 0 });
        let either = json!({ "type": "or", "conds": [ok(1)] });
        let (insert, commit) = ("INSERT INTO t VALUES (1)", "COMMIT");
        let cases: Vec<Vec<(Value, &str)>> = vec![
            vec![],
            vec![(none.clone(), "SELECT 1")],
            vec![(none.clone(), "BEGIN")],
            // Without ROLLBACK the transaction stays open when a step fails.
            vec![(none.clone(), "BEGIN"), (ok(0), insert), (ok(1), commit)],
            // A step that runs though the one before has failed.
            vec![
                (none.clone(), "BEGIN"),
                (ok(0), insert),
                (ok(0), insert),
                (ok(2), commit),
                (not(ok(3)), "ROLLBACK"),
            ],
            vec![
                (none.clone(), "BEGIN"),
                (none.clone(), insert),
                (ok(1), commit),
                (not(ok(2)), "ROLLBACK"),
            ],
            vec![
                (none.clone(), "BEGIN"),
                (ok(0), insert),
                (either, commit),
                (not(ok(2)), "ROLLBACK"),
            ],
            vec![
                (none.clone(), "BEGIN"),
                (ok(0), insert),
                (ok(1), commit),
                (not(ok(1)), "ROLLBACK"),
            ],
            vec![(none.clone(), "BEGIN"), (ok(0), insert), (ok(1), commit), (error, "ROLLBACK")],
            vec![
                (none.clone(), "BEGIN"),
                (ok(0), commit),
                (not(ok(1)), "ROLLBACK"),
                (none.clone(), insert),
            ],
            vec![
                (none.clone(), "BEGIN"),
                (ok(0), "SAVEPOINT a"),
                (ok(1), "BEGIN"),
                (ok(2), commit),
                (not(ok(3)), "ROLLBACK"),
            ],
            vec![(ok(0), "BEGIN"), (ok(0), commit), (not(ok(1)), "ROLLBACK")],
        ];
        for case in cases {
            assert_eq!(Together::of(&steps(&case)), None, "{case:?}");
        }
    }

    #[test]
    fn conditions_are_true_of_what_has_run_and_false_of_what_was_passed_over() {
        let done = [nothing(), Step::Failed(Error::new("X", "x")), Step::Skipped];
        let holds = |condition: Value, autocommit: bool| {
            let condition: Condition = serde_json::from_value(condition).unwrap();
            condition.holds(&done, autocommit)
        };
        let error = |step: usize| json!({ "type": "error", "step": step });
        assert!(holds(ok(0), true) && !holds(ok(1), true) && !holds(ok(2), true));
        assert!(!holds(error(0), true) && holds(error(1), true) && !holds(error(2), true));
        assert!(holds(not(ok(2)), true));
        assert!(holds(inside(0), false) && !holds(inside(0), true) && !holds(inside(1), false));
        let or = json!({ "type": "or", "conds": [ok(1), error(1)] });
        assert!(holds(or, true));
        assert!(holds(json!({ "type": "and", "conds": [] }), true));
        assert!(!holds(json!({ "type": "or", "conds": [] }), true));
    }

    #[test]
    fn a_condition_names_only_steps_before_its_own() {
        let beyond = |condition: Value, limit: usize| {
            serde_json::from_value::<Condition>(condition).unwrap().names_beyond(limit)
        };
        assert_eq!(beyond(ok(2), 3), None);
        assert_eq!(beyond(ok(3), 3), Some(3));
        assert_eq!(beyond(not(inside(7)), 3), Some(7));
        let or = json!({ "type": "or", "conds": [ok(1), { "type": "error", "step": 9 }] });
        assert_eq!(beyond(or, 3), Some(9));
        assert_eq!(beyond(json!({ "type": "is_autocommit" }), 0), None);
    }
}
