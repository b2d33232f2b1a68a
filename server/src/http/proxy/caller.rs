//! What one of those who ask has the cluster do.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use quorate_core::NodeId;
use quorate_core::client::Layout;
use quorate_core::engine::{SqlError, SqlErrorKind, Statement, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply, ShardError, SqlKind};
use quorate_io::client::{Client, Done, Error, Kind, Reading, View};
use tokio::time::{Instant, timeout_at};

use super::Proxy;
use super::pool::Shown;
use crate::http::access::Shut;
use crate::http::backend::{Answer, Undone};

/// Between two attempts to find the address of any server.
const NAMES_PAUSE: Duration = Duration::from_millis(250);
/// How long it is looked for a database of which the layout says nothing.
const LOOK_MAX_WAIT: Duration = Duration::from_secs(5);

/// Somebody who asks: known by a token, which the cluster judges.
#[derive(Clone)]
pub(in crate::http) struct Caller {
    proxy: Proxy,
    shown: Shown,
    token: Option<Arc<str>>,
}

impl Caller {
    pub(super) fn new(proxy: Proxy, token: Option<Arc<str>>) -> Self {
        Self { proxy, shown: Shown::of(token.as_deref()), token }
    }

    pub(in crate::http) fn shown(&self) -> Shown {
        self.shown
    }

    /// What names the proxy in batons.
    pub(in crate::http) fn proxy(&self) -> NodeId {
        self.proxy.id
    }

    /// How a node is called, as far as is known.
    pub(in crate::http) fn name_of(&self, node: NodeId) -> String {
        if node == self.proxy.id {
            return "this proxy".to_owned();
        }
        match self.proxy.pool.present(self.shown) {
            Some(client) => client.layout().name_of(node),
            None => node.short(),
        }
    }

    /// Has something run, within its time-out: a write once, however often it has to be sent.
    pub(in crate::http) async fn sql(&self, request: SqlRequest) -> Answer {
        let writes = !matches!(request.kind, SqlKind::Read(_));
        let steps = matches!(request.kind, SqlKind::Step(_));
        let (result, of) = match self.done(request).await {
            Ok(Done { transaction: Some(transaction), of, .. }) => {
                (Ok(Reply::Began { transaction }), of)
            }
            Ok(Done { rows, of, .. }) if steps => (Ok(Reply::Stepped { rows, error: None }), of),
            Ok(Done { at, of, rows, .. }) => (Ok(Reply::Done { at, rows }), of),
            Err(error) => match self.undone(error, writes) {
                Undone::Shard(ShardError::Sql(error)) if steps => {
                    (Ok(Reply::Stepped { rows: Vec::new(), error: Some(error) }), None)
                }
                undone => (Err(undone), None),
            },
        };
        Answer { result, of }
    }

    async fn done(&self, request: SqlRequest) -> Result<Done, Error> {
        let SqlRequest { database, shard, transaction, kind, timeout } = request;
        let deadline = Instant::now() + timeout;
        let kind = asked(kind, self.proxy.pool.reading()).map_err(Error::Shard)?;
        let client = self.client(deadline).await?.database(&database);
        let client = shard.map_or(client.clone(), |shard| client.shard(&shard));
        let left = deadline.saturating_duration_since(Instant::now());
        client.timeout(left).run(transaction.statements, kind).await
    }

