//! The parts of `quorate status` that are gathered from all servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use quorate_core::configuration::ServerStatus;
use quorate_core::measures::Tally;

use super::grid::{Grid, Row, wrapped};
use crate::gathered::{LatencyShown, MARKS, PairLatency, PairMessages, ShardRow, Tallies, Writes};
use crate::view::StatusView;

/// How wide the terminal is, if there is one, and whether it shows colors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) width: Option<usize>,
    pub(crate) colors: bool,
}

/// The servers as headings: their names, and what is wrong with them.
fn servers(view: &StatusView) -> Vec<(String, String)> {
    let silent = |name: &str| view.gathered.unanswered.iter().any(|one| one.server == name);
    let state = |name: &str, status| match status {
        ServerStatus::Away => "AWAY",
        ServerStatus::Online if silent(name) => "silent",
        ServerStatus::Online => "",
    };
    let all = view.servers.iter();
    all.map(|s| (s.name.clone(), state(&s.name, s.status).to_owned())).collect()
}

/// Owners and copies, a table for each database.
pub(super) fn shards(text: &mut String, view: &StatusView, screen: Screen) {
    let Some(shards) = &view.gathered.shards else { return };
    if shards.is_empty() {
        text.push_str("\nno databases\n");
        return;
    }
    let mut databases: BTreeMap<&str, Vec<&ShardRow>> = BTreeMap::new();
    for shard in shards {
        databases.entry(&shard.database).or_default().push(shard);
    }
    let mut marks: BTreeSet<&str> = BTreeSet::from(["X", "o"]);
    for (database, shards) in databases {
        let _ = writeln!(text, "\ndatabase {database}");
        let rows = shards.iter().map(|shard| shard_row(view, shard)).collect();
        let lead = vec!["SHARD", "WRITES", "W", "R"];
        let grid = Grid { lead, servers: servers(view), rows };
        let _ = writeln!(text, "{}", grid.render(screen.width, screen.colors));
        marks.extend(shards.iter().flat_map(|shard| &shard.copies).map(|copy| copy.mark.as_str()));
    }
    let mut legend: Vec<String> = (MARKS.iter())
        .filter(|(mark, _)| marks.contains(mark))
        .map(|(mark, meaning)| format!("{mark} {meaning}"))
        .collect();
    if marks.iter().any(|mark| mark.ends_with('%')) {
        legend.push("% received of a whole copy".to_owned());
    }
    legend.push("W, R copies that a write, a read needs".to_owned());
    let _ = writeln!(text, "\n{}", wrapped(&legend, screen.width));
}

fn shard_row(view: &StatusView, shard: &ShardRow) -> Row {
    let writes = match shard.writes {
        Writes::Yes => "yes",
        Writes::NoInserts => "no inserts",
        Writes::No => "NO",
        Writes::Unknown => "?",
    };
    let write_quorum = format!("{}/{}", shard.write_quorum.copies, shard.write_quorum.of);
    let read_quorum = format!("{}/{}", shard.read_quorum.copies, shard.read_quorum.of);
    let lead = vec![shard.shard.clone(), writes.to_owned(), write_quorum, read_quorum];
    let cell = |name: &str| {
        let copy = shard.copies.iter().find(|copy| copy.server == name);
        copy.map(|copy| copy.mark.clone()).unwrap_or_default()
    };
    Row { lead, cells: view.servers.iter().map(|server| cell(&server.name)).collect() }
}

/// What is wrong, as far as it was gathered.
pub(super) fn reasons(view: &StatusView) -> Vec<String> {
    let gathered = &view.gathered;
    let mut reasons: Vec<String> = Vec::new();
    for shard in gathered.shards.iter().flatten() {
        let name = format!("{}/{}", shard.database, shard.shard);
        if let Some(why) = &shard.why {
            reasons.push(match shard.writes {
                Writes::Unknown => {
                    format!("WRITES: whether {name} takes them is not known: {why}.")
                }
                Writes::NoInserts => format!("INSERTS: {name} takes none: {why}."),
                Writes::Yes | Writes::No => format!("WRITES: {name} takes none: {why}."),
            });
        }
        if !shard.awaited.is_empty() {
            let servers = shard.awaited.join(", ");
            reasons.push(format!("AWAITED: {name} is to have copies on {servers}, not here yet."));
        }
    }
    for pair in gathered.latency.iter().flatten() {
        let late = pair.measured.filter(|m| m.waiting_us >= 1_000_000);
        if let Some(LatencyShown { waiting_us, behind, .. }) = late {
            reasons.push(format!(
                "BEHIND: {} has not acknowledged {behind} entries of {}; the oldest waits for {} s.",
                pair.to,
                pair.from,
                waiting_us / 1_000_000
            ));
        }
    }
    let silent = gathered.unanswered.iter().map(|one| format!("{} ({})", one.server, one.why));
    let silent: Vec<String> = silent.collect();
    if !silent.is_empty() {
        let silent = silent.join(", ");
        reasons.push(format!("NO ANSWER: {silent}. What they would tell is shown as `?`."));
    }
    reasons
}

/// A row and a column for each server; `cell` of each pair, in which nothing is said of oneself.
fn matrix(view: &StatusView, screen: Screen, cell: impl Fn(&str, &str) -> String) -> String {
    let servers = servers(view);
    let row = |from: &String| {
        let cells = servers.iter().map(|(to, _)| match from == to {
            true => "\\".to_owned(),
            false => cell(from, to),
        });
        Row { lead: vec![from.clone()], cells: cells.collect() }
    };
    let rows = servers.iter().map(|(from, _)| row(from)).collect();
    Grid { lead: vec!["FROM \\ TO"], servers: servers.clone(), rows }
        .render(screen.width, screen.colors)
}

