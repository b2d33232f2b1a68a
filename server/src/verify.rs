//! `quorate verify`: whether all copies of a database are the same.

use crate::cli::Verify;
use crate::client::Client;
use crate::databases::{named, pretty, print, table};
use crate::exit::Failure;
use crate::http::{Comparison, DatabaseView, VerifyBody};

/// `quorate verify`.
pub(crate) fn verify(args: &Verify) -> Result<(), Failure> {
    let (database, in_name) = named(&args.database)?;
    let client = Client::find(&args.target)?;
    let shards: Vec<String> = match in_name.or(args.shard.as_deref()) {
        Some(shard) => vec![named(shard)?.0.to_owned()],
        None => {
            let view: DatabaseView = client.get(&format!("/db/{database}"))?;
            view.shards.into_keys().collect()
        }
    };
    let body = VerifyBody { timeout_ms: Some(args.timeout.saturating_mul(1000)) };
    let mut told: Vec<Comparison> = Vec::new();
    for shard in shards {
        let path = format!("/db/{database}/verify?shard={shard}");
        told.push(client.slow(&path, &body, args.timeout)?);
    }
    print(&if args.json { pretty(&told)? } else { shown(database, &told) })?;
    let wrong: Vec<String> = told
        .iter()
        .filter(|shard| !shard.equal)
        .map(|shard| format!("{database}/{}", shard.shard))
        .collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Different(format!(
            "not all copies are known to be equal: {}. Nothing was repaired",
            wrong.join(", ")
        ))),
    }
}

fn shown(database: &str, told: &[Comparison]) -> String {
    let mut table = table(&["SHARD", "SERVER", "ROLE", "STATUS", "LSN", "HASH", "VERDICT"]);
    for shard in told {
        for (server, copy) in &shard.copies {
            let lsn = copy.lsn.map(|lsn| lsn.to_string()).unwrap_or_default();
            let hash: String = copy.hash.as_deref().unwrap_or_default().chars().take(16).collect();
            let name = format!("{database}/{}", shard.shard);
            table.add_row([&name, server, &copy.role, &copy.status, &lsn, &hash, &copy.verdict]);
        }
    }
    format!("{table}\n")
}
