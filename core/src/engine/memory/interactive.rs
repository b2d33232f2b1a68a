//! Interactive transactions in memory.

use bytes::Bytes;

use super::{Change, Memory, encode, revert, sql};
use crate::engine::{
    Executed, Fault, Rows, SqlError, SqlErrorKind, SqlLimits, Statement, Stepped, Transaction,
    Value,
};

/// What a value in a result counts besides its content.
const VALUE_BYTES: usize = 16;

/// One that is open.
#[derive(Clone, Debug)]
pub(super) struct Interactive {
    limits: SqlLimits,
    /// Of all its results.
    results_left: usize,
}

impl Memory {
    pub(super) fn begin_interactive(&mut self, limits: &SqlLimits) -> Result<(), Fault> {
        self.closed("begin")?;
        self.interactive = Some(Interactive { limits: *limits, results_left: limits.result_bytes });
        self.open = Some(Vec::new());
        Ok(())
    }

    pub(super) fn step_interactive(&mut self, statements: &Transaction) -> Result<Stepped, Fault> {
        let Some(mut interactive) = self.interactive.take() else {
            return Err(Fault::Misuse {
                call: "step",
                state: "no interactive transaction is open",
            });
        };
        let mut changes = self.open.take().unwrap_or_default();
        let mut stepped = Stepped::default();
        for numbered in statements.statements.iter().enumerate() {
            let before = changes.len();
            match self.one_of(&mut interactive, numbered, &mut changes) {
                Ok(rows) => stepped.rows.push(rows),
                Err(error) => {
                    stepped.lost =
                        error.kind == SqlErrorKind::Constraint && sql::rolls_back(&numbered.1.sql);
                    let kept = if stepped.lost { 0 } else { before };
                    changes.drain(kept..).rev().for_each(|c| revert(&mut self.tables, &c));
                    stepped.error = Some(error);
                    break;
                }
            }
        }
        if !stepped.lost {
            (self.interactive, self.open) = (Some(interactive), Some(changes));
        }
        Ok(stepped)
    }

    fn one_of(
        &mut self,
        interactive: &mut Interactive,
        (number, statement): (usize, &Statement),
        changes: &mut Vec<Change>,
    ) -> Result<Rows, SqlError> {
        let too_large = |message: &str| SqlError {
            kind: SqlErrorKind::TooLarge,
            code: 0,
            message: message.to_owned(),
            statement: number,
        };
        let rights = interactive.limits.rights;
        let rows = sql::run_one(&mut self.tables, (number, statement), rights, changes)?;
        if encode(changes).len() > interactive.limits.effect_bytes {
            return Err(too_large("the effects are larger than an entry may be"));
        }
        let left = interactive.results_left.checked_sub(bytes_of(&rows));
        interactive.results_left =
            left.ok_or_else(|| too_large("the results are larger than allowed"))?;
        Ok(rows)
    }

    pub(super) fn finish_interactive(&mut self) -> Result<Executed, Fault> {
        if self.interactive.take().is_none() {
            return Err(Fault::Misuse {
                call: "finish",
                state: "no interactive transaction is open",
            });
        }
        self.open.take_if(|changes| changes.is_empty());
        let effects = self.open.as_ref().map_or_else(Bytes::new, encode);
        Ok(Executed { outcomes: vec![Ok(Vec::new())], effects })
    }
}

fn bytes_of(rows: &Rows) -> usize {
    let size = |value: &Value| match value {
        Value::Text(text) => VALUE_BYTES + text.len(),
        Value::Blob(bytes) => VALUE_BYTES + bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => VALUE_BYTES,
    };
    rows.rows.iter().flatten().map(size).sum()
}
