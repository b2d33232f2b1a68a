//! Whom SQL is put to: the node of this process, or a cluster through a client of it. What is above asks
//! the same of both.

use quorate_core::NodeId;
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Reply, ShardError, ShardId, SqlKind};
use quorate_io::runtime::SqlAnswer;
use thiserror::Error;

use super::App;
use super::proxy::Caller;

/// Whom SQL is put to.
#[derive(Clone)]
pub(super) enum Backend {
    /// The node of this process.
    Node(App),
    /// A cluster, for somebody whom it judges itself.
    Cluster(Caller),
}

/// What came of a request.
pub(super) struct Answer {
    /// Never [`Reply::Failed`].
    pub(super) result: Result<Reply, Undone>,
    /// The shard that was asked, if that is known.
    pub(super) of: Option<ShardId>,
}

/// Why something was not done, or not certainly.
#[derive(Clone, PartialEq, Debug, Error)]
pub(super) enum Undone {
    /// The shard says why.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The cluster does not let in who asks. Nothing was done.
    #[error("the cluster does not let this client in: {0}")]
    NotLetIn(String),
    /// Who asks may not do this. Nothing was done.
    #[error("{0}. Nothing was done")]
    Denied(String),
    /// Nothing was done in the time that it had.
    #[error("it was not done in the time that it had: {0}")]
    TimedOut(String),
    /// It may be done or not.
    #[error("whether this was done is not known: {0}. Look, before you send it again")]
    OutcomeUnknown(String),
}

impl Backend {
    /// Has it run; answered within its time-out.
    pub(super) async fn sql(&self, request: SqlRequest) -> Answer {
        let reads = matches!(request.kind, SqlKind::Read(_));
        match self {
            Self::Cluster(caller) => caller.sql(request).await,
            Self::Node(app) => match app.handle().sql(request).await {
                Ok(SqlAnswer { reply: Reply::Failed(error), of }) => {
                    Answer { result: Err(error.into()), of }
                }
                Ok(SqlAnswer { reply, of }) => Answer { result: Ok(reply), of },
                Err(_) => Answer { result: Err(stopped(reads).into()), of: None },
            },
        }
    }

    /// What is said of an error, with the names of those who are missing.
    pub(super) fn in_words(&self, error: &Undone) -> String {
        let Undone::Shard(ShardError::NoQuorum { missing, needed, voters }) = error else {
            return error.to_string();
        };
        let names: Vec<String> = missing.iter().map(|node| self.name_of(*node)).collect();
        format!(
            "no quorum: {needed} of the {voters} servers that count for this shard are needed, and these \
             are not in reach: {}. Nothing was done",
            names.join(", ")
        )
    }

    /// How a node is called: its name, or the start of its id.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        match self {
            Self::Node(app) => match app.handle().configuration() {
                Some(document) => document.name_of(node),
                None => node.short(),
            },
            Self::Cluster(caller) => caller.name_of(node),
        }
    }
}

fn stopped(reads: bool) -> ShardError {
    match reads {
        true => ShardError::Unavailable("this node has stopped".to_owned()),
        false => ShardError::OutcomeUnknown,
    }
}
