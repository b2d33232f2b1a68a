//! A recording as columns of numbers, which are short as text and quick to read.

use std::collections::BTreeMap;

use quorate_core::LogId;
use serde::Serialize;

use super::recording::{Fate, Leg, Life, Recording, Sent, Way};
use super::told::{Became, Kind, Lane};

/// Nothing, in a column.
const NONE: i64 = -1;

/// Where each lane is on the page, from the top.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub(super) hosts: usize,
    pub(super) clients: usize,
    pub(super) failover: usize,
}

impl Lanes {
    fn place(self, lane: Lane) -> i64 {
        let place = match lane {
            Lane::World => 0,
            Lane::Operators => 1,
            Lane::Host(host) => 2 + host,
            Lane::Client(client) => 2 + self.hosts + client,
            Lane::Failover(client) => 2 + self.hosts + self.clients + client,
        };
        number(place)
    }
}

/// Things at one moment. Times are microseconds since the one before, everywhere here.
#[derive(Default, Serialize)]
struct Points {
    t: Vec<i64>,
    lane: Vec<i64>,
    kind: Vec<i64>,
    shard: Vec<i64>,
    span: Vec<i64>,
    text: Vec<i64>,
}

/// What was sent, once for each receiver; `d` is how long it took.
#[derive(Default, Serialize)]
struct Messages {
    t: Vec<i64>,
    d: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    kind: Vec<i64>,
    fate: Vec<i64>,
    way: Vec<i64>,
    shard: Vec<i64>,
    term: Vec<i64>,
    index: Vec<i64>,
    commit: Vec<i64>,
    count: Vec<i64>,
    bytes: Vec<i64>,
    text: Vec<i64>,
}

/// What lasts; `d` is −1 where it has not ended, and `outcome` where it is a fault.
#[derive(Default, Serialize)]
struct Spans {
    t: Vec<i64>,
    d: Vec<i64>,
    lane: Vec<i64>,
    label: Vec<i64>,
    outcome: Vec<i64>,
    shard: Vec<i64>,
    host: Vec<i64>,
}

/// What hosts are in logs, from each moment on; `role` is −1 for nothing.
#[derive(Default, Serialize)]
struct States {
    t: Vec<i64>,
    lane: Vec<i64>,
    shard: Vec<i64>,
    role: Vec<i64>,
    term: Vec<i64>,
    version: Vec<i64>,
    owns: Vec<i64>,
}

/// What processes are, from each moment on.
#[derive(Default, Serialize)]
struct Lives {
    t: Vec<i64>,
    lane: Vec<i64>,
    life: Vec<i64>,
}

/// All columns of a recording.
#[derive(Serialize)]
pub(super) struct Columns<'a> {
    texts: &'a [String],
    points: Points,
    messages: Messages,
    spans: Spans,
    states: States,
    lives: Lives,
}

/// Names the logs of shards by their place, from 1 on; 0 is the cluster's.
pub(super) fn shards(recording: &Recording) -> BTreeMap<LogId, String> {
    let mut all = recording.shards.clone();
    let states = recording.states.iter().map(|(_, track, _)| track.log);
    let points = recording.points.iter().filter_map(|point| point.log);
    let sent = recording.sent.iter().filter_map(|sent| sent.facts.log);
    for log in states.chain(points).chain(sent) {
        all.entry(log).or_insert_with(|| format!("log {}", log.0));
    }
    all.insert(LogId::CONFIGURATION, "cluster".to_owned());
    all
}

impl<'a> Columns<'a> {
    pub(super) fn of(recording: &'a Recording, lanes: Lanes) -> Self {
        let shards: Vec<LogId> = shards(recording).into_keys().collect();
        let shard = |log: Option<LogId>| {
            log.and_then(|log| shards.binary_search(&log).ok()).map_or(NONE, number)
        };
        Self {
            texts: recording.texts.all(),
            points: points(recording, lanes, &shard),
            messages: messages(recording, lanes, &shard),
            spans: spans(recording, lanes, &shard),
            states: states(recording, lanes, &shard),
            lives: lives(recording, lanes),
        }
    }
}

fn points(recording: &Recording, lanes: Lanes, shard: &impl Fn(Option<LogId>) -> i64) -> Points {
    let (mut columns, mut last) = (Points::default(), 0);
    for point in &recording.points {
        columns.t.push(since(&mut last, point.at));
        columns.lane.push(lanes.place(point.lane));
        let kind = Kind::ALL.iter().position(|(kind, _)| *kind == point.kind);
        columns.kind.push(kind.map_or(NONE, number));
        columns.shard.push(shard(point.log));
        columns.span.push(point.span.map_or(NONE, number));
        columns.text.push(point.text.into());
    }
    columns
}

