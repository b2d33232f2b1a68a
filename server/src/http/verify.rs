//! `POST /db/{db}/verify`: whether all copies of a shard are the same at one position.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use quorate_core::configuration::{Configuration, Role, ShardRef};
use quorate_core::engine::{ContentHash, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{CopyHash, Hashed, Reply, ShardError, SqlKind};
use serde::{Deserialize, Serialize};

use super::App;
use super::body::GivenOrDefault;
use super::sql::{OfShard, failed};

/// How long the copies are waited for, unless the request says otherwise, and at most.
const TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The body of `/verify`; it may be left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyBody {
    /// How long the copies are waited for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// What the copies of a shard are at one position.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// The shard.
    pub(crate) shard: String,
    /// Whether all of them answered, and the same.
    pub(crate) equal: bool,
    /// Each copy, by server.
    pub(crate) copies: BTreeMap<String, CopyView>,
}

/// One copy.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct CopyView {
    /// `master` or `replica`, in this database.
    pub(crate) role: String,
    /// How far the configuration takes it to be.
    pub(crate) status: String,
    /// The entry of the shard's log that the content stands at.
    pub(crate) lsn: Option<u64>,
    /// The hash of the content, in hexadecimal digits.
    pub(crate) hash: Option<String>,
    /// `equal`, `DIFFERENT`, or `no answer` and why.
    pub(crate) verdict: String,
}

pub(super) async fn verify(
    State(app): State<App>,
    Path(database): Path<String>,
    Query(of): Query<OfShard>,
    GivenOrDefault(body): GivenOrDefault<VerifyBody>,
) -> Response {
    let timeout = body.timeout_ms.map_or(TIMEOUT, Duration::from_millis).min(TIMEOUT_MAX);
    let request = SqlRequest {
        database: database.clone(),
        shard: of.shard.clone(),
        transaction: Transaction::default(),
        kind: SqlKind::Compare,
        timeout,
    };
    let copies = match app.handle.sql(request).await.map(|answer| answer.reply) {
        Ok(Reply::Compared { copies }) => copies,
        Ok(Reply::Failed(error)) => return failed(&app, &error),
        Ok(
            Reply::Done { .. }
            | Reply::Session { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. },
        )
        | Err(_) => {
            return failed(&app, &ShardError::TimedOut);
        }
    };
    let shard = of.shard.unwrap_or_else(|| quorate_core::configuration::MAIN.to_owned());
    let configuration = app.handle.layout().configuration;
    Json(comparison(configuration.as_deref(), &database, shard, &copies)).into_response()
}

fn comparison(
    configuration: Option<&Configuration>,
    database: &str,
    shard: String,
    copies: &[CopyHash],
) -> Comparison {
    let held = configuration.and_then(|configuration| configuration.shard(database, &shard));
    let right = right(copies);
    let equal = copies.iter().all(|copy| copy.hashed.as_ref().ok() == right);
    let copies = copies.iter().map(|copy| {
        let name = configuration.map_or_else(|| copy.node.short(), |c| c.name_of(copy.node));
        (name, view(held, copy, right))
    });
    Comparison { shard, equal: equal && right.is_some(), copies: copies.collect() }
}

/// What more than half of those that answered are.
fn right(copies: &[CopyHash]) -> Option<&ContentHash> {
    let told: Vec<&ContentHash> = copies.iter().filter_map(|c| c.hashed.as_ref().ok()).collect();
    let count = |hash: &ContentHash| told.iter().filter(|other| ***other == *hash).count();
    told.iter().copied().find(|hash| count(hash) * 2 > told.len())
}

fn view(held: Option<ShardRef<'_>>, copy: &CopyHash, right: Option<&ContentHash>) -> CopyView {
    let server = held.and_then(|held| held.document.servers.get(&copy.node));
    let role = held.zip(server).map(|(held, server)| held.database.role_of(server));
    let status = held.and_then(|held| held.shard.copies.get(&copy.node));
    let hash: &Hashed = &copy.hashed;
    CopyView {
        role: match role {
            Some(Role::Master) => "master",
            Some(Role::Replica) => "replica",
            None => "unknown",
        }
        .to_owned(),
        status: status.map_or_else(|| "unknown".to_owned(), ToString::to_string),
        lsn: hash.as_ref().ok().map(|hash| hash.at.index.0),
        hash: hash.as_ref().ok().map(|hash| hash.hash.iter().map(|b| format!("{b:02x}")).collect()),
        verdict: match hash {
            Ok(hash) if Some(hash) == right => "equal".to_owned(),
            Ok(_) => "DIFFERENT".to_owned(),
            Err(why) => format!("no answer: {why}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::engine::Position;
    use quorate_core::shard::NoHash;
    use quorate_core::{Index, NodeId, Term};

    use super::*;

    fn copies(hashes: &[Option<u8>]) -> Vec<CopyHash> {
        let at = Position { index: Index(9), term: Term(2) };
        let hashed = |hash: &Option<u8>| match hash {
            Some(byte) => Ok(ContentHash { at, hash: [*byte; 32] }),
            None => Err(NoHash::OutOfReach),
        };
        // Without a configuration they go by their first digits.
        let nodes = (1..).map(|number| NodeId(number << 120));
        nodes.zip(hashes).map(|(node, hash)| CopyHash { node, hashed: hashed(hash) }).collect()
    }

    fn verdicts(hashes: &[Option<u8>]) -> (bool, Vec<String>) {
        let told = comparison(None, "demo", "main".to_owned(), &copies(hashes));
        (told.equal, told.copies.into_values().map(|copy| copy.verdict).collect())
    }

    #[test]
    fn the_many_are_right_and_of_two_that_differ_nobody_knows() {
        let (equal, all) = verdicts(&[Some(1), Some(1), Some(1)]);
        assert!(equal && all.iter().all(|verdict| verdict == "equal"), "{all:?}");
        let (equal, one) = verdicts(&[Some(1), Some(2), Some(1)]);
        assert!(!equal);
        assert_eq!(one.iter().filter(|verdict| *verdict == "DIFFERENT").count(), 1);
        let (equal, two) = verdicts(&[Some(1), Some(2), None]);
        assert!(!equal);
        assert_eq!(two.iter().filter(|verdict| *verdict == "DIFFERENT").count(), 2);
        let (equal, gone) = verdicts(&[Some(1), None, Some(1)]);
        assert!(!equal && gone.iter().any(|v| v == "no answer: not in reach"), "{gone:?}");
        assert!(!verdicts(&[None]).0);
        assert!(!verdicts(&[]).0);
    }
}
