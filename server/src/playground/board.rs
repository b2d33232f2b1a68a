//! What is known at the moment, for whoever shows it; filled by the nodes, the writer and the observer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_core::NodeId;
use quorate_core::configuration::CopyStatus;
use quorate_io::client::View;

use super::DATABASE;
use super::nodes::Process;
use crate::shell::Used;

/// Events that are kept.
const EVENTS_MAX: usize = 200;
/// A write that takes at least so long is a stall.
pub(super) const STALL: Duration = Duration::from_millis(50);

/// One node, as it is shown.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) process: Process,
    /// What the configuration says of the server; `None`: it is not in it.
    pub(super) online: Option<bool>,
    /// Its copy of the database; `None`: it has none.
    pub(super) copy: Option<CopyStatus>,
    pub(super) owns: bool,
    /// The writer is connected to it.
    pub(super) used: bool,
    /// The last entry of the log that its copy holds.
    pub(super) lsn: Option<u64>,
}

/// What the writer has met.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Tally {
    /// Writes that were acknowledged.
    pub(super) written: u64,
    /// Writes that failed, and how the last one did.
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
    /// Answers that there is no quorum: nothing was done, and it was tried again.
    pub(super) refused: u64,
    /// The last time that a write took long, and the longest that one took.
    pub(super) last_stall: Duration,
    pub(super) longest: Duration,
    /// Rows that were read back, of how many that had been acknowledged.
    pub(super) found: u64,
    pub(super) expected: u64,
    /// Acknowledged and not there.
    pub(super) lost: u64,
    /// There more than once.
    pub(super) twice: u64,
}

/// Something that happened to a node, from which on time is taken.
#[derive(Clone, PartialEq, Debug)]
struct Blow {
    node: String,
    at: Instant,
}

/// All of it.
pub(super) struct State {
    pub(super) rows: Vec<Row>,
    pub(super) tally: Tally,
    /// What has happened, and when, the newest last.
    pub(super) events: VecDeque<(Duration, String)>,
    /// When the writes that are not answered yet were begun.
    pub(super) waiting: Vec<Option<Instant>>,
    used: Option<Used>,
    owner: Option<NodeId>,
    blows: Vec<Blow>,
}

/// The state, and since when.
pub(super) struct Board {
    pub(super) began: Instant,
    /// Events are printed as they happen.
    echo: bool,
    state: Mutex<State>,
}

impl Board {
    pub(super) fn new(names: Vec<String>, lanes: usize, echo: bool) -> Self {
        let row = |name| Row {
            name,
            process: Process::Running,
            online: None,
            copy: None,
            owns: false,
            used: false,
            lsn: None,
        };
        let state = State {
            rows: names.into_iter().map(row).collect(),
            tally: Tally::default(),
            events: VecDeque::new(),
            waiting: vec![None; lanes],
            used: None,
            owner: None,
            blows: Vec::new(),
        };
        Self { began: Instant::now(), echo, state: Mutex::new(state) }
    }

    /// Whoever panicked while he wrote has left numbers, and no half-made structure.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has happened.
    pub(super) fn tell(&self, text: impl Into<String>) {
        self.note(&mut self.lock(), text.into());
    }

    /// Something went wrong.
    pub(super) fn failed(&self, problem: &str) {
        let mut state = self.lock();
        state.tally.errors += 1;
        state.tally.last_error = Some(problem.to_owned());
        self.note(&mut state, format!("ERROR: {problem}"));
    }

    fn note(&self, state: &mut State, text: String) {
        let at = self.began.elapsed();
        if self.echo {
            super::line(&format!("{:8.3} s  {text}", at.as_secs_f64()));
        }
        if state.events.len() == EVENTS_MAX {
            state.events.pop_front();
        }
        state.events.push_back((at, text));
    }

    /// A node was made to fail: what follows is timed from now on.
    pub(super) fn blow(&self, node: &str) {
        let mut state = self.lock();
        state.blows.retain(|blow| blow.node != node);
        state.blows.push(Blow { node: node.to_owned(), at: Instant::now() });
    }

