//! What went wrong, in words: what, why, and what to do.

use quorate_core::client::Layout;
use quorate_core::shard::ShardError;
use quorate_io::client::{ConnectError, Error, SqlErrorKind};

use crate::exit::Failure;

/// Why there is no connection.
pub(crate) fn unconnected(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Url { .. } | ConnectError::Tls { .. } => Failure::Usage(error.to_string()),
        ConnectError::Refused { reason } => Failure::NotAllowed(format!(
            "the cluster does not let this client in: {reason}. Give a user's token with QUORATE_TOKEN, \
             --token or --token-file, or, on a node's own machine, its data directory (--data)"
        )),
        ConnectError::Names { .. } | ConnectError::NoServer { .. } => Failure::NoNode(format!(
            "{error}. See whether the nodes run (`quorate status`), and which address they serve clients \
             at (`quorate start --client`, 2424 by default)"
        )),
        ConnectError::Random => Failure::Refused(error.to_string()),
    }
}

/// Why a statement was not done.
pub(crate) fn undone(error: &Error, layout: &Layout) -> String {
    match error {
        Error::Sql(sql) => match sql.kind {
            SqlErrorKind::Timeout => format!("{sql}. Nothing of it was done"),
            _ => sql.to_string(),
        },
        Error::Shard(ShardError::NoQuorum { missing, needed, voters }) => {
            let names: Vec<String> = missing.iter().map(|node| layout.name_of(*node)).collect();
            format!(
                "no quorum: {needed} of the {voters} servers that count for this shard are needed, and \
                 these are not in reach: {}. Nothing was done; start one of them",
                names.join(", ")
            )
        }
        Error::OutcomeUnknown { last } => {
            format!("whether it was done is not known: {last}. Look before you do it again")
        }
        Error::TimedOut { last } => format!("it was not done in the time that it had: {last}"),
        Error::Denied(reason) => format!(
            "{reason}. Nothing was done. A node's admin token is good on that node alone: with a user's \
             token (`quorate user token add NAME`) the shell goes on at any"
        ),
        other => other.to_string(),
    }
}
