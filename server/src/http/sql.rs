//! `POST /db/{db}/execute` and `/query`: transactions as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_core::engine::{Position, Rows, SqlErrorKind, Statement, Transaction, Value};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply, ShardError, ShardId, SqlKind, Token};
use quorate_core::{DatabaseId, Index, LogId, Term};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::backend::{Backend, Undone};
use super::body::refused;
use super::session::OnceBody;
use super::{App, refuse};

/// The longest body of a request with SQL, in bytes.
pub(super) const SQL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a transaction is waited for, unless the request says otherwise, and at most.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The kind of the error of an insert while the shard's static owner is away.
pub(crate) const OWNER_AWAY: &str = "owner-away";
/// Statements of one transaction.
const STATEMENTS_MAX: usize = 1024;

/// The body of `/execute` and `/query`: one statement, or several that are done together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlBody {
    /// One statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sql: Option<String>,
    /// Its parameters: a list for `?`, an object for `:name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) args: Option<Args>,
    /// Or several statements: all of them are done, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) statements: Vec<StatementBody>,
    /// How long the answer is waited for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    /// For `/query`: `local` or `linearizable`; without it as the database's `readQuorum` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) consistency: Option<ConsistencyBody>,
    /// For `/query`, instead of `consistency`: the token of an earlier answer, to see at least that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// For `/execute`: do it once, however often it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) once: Option<OnceBody>,
}

/// One statement.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatementBody {
    /// The statement.
    pub(crate) sql: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) args: Option<Args>,
}

/// Parameters of a statement.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Args {
    /// For `?` and `?NNN`.
    List(Vec<serde_json::Value>),
    /// For `:name`, `@name` and `$name`.
    Named(BTreeMap<String, serde_json::Value>),
}

/// By its first character it is known what it is: nothing is kept to be looked at twice.
impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrObject;

        impl<'de> Visitor<'de> for ListOrObject {
            type Value = Args;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values for ?, or an object for :name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Args, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Args::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Args, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((name, value)) = object.next_entry()? {
                    values.insert(name, value);
                }
                Ok(Args::Named(values))
            }
        }

        deserializer.deserialize_any(ListOrObject)
    }
}

/// What a query must have seen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConsistencyBody {
    /// What the node has that was asked.
    Local,
    /// Everything acknowledged before.
    Linearizable,
}

/// The shard of a database.
#[derive(Debug, Deserialize)]
pub(super) struct OfShard {
    pub(super) shard: Option<String>,
}

/// What a transaction has returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SqlAnswer {
    /// The entry of the shard's log that the content stands at.
    pub(crate) lsn: u64,
    /// What a later query gives along to see at least this, wherever it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The result of each statement.
    pub(crate) results: Vec<ResultBody>,
}

/// What a statement has returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ResultBody {
    /// The names of the columns.
    pub(crate) columns: Vec<String>,
    /// The rows; a BLOB is `{"base64": "..."}`.
    pub(crate) rows: Vec<Vec<serde_json::Value>>,
    /// Rows changed by the statement itself.
    pub(crate) affected: u64,
    /// The rowid of the last row that it inserted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_insert_rowid: Option<i64>,
}

/// Whether a transaction may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// `/execute`.
    Write,
    /// `/query`.
    Read,
}

pub(super) async fn execute(
    State(app): State<App>,
    Path(database): Path<String>,
    Query(of): Query<OfShard>,
    body: Result<Json<SqlBody>, JsonRejection>,
) -> Response {
    read_and_run(&Backend::Node(app), database, of, body, Access::Write).await
}

pub(super) async fn query(
    State(app): State<App>,
    Path(database): Path<String>,
    Query(of): Query<OfShard>,
    body: Result<Json<SqlBody>, JsonRejection>,
) -> Response {
    read_and_run(&Backend::Node(app), database, of, body, Access::Read).await
}

/// Has the transaction of a body run, if it can be read.
pub(super) async fn read_and_run(
    backend: &Backend,
    database: String,
    of: OfShard,
    body: Result<Json<SqlBody>, JsonRejection>,
    access: Access,
) -> Response {
    match body {
        Ok(Json(body)) => run(backend, database, of.shard, body, access).await,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let problem = format!(
                "the request is longer than {SQL_BYTES_MAX} bytes: split it. Nothing was done"
            );
            refuse(StatusCode::PAYLOAD_TOO_LARGE, &problem)
        }
        Err(rejection) => refused(&rejection),
    }
}

