//! What a shell knows of the cluster, as tables.

use std::path::Path;

use indicatif::HumanBytes;
use quorate_core::NodeId;
use quorate_core::client::{Layout, LayoutShard};
use quorate_core::configuration::CopyStatus;

use crate::cli::Target;
use crate::client::Client;
use crate::databases::table;
use crate::http::CopyNews;

fn owner(layout: &Layout, shard: &LayoutShard) -> String {
    shard.owner.map_or_else(|| "nobody".to_owned(), |owner| layout.name_of(owner))
}

/// `.databases`.
pub(super) fn databases(layout: &Layout) -> String {
    if layout.shards.is_empty() {
        return "there are no databases; make one with `quorate db create NAME`\n".to_owned();
    }
    let mut shown = table(&["DATABASE", "SHARD", "OWNER", "COPIES"]);
    for shard in &layout.shards {
        let copy =
            |(node, status): &(NodeId, CopyStatus)| format!("{} {status}", layout.name_of(*node));
        let copies: Vec<String> = shard.copies.iter().map(copy).collect();
        let row =
            [shard.database.clone(), shard.name.clone(), owner(layout, shard), copies.join(", ")];
        shown.add_row(row);
    }
    format!("{}\n", shown.trim_fmt())
}

/// `.servers`.
pub(super) fn servers(layout: &Layout, used: Option<&str>) -> String {
    let mut shown = table(&["SERVER", "ID", "STATUS", "CLIENTS AT", "DATA CENTRES", ""]);
    for server in &layout.servers {
        let status = if server.is_online { "ONLINE" } else { "AWAY" };
        let at = server.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let centers = server.data_centers.join(", ");
        let mark = if used == Some(server.name.as_str()) { "in use" } else { "" };
        let id = server.node.short();
        shown.add_row([server.name.as_str(), &id, status, &at, &centers, mark]);
    }
    format!("{}\n", shown.trim_fmt())
}

/// `.layout`: a line a shard, a column a server.
pub(super) fn layout(layout: &Layout) -> String {
    let Some(cluster) = layout.cluster else {
        return "nothing is known of the cluster yet\n".to_owned();
    };
    let head = format!("cluster {}  configuration {}\n", cluster.short(), layout.version.0);
    if layout.shards.is_empty() {
        return head + &databases(layout);
    }
    let mut columns = vec!["SHARD"];
    columns.extend(layout.servers.iter().map(|server| server.name.as_str()));
    let mut shown = table(&columns);
    for shard in &layout.shards {
        let mut row = vec![format!("{}/{}", shard.database, shard.name)];
        row.extend(layout.servers.iter().map(|server| mark(shard, server.node)));
        shown.add_row(row);
    }
    format!("{head}\n{}\n\nX owns, o copies; what is not ONLINE is named\n", shown.trim_fmt())
}

fn mark(shard: &LayoutShard, server: NodeId) -> String {
    let copy = shard.copies.iter().find(|(node, _)| *node == server);
    let owns = shard.owner == Some(server);
    match copy {
        None => String::new(),
        Some((_, CopyStatus::Online)) => if owns { "X" } else { "o" }.to_owned(),
        Some((_, status)) => format!("{} {status}", if owns { "X" } else { "o" }),
    }
}

/// What the node on a data directory knows of the copies of a database, if it answers.
pub(super) fn asked(data: &Path, database: &str) -> Option<Vec<CopyNews>> {
    let target = Target::of(data);
    Client::find(&target).and_then(|client| client.get(&format!("/db/{database}/copies"))).ok()
}

/// `.sync`.
pub(super) fn copies(copies: &[CopyNews]) -> String {
    let mut shown = table(&["SHARD", "SERVER", "STATUS", "LSN", ""]);
    for copy in copies {
        let lsn = copy.lsn.to_string();
        shown.add_row([copy.shard.as_str(), &copy.server, &copy.status, &lsn, &what(copy)]);
    }
    format!("{}\n", shown.trim_fmt())
}

/// What is said of a copy that is not whole.
fn what(copy: &CopyNews) -> String {
    match (&copy.progress, &copy.lacks) {
        (Some(progress), _) => {
            let left = progress.seconds_left.map(|s| format!(", {s} s left")).unwrap_or_default();
            let (done, total) = (HumanBytes(progress.done), HumanBytes(progress.total));
            format!("{done} of {total} from {}{left}", progress.donor)
        }
        (None, Some(why)) => format!("cannot go on from the log: {why}"),
        (None, None) if copy.state == "whole" => String::new(),
        (None, None) => copy.state.clone(),
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::client::LayoutServer;
    use quorate_core::{ClusterId, ConfigVersion, DatabaseId, LogId, Term};

    use super::*;

    fn cluster() -> Layout {
        let server = |number: u128| LayoutServer {
            node: NodeId(number),
            name: format!("n{number}"),
            address: None,
            data_centers: Vec::new(),
            is_online: number != 3,
        };
        let shard = LayoutShard {
            database: "demo".to_owned(),
            id: DatabaseId(1),
            name: "main".to_owned(),
            log: LogId(1),
            owner: Some(NodeId(2)),
            term: Term(1),
            is_linearizable: false,
            copies: vec![
                (NodeId(1), CopyStatus::Online),
                (NodeId(2), CopyStatus::Online),
                (NodeId(3), CopyStatus::Synchronizing),
            ],
        };
        let servers = (1..=4).map(server).collect();
        Layout {
            cluster: Some(ClusterId(1)),
            version: ConfigVersion(7),
            servers,
            shards: vec![shard],
        }
    }

    #[test]
    fn the_layout_shows_owner_copies_and_what_is_not_whole() {
        let shown = layout(&cluster());
        assert!(shown.contains("configuration 7"), "{shown}");
        let row = shown.lines().find(|line| line.contains("demo/main")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words, ["demo/main", "o", "X", "o", "SYNCHRONIZING"], "{shown}");
    }

    #[test]
    fn servers_show_who_is_away_and_who_is_in_use() {
        let shown = servers(&cluster(), Some("n1"));
        let line = |name: &str| shown.lines().find(|line| line.contains(name)).unwrap();
        assert!(line("n1").contains("ONLINE") && line("n1").contains("in use"), "{shown}");
        assert!(line("n3").contains("AWAY") && !line("n3").contains("in use"), "{shown}");
    }
}
