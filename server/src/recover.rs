//! `quorate recover --unsafe`: one stopped node goes on alone when its quorum never comes back.

use std::collections::BTreeMap;
use std::path::Path;

use quorate_core::configuration::ServerStatus;
use quorate_core::engine::{Engine as _, Position};
use quorate_core::{ClusterId, LogId, Recovered, Recovery, recover_unsafe};
use quorate_io::copies::Files;
use quorate_io::store::{self, StoreError, View};

use crate::cli::Recover;
use crate::exit::Failure;

/// Shows what would be kept and lost; with the cluster's id as confirmation, does it.
pub(crate) fn run(args: &Recover) -> Result<(), Failure> {
    let data = args.data.as_path();
    if !args.accept_unsafe {
        return Err(Failure::Usage(
            "recovering gives up the promise that an acknowledged write is never lost: what only \
             the missing servers held is gone. If they will never come back, add --unsafe; see \
             `quorate recover --help`"
                .to_owned(),
        ));
    }
    let View { recovered, findings, .. } = store::read_only(data).map_err(unusable)?;
    for finding in &findings {
        eprintln!("unreadable: {finding}");
    }
    let into = new_cluster()?;
    let copies = stand(&recovered, data);
    let recovery = recover_unsafe(&recovered, &copies, into);
    let recovery = recovery.map_err(|e| Failure::Refused(e.to_string()))?;
    print!("{}", shown(&recovery, data));
    let expected = recovery.from.short();
    match args.confirm.as_deref() {
        None => Err(Failure::Usage(format!(
            "nothing was changed. To do it: quorate recover --unsafe --data {} --confirm {expected}",
            data.display()
        ))),
        Some(given) if !given.eq_ignore_ascii_case(&expected) => Err(Failure::Usage(format!(
            "nothing was changed: --confirm {given} is not the cluster of this directory, which is \
             {expected}"
        ))),
        Some(_) => {
            store::append_offline(data, &recovery.ops).map_err(unusable)?;
            let (into, data) = (recovery.into.short(), data.display());
            println!("\nDone: cluster {into}. Start the node: quorate start --data {data}");
            println!(
                "Bring every other server back with an empty directory, or with --new-identity."
            );
            Ok(())
        }
    }
}

fn unusable(error: StoreError) -> Failure {
    match error {
        StoreError::Absent { .. } => Failure::Usage(format!("{error}; name it with --data")),
        StoreError::Locked { .. } => Failure::Storage(format!(
            "{error}. Only a stopped node can be recovered; `quorate status` shows whether the \
             running one has lost its quorum"
        )),
        _ => Failure::Storage(error.to_string()),
    }
}

/// Where the live copies of shards stand. One that cannot be read says nothing, and is named: its node
/// could not use it either.
fn stand(recovered: &Recovered, data: &Path) -> BTreeMap<LogId, Position> {
    let files = Files::new(data);
    let mut copies = BTreeMap::new();
    for (log, held) in &recovered.logs {
        let Some(generation) = held.copy else { continue };
        match files.open(*log, generation) {
            Ok(copy) => _ = copies.insert(*log, copy.position()),
            Err(fault) => eprintln!("unreadable: the copy of shard log {}: {fault}", log.0),
        }
    }
    copies
}

fn new_cluster() -> Result<ClusterId, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::Refused(format!("the operating system gives no randomness: {error}"))
    })?;
    Ok(ClusterId(u128::from_le_bytes(random)))
}

/// What the operator decides on.
fn shown(recovery: &Recovery, data: &Path) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let Recovery { from, last, commit, before, configuration, survivor, .. } = recovery;
    let kept = configuration.name_of(*survivor);
    // Writing to a String does not fail.
    let _ = writeln!(text, "data directory  {}", data.display());
    let _ = writeln!(text, "cluster         {} (group {})", from.short(), before.group);
    let _ = writeln!(text, "goes on alone   {kept}, under a new cluster id");
    for (id, server) in before.servers.iter().filter(|(id, _)| *id != survivor) {
        let status = match server.status {
            ServerStatus::Online => "ONLINE",
            ServerStatus::Away => "AWAY",
        };
        let (name, at) = (&server.name, server.addresses.node);
        let _ =
            writeln!(text, "given up        {name} ({}), at {at}, last known {status}", id.short());
    }
    let databases: Vec<&str> = configuration.databases.keys().map(String::as_str).collect();
    let databases = if databases.is_empty() { "none".to_owned() } else { databases.join(", ") };
    let _ = writeln!(text, "databases kept  {databases}");
    for (log, index, term) in last {
        let (name, known) = if *log == LogId::CONFIGURATION {
            ("configuration".to_owned(), format!(", known to be committed up to {commit}"))
        } else {
            let named = before.shard_of(*log);
            let name = named.map(|shard| format!("{}/{}", shard.database_name, shard.name));
            (name.unwrap_or_else(|| format!("shard log {}", log.0)), String::new())
        };
        let _ = writeln!(text, "log kept        {name}: last index {index} in term {term}{known}");
    }
    let _ = writeln!(
        text,
        "\nEntries that only the other servers hold are lost. Compare the last indexes with those of\n\
         any other directory that is left, and recover the one whose logs end last. Never start a\n\
         server that was given up on its old directory again: it would be a second cluster."
    );
    text
}