/// Has a transaction run, and tells what came of it.
pub(super) async fn run(
    backend: &Backend,
    database: String,
    shard: Option<String>,
    body: SqlBody,
    access: Access,
) -> Response {
    if body.once.is_some() && matches!(backend, Backend::Cluster(_)) {
        let said =
            "a proxy has each write done once by itself: leave \"once\" out. Nothing was done";
        return refuse(StatusCode::BAD_REQUEST, said);
    }
    let kind = match kind_of(&body, access) {
        Ok(kind) => kind,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, &problem),
    };
    let timeout = body.timeout_ms.map_or(TIMEOUT, Duration::from_millis).min(TIMEOUT_MAX);
    let transaction = match transaction(body) {
        Ok(transaction) => transaction,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, &problem),
    };
    let request = SqlRequest { database, shard, transaction, kind, timeout };
    let answer = backend.sql(request).await;
    match answer.result {
        Ok(Reply::Done { at, rows }) => {
            let token = answer.of.map(|of| token(of, at));
            let results = rows.into_iter().map(result).collect();
            Json(SqlAnswer { lsn: at.index.0, token, results }).into_response()
        }
        Ok(_) => undone(backend, &ShardError::OutcomeUnknown.into()),
        Err(error) => undone(backend, &error),
    }
}

fn kind_of(body: &SqlBody, access: Access) -> Result<SqlKind, String> {
    if access == Access::Write {
        return match (body.consistency.is_some() || body.token.is_some(), &body.once) {
            (true, _) => Err("\"consistency\" and \"token\" are for /query".to_owned()),
            (false, Some(once)) => Ok(SqlKind::Once(once.read()?)),
            (false, None) => Ok(SqlKind::Write),
        };
    }
    if body.once.is_some() {
        return Err("\"once\" is for /execute: a query may be sent as often as you like".to_owned());
    }
    Ok(SqlKind::Read(match (&body.token, body.consistency) {
        (Some(_), Some(_)) => {
            return Err("give \"token\" or \"consistency\", not both".to_owned());
        }
        (Some(token), None) => Consistency::Since(read_token(token)?),
        (None, Some(ConsistencyBody::Linearizable)) => Consistency::Linearizable,
        (None, Some(ConsistencyBody::Local)) => Consistency::Local,
        (None, None) => Consistency::AsConfigured,
    }))
}

/// A token as text: the database's id, the shard's log, and the entry's index and term.
fn token(ShardId { database, log, .. }: ShardId, at: Position) -> String {
    format!("{:032x}.{}.{}.{}", database.0, log.0, at.index.0, at.term.0)
}

fn read_token(text: &str) -> Result<Token, String> {
    let parts: Vec<&str> = text.split('.').collect();
    let read = || {
        let [database, log, index, term] = parts.as_slice() else { return None };
        let database = DatabaseId(u128::from_str_radix(database, 16).ok()?);
        let at = Position { index: Index(index.parse().ok()?), term: Term(term.parse().ok()?) };
        Some(Token { database, log: LogId(log.parse().ok()?), at })
    };
    let shown: String = text.chars().take(80).collect();
    read().ok_or_else(|| format!("'{shown}' is no token: give one as an answer has it"))
}

fn transaction(body: SqlBody) -> Result<Transaction, String> {
    let single = body.sql.map(|sql| StatementBody { sql, args: body.args });
    let statements: Vec<StatementBody> = single.into_iter().chain(body.statements).collect();
    if statements.is_empty() {
        return Err("give \"sql\", or \"statements\" with at least one".to_owned());
    }
    if statements.len() > STATEMENTS_MAX {
        return Err(format!("a transaction has at most {STATEMENTS_MAX} statements"));
    }
    let statements = statements.into_iter().map(statement).collect::<Result<_, _>>()?;
    Ok(Transaction { statements })
}

