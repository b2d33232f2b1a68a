//! From SQLite's errors to those of the contract.

use quorate_core::engine::{Fault, Position, SqlError, SqlErrorKind};
use rusqlite::{Error, ffi};

/// Why a transaction stops: an answer for its sender, or the end of this engine.
#[derive(Debug)]
pub(super) enum Stop {
    /// The transaction has failed.
    Sql(SqlError),
    /// The engine has failed.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A failure that is not SQLite's.
pub(super) fn refusal(kind: SqlErrorKind, message: impl Into<String>) -> Stop {
    Stop::Sql(SqlError { kind, code: 0, message: message.into(), statement: 0 })
}

/// SQLite's extended result code and its message; code 0 for an error of the bindings.
pub(super) fn code_and_message(error: &Error) -> (i32, String) {
    match error {
        Error::SqliteFailure(failure, message) => {
            let text = message.clone().unwrap_or_else(|| failure.to_string());
            (failure.extended_code, text)
        }
        Error::SqlInputError { error, msg, offset, sql } => {
            let near = usize::try_from(*offset).ok().and_then(|offset| sql.get(offset..));
            let text = match near.map(excerpt) {
                Some(near) if !near.is_empty() => format!("{msg}, at {near:?}"),
                _ => msg.clone(),
            };
            (error.extended_code, text)
        }
        other => (0, other.to_string()),
    }
}

/// The first words of what stands at an error.
fn excerpt(sql: &str) -> &str {
    let end = sql.char_indices().nth(40).map_or(sql.len(), |(at, _)| at);
    sql[..end].trim_end()
}

/// What an error means while a statement runs.
pub(super) fn stop(error: &Error) -> Stop {
    use SqlErrorKind as K;
    let (code, message) = code_and_message(error);
    let kind = match code & 0xff {
        ffi::SQLITE_CONSTRAINT if code == ffi::SQLITE_CONSTRAINT_DATATYPE => K::Type,
        ffi::SQLITE_CONSTRAINT => K::Constraint,
        ffi::SQLITE_MISMATCH => K::Type,
        ffi::SQLITE_TOOBIG => K::TooLarge,
        ffi::SQLITE_INTERRUPT => K::Timeout,
        ffi::SQLITE_NOMEM => K::Memory,
        ffi::SQLITE_READONLY => K::ReadOnly,
        ffi::SQLITE_AUTH => K::Unsupported,
        ffi::SQLITE_FULL | ffi::SQLITE_BUSY | ffi::SQLITE_PROTOCOL => K::Engine,
        // A damaged index of a virtual table: its own check fails like this when it is asked for.
        ffi::SQLITE_CORRUPT if code == ffi::SQLITE_CORRUPT_VTAB => K::Engine,
        ffi::SQLITE_IOERR | ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_CANTOPEN => {
            return Stop::Fault(fault_of(code, message));
        }
        _ => K::Statement,
    };
    let message = match kind {
        K::Memory => "the statement needs more memory than it may".to_owned(),
        _ => message,
    };
    Stop::Sql(SqlError { kind, code, message, statement: 0 })
}

/// What an error means for the engine as a whole.
pub(super) fn fault(error: &Error) -> Fault {
    let (code, message) = code_and_message(error);
    fault_of(code, message)
}

fn fault_of(code: i32, message: String) -> Fault {
    let text = format!("{message} (SQLite's code {code})");
    match code & 0xff {
        ffi::SQLITE_FULL => Fault::Full(text),
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Fault::Corrupt(text),
        _ => Fault::Io(text),
    }
}

/// What an error means while effects are applied: what does not fit is a conflict.
pub(super) fn apply_fault(error: &Error, at: Position) -> Fault {
    let (code, message) = code_and_message(error);
    match code & 0xff {
        ffi::SQLITE_ERROR
        | ffi::SQLITE_CONSTRAINT
        | ffi::SQLITE_MISMATCH
        | ffi::SQLITE_SCHEMA
        | ffi::SQLITE_RANGE => Fault::Conflict { at, reason: message },
        _ => fault_of(code, message),
    }
}