    /// What the writer's client knows now.
    pub(super) fn seen(&self, view: &View) {
        let mut state = self.lock();
        let shard = view.layout.shard(DATABASE, None);
        let mut news = Vec::new();
        for row in &mut state.rows {
            let server = view.layout.servers.iter().find(|server| server.name == row.name);
            let node = server.map(|server| server.node);
            let copies = shard.map(|shard| shard.copies.as_slice()).unwrap_or_default();
            let copy = copies.iter().find(|(of, _)| Some(*of) == node).map(|(_, status)| *status);
            let online = server.map(|server| server.is_online);
            news.extend(changes(row, online, copy));
            (row.online, row.copy) = (online, copy);
            row.owns = node.is_some() && shard.and_then(|shard| shard.owner) == node;
            row.used = node.is_some() && view.using == node;
        }
        let owner = shard.and_then(|shard| shard.owner);
        if owner.is_some() && owner != state.owner {
            let name = |node| view.layout.server(node).map(|server| server.name.clone());
            let before = state.owner.and_then(name);
            if let Some(now) = owner.and_then(name) {
                let blow = state.blows.iter().position(|blow| Some(&blow.node) == before.as_ref());
                let after = blow.map(|at| state.blows.remove(at).at.elapsed().as_millis());
                let after = after.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
                news.push(format!("{now} owns {DATABASE} now{after}"));
            }
            state.owner = owner;
        }
        match &mut state.used {
            // Mostly for a moment; that nobody is there is seen from what the writes wait.
            _ if view.using.is_none() => {}
            Some(used) => {
                news.extend(used.follow(view).map(|said| format!("the writer: {said}")));
            }
            none => *none = Some(Used::new(view)),
        }
        for text in news {
            self.note(&mut state, text);
        }
    }
}

/// What is worth telling of a node.
fn changes(row: &Row, online: Option<bool>, copy: Option<CopyStatus>) -> Vec<String> {
    let mut news = Vec::new();
    let name = &row.name;
    match (row.online, online) {
        (Some(true), Some(false)) => news.push(format!("{name} is AWAY: still counted, awaited")),
        (Some(false), Some(true)) => news.push(format!("{name} is ONLINE again")),
        (Some(_), None) => news.push(format!("{name} is no longer a server of the cluster")),
        (None, Some(_)) if row.copy.is_some() || row.lsn.is_some() => {
            news.push(format!("{name} is a server of the cluster again"));
        }
        _ => {}
    }
    if let (Some(before), Some(now)) = (row.copy, copy)
        && before != now
    {
        news.push(format!("the copy of {name} is {now}"));
    }
    news
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_core::client::{Layout, LayoutServer, LayoutShard};
    use quorate_core::{ClusterId, ConfigVersion, DatabaseId, LogId, Term};

    use super::*;

    fn view(owner: u128, using: u128, away: u128, copy: CopyStatus) -> View {
        let server = |number: u128| LayoutServer {
            node: NodeId(number),
            name: format!("n{number}"),
            address: None,
            data_centers: Vec::new(),
            is_online: number != away,
        };
        let shard = LayoutShard {
            database: DATABASE.to_owned(),
            id: DatabaseId(1),
            name: "main".to_owned(),
            log: LogId(1),
            owner: Some(NodeId(owner)),
            term: Term(1),
            is_linearizable: false,
            copies: vec![(NodeId(1), copy), (NodeId(2), CopyStatus::Online)],
        };
        let layout = Layout {
            cluster: Some(ClusterId(1)),
            version: ConfigVersion(1),
            servers: vec![server(1), server(2)],
            shards: vec![shard],
        };
        View { layout: Arc::new(layout), using: Some(NodeId(using)), ..View::default() }
    }

    #[test]
    fn what_changes_is_told_once_and_an_owner_with_the_time_since_the_blow() {
        let board = Board::new(vec!["n1".to_owned(), "n2".to_owned()], 1, false);
        let online = CopyStatus::Online;
        board.seen(&view(1, 1, 0, online));
        let told = |board: &Board| -> Vec<String> {
            board.lock().events.drain(..).map(|(_, text)| text).collect()
        };
        assert_eq!(told(&board), ["n1 owns demo now"]);
        assert!(board.lock().rows[0].owns && !board.lock().rows[1].owns);
        board.seen(&view(1, 1, 0, online));
        assert!(told(&board).is_empty());
        board.blow("n1");
        board.seen(&view(2, 2, 0, online));
        let said = told(&board);
        assert!(
            said[0].starts_with("n2 owns demo now after ") && said[0].ends_with(" ms"),
            "{said:?}"
        );
        assert_eq!(said[1], "the writer: n1 is gone; using n2 now");
        board.seen(&view(2, 2, 1, CopyStatus::Synchronizing));
        let said = told(&board);
        assert_eq!(said, ["n1 is AWAY: still counted, awaited", "the copy of n1 is SYNCHRONIZING"]);
        // No blow was dealt to n2: nothing is timed.
        board.seen(&view(1, 2, 0, online));
        assert!(told(&board).contains(&"n1 owns demo now".to_owned()));
    }

    #[test]
    fn events_are_kept_up_to_a_bound() {
        let board = Board::new(Vec::new(), 0, false);
        for number in 0..=EVENTS_MAX {
            board.tell(number.to_string());
        }
        let state = board.lock();
        assert_eq!((state.events.len(), state.events[0].1.as_str()), (EVENTS_MAX, "1"));
    }
}