fn statement(body: StatementBody) -> Result<Statement, String> {
    let StatementBody { sql, args } = body;
    let (args, named) = match args {
        None => (Vec::new(), Vec::new()),
        Some(Args::List(list)) => {
            (list.into_iter().map(value).collect::<Result<_, _>>()?, Vec::new())
        }
        Some(Args::Named(named)) => {
            let pair = |(name, given)| value(given).map(|value| (name, value));
            (Vec::new(), named.into_iter().map(pair).collect::<Result<_, _>>()?)
        }
    };
    Ok(Statement { sql, args, named })
}

/// A parameter as JSON says it.
fn value(given: serde_json::Value) -> Result<Value, String> {
    use serde_json::Value as Json;
    Ok(match given {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Integer(i64::from(truth)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(real)) => Value::Real(real),
            (None, None) => return Err(format!("{number} is neither a 64-bit integer nor a real")),
        },
        Json::String(text) => Value::Text(text),
        Json::Object(object) => {
            let text = object.get("base64").and_then(Json::as_str).filter(|_| object.len() == 1);
            let text = text.ok_or("an object as a parameter is {\"base64\": \"...\"}, a BLOB")?;
            Value::Blob(BASE64.decode(text).map_err(|error| format!("base64: {error}"))?)
        }
        Json::Array(_) => return Err("a list is no value of a parameter".to_owned()),
    })
}

fn result(rows: Rows) -> ResultBody {
    ResultBody {
        columns: rows.columns.into_iter().map(|column| column.name).collect(),
        rows: rows.rows.into_iter().map(|row| row.into_iter().map(told).collect()).collect(),
        affected: rows.affected,
        last_insert_rowid: rows.last_insert_rowid,
    }
}

fn told(value: Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(integer) => integer.into(),
        // JSON has no infinities: told as SQLite's own text of them.
        Value::Real(real) if real.is_infinite() => json!(if real > 0.0 { "Inf" } else { "-Inf" }),
        Value::Real(real) => real.into(),
        Value::Text(text) => text.into(),
        Value::Blob(bytes) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// As [`undone`], of the node itself.
pub(super) fn failed(app: &App, error: &ShardError) -> Response {
    undone(&Backend::Node(app.clone()), &error.clone().into())
}

/// Each outcome has its status: nothing done (4xx, 503), done (200), and what is neither (504).
fn undone(backend: &Backend, error: &Undone) -> Response {
    let (code, outcome) = match error {
        Undone::Shard(error) => outcome(error),
        Undone::NotLetIn(_) => (StatusCode::UNAUTHORIZED, "nothing-done"),
        Undone::Denied(_) => (StatusCode::FORBIDDEN, "nothing-done"),
        Undone::TimedOut(_) => (StatusCode::SERVICE_UNAVAILABLE, "nothing-done"),
        Undone::OutcomeUnknown(_) => (StatusCode::GATEWAY_TIMEOUT, "unknown"),
    };
    let said = backend.in_words(error);
    let mut body = json!({ "error": said, "outcome": outcome, "kind": kind(error) });
    if let Undone::Shard(ShardError::Sql(sql)) = error {
        body["statement"] = sql.statement.into();
        body["code"] = sql.code.into();
    }
    (code, Json(body)).into_response()
}

fn outcome(error: &ShardError) -> (StatusCode, &'static str) {
    match error {
        ShardError::Sql(e) if e.kind == SqlErrorKind::Timeout => {
            (StatusCode::GATEWAY_TIMEOUT, "nothing-done")
        }
        ShardError::Sql(e) if e.kind == SqlErrorKind::TooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "nothing-done")
        }
        ShardError::Sql(_) => (StatusCode::BAD_REQUEST, "nothing-done"),
        ShardError::UnknownDatabase { .. } | ShardError::UnknownShard { .. } => {
            (StatusCode::NOT_FOUND, "nothing-done")
        }
        ShardError::StaleToken { .. } | ShardError::TokenOfAnotherHistory { .. } => {
            (StatusCode::GONE, "nothing-done")
        }
        ShardError::Restoring | ShardError::TransactionLost { .. } => {
            (StatusCode::CONFLICT, "nothing-done")
        }
        ShardError::NotStaged(_) => (StatusCode::BAD_GATEWAY, "nothing-done"),
        ShardError::Busy => (StatusCode::TOO_MANY_REQUESTS, "nothing-done"),
        ShardError::NotOwner { .. }
        | ShardError::OwnerAway { .. }
        | ShardError::NoQuorum { .. }
        | ShardError::Unavailable(_)
        | ShardError::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "nothing-done"),
        ShardError::CommittedBelowQuorum { .. } => (StatusCode::GATEWAY_TIMEOUT, "done"),
        ShardError::OutcomeUnknown => (StatusCode::GATEWAY_TIMEOUT, "unknown"),
        ShardError::SessionExpired => (StatusCode::GONE, "unknown"),
        ShardError::AlreadyDone { .. } => (StatusCode::CONFLICT, "done"),
        ShardError::Superseded => (StatusCode::CONFLICT, "unknown"),
    }
}