    /// The client for this token, which may have no server yet.
    async fn client(&self, deadline: Instant) -> Result<Client, Error> {
        let mut last = "the names of the servers are being looked up".to_owned();
        loop {
            let client = self.proxy.pool.client(self.shown, self.token.as_deref());
            match timeout_at(deadline, client).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => return Err(Error::TimedOut { last }),
            }
            let again = Instant::now() + NAMES_PAUSE;
            if again >= deadline {
                tokio::time::sleep_until(deadline).await;
                return Err(Error::TimedOut { last });
            }
            tokio::time::sleep_until(again).await;
        }
    }

    fn undone(&self, error: Error, writes: bool) -> Undone {
        match error {
            Error::Sql(error) => ShardError::Sql(error).into(),
            Error::Shard(error) => error.into(),
            Error::Busy => ShardError::Busy.into(),
            Error::TooLarge { .. } => ShardError::Sql(SqlError {
                kind: SqlErrorKind::TooLarge,
                code: 0,
                message: error.to_string(),
                statement: 0,
            })
            .into(),
            Error::TimedOut { last } => Undone::TimedOut(self.tried(last)),
            Error::OutcomeUnknown { last } => Undone::OutcomeUnknown(self.tried(last)),
            Error::Refused(reason) => Undone::NotLetIn(reason),
            Error::Denied(reason) if self.shown.is_nothing() => {
                Undone::NotLetIn(format!("{reason}, sent as `Authorization: Bearer TOKEN`"))
            }
            Error::Denied(reason) => Undone::Denied(reason),
            Error::Closed | Error::Column(_) | Error::NotOneRow(_) if writes => {
                Undone::OutcomeUnknown(error.to_string())
            }
            Error::Closed | Error::Column(_) | Error::NotOneRow(_) => {
                Undone::TimedOut(error.to_string())
            }
        }
    }

    /// What stood in the way, and, while no server is in use, with which ones it was begun.
    fn tried(&self, last: String) -> String {
        let client = self.proxy.pool.present(self.shown);
        match client.is_some_and(|client| client.watch().borrow().using.is_some()) {
            true => last,
            false => format!("{last}; the servers of --to are {}", self.proxy.pool.servers()),
        }
    }

    /// Waits until the cluster has let this token in; and what it has told of itself.
    ///
    /// # Errors
    /// It does not let it in, or no server was in reach in that time.
    pub(in crate::http) async fn let_in(&self, timeout: Duration) -> Result<Arc<Layout>, Shut> {
        let deadline = Instant::now() + timeout;
        let client = match self.client(deadline).await {
            Ok(client) => client,
            Err(error) => return Err(shut(&self.undone(error, false))),
        };
        let mut view = client.watch();
        let known = |view: &View| view.refused.is_some() || view.layout.cluster.is_some();
        if let Ok(Ok(view)) = timeout_at(deadline, view.wait_for(known)).await {
            return match &view.refused {
                Some(reason) => Err(shut(&Undone::NotLetIn(reason.clone()))),
                None => Ok(Arc::clone(&view.layout)),
            };
        }
        let problems = client.view().problems();
        let last = format!("no server is in reach; {problems}");
        Err(shut(&Undone::TimedOut(self.tried(last))))
    }

    /// The client for this token, once the cluster has let it in.
    ///
    /// # Errors
    /// As [`Caller::let_in`].
    pub(super) async fn client_let_in(&self, timeout: Duration) -> Result<Client, Shut> {
        self.let_in(timeout).await?;
        let client = self.client(Instant::now() + timeout).await;
        client.map_err(|error| shut(&self.undone(error, false)))
    }

    /// Whether the cluster has a database of this name.
    ///
    /// # Errors
    /// Nobody who could say is in reach.
    pub(in crate::http) async fn has(&self, database: &str) -> Result<bool, Shut> {
        let request = SqlRequest {
            database: database.to_owned(),
            shard: None,
            transaction: Transaction { statements: vec![Statement::new("SELECT 1")] },
            kind: SqlKind::Read(Consistency::Local),
            timeout: LOOK_MAX_WAIT,
        };
        match self.sql(request).await.result {
            Err(Undone::Shard(ShardError::UnknownDatabase { .. })) => Ok(false),
            Err(error @ (Undone::NotLetIn(_) | Undone::TimedOut(_))) => Err(shut(&error)),
            // It is there, and says itself what is wrong.
            _ => Ok(true),
        }
    }
}

/// What is asked of a client, whose reads are as in `reading` unless a request says otherwise.
fn asked(kind: SqlKind, reading: Reading) -> Result<Kind, ShardError> {
    Ok(match kind {
        SqlKind::Write => Kind::Write,
        SqlKind::Read(Consistency::Local) => Kind::Read(Reading::Local),
        SqlKind::Read(Consistency::Linearizable) => Kind::Read(Reading::Linearizable),
        SqlKind::Read(Consistency::AsConfigured) => Kind::Read(reading),
        SqlKind::Read(Consistency::Since(token)) => Kind::Read(Reading::Since(token)),
        SqlKind::Begin => Kind::Begin,
        SqlKind::Step(id) => Kind::Step(id),
        // Its client has it done once by itself.
        SqlKind::Finish(id, None) => Kind::Finish(id),
        SqlKind::Abandon(id) => Kind::Abandon(id),
        SqlKind::Read(Consistency::AtLeast(_) | Consistency::Holding(_))
        | SqlKind::Finish(_, Some(_))
        | SqlKind::Once(_)
        | SqlKind::OpenSession
        | SqlKind::Compare
        | SqlKind::Restore(_) => {
            return Err(ShardError::Unavailable("a proxy passes on SQL only".to_owned()));
        }
    })
}