/// Between owners and their followers.
pub(super) fn latency(text: &mut String, view: &StatusView, screen: Screen) {
    let Some(pairs) = &view.gathered.latency else { return };
    let pairs: BTreeMap<(&str, &str), &PairLatency> =
        pairs.iter().map(|pair| ((pair.from.as_str(), pair.to.as_str()), pair)).collect();
    let cell = |from: &str, to: &str| match pairs.get(&(from, to)) {
        None => String::new(),
        Some(pair) => pair.measured.map_or_else(|| "?".to_owned(), latency_cell),
    };
    let table = matrix(view, screen, cell);
    let _ = writeln!(
        text,
        "\nlatency: from when an owner sends entries until they are durable at the other\n\
         average/worst of the last minute in ms; - no writes, + still waiting\n{table}"
    );
}

fn latency_cell(measured: LatencyShown) -> String {
    let LatencyShown { average_us, worst_us, waiting_us, .. } = measured;
    let worst = worst_us.unwrap_or_default();
    let average = average_us.map_or_else(|| "-".to_owned(), ms);
    match (average_us, waiting_us > worst && waiting_us >= 1_000) {
        (_, true) => format!("{average}/{}+", ms(waiting_us)),
        (Some(_), false) => format!("{average}/{}", ms(worst)),
        (None, false) => "-".to_owned(),
    }
}

/// Milliseconds, with what digits tell something.
fn ms(us: u64) -> String {
    match us {
        0..1_000 => format!("0.{:02}", us / 10),
        1_000..10_000 => format!("{}.{}", us / 1_000, us % 1_000 / 100),
        _ => (us / 1_000).to_string(),
    }
}

/// Over the links.
pub(super) fn messages(text: &mut String, view: &StatusView, screen: Screen) {
    let Some(pairs) = &view.gathered.messages else { return };
    let of: BTreeMap<(&str, &str), &PairMessages> =
        pairs.iter().map(|pair| ((pair.from.as_str(), pair.to.as_str()), pair)).collect();
    let shown = |cell: &dyn Fn(&PairMessages) -> Option<String>| {
        matrix(view, screen, |from, to| {
            let pair = of.get(&(from, to));
            pair.and_then(|pair| cell(pair)).unwrap_or_else(|| "?".to_owned())
        })
    };
    let total = |tallies: &Tallies| {
        format!("{}/{}", short(tallies.total.messages), short(tallies.total.bytes))
    };
    let sent = shown(&|pair| pair.sent.as_ref().map(|sent| total(&sent.written)));
    let received = shown(&|pair| pair.received.as_ref().map(total));
    let links = shown(&|pair| {
        let sent = pair.sent.as_ref()?;
        let (queued, dropped) = (sent.queued.messages, sent.dropped.messages);
        Some(format!("{}/{}/{}", sent.links, short(queued), short(dropped)))
    });
    let _ = writeln!(text, "\nmessages sent, as the sender counts them: messages/bytes\n{sent}");
    let _ = writeln!(text, "\nmessages received, as the receiver counts them\n{received}");
    let _ = writeln!(
        text,
        "\nlinks since the start/messages waiting to be sent/dropped with a link\n{links}"
    );
    let _ = writeln!(text, "\n{}", by_kind(pairs, screen));
}

/// What all that answered have sent and received, by kind.
fn by_kind(pairs: &[PairMessages], screen: Screen) -> String {
    let mut kinds: BTreeMap<&str, [Tally; 2]> = BTreeMap::new();
    for pair in pairs {
        let sent = pair.sent.iter().map(|sent| &sent.written);
        let both = sent.map(|of| (0, of)).chain(pair.received.iter().map(|of| (1, of)));
        for (which, tallies) in both {
            for (kind, tally) in &tallies.kinds {
                let sums = kinds.entry(kind).or_default();
                sums[which] = sums[which] + *tally;
            }
        }
    }
    let mut kinds: Vec<(&str, [Tally; 2])> = kinds.into_iter().collect();
    kinds.sort_by_key(|(kind, [sent, _])| (std::cmp::Reverse(sent.bytes), *kind));
    let row = |(kind, [sent, received]): (&str, [Tally; 2])| {
        let cells = [sent.messages, sent.bytes, received.messages, received.bytes];
        Row { lead: vec![kind.to_owned()], cells: cells.map(short).to_vec() }
    };
    let columns = ["SENT", "BYTES", "RECEIVED", "BYTES"];
    Grid {
        lead: vec!["KIND"],
        servers: columns.map(|column| (column.to_owned(), String::new())).to_vec(),
        rows: kinds.into_iter().map(row).collect(),
    }
    .render(screen.width, screen.colors)
}

/// A number in at most four characters.
fn short(number: u64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let (mut unit, mut size) = (0, 1);
    while number / size >= 1_000 {
        (unit, size) = (unit + 1, size * 1_000);
    }
    let (whole, tenth) = (number / size, number % size / (size / 10).max(1));
    if unit > 0 && whole < 10 {
        format!("{whole}.{tenth}{}", UNITS[unit])
    } else {
        format!("{whole}{}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests;
