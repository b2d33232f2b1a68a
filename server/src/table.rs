//! `quorate status` as a person wants it: who is there, who decides, and what is wrong.

mod grid;
mod parts;

use std::fmt::Write;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use indicatif::HumanBytes;
use quorate_core::State;
use quorate_core::configuration::{Registration, Role, ServerStatus};

use crate::http::CopyNews;
use crate::view::{ServerView, StatusView};
pub(crate) use parts::Screen;

/// How many addresses of refused peers are shown.
const REFUSED_SHOWN: usize = 8;

/// The whole: with the table of servers, and what has been gathered.
pub(crate) fn render(view: &StatusView, with_servers: bool, screen: Screen) -> String {
    let mut text = String::new();
    head(&mut text, view);
    if with_servers && !view.servers.is_empty() {
        let _ = write!(text, "\n{}\n", servers(view, screen.colors).trim_fmt());
    }
    parts::shards(&mut text, view, screen);
    parts::latency(&mut text, view, screen);
    parts::messages(&mut text, view, screen);
    let mut reasons = reasons(view);
    reasons.extend(parts::reasons(view));
    if !reasons.is_empty() {
        text.push('\n');
        for reason in reasons {
            let _ = writeln!(text, "! {reason}");
        }
    }
    text
}

fn head(text: &mut String, view: &StatusView) {
    let cluster = match &view.cluster {
        Some(cluster) => format!("cluster {}", short(cluster)),
        None => "in no cluster yet".to_owned(),
    };
    let _ = writeln!(
        text,
        "group {}  {cluster}  configuration {}  quorum {}",
        view.group,
        view.version,
        quorum(view)
    );
    let start = view.start.map_or_else(String::new, |n| format!(", start {n}"));
    let _ = writeln!(
        text,
        "asked {} ({}), {}{start}, log {}/{} in term {}",
        view.name,
        short(&view.node),
        view.state,
        view.log.commit,
        view.log.last,
        view.log.term
    );
    if !view.databases.is_empty() {
        let _ = writeln!(text, "databases: {}", view.databases.join(", "));
    }
}

fn quorum(view: &StatusView) -> String {
    let q = &view.quorum;
    if q.voters == 0 {
        return "unknown".to_owned();
    }
    let mut text = format!("{} of {}", q.needed, q.voters);
    if q.tie_breaker_counts {
        let _ = write!(text, " (or {} with the tie-breaker)", q.voters / 2);
    }
    if q.joint {
        text.push_str(", voters changing");
    }
    if view.no_quorum.is_some() {
        text.push_str(", LOST");
    }
    text
}

fn servers(view: &StatusView, colors: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !colors {
        table.force_no_tty();
    }
    let columns =
        ["SERVER", "ID", "ROLE", "REGISTRATION", "STATUS", "NODE ADDRESS", "HTTP", "HEARD", ""];
    table.set_header(columns.map(|c| bold(c, colors)));
    for server in &view.servers {
        let http = server.http.map_or_else(|| "-".to_owned(), |a| a.to_string());
        table.add_row(vec![
            Cell::new(&server.name),
            Cell::new(short(&server.id)),
            Cell::new(role(server)),
            Cell::new(registration(server)),
            status(server, colors),
            Cell::new(server.address),
            Cell::new(http),
            Cell::new(heard(server)),
            Cell::new(marks(server)),
        ]);
    }
    table
}

fn bold(text: &str, colors: bool) -> Cell {
    if colors { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) }
}

fn role(server: &ServerView) -> &'static str {
    match (server.role, server.voter) {
        (Role::Master, true) => "master",
        (Role::Master, false) => "master (learning)",
        (Role::Replica, false) => "replica",
        (Role::Replica, true) => "replica (still voting)",
    }
}

fn registration(server: &ServerView) -> &'static str {
    match server.registration {
        Registration::Static => "static",
        Registration::Dynamic => "dynamic",
    }
}

fn status(server: &ServerView, colors: bool) -> Cell {
    let (text, color) = match server.status {
        ServerStatus::Online => ("ONLINE", Color::Green),
        ServerStatus::Away => ("AWAY", Color::Yellow),
    };
    if colors { Cell::new(text).fg(color) } else { Cell::new(text) }
}

/// How long ago, in the unit a person would use.
fn heard(server: &ServerView) -> String {
    if server.answering {
        return "(asked)".to_owned();
    }
    match server.heard_ms {
        None => "never".to_owned(),
        Some(ms) if ms < 1_000 => format!("{ms} ms ago"),
        Some(ms) if ms < 120_000 => format!("{} s ago", ms / 1_000),
        Some(ms) if ms < 7_200_000 => format!("{} min ago", ms / 60_000),
        Some(ms) => format!("{} h ago", ms / 3_600_000),
    }
}