fn shut(error: &Undone) -> Shut {
    let status = match error {
        Undone::NotLetIn(_) => StatusCode::UNAUTHORIZED,
        Undone::Denied(_) => StatusCode::FORBIDDEN,
        Undone::Shard(_) | Undone::TimedOut(_) | Undone::OutcomeUnknown(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    Shut::new(status, error.to_string())
}

#[cfg(test)]
mod tests {
    use quorate_core::engine::Position;
    use quorate_core::shard::Token;
    use quorate_core::{DatabaseId, LogId};
    use quorate_io::client::Options;
    use tokio::sync::watch;

    use super::*;

    fn caller(token: Option<&str>) -> Caller {
        let options = Options::new(vec![("a.invalid".to_owned(), 7), ("127.0.0.1".to_owned(), 1)]);
        let proxy = Proxy::new(options, None, watch::channel(false).1).unwrap();
        Caller::new(proxy, token.map(Into::into))
    }

    #[test]
    fn what_a_read_must_have_seen_is_asked_of_the_client_as_the_request_has_it() {
        let token = Token { database: DatabaseId(7), log: LogId(3), at: Position::default() };
        for (given, expected) in [
            (Consistency::AsConfigured, Reading::Session),
            (Consistency::Local, Reading::Local),
            (Consistency::Linearizable, Reading::Linearizable),
            (Consistency::Since(token), Reading::Since(token)),
        ] {
            assert_eq!(asked(SqlKind::Read(given), Reading::Session), Ok(Kind::Read(expected)));
        }
        let configured = SqlKind::Read(Consistency::AsConfigured);
        assert_eq!(asked(configured, Reading::Local), Ok(Kind::Read(Reading::Local)));
        assert_eq!(asked(SqlKind::Write, Reading::Local), Ok(Kind::Write));
        assert!(asked(SqlKind::Compare, Reading::Session).is_err());
    }

    #[test]
    fn each_error_says_whether_something_was_done_and_who_was_tried() {
        let (named, nameless) = (caller(Some("token")), caller(None));
        let denied = || Error::Denied("it writes".to_owned());
        assert!(matches!(named.undone(denied(), true), Undone::Denied(_)));
        assert!(matches!(nameless.undone(denied(), true), Undone::NotLetIn(_)));
        let late = || Error::TimedOut { last: "no server is in reach".to_owned() };
        let said = named.undone(late(), true).to_string();
        assert!(said.contains("a.invalid:7, 127.0.0.1:1"), "{said}");
        let unknown = Error::OutcomeUnknown { last: "no server has answered".to_owned() };
        assert!(matches!(named.undone(unknown, true), Undone::OutcomeUnknown(_)));
        // It may have been sent before the runtime ended.
        assert!(matches!(named.undone(Error::Closed, true), Undone::OutcomeUnknown(_)));
        assert!(matches!(named.undone(Error::Closed, false), Undone::TimedOut(_)));
        let large = named.undone(Error::TooLarge { bytes: 9, max: 5 }, true);
        assert!(matches!(large, Undone::Shard(ShardError::Sql(_))), "{large:?}");
    }

    #[tokio::test]
    async fn a_request_without_a_server_ends_at_its_time_and_nothing_is_done() {
        let request = SqlRequest {
            database: "demo".to_owned(),
            shard: None,
            transaction: Transaction { statements: vec![Statement::new("DELETE FROM t")] },
            kind: SqlKind::Write,
            timeout: Duration::from_millis(300),
        };
        let began = Instant::now();
        let answer = caller(Some("token")).sql(request).await;
        let took = began.elapsed();
        assert!(matches!(answer.result, Err(Undone::TimedOut(_))), "{:?}", answer.result);
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    }
}