fn messages(
    recording: &Recording,
    lanes: Lanes,
    shard: &impl Fn(Option<LogId>) -> i64,
) -> Messages {
    let mut legs: Vec<&Leg> = recording.legs.iter().collect();
    legs.sort_by_key(|leg| leg.sent);
    let mut legs = legs.into_iter().peekable();
    let (mut columns, mut last) = (Messages::default(), 0);
    for (place, sent) in recording.sent.iter().enumerate() {
        let mut missing = receivers(sent, lanes.hosts);
        while let Some(leg) = legs.next_if(|leg| leg.sent as usize == place) {
            missing.retain(|to| *to != leg.to);
            columns.add((sent, leg), &mut last, lanes, shard);
        }
        for to in missing {
            let cut = matches!(to, Lane::Host(host) if sent.cut & (1 << host) != 0);
            let fate = match (cut, sent.to) {
                (true, _) => Fate::Cut,
                (false, None) => Fate::Lost,
                (false, Some(_)) => Fate::Never,
            };
            let leg = Leg { sent: 0, to, at: sent.at, fate, way: Way::Whole };
            columns.add((sent, &leg), &mut last, lanes, shard);
        }
    }
    columns
}

fn receivers(sent: &Sent, hosts: usize) -> Vec<Lane> {
    match sent.to {
        Some(to) => vec![to],
        None => (0..hosts).map(Lane::Host).collect(),
    }
}

impl Messages {
    fn add(
        &mut self,
        (sent, leg): (&Sent, &Leg),
        last: &mut u64,
        lanes: Lanes,
        shard: &impl Fn(Option<LogId>) -> i64,
    ) {
        let facts = &sent.facts;
        self.t.push(since(last, sent.at));
        self.d.push(micros(leg.at) - micros(sent.at));
        self.from.push(lanes.place(sent.from));
        self.to.push(lanes.place(leg.to));
        self.kind.push(facts.kind.into());
        self.fate.push(match leg.fate {
            Fate::Arrived => 0,
            Fate::Waits => 1,
            Fate::Nobody => 2,
            Fate::Lost => 3,
            Fate::Cut => 4,
            Fate::Never => 5,
            Fate::UnderWay => 6,
        });
        self.way.push(match leg.way {
            Way::Whole => 0,
            Way::Double => 1,
            Way::Mangled => 2,
            Way::Older => 3,
        });
        self.shard.push(shard(facts.log));
        self.term.push(facts.term.map_or(NONE, |term| wide(term.0)));
        self.index.push(facts.index.map_or(NONE, |index| wide(index.0)));
        self.commit.push(facts.commit.map_or(NONE, |index| wide(index.0)));
        self.count.push(facts.count.map_or(NONE, number));
        self.bytes.push(number(sent.bytes));
        self.text.push(sent.text.into());
    }
}

fn spans(recording: &Recording, lanes: Lanes, shard: &impl Fn(Option<LogId>) -> i64) -> Spans {
    let (mut columns, mut last) = (Spans::default(), 0);
    for span in &recording.spans {
        columns.t.push(since(&mut last, span.from));
        columns.d.push(span.to.map_or(NONE, |to| micros(to) - micros(span.from)));
        columns.lane.push(lanes.place(span.lane));
        columns.label.push(span.label.into());
        columns.outcome.push(match span.outcome {
            None => NONE,
            Some(Became::Open) => 0,
            Some(Became::Done) => 1,
            Some(Became::Failed) => 2,
            Some(Became::Unknown) => 3,
        });
        columns.shard.push(shard(span.log));
        columns.host.push(span.host.map_or(NONE, |host| lanes.place(Lane::Host(host))));
    }
    columns
}

fn states(recording: &Recording, lanes: Lanes, shard: &impl Fn(Option<LogId>) -> i64) -> States {
    let (mut columns, mut last) = (States::default(), 0);
    for (at, track, state) in &recording.states {
        columns.t.push(since(&mut last, *at));
        columns.lane.push(lanes.place(Lane::Host(track.host)));
        columns.shard.push(shard(Some(track.log)));
        columns.role.push(state.map_or(NONE, |state| state.role.into()));
        columns.term.push(state.map_or(NONE, |state| wide(state.term.0)));
        columns.version.push(state.map_or(NONE, |state| wide(state.version)));
        columns.owns.push(state.is_some_and(|state| state.owns).into());
    }
    columns
}

fn lives(recording: &Recording, lanes: Lanes) -> Lives {
    let (mut columns, mut last) = (Lives::default(), 0);
    for (at, host, life) in &recording.lives {
        columns.t.push(since(&mut last, *at));
        columns.lane.push(lanes.place(Lane::Host(*host)));
        columns.life.push(match life {
            Life::Up => 0,
            Life::Paused => 1,
            Life::Killed => 2,
            Life::Ended => 3,
        });
    }
    columns
}

/// Microseconds of the world's time.
pub(super) fn micros(at: u64) -> i64 {
    wide(at / 1_000)
}

fn since(last: &mut u64, at: u64) -> i64 {
    let passed = micros(at) - micros(*last);
    *last = at;
    passed
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn wide(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
