//! The document: everything in one file, so that it can be kept, sent and opened anywhere.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Recording;
use super::columns::{Columns, Lanes, micros, shards};
use super::message::{CLASSES, KINDS};
use super::state::State;
use super::told::Kind;
use crate::outcome::{Report, Violation};
use crate::plan::Plan;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// Read one after the other, as one script.
const SCRIPTS: [&str; 8] = [
    include_str!("run.js"),
    include_str!("scene.js"),
    include_str!("colors.js"),
    include_str!("lines.js"),
    include_str!("draw.js"),
    include_str!("detail.js"),
    include_str!("controls.js"),
    include_str!("page.js"),
];

/// A lane, as the page shows it.
#[derive(Serialize)]
struct LaneHead {
    kind: &'static str,
    name: String,
    title: String,
}

/// All that the page knows.
#[derive(Serialize)]
struct Data<'a> {
    seed: u64,
    command: &'a str,
    hash: String,
    events: u64,
    simulated_ms: u64,
    converged_ms: Option<u64>,
    reasons: &'a BTreeMap<String, u32>,
    counts: BTreeMap<&'a str, u64>,
    violation: Option<&'a Violation>,
    violated_at: i64,
    peace: Option<i64>,
    plan: String,
    lanes: Vec<LaneHead>,
    shards: Vec<String>,
    nodes: BTreeMap<String, usize>,
    kinds: Vec<&'static str>,
    classes: [&'static str; CLASSES.len()],
    messages: &'static [(&'static str, u8)],
    roles: [&'static str; State::ROLES.len()],
    copies: [&'static str; State::COPIES.len()],
    columns: Columns<'a>,
}

/// The page of a run that was recorded; `command` repeats it.
#[must_use]
pub fn page(plan: &Plan, report: &Report, recording: &Recording, command: &str) -> String {
    let (clients, failover) = (plan.clients().len(), plan.apps().len());
    let lanes = Lanes { hosts: plan.hosts.len(), clients, failover };
    let happened = report.counts.iter().filter(|(_, count)| **count > 0);
    let data = Data {
        seed: report.seed,
        command,
        hash: format!("{:016x}", report.hash),
        events: report.events,
        simulated_ms: report.simulated_ms,
        converged_ms: report.converged_ms,
        reasons: &report.reasons,
        counts: happened.map(|(name, count)| (name.as_str(), *count)).collect(),
        violation: report.violation.as_ref(),
        violated_at: micros(report.violated_at),
        peace: recording.peace.map(micros),
        plan: plan.to_string(),
        lanes: heads(plan, lanes),
        shards: shards(recording).into_values().collect(),
        nodes: recording.nodes.iter().map(|(node, host)| (node.short(), *host)).collect(),
        kinds: Kind::ALL.iter().map(|(_, name)| *name).collect(),
        classes: CLASSES,
        messages: &KINDS,
        roles: State::ROLES,
        copies: State::COPIES,
        columns: Columns::of(recording, lanes),
    };
    // Numbers, texts and maps with texts for keys can always be written.
    let data = serde_json::to_string(&data).unwrap_or_default();
    // Inside of a script nothing may look like its end.
    let data = data.replace('<', "\\u003c");
    let title = format!("seed {}", report.seed);
    [("TITLE", title.as_str()), ("STYLE", STYLE), ("SCRIPT", &SCRIPTS.concat()), ("DATA", &data)]
        .into_iter()
        .fold(PAGE.to_owned(), |page, (name, part)| page.replacen(&format!("@{name}@"), part, 1))
}

fn heads(plan: &Plan, lanes: Lanes) -> Vec<LaneHead> {
    let head = |kind, name: String, title: String| LaneHead { kind, name, title };
    let mut heads = vec![
        head("world", "world".to_owned(), "faults of nobody in particular, and the end".to_owned()),
        head("operators", "operators".to_owned(), "their orders, and probes in the end".to_owned()),
    ];
    heads.extend(
        plan.hosts
            .iter()
            .enumerate()
            .map(|(place, host)| head("host", format!("host {place}"), host.to_string())),
    );
    heads.extend(plan.clients().iter().enumerate().map(|(place, client)| {
        let title = format!("{:?} in db{}/{}", client.work, client.database, client.shard);
        head("client", format!("user {place}"), title)
    }));
    heads.extend(plan.apps().iter().enumerate().map(|(place, app)| {
        let title = format!("{:?} in db{}/{}", app.task, app.database, app.shard);
        head("failover", format!("client {place}"), title)
    }));
    debug_assert_eq!(heads.len(), 2 + lanes.hosts + lanes.clients + lanes.failover);
    heads
}
