//! `POST /db/{db}/session`, and what a request says of the session in which it is done once.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use quorate_core::engine::{Position, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Once, Reply, SessionId, ShardError, SqlKind};
use quorate_core::{ClusterId, Index, LogId, Term};
use quorate_io::runtime::SqlAnswer;
use serde::{Deserialize, Serialize};

use super::App;
use super::sql::{OfShard, failed};

/// How long a session is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A session that is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionBody {
    /// Its name, to be given along with what is to be done once.
    pub(crate) session: String,
}

/// With `/execute`: the request is done once, however often it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnceBody {
    /// A session of the same shard.
    pub(crate) session: String,
    /// Names the request in the session: 1 or more, and never used for another one.
    pub(crate) sequence: u64,
    /// All requests up to this sequence have been answered, and will not be sent again. Below
    /// `sequence`; 0 at first.
    #[serde(default)]
    pub(crate) acknowledged: u64,
}

impl OnceBody {
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(&self) -> Result<Once, String> {
        let Self { session, sequence, acknowledged } = self;
        let (sequence, acknowledged) = (*sequence, *acknowledged);
        if sequence <= acknowledged {
            return Err(format!(
                "\"sequence\" is {sequence} and must be above \"acknowledged\", {acknowledged}"
            ));
        }
        let ((cluster, log), session) = read(session)?;
        Ok(Once { cluster, log, session, sequence, acknowledged })
    }
}

/// A session as text: the cluster, the shard's log, the entry's index and term, and its number there.
fn text((cluster, log): (ClusterId, LogId), session: SessionId) -> String {
    let SessionId { at, number } = session;
    format!("{cluster}.{}.{}.{}.{number}", log.0, at.index.0, at.term.0)
}

fn read(text: &str) -> Result<((ClusterId, LogId), SessionId), String> {
    let parts: Vec<&str> = text.split('.').collect();
    let read = || {
        let [cluster, log, index, term, number] = parts.as_slice() else { return None };
        let at = Position { index: Index(index.parse().ok()?), term: Term(term.parse().ok()?) };
        // Far beyond what any log reaches: more could not be told from another.
        let sound = at.index.0 < 1 << 55;
        let session = SessionId { at, number: number.parse().ok()? };
        let of = (ClusterId::parse(cluster)?, LogId(log.parse().ok()?));
        sound.then_some((of, session))
    };
    let shown: String = text.chars().take(80).collect();
    read().ok_or_else(|| format!("'{shown}' is no session: give one as /session has answered it"))
}

pub(super) async fn open(
    State(app): State<App>,
    Path(database): Path<String>,
    Query(of): Query<OfShard>,
) -> Response {
    let request = SqlRequest {
        database,
        shard: of.shard,
        transaction: Transaction::default(),
        kind: SqlKind::OpenSession,
        timeout: TIMEOUT,
    };
    match app.handle.sql(request).await {
        Ok(SqlAnswer { reply: Reply::Session { session }, of: Some(of) }) => {
            let session = text((of.cluster, of.log), session);
            Json(SessionBody { session }).into_response()
        }
        Ok(SqlAnswer { reply: Reply::Failed(error), .. }) => failed(&app, &error),
        _ => failed(&app, &ShardError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_back_and_nothing_else_is_one() {
        let at = Position { index: Index((1 << 55) - 1), term: Term(u64::MAX) };
        let session = SessionId { at, number: 255 };
        let of = (ClusterId(u128::MAX - 5), LogId(7));
        assert_eq!(read(&text(of, session)), Ok((of, session)));
        let cluster = of.0;
        let parts = ["", "1.2.3", "1.2.3.256", "1.2.3.4.5", "1.36028797018963968.3.4", "1.-2.3.4"];
        for wrong in parts.map(|parts| format!("{cluster}.{parts}")) {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        assert!(read("1.2.3.4").is_err() && read("7.1.2.3.4").is_err());
    }

    #[test]
    fn a_sequence_lies_above_what_is_acknowledged() {
        let once = |sequence, acknowledged| {
            let session = format!("{}.1.2.3.4", ClusterId(7));
            OnceBody { session, sequence, acknowledged }.read()
        };
        assert!(once(1, 0).is_ok() && once(9, 8).is_ok());
        for (sequence, acknowledged) in [(0, 0), (3, 3), (3, 4)] {
            let error = once(sequence, acknowledged).unwrap_err();
            assert!(error.contains("above"), "{error}");
        }
    }
}
