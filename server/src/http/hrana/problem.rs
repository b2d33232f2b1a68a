//! Errors as drivers are told them: a message for people, and a code for programs.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quorate_core::engine::{SqlError, SqlErrorKind};
use quorate_core::shard::ShardError;

use super::super::access::Shut;
use super::super::backend::{Backend, Undone};
use super::super::sql;
use super::proto::Error;

/// A request that is refused as a whole: its stream, if it named one, is not touched by it unless the
/// message says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Error,
    /// Whoever guessed too often is told for how many seconds.
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, error: Error::new(code, message), retry_after: None }
    }

    /// 400: it is not as the protocol has it.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "HRANA_PROTO_ERROR", message)
    }

    /// Version 1 knows no results that are errors: the status says so.
    pub(super) fn of(error: Error) -> Self {
        let status = match error.code.as_str() {
            "UNKNOWN_DATABASE" => StatusCode::NOT_FOUND,
            "AUTH_REQUIRED" => StatusCode::UNAUTHORIZED,
            "SQLITE_AUTH" => StatusCode::FORBIDDEN,
            "BUSY" => StatusCode::TOO_MANY_REQUESTS,
            "OUTCOME_UNKNOWN" | "COMMITTED_BELOW_QUORUM" | "TRANSACTION_TIMEOUT" => {
                StatusCode::GATEWAY_TIMEOUT
            }
            "NO_QUORUM" | "NO_OWNER" | "OWNER_AWAY" | "TIMED_OUT" | "UNAVAILABLE" => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            "RESPONSE_TOO_LARGE" | "SQLITE_TOOBIG" => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, error, retry_after: None }
    }
}

#[cfg(test)]
impl Refusal {
    pub(super) fn code(&self) -> &str {
        &self.error.code
    }

    pub(super) fn message(&self) -> &str {
        &self.error.message
    }
}

impl From<Shut> for Refusal {
    fn from(shut: Shut) -> Self {
        let code = match shut.status {
            StatusCode::UNAUTHORIZED => "AUTH_REQUIRED",
            StatusCode::FORBIDDEN => "AUTH_FORBIDDEN",
            StatusCode::TOO_MANY_REQUESTS => "AUTH_TOO_OFTEN",
            _ => "UNAVAILABLE",
        };
        Self { retry_after: shut.retry_after, ..Self::new(shut.status, code, shut.said) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.error)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"quorate\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl Error {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), code: code.to_owned() }
    }

    /// Why something was not done, or not certainly.
    pub(super) fn of(backend: &Backend, error: &Undone) -> Self {
        match error {
            Undone::Shard(ShardError::Sql(error)) => Self::of_sql(error),
            // Said so that nobody takes it for a failure like others, and sends the write again.
            Undone::Shard(ShardError::OutcomeUnknown) => Self::new(
                "OUTCOME_UNKNOWN",
                "whether this was done is not known: the node that ran it went before it answered. \
                 Look, before you send it again",
            ),
            Undone::NotLetIn(_) => Self::new("AUTH_REQUIRED", error.to_string()),
            Undone::Denied(_) => Self::new("SQLITE_AUTH", error.to_string()),
            other => {
                let code = sql::kind(other).to_ascii_uppercase().replace('-', "_");
                Self::new(&code, backend.in_words(other))
            }
        }
    }

    /// What SQLite has said, or the rules for what can be replicated.
    pub(super) fn of_sql(error: &SqlError) -> Self {
        let code = match (error.kind, error.code) {
            (SqlErrorKind::Statement, 0) => "ARGS_INVALID",
            (SqlErrorKind::Unsupported, _) => "NOT_SUPPORTED",
            (SqlErrorKind::TooLarge, _) => "SQLITE_TOOBIG",
            (SqlErrorKind::Timeout, _) => "TRANSACTION_TIMEOUT",
            (SqlErrorKind::Memory, _) => "SQLITE_NOMEM",
            (SqlErrorKind::ReadOnly, _) => "SQLITE_READONLY",
            (SqlErrorKind::OwnerOnly, _) => "OWNER_AWAY",
            (_, code) => name(code),
        };
        match error.code {
            0 => Self::new(code, error.message.clone()),
            _ => Self::new(code, format!("SQLite error: {}", error.message)),
        }
    }

    /// The statement writes, and whoever sends it may only read.
    pub(super) fn may_not_write(name: &str) -> Self {
        let message = format!(
            "this needs the role writer; '{name}' is a reader. An admin changes that with `quorate user \
             role {name} writer`. Nothing of the statement was done"
        );
        Self::new("SQLITE_AUTH", message)
    }
}