fn marks(server: &ServerView) -> String {
    let mut marks = Vec::new();
    if server.coordinator {
        marks.push("coordinator");
    }
    if server.tie_breaker {
        marks.push("tie-breaker");
    }
    marks.join(", ")
}

/// What is wrong, each with what to do, most pressing first.
fn reasons(view: &StatusView) -> Vec<String> {
    let mut reasons = Vec::new();
    if view.damaged {
        reasons.push(
            "DAMAGED: part of this node's log is unreadable, so it takes no part in decisions. \
             Stop it and bring it back with `quorate start --new-identity`: it copies everything \
             from the others."
                .to_owned(),
        );
    }
    if let Some(no_quorum) = &view.no_quorum {
        reasons.push(format!(
            "NoQuorum: {no_quorum}. Nothing can be changed until enough of them are back; if they \
             never will be, see `quorate recover --help`."
        ));
    }
    for (other, why) in &view.clashes {
        reasons.push(format!(
            "SPLIT: cluster {} has the same group name, and the databases of the one that has one \
             server cannot be brought to the other. Both go on serving. Asked to take them in, it \
             says: {why}.",
            short(other)
        ));
    }
    let unclear = |other: &&String| !view.clashes.iter().any(|(clash, _)| clash == *other);
    for other in view.split_with.iter().filter(unclear) {
        reasons.push(format!(
            "SPLIT: cluster {} has the same group name, and both hold databases or wait for some. \
             Both go on serving; an operator must decide which one stays.",
            short(other)
        ));
    }
    if let Some(refused) = &view.join_refused {
        reasons.push(format!("JOIN REFUSED: {refused}. The node goes on asking."));
    }
    if !view.refused.is_empty() {
        let mut peers: Vec<String> =
            view.refused.iter().take(REFUSED_SHOWN).map(ToString::to_string).collect();
        if view.refused.len() > REFUSED_SHOWN {
            peers.push(format!("and {} more", view.refused.len() - REFUSED_SHOWN));
        }
        reasons.push(format!(
            "REFUSED: the group, the password or the encryption settings of this node differ from \
             those of {}. The node goes on trying.",
            peers.join(", ")
        ));
    }
    if let Some(expect) = view.expect.filter(|e| e.missing > 0) {
        let (missing, expected) = (expect.missing, expect.expected);
        reasons.push(format!(
            "EXPECT: {missing} of the {expected} servers expected have never been here; no database \
             can be created until they are."
        ));
    }
    if view.state == State::Returning && view.no_quorum.is_none() {
        reasons.push(
            "RETURNING: this node was a member before its restart and has not been welcomed back \
             by one yet."
                .to_owned(),
        );
    }
    let away: Vec<&str> = view
        .servers
        .iter()
        .filter(|s| s.status == ServerStatus::Away)
        .map(|s| s.name.as_str())
        .collect();
    if !away.is_empty() {
        reasons.push(format!(
            "AWAY: {}. Still counted and awaited; `quorate server remove NAME` ends that.",
            away.join(", ")
        ));
    }
    reasons.extend(view.copies.iter().filter_map(copy));
    reasons.extend(view.warnings.iter().cloned());
    reasons
}

/// What is said of a copy that is not whole.
fn copy(news: &CopyNews) -> Option<String> {
    let CopyNews { database, shard, server, .. } = news;
    let of = format!("COPY: {database}/{shard} on {server}");
    match (&news.progress, &news.lacks) {
        (Some(progress), _) if progress.total == 0 => {
            Some(format!("{of} is fetched from {}, which makes it ready.", progress.donor))
        }
        (Some(progress), _) => {
            let bytes = |count| HumanBytes(count).to_string();
            let left = progress.seconds_left.map(|s| format!(", {s} s left")).unwrap_or_default();
            let (done, total) = (bytes(progress.done), bytes(progress.total));
            let (donor, rate) = (&progress.donor, bytes(progress.rate));
            Some(format!("{of} is fetched from {donor}: {done} of {total} at {rate}/s{left}."))
        }
        (None, Some(why)) => Some(format!(
            "{of} cannot go on: {why}. It is fetched whole as soon as a server can give it."
        )),
        (None, None) => None,
    }
}

/// The first eight digits of an id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests;