/// One word for each error, for programs.
pub(super) fn kind(error: &Undone) -> &'static str {
    let error = match error {
        Undone::Shard(error) => error,
        Undone::NotLetIn(_) => return "not-let-in",
        Undone::Denied(_) => return "denied",
        Undone::TimedOut(_) => return "timed-out",
        Undone::OutcomeUnknown(_) => return "outcome-unknown",
    };
    match error {
        ShardError::Sql(_) => "sql",
        ShardError::NotOwner { .. } => "no-owner",
        ShardError::OwnerAway { .. } => OWNER_AWAY,
        ShardError::NoQuorum { .. } => "no-quorum",
        ShardError::CommittedBelowQuorum { .. } => "committed-below-quorum",
        ShardError::OutcomeUnknown => "outcome-unknown",
        ShardError::Busy => "busy",
        ShardError::TimedOut => "timed-out",
        ShardError::UnknownDatabase { .. } => "unknown-database",
        ShardError::UnknownShard { .. } => "unknown-shard",
        ShardError::StaleToken { .. } | ShardError::TokenOfAnotherHistory { .. } => "stale-token",
        ShardError::Unavailable(_) => "unavailable",
        ShardError::Restoring => "restoring",
        ShardError::NotStaged(_) => "not-staged",
        ShardError::TransactionLost { .. } => "transaction-lost",
        ShardError::SessionExpired => "session-expired",
        ShardError::AlreadyDone { .. } => "already-done",
        ShardError::Superseded => "superseded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_type_and_blobs_travel_as_base64() {
        let cases = [
            (json!(null), Value::Null),
            (json!(true), Value::Integer(1)),
            (json!(9_007_199_254_740_993_i64), Value::Integer(9_007_199_254_740_993)),
            (json!(1.5), Value::Real(1.5)),
            (json!("é"), Value::Text("é".to_owned())),
            (json!({ "base64": "AP8=" }), Value::Blob(vec![0, 255])),
        ];
        for (text, expected) in cases {
            let read = value(text.clone()).unwrap();
            assert_eq!(read, expected);
            if text != json!(true) {
                assert_eq!(told(read), text);
            }
        }
        for wrong in [json!([1]), json!({ "base64": 1 }), json!({ "base64": "?" }), json!({})] {
            assert!(value(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_read_back_and_nothing_else_is_one() {
        let text = format!("{:032x}.7.12.3", u128::MAX - 5);
        let at = Position { index: Index(12), term: Term(3) };
        let database = DatabaseId(u128::MAX - 5);
        assert_eq!(read_token(&text), Ok(Token { database, log: LogId(7), at }));
        for wrong in ["", "1.2.3", "1.2.3.4.5", "x.2.3.4", "1.2.-3.4", "1.2.3.99999999999999999999"]
        {
            assert!(read_token(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_has_one_statement_or_several_and_never_none() {
        let read = |text: &str| transaction(serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"sql": "SELECT 1"}"#).unwrap().statements.len(), 1);
        let several = r#"{"statements": [{"sql": "a"}, {"sql": "b", "args": {"x": 1}}]}"#;
        assert_eq!(read(several).unwrap().statements[1].named.len(), 1);
        assert!(read("{}").is_err());
        for wrong in ["1", "\"x\"", "true"] {
            let body = format!(r#"{{"sql": "a", "args": {wrong}}}"#);
            let error = serde_json::from_str::<SqlBody>(&body).unwrap_err().to_string();
            assert!(error.contains("expected a list of values"), "{error}");
        }
        assert!(serde_json::from_str::<SqlBody>(r#"{"sqll": "SELECT 1"}"#).is_err());
    }
}