/// SQLite's name for one of its result codes; that of the primary one if the extended one is not known.
fn name(code: i32) -> &'static str {
    match code {
        275 => "SQLITE_CONSTRAINT_CHECK",
        531 => "SQLITE_CONSTRAINT_COMMITHOOK",
        787 => "SQLITE_CONSTRAINT_FOREIGNKEY",
        1043 => "SQLITE_CONSTRAINT_FUNCTION",
        1299 => "SQLITE_CONSTRAINT_NOTNULL",
        1555 => "SQLITE_CONSTRAINT_PRIMARYKEY",
        1811 => "SQLITE_CONSTRAINT_TRIGGER",
        2067 => "SQLITE_CONSTRAINT_UNIQUE",
        2323 => "SQLITE_CONSTRAINT_VTAB",
        2579 => "SQLITE_CONSTRAINT_ROWID",
        2835 => "SQLITE_CONSTRAINT_PINNED",
        3091 => "SQLITE_CONSTRAINT_DATATYPE",
        267 => "SQLITE_CORRUPT_VTAB",
        257 => "SQLITE_ERROR_MISSING_COLLSEQ",
        _ => primary(code & 0xff),
    }
}

fn primary(code: i32) -> &'static str {
    match code {
        1 => "SQLITE_ERROR",
        2 => "SQLITE_INTERNAL",
        3 => "SQLITE_PERM",
        4 => "SQLITE_ABORT",
        5 => "SQLITE_BUSY",
        6 => "SQLITE_LOCKED",
        7 => "SQLITE_NOMEM",
        8 => "SQLITE_READONLY",
        9 => "SQLITE_INTERRUPT",
        10 => "SQLITE_IOERR",
        11 => "SQLITE_CORRUPT",
        12 => "SQLITE_NOTFOUND",
        13 => "SQLITE_FULL",
        14 => "SQLITE_CANTOPEN",
        15 => "SQLITE_PROTOCOL",
        17 => "SQLITE_SCHEMA",
        18 => "SQLITE_TOOBIG",
        19 => "SQLITE_CONSTRAINT",
        20 => "SQLITE_MISMATCH",
        21 => "SQLITE_MISUSE",
        22 => "SQLITE_NOLFS",
        23 => "SQLITE_AUTH",
        25 => "SQLITE_RANGE",
        26 => "SQLITE_NOTADB",
        _ => "SQLITE_UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, ffi};

    use super::*;

    fn told(kind: SqlErrorKind, code: i32) -> String {
        let error = SqlError { kind, code, message: "m".to_owned(), statement: 0 };
        Error::of_sql(&error).code
    }

    #[test]
    fn codes_have_the_names_that_sqlite_gives_them() {
        use SqlErrorKind::{Constraint, Engine, ReadOnly, Statement, TooLarge, Type};
        for (kind, code, expected) in [
            (Constraint, ffi::SQLITE_CONSTRAINT_UNIQUE, "SQLITE_CONSTRAINT_UNIQUE"),
            (Constraint, ffi::SQLITE_CONSTRAINT_PRIMARYKEY, "SQLITE_CONSTRAINT_PRIMARYKEY"),
            (Constraint, ffi::SQLITE_CONSTRAINT_FOREIGNKEY, "SQLITE_CONSTRAINT_FOREIGNKEY"),
            (Constraint, ffi::SQLITE_CONSTRAINT_NOTNULL, "SQLITE_CONSTRAINT_NOTNULL"),
            (Constraint, ffi::SQLITE_CONSTRAINT_CHECK, "SQLITE_CONSTRAINT_CHECK"),
            (Constraint, ffi::SQLITE_CONSTRAINT_TRIGGER, "SQLITE_CONSTRAINT_TRIGGER"),
            (Constraint, ffi::SQLITE_CONSTRAINT_ROWID, "SQLITE_CONSTRAINT_ROWID"),
            (Constraint, ffi::SQLITE_CONSTRAINT | 99 << 8, "SQLITE_CONSTRAINT"),
            (Type, ffi::SQLITE_CONSTRAINT_DATATYPE, "SQLITE_CONSTRAINT_DATATYPE"),
            (Type, ffi::SQLITE_MISMATCH, "SQLITE_MISMATCH"),
            (Statement, ffi::SQLITE_ERROR, "SQLITE_ERROR"),
            (Statement, 0, "ARGS_INVALID"),
            (Engine, ffi::SQLITE_FULL, "SQLITE_FULL"),
            (Engine, ffi::SQLITE_CORRUPT_VTAB, "SQLITE_CORRUPT_VTAB"),
            (ReadOnly, 0, "SQLITE_READONLY"),
            (TooLarge, 0, "SQLITE_TOOBIG"),
            (Engine, 200, "SQLITE_UNKNOWN"),
        ] {
            assert_eq!(told(kind, code), expected);
        }
    }

    #[test]
    fn a_message_of_sqlite_says_that_it_is() {
        let conn = Connection::open_in_memory().unwrap();
        let error = conn.prepare("SELEC 1").unwrap_err().to_string();
        let sql = |code| SqlError {
            kind: SqlErrorKind::Statement,
            code,
            message: error.clone(),
            statement: 0,
        };
        assert_eq!(Error::of_sql(&sql(1)).message, format!("SQLite error: {error}"));
        assert_eq!(Error::of_sql(&sql(0)).message, error);
    }
}
